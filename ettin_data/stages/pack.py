"""Pack: token rows become samples (design 5.2, 5.3).

Where the cuts fall is a pure function from document lengths to pieces; `Pack` frames what the pieces select. Three
strategies, one law: tokens in = tokens in samples + tokens skipped by a counted reason.

* `backfill`, the published layout: pieces of `length - 2`; a tail shorter than `always_skip` is dropped unless it is
  the whole document; a tail shorter than `min_length` takes a random number of tokens, 0 to `length - 3 - tail`, from
  the end of the piece before it (`split_dataset_into_chunks_individual.py` of the reference, less its re-encoding).
* `best_fit`: each document or full-length cut of one keeps its own `[CLS]` and `[SEP]`; best-fit decreasing inside a
  window. Costs up to `window` tokens of memory; fills more than 99.9% of each sequence, drops nothing.
* `concat`: `[CLS]`, then documents end to end, each closed by `[SEP]`, cut at `length`.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
from datatrove.pipeline.base import PipelineStep

from ettin_data.base import draws
from ettin_data.stages.batches import Samples, Tally, TokenRows


@dataclass(frozen=True)
class PackOptions:
    """How samples are cut; the values of the recipe's `length`, `pack` and `seed`.

    Attributes:
        strategy: "backfill", "best_fit" or "concat".
        length: tokens of a sample, `[CLS]` and `[SEP]` included.
        min_length, always_skip: of `backfill`, in text tokens.
        window: of `best_fit`, text tokens that are packed together.
        cls_id, sep_id: the framing tokens.
        seed: of the random numbers of `backfill`.
    """

    strategy: str
    length: int
    min_length: int
    always_skip: int
    window: int
    cls_id: int
    sep_id: int
    seed: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """Spans of documents, each shape (n,) int64, ordered by document and start."""

    document: np.ndarray
    start: np.ndarray
    length: np.ndarray


def backfill(lengths: np.ndarray, uniform: np.ndarray, options: PackOptions) -> tuple[Pieces, int]:
    """Cut documents as published.

    Args:
        lengths: shape (n,), int64, tokens of each document, all positive.
        uniform: shape (n,), uint64, a keyed draw for each document.
        options: lengths of the layout.

    Returns:
        The pieces, and the number of tokens skipped with short tails.
    """
    body = options.length - 2
    full, tail = np.divmod(lengths, body)
    has_tail = (tail > 0) & ((tail >= options.always_skip) | (full == 0))
    skipped = int(tail[(tail > 0) & ~has_tail].sum())
    # Multiply-shift maps the top 32 bits of a draw to 0..room-1 without the bias or cost of a modulo.
    room = (body - tail).astype(np.uint64)
    borrowed = (((uniform >> np.uint64(32)) * room) >> np.uint64(32)).astype(np.int64)
    borrowed[~(has_tail & (full > 0) & (tail < options.min_length))] = 0

    counts = full + has_tail
    document = np.repeat(np.arange(len(lengths)), counts)
    first = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    number = np.arange(len(document)) - first[document]
    start = number * body
    length = np.full(len(document), body, np.int64)
    last = first[1:][has_tail] - 1
    start[last] -= borrowed[has_tail]
    length[last] = tail[has_tail] + borrowed[has_tail]
    lenders = last[borrowed[has_tail] > 0]
    length[lenders - 1] -= borrowed[document[lenders]]
    return Pieces(document, start, length), skipped


def cut(lengths: np.ndarray, body: int) -> Pieces:
    """Cut documents every `body` tokens, keeping every tail."""
    counts = -(-lengths // body)
    document = np.repeat(np.arange(len(lengths)), counts)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    start = (np.arange(len(document)) - first[document]) * body
    return Pieces(document, start, np.minimum(body, lengths[document] - start))


def best_fit(sizes: np.ndarray, capacity: int) -> list[list[int]]:
    """Best-fit decreasing: bins of at most `capacity`, each a list of item numbers; every item in exactly one bin.

    Items of equal size keep their order. The open bins are kept by free space, and a bit set of the free spaces in use
    gives the tightest bin that holds an item in one shift, so a window of n items costs O(n * capacity / 64).
    """
    bins: list[list[int]] = []
    by_space: dict[int, list[int]] = {}
    spaces = 0
    for item in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[item])
        fitting = spaces >> size
        if fitting:
            space = size + (fitting & -fitting).bit_length() - 1
            open_bins = by_space[space]
            number = open_bins.pop()
            if not open_bins:
                spaces &= ~(1 << space)
        else:
            space, number = capacity, len(bins)
            bins.append([])
        bins[number].append(item)
        space -= size
        if space > 0:
            by_space.setdefault(space, []).append(number)
            spaces |= 1 << space
    return bins


class Pack(PipelineStep):
    """The step: `TokenRows` in, `Samples` out, `Tally` counted."""

    name = "📦 pack"
    type = "✂ - PACKER"

    def __init__(self, options: PackOptions, source: str, tally: Tally) -> None:
        super().__init__()
        self.options, self.source, self.tally = options, source, tally

    def run(self, data: Iterable[TokenRows], rank: int = 0, world_size: int = 1) -> Generator[Samples, None, None]:
        pack = {"backfill": self._backfill, "best_fit": self._best_fit, "concat": self._concat}[self.options.strategy]
        for samples in pack(data):
            self.tally.samples += len(samples.ids)
            self.tally.tokens += int(samples.offsets[-1])
            self.stat_update("samples", value=len(samples.ids), unit="batch")
            yield samples
            del samples  # a window is large: nobody keeps it while the next one is made

    def _arrive(self, rows: TokenRows) -> np.ndarray:
        lengths = np.diff(rows.offsets)
        self.tally.documents += len(lengths)
        self.tally.tokens_in += int(lengths.sum())
        return lengths

    def _backfill(self, data: Iterable[TokenRows]) -> Generator[Samples, None, None]:
        options, first = self.options, 0
        for rows in data:
            lengths = self._arrive(rows)
            keys = draws.document_keys(rows.ids)
            uniform = draws.draws(keys, options.seed, "backfill", self.source)
            pieces, skipped = backfill(lengths, uniform, options)
            if skipped:
                self.tally.skipped["short_tail"] += skipped
            self.tally.text_tokens += int(pieces.length.sum())
            tokens, offsets = _frame(rows, pieces, options)
            names = rows.ids
            yield Samples(
                ids=[names[d] for d in pieces.document.tolist()],
                tokens=tokens,
                offsets=offsets,
                rows={"document": pieces.document + first, "start": pieces.start, "length": pieces.length},
                documents=_documents(rows, keys, lengths),
            )
            first += len(lengths)

    def _best_fit(self, data: Iterable[TokenRows]) -> Generator[Samples, None, None]:
        options, first = self.options, 0
        for rows in _windows(data, options.window):
            lengths = self._arrive(rows)
            pieces = cut(lengths, options.length - 2)
            bins = best_fit(pieces.length + 2, options.length)
            for members in bins:
                members.sort()  # documents in a sample stand in reading order
            bins.sort()
            self.tally.text_tokens += int(pieces.length.sum())
            samples = _packed(rows, pieces, bins, first, draws.document_keys(rows.ids), lengths, options, own_cls=True)
            first += len(lengths)
            del rows, pieces, bins, lengths
            yield samples
            del samples

    def _concat(self, data: Iterable[TokenRows]) -> Generator[Samples, None, None]:
        options, first = self.options, 0
        for rows in _windows(data, options.window):
            lengths = self._arrive(rows)
            pieces, bins = concat(lengths, options.length)
            self.tally.text_tokens += int(pieces.length.sum())
            samples = _packed(rows, pieces, bins, first, draws.document_keys(rows.ids), lengths, options, own_cls=False)
            first += len(lengths)
            del rows, pieces, bins, lengths
            yield samples
            del samples


def concat(lengths: np.ndarray, length: int) -> tuple[Pieces, list[list[int]]]:
    """Documents end to end: one `[CLS]` a sample and a `[SEP]` behind each document or cut of one."""
    document: list[int] = []
    start: list[int] = []
    size: list[int] = []
    bins: list[list[int]] = []
    room = 0
    for number, total in enumerate(lengths.tolist()):
        at = 0
        while at < total:
            if room < 2:  # a text token and its [SEP]
                bins.append([])
                room = length - 1
            take = min(total - at, room - 1)
            bins[-1].append(len(size))
            document.append(number)
            start.append(at)
            size.append(take)
            at += take
            room -= take + 1
    return Pieces(np.array(document, np.int64), np.array(start, np.int64), np.array(size, np.int64)), bins


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
    )
    held.clear()
    return joined


def _documents(rows: TokenRows, keys: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "key": keys,
        "file": rows.files,
        "position": rows.positions,
        "tokens": lengths,
        "url_key": rows.url_keys,
    }


def _frame(rows: TokenRows, pieces: Pieces, options: PackOptions) -> tuple[np.ndarray, np.ndarray]:
    """One sample for each piece: `[CLS]` piece `[SEP]`, end to end."""
    offsets = np.zeros(len(pieces.length) + 1, np.int64)
    np.cumsum(pieces.length + 2, out=offsets[1:])
    out = np.empty(int(offsets[-1]), rows.tokens.dtype)
    out[offsets[:-1]] = options.cls_id
    out[offsets[1:] - 1] = options.sep_id
    _copy(rows.tokens, rows.offsets[pieces.document] + pieces.start, out, offsets[:-1] + 1, pieces.length)
    return out, offsets


def _copy(tokens: np.ndarray, begins: np.ndarray, out: np.ndarray, targets: np.ndarray, sizes: np.ndarray) -> None:
    """`out[targets[i] : targets[i] + sizes[i]] = tokens[begins[i] : begins[i] + sizes[i]]` for all i.

    By slices of memory views, at half the cost of slices of arrays: pieces are long, so it runs at memory's speed.
    """
    item = tokens.dtype.itemsize
    source, target = memoryview(np.ascontiguousarray(tokens)).cast("B"), memoryview(out).cast("B")
    spans = (begins * item, (begins + sizes) * item, targets * item, (targets + sizes) * item)
    for begin, end, at, behind in zip(*(span.tolist() for span in spans), strict=True):
        target[at:behind] = source[begin:end]


def _packed(
    rows: TokenRows,
    pieces: Pieces,
    bins: list[list[int]],
    first: int,
    keys: np.ndarray,
    lengths: np.ndarray,
    options: PackOptions,
    own_cls: bool,
) -> Samples:
    """Samples of several pieces; boundaries are at each piece's first token (its `[CLS]` if it has its own)."""
    order = np.array([piece for members in bins for piece in members], np.int64)
    ends = np.cumsum([len(members) for members in bins])
    heads = np.concatenate([[0], ends[:-1]])
    document, start, size = pieces.document[order], pieces.start[order], pieces.length[order]
    is_head = np.zeros(len(order), bool)
    is_head[heads] = True
    has_cls = np.ones(len(order), bool) if own_cls else is_head
    limits = np.zeros(len(order) + 1, np.int64)  # of the pieces with their framing
    np.cumsum(size + has_cls + 1, out=limits[1:])
    offsets = np.append(limits[heads], limits[-1])

    out = np.empty(int(limits[-1]), rows.tokens.dtype)
    out[limits[:-1][has_cls]] = options.cls_id
    out[limits[1:] - 1] = options.sep_id
    _copy(rows.tokens, rows.offsets[document] + start, out, limits[:-1] + has_cls, size)

    sample = np.repeat(np.arange(len(bins)), np.diff(heads, append=len(order)))
    # The boundaries of sample i: where its pieces begin, then where it ends, which is the next one's beginning.
    bounds = np.insert(limits[:-1] - offsets[sample], ends, np.diff(offsets)).astype(np.int32)
    cuts = (ends + np.arange(1, len(bins) + 1)).tolist()
    rest = ~is_head
    return Samples(
        ids=[rows.ids[number] for number in document[heads].tolist()],
        tokens=out,
        offsets=offsets,
        rows={"document": document[heads] + first, "start": start[heads], "length": size[heads]},
        documents=_documents(rows, keys, lengths),
        cu_seqlens=[bounds[begin:end] for begin, end in itertools.pairwise([0, *cuts])],
        segments={
            "sample": sample[rest],
            "document": document[rest] + first,
            "start": start[rest],
            "length": size[rest],
        },
    )
