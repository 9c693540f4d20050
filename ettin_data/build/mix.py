"""Mix: the choice of samples from the pools that meets the token targets. Pure functions from counts to decisions.

The rules, for each source:

* Validation takes whole documents, the lowest draws first, until their samples hold the asked share.
* A target below what is left takes documents by the lowest draws. A target above takes whole passes and a remainder
  chosen the same way. The last document is cut between samples, so that the target is met to within one sample.
* As few splits as possible are rewritten: what is left out comes from no more splits than are needed to take at most a
  quarter of each (`THIN`). A choice of less than three quarters of a source is therefore a choice over all its splits,
  and a choice of nearly all leaves most splits whole, to be linked.
* A document that is held out for validation is not in train. A document is its place upstream and lies in one split; an
  id that others have as well says nothing about it (ARCHITECTURE 5.9).
* A copy of a document that is held out stays out of train, where the recipe asks for that (`build.copies.twins`). Which
  documents are held out is decided before, and does not depend on it.
* What an attribute leaves out (`storage.attributes`) is not there for any of these rules: its samples have no tokens.

A draw is a function of the seed, the purpose and the document's file and position (`storage.split.document_places`), so
a document keeps its draw when sources, targets or splits change. Samples of several documents (`best_fit`, `concat`)
follow their first document; those that share a document with one that is held out are in no part, and documents of
which nothing is left so are counted.

Counts are kept in histograms over the top 16 bits of the draws, so that a source of any number of documents is decided
in the memory of one split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import draws
from ettin_data.base.errors import BuildError
from ettin_data.base.units import count
from ettin_data.storage.attributes import samples_with

THIN = 0.25
_BUCKETS, _SHIFT = 1 << 16, np.uint64(48)


@dataclass(frozen=True)
class SampleTable:
    """The samples of a split, in order.

    Attributes:
        keys: shape (documents,), uint64, `draws.place_keys` of each document.
        first: shape (n,), int64, row in `keys` of each sample's (first) document.
        tokens: shape (n,), int64, stored tokens; 0 for a sample that an attribute leaves out.
        segments: columns `sample` and `document` (rows, int64) of the further ones, where samples hold several.
    """

    keys: NDArray[np.uint64]
    first: NDArray[np.int64]
    tokens: NDArray[np.int64]
    segments: Mapping[str, NDArray[np.int64]] | None = None

    def draws(self, purpose: Sequence[draws.Part]) -> NDArray[np.uint64]:
        """The draw of each sample, shape (n,), uint64: that of its first document."""
        return draws.draws(self.keys, *purpose)[self.first]

    def documents(self, samples: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mask of the documents, shape (documents,), that these samples hold any of."""
        mask = np.zeros(len(self.keys), bool)
        mask[self.first[samples]] = True
        if self.segments is not None:
            mask[self.segments["document"][samples[self.segments["sample"]]]] = True
        return mask

    def beside(self, samples: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mask of the samples, shape (n,), that share a document with these, themselves among them."""
        return samples_with(self.documents(samples), self.first, self.segments)


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
        also: cuts of earlier builds, whose samples are taken as well (`build.growth`).
    """

    purpose: tuple[draws.Part, ...]
    limit: int
    before: tuple[int, int]
    also: tuple[Cut, ...] = ()

    def rows(self, table: SampleTable, number: int) -> NDArray[np.bool_]:
        """Mask of the rows taken from split `number`."""
        rows: NDArray[np.bool_] = sum((cut.rows(table, number) for cut in self.also), self._own(table, number))
        return rows

    def _own(self, table: SampleTable, number: int) -> NDArray[np.bool_]:
        draw = table.draws(self.purpose)
        limit = np.uint64(self.limit)
        if number < self.before[0]:
            return draw <= limit
        if number > self.before[0]:
            return draw < limit
        mask: NDArray[np.bool_] = (draw < limit) | ((draw == limit) & (np.arange(len(draw)) < self.before[1]))
        return mask


@dataclass(frozen=True)
class Piece:
    """One split of one pass in `train/`: whole, or cut, without what `held_out` takes for validation.

    Of a pass in layers, `layer` says which; then `cut` knows the split by the number `layer * splits + split`.
    """

    split: int
    copy: int
    cut: Cut | None
    held_out: Cut | None
    layer: int = 0


@dataclass(frozen=True)
class SourceMix:
    """The decision about one source.

    Attributes:
        validation: the cut that holds out documents, and the splits that it concerns.
        pieces: what `train/` is made of, by copy and split.
        target: tokens that were wanted in train, counted where the recipe wants passes.
        train_tokens, validation_tokens: what they hold, to the token.
        pool_tokens: what there was.
        passes: target over the tokens that are left after validation.
        without_samples: documents of which attributes leave no sample.
        beside_validation: documents of which no sample is left because each shares a document with validation.
    """

    validation: Cut | None
    validation_splits: tuple[int, ...]
    pieces: tuple[Piece, ...]
    target: int
    train_tokens: int
    validation_tokens: int
    pool_tokens: int
    passes: float
    without_samples: int
    beside_validation: int


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
    passes_of: Callable[[int], int] | None = None,
    load_train: Load | None = None,
    layers: int = 1,
    load_layer: Callable[[int, int], SampleTable] | None = None,
) -> SourceMix:
    """Decide what of a source goes into `validation/` and `train/`.

    Args:
        source: key, part of every draw.
        target: tokens wanted in train.
        split_names, split_tokens: name and stored tokens of each split, in the order of the names.
        load: the sample table of a split.
        attributes: whether tables may have samples that an attribute leaves out.
        passes_of: instead of `target`: the tokens wanted in train where that many are left after validation.
        load_train: the same table for train, from which copies of documents that are held out are gone as well; None
            where nobody looked for them.
        layers: of each pass, of which a document is in the first ones only (`build.copies.weights`).
        load_layer: the table for train of a split (the first number) in a layer; None where there is one.
        seed, validation, max_epochs: of the recipe.

    Raises:
        BuildError: the source is empty, or the target needs more than `max_epochs` passes.
    """
    tokens, for_training = np.array(split_tokens, np.int64), load_train or load
    without_samples = beside_validation = 0
    if attributes or load_train is not None:
        for number in range(len(tokens)):
            tokens[number] = load(number).tokens.sum()
            table = for_training(number)
            without_samples += int((~table.documents(table.tokens > 0)).sum())
    total = int(tokens.sum())
    if total == 0:
        read = sum(split_tokens)
        why = f"`dedup` or attributes leave out all {count(read)} of its tokens" if read else None
        remedy = "change what leaves them out, or drop it" if read else "look at its rejects, or drop it"
        raise BuildError(f"source {source!r} has no tokens", why=why, remedy=remedy)
    order = cut_order(split_names, seed, source)

    held_cut: Cut | None = None
    held_splits: tuple[int, ...] = ()
    held_tokens, left = 0, tokens.copy()
    if load_train is not None:
        left = np.array([load_train(number).tokens.sum() for number in range(len(tokens))], np.int64)
    whole = left.copy()
    if validation > 0:
        most = target if passes_of is None else passes_of(total)
        wanted = max(int(min(total, most) * validation), 1)
        held_splits = splits_to_touch(order, tokens, wanted)
        purpose = (seed, "validation", source)
        held_cut, held_by_split = lowest(purpose, held_splits, load, wanted, whole_documents=True)
        held_tokens = sum(held_by_split.values())
        for number in held_splits:
            table = for_training(number)
            there, held = table.tokens > 0, held_out(table, held_cut, number)
            for_train = there & ~table.beside(held)
            left[number] = table.tokens[for_train].sum()
            in_neither = table.documents(there) & ~table.documents(held | for_train)
            beside_validation += int(in_neither.sum())
        if left.sum() == 0:
            raise BuildError(
                f"source {source!r} has one document, which cannot be in train and in validation",
                remedy="add text to the source, drop it, or set validation to 0",
            )
    apart = [
        held_cut if number in held_splits and left[number] < whole[number] else None for number in range(len(left))
    ]
    in_layers = _Layers(load_layer or (lambda number, _: for_training(number)), left, apart, layers)
    room = int(in_layers.left.sum())
    target = target if passes_of is None else passes_of(room)
    passes = target / room
    if passes > max_epochs:
        raise BuildError(
            f"source {source!r} holds {count(room)} tokens; {count(target)} would take {passes:.2f} passes",
            why=f"max_epochs is {max_epochs:g}",
            remedy=f"lower sources.{source}.tokens to {int(room * max_epochs):,}, or raise max_epochs",
        )
    copies, rest = divmod(target, room)
    pieces = [in_layers.piece(s, copy, None) for copy in range(copies) for s in np.flatnonzero(in_layers.left).tolist()]
    taken = copies * room
    if rest:
        more, rest_tokens = _part(source, rest, copies, order, in_layers, seed)
        pieces += more
        taken += rest_tokens
    return SourceMix(
        held_cut,
        held_splits,
        tuple(pieces),
        target,
        taken,
        held_tokens,
        total,
        passes,
        without_samples,
        beside_validation,
    )


