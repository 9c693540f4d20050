"""MDS samples to records: texts, token ids of another vocabulary (ProLong), and ids of the run's own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ettin_data.sources.base import ReadOptions, Record, Reject, Source
from ettin_data.sources.formats.format import Input, Items, counted
from ettin_data.sources.formats.mds.decoder import Decoder, load_decoder
from ettin_data.sources.formats.mds.samples import read_samples
from ettin_data.sources.formats.mds.unpack import Piece, joined, pieces, then_none, token_problem
from ettin_data.sources.formats.record_text import text_problem
from ettin_data.sources.ids import Ids, scrub
from ettin_data.tokenizer.vocabulary import Vocabulary

_loaded = functools.lru_cache(maxsize=4)(load_decoder)


def read_shard(given: Input) -> Items:
    """Records and rejects of one MDS shard; what it holds is seen from its columns.

    Without a tokenizer of the source `input_ids` are of `options.vocabulary`: such a record has `tokens` and no text.
    Raises `Damaged`; `SourceError` for a tokenizer that cannot be loaded.
    """
    source, options = given.source, given.options
    columns = frozenset({source.text_key, source.id_key, "input_ids", "indices", "cu_seqlens", "domain", "url"})
    samples = enumerate(read_samples(given.blocks, columns, options))
    ids = Ids(given.prefix)
    if source.tokenizer:
        decoder = _loaded(source.tokenizer)
        documents = joined(pieces(samples, decoder), options.max_record_bytes // 4)
        return counted(_decoded(documents, ids, decoder, source, options))
    return counted(_own(samples, ids, source, options))


def _text_record(sample: dict[str, Any], position: int, ids: Ids, source: Source) -> Record | Reject:
    text = sample[source.text_key]
    if problem := text_problem(text):
        return Reject(position, *problem)
    metadata: dict[str, Any] = {"url": scrub(sample["url"])} if isinstance(sample.get("url"), str) else {}
    if not text.isascii() and (clean := text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")) != text:
        text, metadata["repaired"] = clean, "utf8"
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
        if cut and not piece.size and len(sample["input_ids"]) > 1:
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
    held: list[np.ndarray] = []
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
            if not len(row):
                yield from flush()
                yield Reject(position, "text_empty", "nothing between the opening and the closing token")
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


def _unframed(sample: dict[str, Any], vocabulary: Vocabulary) -> list[np.ndarray]:
    """The documents of a row without their framing; several if the row says where they meet."""
    ids = sample["input_ids"]
    bounds = sample.get("cu_seqlens")
    cuts = [0, len(ids)] if bounds is None else np.asarray(bounds).astype(np.int64).clip(0, len(ids)).tolist()
    rows = []
    for start, end in itertools.pairwise(cuts):
        row = ids[start:end]
        if len(row) and row[0] == vocabulary.open:
            row = row[1:]
        if len(row) and row[-1] == vocabulary.close:
            row = row[:-1]
        rows.append(row)
    return rows
