"""MDS samples to records: texts, token ids of another vocabulary (ProLong), and ids of the run's own.

A text is preferred to ids that stand beside it. Ids are taken for the run's own only where rows are framed by its
vocabulary; for any other the source has to name their tokenizer.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ettin_data.base import encodings
from ettin_data.sources.base import Damaged, ReadOptions, Record, Reject, Source
from ettin_data.sources.formats.format import Input, Items, counted
from ettin_data.sources.formats.mds.decoder import Decoder, load_decoder
from ettin_data.sources.formats.mds.samples import read_samples
from ettin_data.sources.formats.mds.unpack import Piece, joined, pieces, then_none, token_problem
from ettin_data.sources.formats.record_text import text_problem
from ettin_data.sources.ids import Ids, scrub
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

_loaded = functools.lru_cache(maxsize=4)(load_decoder)
_LOOKED_AT = 64
"""Rows of ids of which one has to be framed: the middle of a document that is in several rows may not be."""


def read_shard(given: Input) -> Items:
    """Records and rejects of one MDS shard; what it holds is seen from its columns.

    Without a tokenizer of the source `input_ids` are of `options.vocabulary`: such a record has `tokens` and no text.
    Raises `Damaged`, also for ids that nothing shows to be of that vocabulary; `SourceError` for a tokenizer that
    cannot be loaded.
    """
    source, options = given.source, given.options
    columns = {source.text_key, source.id_key, "input_ids", "attention_mask", "indices", "cu_seqlens", "domain", "url"}
    rows = read_samples(given.blocks, frozenset(columns), options)
    samples = enumerate(_one_of_both(row, source.text_key) for row in rows)
    ids = Ids(given.prefix)
    if source.tokenizer:
        decoder = _loaded(source.tokenizer)
        documents = joined(pieces(samples, decoder), options.max_record_bytes // 4)
        return counted(_decoded(documents, ids, decoder, source, options))
    return counted(_own(_framed(samples, source, options.vocabulary), ids, source, options))


def _one_of_both(sample: dict[str, Any] | Reject, text_key: str) -> dict[str, Any] | Reject:
    """A row with its text alone if it has one, else with its ids, from which its attention mask takes off the ends."""
    if isinstance(sample, Reject) or "input_ids" not in sample:
        return sample
    if text_key in sample:
        return {name: value for name, value in sample.items() if name not in ("input_ids", "indices")}
    ids, mask = sample["input_ids"], np.asarray(sample.get("attention_mask"))
    if not sample.keys() & {"indices", "cu_seqlens"} and isinstance(ids, np.ndarray) and ids.shape == mask.shape:
        kept = np.flatnonzero(mask)
        sample["input_ids"] = ids[kept[0] : kept[-1] + 1] if len(kept) else ids[:0]
    return sample


def _framed(samples: Iterator[tuple[int, Any]], source: Source, vocabulary: Vocabulary) -> Iterator[tuple[int, Any]]:
    """The samples, if they hold texts, or if one of the first rows of ids begins or ends as the vocabulary has it."""
    ahead: list[tuple[int, Any]] = []
    unframed = 0
    for position, sample in samples:
        ahead.append((position, sample))
        if isinstance(sample, dict) and "input_ids" not in sample:
            break
        if _own_problem(sample, position, source.text_key, vocabulary) is None:
            row = _without(sample["input_ids"], vocabulary.pad)
            if len(row) and (row[0] == vocabulary.open or row[-1] == vocabulary.close):
                break
            unframed += 1
        if len(ahead) == _LOOKED_AT:
            samples = iter(())
    else:
        if unframed:
            frame = vocabulary.frame
            raise Damaged(
                "vocabulary_unknown",
                f"token ids of which none begin with {frame.open} or end with {frame.close}, so that nothing says that "
                f"they are of {vocabulary.name}; name their tokenizer in the recipe: sources.{source.key}.tokenizer",
            )
    yield from itertools.chain(ahead, samples)


def _text_record(sample: dict[str, Any], position: int, ids: Ids, source: Source) -> Record | Reject:
    text = sample[source.text_key]
    if problem := text_problem(text):
        return Reject(position, *problem)
    metadata: dict[str, Any] = {"url": scrub(sample["url"])} if isinstance(sample.get("url"), str) else {}
    if not text.isascii() and (clean := text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")) != text:
        metadata |= {"repaired": "utf8", "looks_like": encodings.likely(text.encode("utf-8", "surrogateescape"))}
        text = clean
    return Record(text, ids.one(sample.get(source.id_key), position, metadata), position, metadata)


def _decoded(
    found: Iterator[Piece | Reject], ids: Ids, decoder: Decoder, source: Source, options: ReadOptions
) -> Iterator[Record | Reject]:
    for piece in found:
        if isinstance(piece, Reject):
            yield piece
            continue
        sample, position = piece.sample, piece.position
        if source.text_key in sample:
            yield _text_record(sample, position, ids, source)
            continue
        if "input_ids" not in sample:
            yield Reject(position, "text_missing", f"columns: {', '.join(sample)}")
            continue
        if 4 * piece.size > options.max_record_bytes:
            yield Reject(position, "record_too_long", f"{piece.size:,} tokens")
            continue
        cut = "both" if piece.head and piece.tail else "head" if piece.head else "tail" if piece.tail else None
        if not piece.size and (cut or piece.opens) and len(sample["input_ids"]) > 2:
            continue  # the framing of a document of which nothing else is in this sample
        text = decoder.text(piece.ids)
        metadata: dict[str, Any] = {"cut": cut} if cut else {}
        if cut:  # a cut inside a character leaves its broken bytes at the end
            text = text.strip("\ufffd")
        if len(piece.parts) > 1:
            metadata["pieces"] = len(piece.parts)
        if problem := text_problem(text):
            yield Reject(position, *problem)
            continue
        if isinstance(domain := sample.get("domain"), str):
            metadata["domain"] = scrub(domain)
        raw = sample.get(source.id_key)
        if raw is None or "indices" in sample:  # several documents cannot share a sample's id
            record_id = ids.fallback(piece.name)
        else:
            record_id = ids.one(raw, position, metadata)
        yield Record(text, record_id, position, metadata)


def _own(
    samples: Iterator[tuple[int, Any]], ids: Ids, source: Source, options: ReadOptions
) -> Iterator[Record | Reject]:
    """Rows of published or own shards; consecutive rows of one id are the pieces of one document."""
    held: list[AnyTokens] = []
    held_id: object = None
    held_at = 0

    def flush() -> Iterator[Record]:
        if held:
            metadata: dict[str, Any] = {"pieces": len(held)} if len(held) > 1 else {}
            tokens = np.concatenate(held) if len(held) > 1 else held[0]
            yield Record("", ids.one(held_id, held_at, metadata), held_at, metadata, tokens.astype(np.uint32))
            held.clear()

    for item in then_none(samples):
        if item is None:
            yield from flush()
            continue
        position, sample = item
        problem = _own_problem(sample, position, source.text_key, options.vocabulary)
        if problem is not None or "input_ids" not in sample:
            yield from flush()
            yield problem or _text_record(sample, position, ids, source)
            continue
        rows, raw = _unframed(sample, options.vocabulary), sample.get(source.id_key)
        for row in rows:
            if not len(row) or options.vocabulary.pad in row:
                yield from flush()
                empty = "text_empty", "nothing between the opening and the closing token"
                inside = "padding_inside", f"{options.vocabulary.frame.pad} between the tokens of a document"
                yield Reject(position, *(inside if len(row) else empty))
                continue
            same = options.join_chunks and len(rows) == 1 and raw is not None and raw == held_id
            if not same or sum(map(len, held)) * 4 > options.max_record_bytes:
                yield from flush()
                held_id, held_at = raw, position
            held.append(row)


def _own_problem(
    sample: dict[str, Any] | Reject, position: int, text_key: str, vocabulary: Vocabulary
) -> Reject | None:
    if isinstance(sample, Reject):
        return sample
    if "input_ids" in sample:
        problem = token_problem(sample["input_ids"], vocabulary.size)
        return Reject(position, *problem) if problem else None
    return None if text_key in sample else Reject(position, "text_missing", f"columns: {', '.join(sample)}")


def _unframed(sample: dict[str, Any], vocabulary: Vocabulary) -> list[AnyTokens]:
    """The documents of a row without padding and framing; several if the row says where they meet."""
    ids = sample["input_ids"]
    bounds = sample.get("cu_seqlens")
    cuts = [0, len(ids)] if bounds is None else np.asarray(bounds).astype(np.int64).clip(0, len(ids)).tolist()
    rows = []
    for start, end in itertools.pairwise(cuts):
        row = _without(ids[start:end], vocabulary.pad)
        if not len(row) and end > start and len(cuts) > 2:
            continue  # padding behind the last document
        if len(row) and row[0] == vocabulary.open:
            row = row[1:]
        if len(row) and row[-1] == vocabulary.close:
            row = row[:-1]
        rows.append(_without(row, vocabulary.pad))
    return rows


def _without(row: AnyTokens, pad: int) -> AnyTokens:
    """A row without the padding at its ends."""
    if len(row) and pad in (row[0], row[-1]):
        kept = np.flatnonzero(row != pad)
        return row[kept[0] : kept[-1] + 1] if len(kept) else row[:0]
    return row