class _Layers:
    """The splits of a source in all layers of a pass, one layer behind the other, as if each were a split of its own.

    So a document has one draw in all its layers, and is taken in all of them or in none, but for the one at the cut.

    Attributes:
        left: shape (layers * splits,), tokens that are there for train.
    """

    def __init__(
        self,
        load: Callable[[int, int], SampleTable],
        left: NDArray[np.int64],
        apart: Sequence[Cut | None],
        layers: int,
    ) -> None:
        self.load, self.apart, self.splits = load, apart, len(left)
        further = [self.available(number).tokens.sum() for number in range(len(left), layers * len(left))]
        self.left = np.concatenate([left, np.array(further, np.int64)])

    def available(self, number: int) -> SampleTable:
        """A table in which what validation keeps from train has no tokens."""
        layer, split = divmod(number, self.splits)
        table, held_cut = self.load(split, layer), self.apart[split]
        if held_cut is None:
            return table
        gone = table.beside(held_out(table, held_cut, split))
        return replace(table, tokens=np.where(gone, 0, table.tokens))

    def piece(self, number: int, copy: int, cut: Cut | None) -> Piece:
        """The piece of a pass."""
        layer, split = divmod(number, self.splits)
        return Piece(split, copy, cut, self.apart[split], layer)

    def touched(self, order: NDArray[np.int64], excess: int) -> list[int]:
        """The numbers, rising, of splits that are cut so that `excess` tokens go, in all their layers."""
        layers = self.left.reshape(-1, self.splits)
        splits = splits_to_touch(order, layers.sum(axis=0), excess)
        return [layer * self.splits + s for layer in range(len(layers)) for s in splits if layers[layer, s]]


