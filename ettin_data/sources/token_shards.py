"""MDS samples to records: texts, token ids of another vocabulary (ProLong), and ModernBERT's own token ids.

ProLong's packing tool (datatools, `pack.py`) puts BOS and EOS around each document, concatenates documents, and cuts at
the pack's length; `indices` holds [start, end) of each piece. The rest of a cut document opens the next sample, where
some versions put another BOS in front of it. So the data show that a piece was cut (its end is the sample's end and it
has no EOS), and these rules say where it goes on:

* the next sample's first piece has no BOS although BOS is in use: it is the continuation, joined;
* it has one, and samples of this shard hold several documents: it is the continuation too, joined (a stream of packs);
* it has one, and every sample so far is one single piece (`…-65536` folders, which drop what is left of a document):
  not known, both are kept, the first is marked `cut`.

Where no EOS is in use, nothing shows which documents are cut: pieces at a sample's end are kept and marked. A document
that the end of a shard cuts is kept and marked too: shards are read one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.errors import SourceError
from ettin_data.sources.base import Damaged, ReadOptions, Record, Reject, Source
from ettin_data.sources.ids import Ids, scrub
from ettin_data.sources.mds import read_samples
from ettin_data.sources.texts import text_problem

CLS, SEP, VOCABULARY = 50281, 50282, 50368  # ModernBERT (design 5.1)


@dataclass(frozen=True)
class Decoder:
    """A tokenizer that turns foreign token ids back into text."""

    tokenizer: Any
    specials: frozenset[int]
    size: int

    def text(self, ids: np.ndarray) -> str:
        """The text of ids without framing; special tokens inside stay as the literal text that they stand for."""
        return self.tokenizer.decode(ids.tolist(), skip_special_tokens=False)


def load_decoder(name: str) -> Decoder:
    """The tokenizer at a path (file or folder) or of a hub id ("org/name" or "org/name@revision").

    Raises `SourceError` naming what was tried.
    """
    from tokenizers import Tokenizer

    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        if not path.is_file():
            from huggingface_hub import hf_hub_download

            repo, _, revision = name.partition("@")
            path = Path(hf_hub_download(repo, "tokenizer.json", revision=revision or None))
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the hub client and the Rust parser raise many kinds, bare Exception among them
        raise SourceError(
            f"tokenizer {name!r} cannot be loaded",
            why=error,
            remedy="name a tokenizer.json in the recipe (sources.<key>.tokenizer), or put one beside the mirror's root",
        ) from None
    specials = frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    return Decoder(tokenizer, specials, size)


def read_token_shard(
    blocks: Iterator[bytes], prefix: str, source: Source, decoder: Decoder | None, options: ReadOptions
) -> Iterator[Record | Reject]:
    """Records and rejects of one MDS shard; what it holds is seen from its columns.

    `decoder` None means that `input_ids` are ModernBERT's: such a record has `tokens` and no text. Raises `Damaged`.
    """
    columns = frozenset({source.text_key, source.id_key, "input_ids", "indices", "cu_seqlens", "domain", "url"})
    samples = enumerate(read_samples(blocks, columns, options))
    ids = Ids(prefix)
    if decoder is not None:
        pieces = _pieces(samples, prefix, decoder)
        yield from _decoded(_joined(pieces), ids, decoder, source, options)
    else:
        yield from _own(samples, ids, source, options)


def _text_record(sample: dict[str, Any], position: int, ids: Ids, source: Source) -> Record | Reject:
    text = sample[source.text_key]
    if problem := text_problem(text):
        return Reject(position, *problem)
    metadata: dict[str, Any] = {"url": scrub(sample["url"])} if isinstance(sample.get("url"), str) else {}
    if not text.isascii() and (clean := text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")) != text:
        text, metadata["repaired"] = clean, "utf8"
    return Record(text, ids.one(sample.get(source.id_key), position, metadata), position, metadata)


# --- token ids of another vocabulary ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Piece:
    position: int
    name: str  # "<row>" or "<row>:<span>"
    ids: np.ndarray
    sample: dict[str, Any]
    head: bool = False  # begins its sample without BOS
    tail: bool = False  # ends its sample without EOS
    follows: bool = False  # is the rest of the sample before, if that ends with a tail
    count: int = 1


def _token_problem(ids: Any, size: int) -> tuple[str, str] | None:
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "ui":
        return "tokens_not_integers", f"{getattr(ids, 'dtype', type(ids).__name__)} of {getattr(ids, 'ndim', 0)} dims"
    if not len(ids):
        return "text_empty", "no tokens"
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= size:
        return "token_out_of_vocabulary", f"ids from {low} to {high}; the tokenizer has {size:,}"
    return None


def _spans(sample: dict[str, Any], length: int) -> tuple[list[tuple[int, int]], list[str], int]:
    """(good spans, what is wrong with the others, tokens that no span covers); one span if the sample is not packed."""
    table = sample.get("indices")
    if table is None:
        return [(0, length)], [], 0
    table = np.asarray(table).astype(np.int64).reshape(-1)
    if len(table) % 2:
        return [], [f"indices hold {len(table)} numbers, not pairs"], length
    good: list[tuple[int, int]] = []
    bad: list[str] = []
    covered = np.zeros(length, bool)
    for start, end in table.reshape(-1, 2).tolist():
        if 0 <= start < end <= length:
            good.append((start, end))
            covered[start:end] = True
        else:
            bad.append(f"[{start}, {end}) of {length}")
    return good, bad, int(length - covered.sum())


def _pieces(samples: Iterator[tuple[int, Any]], prefix: str, decoder: Decoder) -> Iterator[_Piece | Reject]:
    """The pieces of documents as the samples hold them, framing taken off."""
    packed = begins = ends = False  # seen so far: several pieces in a sample, a BOS, an EOS
    for position, sample in samples:
        if isinstance(sample, Reject):
            yield sample
            continue
        if "input_ids" not in sample:
            yield _Piece(position, str(position), np.empty(0), sample)
            continue
        ids = sample["input_ids"]
        if problem := _token_problem(ids, decoder.size):
            yield Reject(position, *problem)
            continue
        spans, bad, uncovered = _spans(sample, len(ids))
        for what in bad:
            yield Reject(position, "bad_span", what)
        if uncovered:
            yield Reject(position, "tokens_outside_spans", f"{uncovered:,} of {len(ids):,} tokens")
        is_pack = "indices" in sample
        packed = packed or len(spans) > 1
        for number, (start, end) in enumerate(spans):
            bos, eos = int(ids[start]) in decoder.specials, int(ids[end - 1]) in decoder.specials
            if end - start == 1:  # one token of framing: at a sample's end it opens a document, elsewhere it closes one
                bos = bos and start > 0 and end == len(ids)
                eos = eos and not bos
            begins, ends = begins or bos, ends or eos
            yield _Piece(
                position,
                f"{position}:{number}" if is_pack else str(position),
                ids[start + bos : end - eos],
                sample,
                head=is_pack and start == 0 and not bos,
                tail=is_pack and end == len(ids) and not eos,
                follows=is_pack and start == 0 and ((packed and ends) if bos else begins),
            )


def _joined(pieces: Iterator[_Piece | Reject]) -> Iterator[_Piece | Reject]:
    """Pieces with the continuation of a cut document joined to it, where the data show that it is one."""
    held: _Piece | None = None
    for piece in _then_none(pieces):
        if held is not None and isinstance(piece, _Piece) and piece.follows:
            held.ids = np.concatenate([held.ids, piece.ids])
            held.count, held.tail = held.count + 1, piece.tail
            piece, held = held, None
        if held is not None:
            yield held
            held = None
        if isinstance(piece, _Piece) and piece.tail:
            held = piece
        elif piece is not None:
            yield piece


def _then_none(items: Iterator[Any]) -> Iterator[Any]:
    """The items, then None, so that what is held back can be let go; also before damage that ends them is raised."""
    try:
        yield from items
    except Damaged:
        yield None
        raise
    yield None


def _decoded(
    pieces: Iterator[_Piece | Reject], ids: Ids, decoder: Decoder, source: Source, options: ReadOptions
) -> Iterator[Record | Reject]:
    for piece in pieces:
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
        if 4 * len(piece.ids) > options.max_record_bytes:
            yield Reject(position, "record_too_long", f"{len(piece.ids):,} tokens")
            continue
        text = decoder.text(piece.ids)
        metadata: dict[str, Any] = {}
        if piece.head and piece.tail:
            metadata["cut"] = "both"
        elif piece.head or piece.tail:
            metadata["cut"] = "head" if piece.head else "tail"
        if metadata:  # a cut inside a character leaves its broken bytes at the end
            text = text.strip("\ufffd")
        if piece.count > 1:
            metadata["pieces"] = piece.count
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


# --- ModernBERT's own token ids --------------------------------------------------------------------------------------


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

    for item in _then_none(samples):
        if item is None:
            yield from flush()
            continue
        position, sample = item
        problem = _own_problem(sample, position, source.text_key)
        if problem is not None or "input_ids" not in sample:
            yield from flush()
            yield problem or _text_record(sample, position, ids, source)
            continue
        rows, raw = _unframed(sample), sample.get(source.id_key)
        for row in rows:
            if not len(row):
                yield from flush()
                yield Reject(position, "text_empty", "nothing between [CLS] and [SEP]")
                continue
            same = options.join_chunks and len(rows) == 1 and raw is not None and raw == held_id
            if not same or sum(map(len, held)) * 4 > options.max_record_bytes:
                yield from flush()
                held_id, held_at = raw, position
            held.append(row)


def _own_problem(sample: dict[str, Any] | Reject, position: int, text_key: str) -> Reject | None:
    if isinstance(sample, Reject):
        return sample
    if "input_ids" in sample:
        problem = _token_problem(sample["input_ids"], VOCABULARY)
        return Reject(position, *problem) if problem else None
    return None if text_key in sample else Reject(position, "text_missing", f"columns: {', '.join(sample)}")


def _unframed(sample: dict[str, Any]) -> list[np.ndarray]:
    """The documents of a row without [CLS] in front and [SEP] at the end; several if the row says where they meet."""
    ids = sample["input_ids"]
    bounds = sample.get("cu_seqlens")
    cuts = [0, len(ids)] if bounds is None else np.asarray(bounds).astype(np.int64).clip(0, len(ids)).tolist()
    rows = []
    for start, end in itertools.pairwise(cuts):
        row = ids[start:end]
        if len(row) and row[0] == CLS:
            row = row[1:]
        if len(row) and row[-1] == SEP:
            row = row[:-1]
        rows.append(row)
    return rows
