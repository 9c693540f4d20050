"""Mix: the choice of samples from the pools that meets the token targets. Pure functions from counts to decisions.

The rules, for each source:

* Validation takes whole documents, the lowest draws first, until their samples hold the asked share.
* A target below what is left takes documents by the lowest draws. A target above takes whole passes and a remainder
  chosen the same way. The last document is cut between samples, so that the target is met to within one sample.
* As few splits as possible are rewritten: what is left out comes from no more splits than are needed to take at most a
  quarter of each (`THIN`). A choice of less than three quarters of a source is therefore a choice over all its splits,
  and a choice of nearly all leaves most splits whole, to be linked.
* A document held out for validation is not in train, whichever split it is in: a document's identity is its id.
* What an attribute leaves out (`storage.attributes`) is not there for any of these rules: its samples have no tokens.

A draw is a function of the seed, the purpose and the document's id (`draws.draws`), so a document keeps its draw when
sources, targets or splits change. Samples of several documents (`best_fit`, `concat`) follow their first document.

Counts are kept in histograms over the top 16 bits of the draws, so that a source of any number of documents is decided
in the memory of one split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import draws
from ettin_data.base.errors import BuildError
from ettin_data.base.units import count

THIN = 0.25
_BUCKETS, _SHIFT = 1 << 16, np.uint64(48)


@dataclass(frozen=True)
class SampleTable:
    """The samples of a split, in order.

    Attributes:
        keys: shape (n,), uint64, key of each sample's (first) document.
        tokens: shape (n,), int64, stored tokens; 0 for a sample that an attribute leaves out.
        shared: keys of further documents in samples, shape (m,), uint64, with the sample of each in `shared_rows`.
    """

    keys: NDArray[np.uint64]
    tokens: NDArray[np.int64]
    shared: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    shared_rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


Load = Callable[[int], SampleTable]
"""Loads the table of a split by its number; called a few times for each, so that one split at a time is in memory."""


@dataclass(frozen=True)
class Cut:
    """Which samples of a split are taken: those whose draw is below `limit`, and of the draw at `limit` itself the
    samples `before` this position in the whole source.

    Attributes:
        purpose: of the draw.
        limit: uint64 as int.
        before: (split number, row) of the first sample with draw `limit` that is not taken.
    """

    purpose: tuple[draws.Part, ...]
    limit: int
    before: tuple[int, int]

    def rows(self, table: SampleTable, number: int) -> NDArray[np.bool_]:
        """Mask of the rows taken from split `number`."""
        draw = draws.draws(table.keys, *self.purpose)
        limit = np.uint64(self.limit)
        if number < self.before[0]:
            return draw <= limit
        if number > self.before[0]:
            return draw < limit
        mask: NDArray[np.bool_] = (draw < limit) | ((draw == limit) & (np.arange(len(draw)) < self.before[1]))
        return mask


@dataclass(frozen=True)
class Piece:
    """One split of one pass in `train/`: whole, or cut, without the samples that are held out."""

    split: int
    copy: int
    cut: Cut | None
    excluded: bool
    """Whether documents have to be taken out: held out for validation, or left out by an attribute."""

    @property
    def whole(self) -> bool:
        return self.cut is None and not self.excluded


@dataclass(frozen=True)
class SourceMix:
    """The decision about one source.

    Attributes:
        validation: the cut that holds out documents, and the splits that it concerns.
        held_out: sorted keys of all documents held out, uint64.
        pieces: what `train/` is made of, by copy and split.
        train_tokens, validation_tokens: what they hold, to the token.
        pool_tokens: what there was.
        passes: target over the tokens that are left after validation.
    """

    validation: Cut | None
    validation_splits: tuple[int, ...]
    held_out: NDArray[np.uint64]
    pieces: tuple[Piece, ...]
    train_tokens: int
    validation_tokens: int
    pool_tokens: int
    passes: float


def mix_source(
    source: str,
    target: int,
    split_names: Sequence[str],
    split_tokens: Sequence[int],
    load: Load,
    *,
    seed: int,
    validation: float,
    max_epochs: float,
    attributes: bool = False,
) -> SourceMix:
    """Decide what of a source goes into `validation/` and `train/`.

    Args:
        source: key, part of every draw.
        target: tokens wanted in train.
        split_names, split_tokens: name and stored tokens of each split, in the order of the names.
        load: the sample table of a split.
        attributes: whether tables may have samples that an attribute leaves out.
        seed, validation, max_epochs: of the recipe.

    Raises:
        BuildError: the source is empty, or the target needs more than `max_epochs` passes.
    """
    stored = np.array(split_tokens, np.int64)
    tokens = np.array([load(n).tokens.sum() for n in range(len(stored))], np.int64) if attributes else stored
    total = int(tokens.sum())
    if total == 0:
        why = f"attributes leave out all {count(int(stored.sum()))} of its tokens" if stored.any() else None
        raise BuildError(f"source {source!r} has no tokens", why=why, remedy="look at its rejects, or drop it")
    order = np.argsort(draws.draws(draws.document_keys(split_names), seed, "cut order", source), kind="stable")

    held_cut: Cut | None = None
    held_splits: tuple[int, ...] = ()
    held_out, held_tokens, left = np.zeros(0, np.uint64), 0, tokens
    if validation > 0:
        wanted = max(int(min(total, target) * validation), 1)
        held_splits = _splits_to_touch(order, tokens, wanted)
        purpose = (seed, "validation", source)
        held_cut, _ = lowest(purpose, held_splits, load, wanted, whole_documents=True)
        held_out, held_tokens = _held_out(held_cut, held_splits, load)
        left = _left(len(tokens), KeySet(held_out), load)
        if left.sum() == 0:
            raise BuildError(
                f"source {source!r} has one document, which cannot be in train and in validation",
                remedy="add text to the source, drop it, or set validation to 0",
            )
    room = int(left.sum())
    passes = target / room
    if passes > max_epochs:
        raise BuildError(
            f"source {source!r} holds {count(room)} tokens; {count(target)} would take {passes:.2f} passes",
            why=f"max_epochs is {max_epochs:g}",
            remedy=f"lower sources.{source}.tokens to {int(room * max_epochs):,}, or raise max_epochs",
        )
    touched = left != stored
    copies, rest = divmod(target, room)
    pieces = [Piece(s, copy, None, bool(touched[s])) for copy in range(copies) for s in np.flatnonzero(left).tolist()]
    taken = copies * room
    if rest:
        more, rest_tokens = _part(source, rest, copies, order, left, touched, held_out, load, seed)
        pieces += more
        taken += rest_tokens
    return SourceMix(held_cut, held_splits, held_out, tuple(pieces), taken, held_tokens, total, passes)


def _part(
    source: str,
    wanted: int,
    copy: int,
    order: NDArray[np.int64],
    left: NDArray[np.int64],
    touched: NDArray[np.bool_],
    held_out: NDArray[np.uint64],
    load: Load,
    seed: int,
) -> tuple[list[Piece], int]:
    """A pass that takes `wanted` tokens of what is left: most splits whole where that is nearly all."""
    excess = int(left.sum()) - wanted
    cut_splits = _splits_to_touch(order, left, excess)
    whole = sorted(set(np.flatnonzero(left).tolist()) - set(cut_splits))
    from_cut = wanted - int(left[whole].sum())
    available = _without(KeySet(held_out), touched, load)
    purpose = (seed, "mix", source, copy)
    cut, taken = lowest(purpose, cut_splits, available, from_cut, at_least_one=copy == 0 and not whole)
    pieces = [Piece(s, copy, None, bool(touched[s])) for s in whole]
    pieces += [Piece(s, copy, cut, bool(touched[s])) for s in cut_splits if taken[s]]
    return sorted(pieces, key=lambda piece: piece.split), int(left[whole].sum()) + sum(taken.values())


def lowest(
    purpose: tuple[draws.Part, ...],
    splits: Sequence[int],
    load: Load,
    wanted: int,
    *,
    whole_documents: bool = False,
    at_least_one: bool = False,
) -> tuple[Cut, dict[int, int]]:
    """The cut that takes the samples of the lowest draws until they hold `wanted` tokens, and the tokens of each split.

    With `whole_documents`, the document that reaches `wanted` is taken whole; else samples are taken until the sum is
    as near to `wanted` as it can be, with `at_least_one` also where none would be nearer. Two passes: a histogram of
    tokens by draw finds the bucket, then that is sorted.
    """
    # First pass: tokens by the top bits of the draw. All that has fewer than `wanted` tokens below it is taken.
    histogram = np.zeros(_BUCKETS, np.int64)
    taken: dict[int, int] = {}
    for number in splits:
        table = load(number)
        bucket = (draws.draws(table.keys, *purpose) >> _SHIFT).astype(np.int64)
        histogram += np.bincount(bucket, weights=table.tokens, minlength=_BUCKETS).astype(np.int64)
        taken[number] = int(table.tokens.sum())
    below = np.cumsum(histogram)
    bucket_number = int(np.searchsorted(below, wanted))
    if bucket_number >= _BUCKETS:  # everything there is
        return Cut(purpose, 2**64 - 1, (2**62, 0)), taken
    start = int(below[bucket_number] - histogram[bucket_number])  # tokens in the buckets before it, all taken

    # Second pass: only the samples of the bucket in which the limit falls are held, and sorted.
    drawn, rows, numbers, tokens = [], [], [], []
    for number in sorted(splits):
        table = load(number)
        draw = draws.draws(table.keys, *purpose)
        buckets = draw >> _SHIFT
        taken[number] = int(table.tokens[buckets < np.uint64(bucket_number)].sum())
        inside = np.flatnonzero(buckets == np.uint64(bucket_number))
        drawn.append(draw[inside])
        rows.append(inside)
        numbers.append(np.full(len(inside), number))
        tokens.append(table.tokens[inside])
    draw, row = np.concatenate(drawn), np.concatenate(rows)
    number, size = np.concatenate(numbers), np.concatenate(tokens)
    ranked = np.lexsort((row, number, draw))
    draw, row, number, size = draw[ranked], row[ranked], number[ranked], size[ranked]
    held = start + np.cumsum(size)
    at = int(np.searchsorted(held, wanted))
    if whole_documents:
        cut, end = Cut(purpose, int(draw[at]), (2**62, 0)), int(np.searchsorted(draw, draw[at], side="right"))
    else:
        # Take sample `at` as well when that comes nearer to the target.
        before = int(held[at] - size[at])
        if int(held[at]) - wanted <= wanted - before or (at_least_one and before == 0):
            at += 1
        end = at
        if at < len(draw):
            cut = Cut(purpose, int(draw[at]), (int(number[at]), int(row[at])))
        else:
            cut = Cut(purpose, int(draw[-1]), (2**62, 0))
    names, places = np.unique(number[:end], return_inverse=True)
    sums = np.zeros(len(names), np.int64)
    np.add.at(sums, places, size[:end])
    for split, tokens_of_it in zip(names.tolist(), sums.tolist(), strict=True):
        taken[split] += tokens_of_it
    return cut, taken


class KeySet:
    """A set of document keys (sorted, unique, uint64) that answers for a split's keys at once.

    Nearly all keys that are asked for are not in it. A table over their first bits says so for all but an eighth of
    those, which are then searched for: at the size of a full source a tenth of the cost of searching for all.
    """

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        bits = min(max(len(keys).bit_length() + 3, 8), 24)
        self.keys, self._shift = keys, np.uint64(64 - bits)
        self._first_bits = np.zeros(1 << bits, bool)
        self._first_bits[self._bucket(keys)] = True

    def __len__(self) -> int:
        return len(self.keys)

    def _bucket(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (keys >> self._shift).view(np.int64)

    def holds(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Mask of the keys, shape (n,) uint64, that are in the set."""
        mask = self._first_bits[self._bucket(keys)]
        maybe = np.flatnonzero(mask)
        if len(maybe):
            asked = keys[maybe]
            at = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)
            mask[maybe] = self.keys[at] == asked
        return mask


