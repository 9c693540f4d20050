"""A mix that goes on from earlier ones: all that they took of a source is taken again, and what is missing beside it.

The mix of `build.mix` follows a target wherever it goes: with a larger one other splits are cut, more is held out, and
so some samples of before are not taken any more. Where a recipe says what earlier builds took (`sources.*.after`), the
first decision is made as it was then, of the splits that there were, and each later target adds to it:

* Validation stays that of the first build. Splits that came later hold out nothing.
* The passes are filled one after the other, each with what no earlier build took of it; the last one is cut by the
  lowest draws among that. A split of which several builds took parts is cut by all their cuts together (`Cut.also`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ettin_data.base.errors import BuildError
from ettin_data.base.units import count
from ettin_data.build.mix import Cut, Load, Piece, SampleTable, SourceMix, held_out, lowest, mix_source
from ettin_data.recipe import SourceChoice
from ettin_data.recipe.schema import TakenBefore


@dataclass(frozen=True)
class Growth:
    """The splits that a target is met from, by their numbers, rising, and what is wanted of them."""

    splits: tuple[int, ...]
    wanted: TakenBefore | SourceChoice


def mix_after(
    source: str,
    split_names: Sequence[str],
    split_tokens: Sequence[int],
    load: Load,
    builds: Sequence[Growth],
    *,
    seed: int,
    validation: float,
    max_epochs: float,
    attributes: bool,
    load_train: Load | None,
) -> SourceMix:
    """Decide what of a source goes into `validation/` and `train/`, after earlier builds.

    Args:
        builds: what each of them took, the first one first; the last one is this build.
        source, split_names, split_tokens, load, seed, validation, max_epochs, attributes, load_train: as of
            `mix.mix_source`.

    Raises:
        BuildError: as of `mix.mix_source`; or a build is to take less than the one before.
    """
    (first, *later), for_training = builds, load_train or load
    here = first.splits
    mix = mix_source(
        source,
        first.wanted.tokens,
        [split_names[number] for number in here],
        [split_tokens[number] for number in here],
        lambda number: load(here[number]),
        seed=seed,
        validation=validation,
        max_epochs=max_epochs,
        attributes=attributes,
        passes_of=None if first.wanted.passes is None else first.wanted.target,
        load_train=None if load_train is None else lambda number: for_training(here[number]),
    )
    mix = _renumbered(mix, here)
    for growth in later:
        mix = _grown(source, mix, growth, for_training, seed, max_epochs)
    pool, without_samples = sum(split_tokens), 0
    if attributes or load_train is not None:
        every = range(len(split_tokens))
        pool = sum(int(load(number).tokens.sum()) for number in every)
        without_samples = sum(_without_samples(for_training(number)) for number in every)
    return replace(mix, pool_tokens=pool, without_samples=without_samples)


def _without_samples(table: SampleTable) -> int:
    return int((~table.documents(table.tokens > 0)).sum())


def _renumbered(mix: SourceMix, splits: Sequence[int]) -> SourceMix:
    """A decision about some splits of a source as one about all of them: number `n` of it is `splits[n]`."""

    def cut(old: Cut | None) -> Cut | None:
        if old is None or old.before[0] >= len(splits):
            return old
        return replace(old, before=(splits[old.before[0]], old.before[1]))

    pieces = (
        replace(piece, split=splits[piece.split], cut=cut(piece.cut), held_out=cut(piece.held_out))
        for piece in mix.pieces
    )
    held = tuple(splits[number] for number in mix.validation_splits)
    return replace(mix, validation=cut(mix.validation), validation_splits=held, pieces=tuple(pieces))


class _Rest:
    """What of a source is there for train, and what earlier builds have not taken of it in a pass."""

    def __init__(self, mix: SourceMix, load: Load) -> None:
        self._load, self._held, self._validation = load, set(mix.validation_splits), mix.validation
        self.pieces = {(piece.copy, piece.split): piece for piece in mix.pieces}

    def table(self, number: int) -> SampleTable:
        """A table in which what validation keeps from train has no tokens."""
        table = self._load(number)
        if number not in self._held or self._validation is None:
            return table
        gone = table.beside(held_out(table, self._validation, number))
        return replace(table, tokens=np.where(gone, 0, table.tokens))

    def apart(self, number: int) -> Cut | None:
        """The cut of validation, of a split that loses something by it."""
        loses = number in self._held and self.table(number).tokens.sum() < self._load(number).tokens.sum()
        return self._validation if loses else None

    def of_pass(self, copy: int) -> Load:
        def load(number: int) -> SampleTable:
            table, piece = self.table(number), self.pieces.get((copy, number))
            if piece is None:
                return table
            taken = np.ones(len(table.tokens), bool) if piece.cut is None else piece.cut.rows(table, number)
            return replace(table, tokens=np.where(taken, 0, table.tokens))

        return load


def _grown(source: str, mix: SourceMix, growth: Growth, load: Load, seed: int, max_epochs: float) -> SourceMix:
    rest = _Rest(mix, load)
    left = {number: int(rest.table(number).tokens.sum()) for number in growth.splits}
    room = sum(left.values())
    target = growth.wanted.target(room)
    if target < mix.target:
        raise BuildError(
            f"source {source!r} is to give {count(target)} tokens, and an earlier build took {count(mix.target)}",
            where=f"sources.{source}",
            why="what goes on from an earlier build takes all that it took",
            remedy=f"set sources.{source}.tokens to {mix.target:,} or more; or build without --after",
        )
    if target > room * max_epochs:
        raise BuildError(
            f"source {source!r} holds {count(room)} tokens; {count(target)} would take {target / room:.2f} passes",
            why=f"max_epochs is {max_epochs:g}",
            remedy=f"lower sources.{source}.tokens to {int(room * max_epochs):,}, or raise max_epochs",
        )
    wanted, taken_tokens, copy = target - mix.train_tokens, mix.train_tokens, 0
    while wanted > 0:
        load_rest = rest.of_pass(copy)
        there = {number: int(load_rest(number).tokens.sum()) for number in growth.splits}
        if sum(there.values()) <= wanted:
            for number in filter(left.get, growth.splits):
                rest.pieces[copy, number] = Piece(number, copy, None, rest.apart(number))
            more = sum(there.values())
            wanted -= more
        else:
            some = [number for number in growth.splits if there[number]]
            cut, taken = lowest((seed, "mix", source, copy), some, load_rest, wanted)
            for number in filter(taken.get, some):
                both = _united(cut, rest.pieces.get((copy, number)))
                rest.pieces[copy, number] = Piece(number, copy, both, rest.apart(number))
            more, wanted = sum(taken.values()), 0
        taken_tokens, copy = taken_tokens + more, copy + 1
    pieces = tuple(rest.pieces[key] for key in sorted(rest.pieces))
    return replace(mix, pieces=pieces, target=target, train_tokens=taken_tokens, passes=target / room)


def _united(cut: Cut, before: Piece | None) -> Cut:
    if before is None or before.cut is None:
        return cut
    return replace(cut, also=(*before.cut.also, replace(before.cut, also=())))
