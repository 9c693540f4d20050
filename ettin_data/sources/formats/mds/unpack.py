"""Packed samples taken apart into the documents that they hold.

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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ettin_data.sources.base import Damaged, Reject
from ettin_data.sources.formats.mds.decoder import Decoder


@dataclass(slots=True)
class Piece:
    """A document, or a part of one, as a sample holds it; `ids` are without framing."""

    position: int
    name: str  # "<row>" or "<row>:<span>"
    parts: list[np.ndarray]
    sample: dict[str, Any]
    head: bool = False  # begins its sample without BOS
    tail: bool = False  # ends its sample without EOS
    follows: bool = False  # is the rest of the sample before, if that ends with a tail

    @property
    def ids(self) -> np.ndarray:
        """All token ids."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)

    @property
    def size(self) -> int:
        """How many token ids."""
        return sum(map(len, self.parts))


def token_problem(ids: Any, size: int) -> tuple[str, str] | None:
    """(reason, detail) if a value cannot be the ids of a vocabulary of `size`."""
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


def pieces(samples: Iterator[tuple[int, Any]], decoder: Decoder) -> Iterator[Piece | Reject]:
    """The pieces of documents as the samples hold them, framing taken off."""
    packed = begins = ends = False  # seen so far: several pieces in a sample, a BOS, an EOS
    for position, sample in samples:
        if isinstance(sample, Reject):
            yield sample
            continue
        if "input_ids" not in sample:
            yield Piece(position, str(position), [], sample)
            continue
        ids = sample["input_ids"]
        if problem := token_problem(ids, decoder.size):
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
            yield Piece(
                position,
                f"{position}:{number}" if is_pack else str(position),
                [ids[start + bos : end - eos]],
                sample,
                head=is_pack and start == 0 and not bos,
                tail=is_pack and end == len(ids) and not eos,
                follows=is_pack and start == 0 and ((packed and ends) if bos else begins),
            )


def joined(found: Iterator[Piece | Reject], limit: int) -> Iterator[Piece | Reject]:
    """Pieces with the continuation of a cut document joined to it, where the data show that it is one.

    A document of more than `limit` tokens stays in parts, so that memory stays bounded.
    """
    held: Piece | None = None
    for piece in then_none(found):
        if held is not None and isinstance(piece, Piece) and piece.follows and held.size + piece.size <= limit:
            held.parts += piece.parts
            held.tail = piece.tail
            piece, held = held, None
        if held is not None:
            yield held
            held = None
        if isinstance(piece, Piece) and piece.tail:
            held = piece
        elif piece is not None:
            yield piece


def then_none(items: Iterator[Any]) -> Iterator[Any]:
    """The items, then None, so that what is held back can be let go; also before damage that ends them is raised."""
    try:
        yield from items
    except Damaged:
        yield None
        raise
    yield None