def excluded_rows(table: SampleTable, held_out: KeySet) -> NDArray[np.bool_]:
    """Mask of the samples that hold a document of `held_out`."""
    mask = held_out.holds(table.keys)
    if len(table.shared):
        mask[table.shared_rows[held_out.holds(table.shared)]] = True
    return mask


def _splits_to_touch(order: NDArray[np.int64], tokens: NDArray[np.int64], amount: int) -> tuple[int, ...]:
    """The fewest splits, in keyed order, that give `amount` tokens without losing more than `THIN` of theirs."""
    ordered = np.cumsum(tokens[order])
    needed = int(np.searchsorted(ordered, amount / THIN)) + 1
    return tuple(sorted(int(s) for s in order[:needed] if tokens[s]))


def _held_out(cut: Cut, splits: Sequence[int], load: Load) -> tuple[NDArray[np.uint64], int]:
    keys, tokens = [], 0
    for number in splits:
        table = load(number)
        rows = cut.rows(table, number) & (table.tokens > 0)
        keys.append(table.keys[rows])
        if len(table.shared):
            keys.append(table.shared[rows[table.shared_rows]])
        tokens += int(table.tokens[rows].sum())
    return np.unique(np.concatenate(keys)), tokens


def _left(splits: int, held_out: KeySet, load: Load) -> NDArray[np.int64]:
    left = np.zeros(splits, np.int64)
    for number in range(splits):
        table = load(number)
        left[number] = table.tokens[~excluded_rows(table, held_out)].sum()
    return left


def _without(held_out: KeySet, touched: NDArray[np.bool_], load: Load) -> Load:
    """`load`, with no tokens for what is held out; only the splits that are `touched` hold any of it."""

    def available(number: int) -> SampleTable:
        table = load(number)
        if not touched[number]:
            return table
        return SampleTable(table.keys, np.where(excluded_rows(table, held_out), 0, table.tokens))

    return available