def _part(
    source: str, wanted: int, copy: int, order: NDArray[np.int64], layers: _Layers, seed: int
) -> tuple[list[Piece], int]:
    """A pass that takes `wanted` tokens of what is left: most splits whole where that is nearly all."""
    left = layers.left
    cut_splits = layers.touched(order, int(left.sum()) - wanted)
    whole = sorted(set(np.flatnonzero(left).tolist()) - set(cut_splits))
    from_cut = wanted - int(left[whole].sum())
    purpose = (seed, "mix", source, copy)
    cut, taken = lowest(purpose, cut_splits, layers.available, from_cut, at_least_one=copy == 0 and not whole)
    pieces = [layers.piece(s, copy, None) for s in whole]
    pieces += [layers.piece(s, copy, cut) for s in cut_splits if taken[s]]
    return sorted(pieces, key=lambda piece: piece.split), int(left[whole].sum()) + sum(taken.values())


def held_out(table: SampleTable, cut: Cut, number: int) -> NDArray[np.bool_]:
    """Mask of the samples of split `number` that the cut takes for validation."""
    return cut.rows(table, number) & (table.tokens > 0)


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
        bucket = (table.draws(purpose) >> _SHIFT).astype(np.int64)
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
        draw = table.draws(purpose)
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


def cut_order(split_names: Sequence[str], seed: int, source: str) -> NDArray[np.int64]:
    """The splits of a source, shape (n,), in the keyed order in which they are cut where they have to be."""
    return np.argsort(draws.draws(draws.document_keys(split_names), seed, "cut order", source), kind="stable")


def splits_to_touch(order: NDArray[np.int64], tokens: NDArray[np.int64], amount: int) -> tuple[int, ...]:
    """The fewest splits, in keyed order, that give `amount` tokens without losing more than `THIN` of theirs."""
    ordered = np.cumsum(tokens[order])
    needed = int(np.searchsorted(ordered, amount / THIN)) + 1
    return tuple(sorted(int(s) for s in order[:needed] if tokens[s]))
