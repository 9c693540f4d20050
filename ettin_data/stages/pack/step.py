"""The packing step: token rows in, samples out, whatever the strategy."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator, Iterable

import numpy as np
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from ettin_data.base import draws
from ettin_data.stages.batches import Samples, Tally, TokenRows
from ettin_data.stages.pack.framing import Framing, framed
from ettin_data.stages.pack.strategy import Choice, Cut


class Pack(PipelineStep):
    """The step: `TokenRows` in, `Samples` out, `Tally` counted.

    Args:
        choice: the strategy and its options.
        frame: of every sample.
        seed, source: of the strategy's draws, beside its name and the document's id.
        tally: where documents, tokens and samples are counted.
    """

    name = "📦 pack"
    type = "✂ - PACKER"

    def __init__(self, choice: Choice, frame: Framing, seed: int, source: str, tally: Tally) -> None:
        super().__init__()
        self.choice, self.frame, self.tally = choice, frame, tally
        self.keyed = (seed, choice.name, source)

    def run(self, data: Iterable[TokenRows], rank: int = 0, world_size: int = 1) -> Generator[Samples, None, None]:
        first = 0  # number of the batch's first document in the split
        window = self.choice.window
        for rows in data if window is None else _windows(data, window):
            lengths = np.diff(rows.offsets)
            keys = draws.document_keys(rows.ids)
            cut = self.choice.cut(lengths, functools.partial(draws.draws, keys, *self.keyed), self.frame.length)
            samples = _samples(rows, cut, self.frame, self.choice.strategy.own_open, first)
            samples.documents = {
                "key": keys,
                "file": rows.files,
                "position": rows.positions,
                "tokens": lengths,
                "url_key": rows.url_keys,
            }
            samples.keys = rows.keys
            first += len(lengths)
            self._count(lengths, cut, samples)
            del rows, cut, lengths, keys
            yield samples
            del samples  # a window is large: nobody keeps it while the next one is made

    def _count(self, lengths: NDArray[np.int64], cut: Cut, samples: Samples) -> None:
        self.tally.documents += len(lengths)
        self.tally.tokens_in += int(lengths.sum())
        self.tally.text_tokens += int(cut.pieces.length.sum())
        self.tally.skipped.update(cut.skipped)
        self.tally.samples += len(samples.ids)
        self.tally.tokens += int(samples.offsets[-1])
        self.stat_update("samples", value=len(samples.ids), unit="batch")


def _windows(data: Iterable[TokenRows], window: int) -> Generator[TokenRows, None, None]:
    """Join batches, cut behind each document that fills `window` tokens: how documents were batched leaves no trace."""
    held: list[TokenRows] = []
    room = window
    for rows in data:
        start, count = 0, len(rows.ids)
        while start < count:
            end = start + 1 + int(np.searchsorted(rows.offsets[start + 1 :] - rows.offsets[start], room))
            held.append(_slice(rows, start, min(end, count)))
            room -= len(held[-1].tokens)
            if room <= 0:
                yield _join(held)
                room = window
            start = end
    if held:
        yield _join(held)


def _slice(rows: TokenRows, start: int, end: int) -> TokenRows:
    if (start, end) == (0, len(rows.ids)):
        return rows
    limits = rows.offsets[start : end + 1]
    return TokenRows(
        rows.ids[start:end],
        rows.files[start:end],
        rows.positions[start:end],
        rows.url_keys[start:end],
        rows.tokens[limits[0] : limits[-1]],
        limits - limits[0],
        None if rows.keys is None else rows.keys[start:end],
    )


def _join(held: list[TokenRows]) -> TokenRows:
    """The batches as one; they are let go."""
    lengths = np.concatenate([np.diff(rows.offsets) for rows in held])
    joined = TokenRows(
        [name for rows in held for name in rows.ids],
        np.concatenate([rows.files for rows in held]),
        np.concatenate([rows.positions for rows in held]),
        np.concatenate([rows.url_keys for rows in held]),
        np.concatenate([rows.tokens for rows in held]),
        np.concatenate([[0], np.cumsum(lengths)]),
        None if held[0].keys is None else np.concatenate([rows.keys for rows in held if rows.keys is not None]),
    )
    held.clear()
    return joined


def _samples(rows: TokenRows, cut: Cut, frame: Framing, own_open: bool, first: int) -> Samples:
    """What was cut, framed; all that a `Samples` has but its documents.

    Args:
        rows: the documents.
        cut: of them.
        frame: of every sample.
        own_open: whether every piece is opened, or only the first of a sample.
        first: number of the first document.
    """
    document, start, size = cut.pieces.document, cut.pieces.start, cut.pieces.length
    if cut.samples is None:
        opened = np.ones(len(size), bool)
        tokens, offsets = framed(rows.tokens, rows.offsets[document] + start, size, opened, frame)
        names = [rows.ids[number] for number in document.tolist()]
        return Samples(names, tokens, offsets, {"document": document + first, "start": start, "length": size}, {})

    # The pieces in the order of the samples: sample i has those from heads[i] to before ends[i].
    order = np.array([piece for members in cut.samples for piece in members], np.int64)
    ends = np.cumsum([len(members) for members in cut.samples])
    heads = np.concatenate([[0], ends[:-1]])
    document, start, size = document[order], start[order], size[order]
    is_head = np.zeros(len(order), bool)
    is_head[heads] = True
    opened = np.ones(len(order), bool) if own_open else is_head
    tokens, limits = framed(rows.tokens, rows.offsets[document] + start, size, opened, frame)
    offsets = np.append(limits[heads], limits[-1])

    sample = np.repeat(np.arange(len(heads)), np.diff(heads, append=len(order)))  # of each piece
    # The boundaries of sample i, counted from its first token: where its pieces begin, then where it ends. `np.insert`
    # puts each end behind the last beginning; with one more in every sample, sample i's boundaries end at cuts[i].
    bounds = np.insert(limits[:-1] - offsets[sample], ends, np.diff(offsets)).astype(np.int32)
    cuts = (ends + np.arange(1, len(heads) + 1)).tolist()
    rest = ~is_head
    return Samples(
        ids=[rows.ids[number] for number in document[heads].tolist()],
        tokens=tokens,
        offsets=offsets,
        rows={"document": document[heads] + first, "start": start[heads], "length": size[heads]},
        documents={},
        cu_seqlens=[bounds[begin:end] for begin, end in itertools.pairwise([0, *cuts])],
        segments={
            "sample": sample[rest],
            "document": document[rest] + first,
            "start": start[rest],
            "length": size[rest],
        },
    )
