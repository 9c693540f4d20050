"""Packed samples taken apart into the documents that they hold.

ProLong's packing tool (datatools, `pack.py`) puts BOS and EOS around each document, concatenates documents, and cuts at
the pack's length; `indices` holds [start, end) of each piece. So the data show that a piece was cut: its end is the
sample's end and it has no EOS. What became of its rest they show only as a whole. By the tool's options the rest opens
the next sample, with or without a BOS of its own; or a later sample, where packs are filled in several bins; or it was
dropped, because it was short or because every sample is to begin with a document.

A piece without BOS is joined to the cut end of the sample before only in a shard that is one stream: BOS and EOS are in
use, the samples are of one domain, and at each border between two samples either both sides are cut or neither is.
That is looked at ahead, over a whole shard of usual size. Nothing is joined over a BOS: where a rest has its own, a
shard looks as where rests were dropped. What is not joined is kept, and marked `cut` at every end that may be one. A
document that the end of a shard cuts is kept and marked too: shards are read one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.sources.base import Damaged, Reject
from ettin_data.sources.formats.mds.decoder import Decoder
from ettin_data.tokenizer.vocabulary import AnyTokens


@dataclass(slots=True)
class Piece:
    """A document, or a part of one, as a sample holds it; `ids` are without framing."""

    position: int
    name: str  # "<row>" or "<row>:<span>"
    parts: list[AnyTokens]
    sample: dict[str, Any]
    bos: bool = False
    eos: bool = False
    opens: bool = False  # begins a sample of several documents
    closes: bool = False  # ends one
    end: int = -1  # the row in which it ends
    after_cut: bool = False  # may be a rest although it has a BOS

    @property
    def head(self) -> bool:
        """Whether its beginning may lie in another sample."""
        return (self.opens and not self.bos) or self.after_cut

    @property
    def tail(self) -> bool:
        """Whether its end does."""
        return self.closes and not self.eos

    def with_rest(self, rest: Piece) -> Piece:
        """The document of both."""
        return replace(self, parts=self.parts + rest.parts, eos=rest.eos, closes=rest.closes, end=rest.end)

    @property
    def ids(self) -> AnyTokens:
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


def _spans(
    table: NDArray[Any], ids: AnyTokens, decoder: Decoder
) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
    """The good spans of a pack, and (reason, detail) of what is wrong with the others or in none."""
    table = np.asarray(table).astype(np.int64).reshape(-1)
    if len(table) % 2:
        return [], [("bad_span", f"indices hold {len(table)} numbers, not pairs")]
    good: list[tuple[int, int]] = []
    bad: list[tuple[str, str]] = []
    outside = np.ones(len(ids), bool)
    for start, end in table.reshape(-1, 2).tolist():
        if 0 <= start < end <= len(ids):
            good.append((start, end))
            outside[start:end] = False
        else:
            bad.append(("bad_span", f"[{start}, {end}) of {len(ids)}"))
    if count := int((outside & ~decoder.is_special(ids)).sum()):  # padding is in no span
        bad.append(("tokens_outside_spans", f"{count:,} of {len(ids):,} tokens"))
    return good, bad


def pieces(samples: Iterator[tuple[int, Any]], decoder: Decoder) -> Iterator[Piece | Reject]:
    """The pieces of documents as the samples hold them, framing and padding taken off."""
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
        if sample.get("indices") is None:
            text = np.flatnonzero(~decoder.is_special(ids))
            yield Piece(position, str(position), [ids[text[0] : text[-1] + 1] if len(text) else ids[:0]], sample)
            continue
        spans, bad = _spans(sample["indices"], ids, decoder)
        yield from (Reject(position, *problem) for problem in bad)
        for number, (start, end) in enumerate(spans):
            bos, eos = int(ids[start]) in decoder.specials, int(ids[end - 1]) in decoder.specials
            if end - start == 1:  # one token of framing: at a sample's end it opens a document, elsewhere it closes one
                bos = bos and start > 0 and end == len(ids)
                eos = eos and not bos
            yield Piece(
                position,
                f"{position}:{number}",
                [ids[start + bos : end - eos]],
                sample,
                bos,
                eos,
                opens=start == 0,
                closes=end == len(ids),
                end=position,
            )


def joined(found: Iterator[Piece | Reject], limit: int) -> Iterator[Piece | Reject]:
    """Pieces with the continuation of a cut document joined to it, where the shard shows that it is one.

    `limit`: tokens of a document, which stays in parts above it, and tokens that are looked at ahead: both are held in
    memory.
    """
    items = then_none(found)
    ahead = list(_some(items, limit))
    seen = [item for item in ahead if isinstance(item, Piece)]
    one_stream = any(piece.bos for piece in seen) and any(piece.eos for piece in seen)
    one_stream = one_stream and not any(itertools.starmap(_contradict, itertools.pairwise(ahead)))
    bare = any(piece.opens and not piece.bos for piece in seen)  # rests come without BOS, so a BOS opens a document
    held: Piece | None = None
    before: Piece | Reject | None = None
    for item in itertools.chain(ahead, items):
        one_stream = one_stream and not _contradict(before, item)
        if held is not None and isinstance(item, Piece) and _meet(before, item):
            if one_stream and held.size + item.size <= limit:
                item, held = held.with_rest(item), None
            else:
                item.after_cut = item.bos and not bare
        before = item
        if held is not None:
            yield held
            held = None
        if isinstance(item, Piece) and item.tail:
            held = item
        elif item is not None:
            yield item


def _some(items: Iterator[Piece | Reject | None], tokens: int) -> Iterator[Piece | Reject | None]:
    """The first items, up to a number of tokens, to one that is of no pack, or to the None behind the last one."""
    for item in items:
        yield item
        if isinstance(item, Piece):
            tokens -= item.size
        if tokens < 0 or item is None or (isinstance(item, Piece) and "indices" not in item.sample):
            return


def _meet(a: Piece | Reject | None, b: Piece | Reject | None) -> bool:
    """Whether two pieces lie at the border of two samples, one on each side."""
    return isinstance(a, Piece) and isinstance(b, Piece) and a.closes and b.opens and a.end + 1 == b.position


def _contradict(a: Piece | Reject | None, b: Piece | Reject | None) -> bool:
    """Whether two pieces at a border cannot follow each other in one stream of documents."""
    if not (isinstance(a, Piece) and isinstance(b, Piece) and _meet(a, b)):
        return False
    return a.eos != b.bos or (a.tail and a.sample.get("domain") != b.sample.get("domain"))


def then_none(items: Iterator[Any]) -> Iterator[Any]:
    """The items, then None, so that what is held back can be let go; also before damage that ends them is raised."""
    try:
        yield from items
    except Damaged:
        yield None
        raise
    yield None
