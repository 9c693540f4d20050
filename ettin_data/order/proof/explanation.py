"""An explanation of a published order, and what it says should be in each part.

An `Explanation` is the law plus how a publication was made from it: where its step numbers start, what was skipped,
whether steps or only folders are exact, which rank was saved, in which order its shards stood. `plan` turns it into
`Unit`s: rows of files on one side, indices into the permutation on the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.law import OrderLaw
from ettin_data.order.loader_edits import Form
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.masking import Masking

MOST_EPOCHS = 64
"""Readings of the data after which a step number is taken for a mistake."""


@dataclass(frozen=True)
class Explanation:
    """How a publication follows from a law.

    Attributes:
        law: seed, epoch, samples, batch. The batch is the number of samples that a global step consumes.
        base: number of the first step in the published numbering: 1, or 0.
        offset: steps of the law before the step that is numbered `base`: a run resumed there.
        numbering: "global" when numbers run through the phase, "restart" when they start again in each folder, so that
            only the order of folders says which step is meant.
        exact: "steps" when each published step is a step of the law; "rows" when the rows are in the law's order but
            cut into steps of other sizes (batch-size warm-up); "folders" when only each folder as a whole is exact.
        spans: with "rows" and "folders", the rows [begin, end) of the saver's order that each part of the publication
            (a step, or a folder) should hold.
        world, ranks: only one rank of `world` was saved: which, for all files (one number) or for each.
        padded: the sampler filled up the last step from the start instead of dropping what does not divide.
        starts: position of each local shard in the order that the permutation refers to, where that differs from the
            local `index.json`; -1 where it could not be found out. None: the same order.
    """

    law: OrderLaw
    base: int = 1
    offset: int = 0
    numbering: Literal["global", "restart"] = "global"
    exact: Literal["steps", "rows", "folders"] = "steps"
    spans: tuple[tuple[int, int], ...] = ()
    world: int = 1
    ranks: tuple[int, ...] = (0,)
    padded: bool = False
    starts: tuple[int, ...] | None = None

    def published_step(self, law_step: int) -> str:
        """What the publication calls a step of the law (from 1)."""
        if self.numbering == "global" and self.exact == "steps":
            return f"step {law_step - 1 + self.base - self.offset:,}"
        return f"step {law_step:,} of the law"

    def deviations(self, asked: OrderLaw, ranks: int | None = None) -> list[Deviation]:
        """What differs from `asked` and from one-based global steps; [] when nothing does.

        Args:
            ranks: world size that the order of the rows inside the steps shows, None when it shows none.
        """
        law, found = self.law, list[Deviation]()
        seed, wanted = law.seed + law.epoch, asked.seed + asked.epoch
        if law.rule != asked.rule:
            drawn = f", seed {law.seed}, epoch {law.epoch}" if law.name != "sequential-v1" else ""
            found.append(Deviation("another_law", f"another law: {law.rule}{drawn}"))
        elif seed != wanted:
            shift = seed - asked.seed
            known = f" (epoch {shift} of seed {asked.seed})" if 0 < shift < 16 else ""
            found.append(Deviation("another_seed", f"another seed: {seed}{known}, not {wanted}"))
        if law.rule == asked.rule and law.samples != asked.samples:
            text = f"another number of samples: {law.samples:,}, not {asked.samples:,}"
            found.append(Deviation("another_number", text))
        if law.batch != asked.batch:
            text = f"another batch: {law.batch}, not {asked.batch}"
            worlds = _worlds(law.batch, asked.batch)
            world = min(worlds, default=None) if ranks is None else ranks if ranks in worlds else None
            if world is None:
                found.append(Deviation("another_batch", text))
            else:
                how = f"world size {world} with drop_last takes {worlds[world]} rows a rank"
                found.append(Deviation("world_size", f"{text}: {how}"))
        if self.numbering == "restart":
            found.append(Deviation("numbering_restarts", "step numbers start again in each folder"))
        if self.base != 1:
            found.append(Deviation("numbering_base", f"steps are numbered from {self.base:,}, not from 1"))
        if self.offset:
            text = f"an offset of {self.offset:,} steps: published step {self.base} is step {self.offset + 1:,}"
            found.append(Deviation("offset", text))
        if self.exact == "rows":
            text = "rows are in the law's order but steps have other sizes (batch-size warm-up)"
            found.append(Deviation("inexact_steps", text))
        if self.exact == "folders":
            found.append(Deviation("inexact_steps", "folders are exact, steps inside them are not"))
        if self.world > 1 and len(set(self.ranks)) > 1:
            text = f"files are of different ranks of {self.world}: {', '.join(map(str, self.ranks[:6]))}, …"
            found.append(Deviation("one_rank", text))
        elif self.world > 1:
            found.append(Deviation("one_rank", f"only rank {self.ranks[0]} of {self.world} was saved"))
        return found


@dataclass(frozen=True)
class Reading:
    """How the published rows were made from the samples.

    Attributes:
        form: which form of a sample they are. cut: tokens at which they were cut; None when they were not.
        masking: how tokens were hidden for the model to guess; None when none were.
    """

    form: Form
    cut: int | None = None
    masking: Masking | None = None


@dataclass(frozen=True)
class Deviation:
    """One way in which a publication departs from what was asked for: a name for programs, a sentence for people.

    Names: another_law, another_seed, another_number, another_batch, world_size, drop_last_off, numbering_base,
    numbering_restarts, offset, inexact_steps, one_rank, another_shard_order, steps_moved, step_repeated,
    step_passed_over, step_missing, rows_repeated, rows_passed_over; and for rows that are their samples up to a
    loader's edits, the kind of the edit (`edits.Kind`).
    """

    name: str
    text: str

    def __str__(self) -> str:
        return self.text


def _worlds(batch: int, asked: int) -> dict[int, int]:
    """World size -> rows a rank, for the worlds that make `batch` of the asked one.

    A loader either divides the asked batch by the world size, dropping the remainder, or takes it for each rank.
    """
    worlds = {w: asked // w for w in range(2, min(asked, 1024) + 1) if w * (asked // w) == batch}
    return worlds or ({batch // asked: asked} if batch % asked == 0 else {})


@dataclass(frozen=True)
class Finding:
    """An explanation, the rows of the evidence that it explains, and how many it would explain if it were wrong."""

    explanation: Explanation
    explained: int
    rows: int
    chance: float
    regular: bool = False
    """With exact rows: whether nearly all steps have one size and begin at a multiple of it, as steps of the law do."""

    @property
    def share(self) -> float:
        return self.explained / self.rows if self.rows else 0.0

    @property
    def believed(self) -> bool:
        """At least half of the rows, twice the chance, and six standard deviations above it.

        Twice the chance may be more than there is, as with two folders that hold half of the data each: of what chance
        leaves, half is enough. Where every shard was put where its rows say so, four rows in
        five: the places of many shards explain some.
        """
        likely = self.chance + 6 * max(self.chance, 1.0) ** 0.5
        enough = 0.8 if self.explanation.starts else 0.5
        above = min(2 * self.chance, (self.chance + self.rows) / 2)
        return self.share >= enough and self.explained >= max(above, likely)


@dataclass(frozen=True)
class Unit:
    """A part of a publication that is compared as one multiset, and the indices of the permutation that it should hold.

    `first` to `last` are entries of the catalog, both included. The indices are `range(start, stop, stride)` modulo the
    number of samples; `tail` says that the unit is a last, partial batch which the law drops.
    """

    first: int
    last: int
    epoch: int
    start: int
    stop: int
    stride: int = 1
    tail: bool = False

    def indices(self, samples: int) -> NDArray[np.int64]:
        return np.arange(self.start, self.stop, self.stride, dtype=np.int64) % samples


def units_of(catalog: Catalog, explanation: Explanation) -> list[Unit]:
    """The units of a publication under an explanation; where a step number is none of the law nothing is expected."""
    law, world = explanation.law, explanation.world
    ranks = np.array(explanation.ranks)
    rank = (ranks[catalog.first_file()] if len(ranks) > 1 else np.full(len(catalog), ranks[0])).tolist()
    if explanation.exact != "steps":
        firsts, lasts = (each.tolist() for each in parts_of(catalog, explanation.exact))
        return [
            Unit(a, b, law.epoch, max(rank[a] + begin * world, 0), max(rank[a] + end * world, 0), world)
            for a, b, (begin, end) in zip(firsts, lasts, explanation.spans, strict=True)
        ]
    units, left = list[Unit](), law.samples - law.used
    an_epoch = law.steps + (explanation.padded and left > 0)
    for entry, k in enumerate(law_steps(catalog, explanation).tolist()):
        if not 0 <= k < MOST_EPOCHS * an_epoch:
            units.append(Unit(entry, entry, law.epoch, 0, 0))
            continue
        epoch, step = divmod(k, an_epoch)
        rows = int(catalog.rows[entry])
        start, stop = step * law.batch + rank[entry], (step + 1) * law.batch
        unit = Unit(entry, entry, law.epoch + epoch, start, stop, world)
        if step == law.steps:
            unit = replace(unit, stop=min(stop, start + rows * world), tail=True)
        elif k == law.steps and world == 1 and left <= rows < min(law.batch, left + 1024) and left:
            # drop_last was off: the rest, perhaps filled up from the start to a multiple of the world size
            unit = replace(unit, epoch=law.epoch, start=law.used, stop=law.used + rows, tail=True)
        units.append(unit)
    return _once(units)


def parts_of(catalog: Catalog, exact: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last entry of each part that is exact by itself: each step ("rows") or each folder ("folders")."""
    entries = np.arange(len(catalog))
    if exact == "rows":
        return entries, entries
    ends = np.append(np.flatnonzero(np.diff(catalog.folder)), len(catalog) - 1)
    return np.append(0, ends[:-1] + 1), ends


def _once(units: list[Unit]) -> list[Unit]:
    """The law gives each of its steps once an epoch: where one is published again, no row is expected."""
    met: set[tuple[int, int]] = set()
    for i, unit in enumerate(units):
        key = unit.epoch, unit.start
        if unit.stop and key in met:
            units[i] = replace(unit, start=0, stop=0)
        elif unit.stop:
            met.add(key)
    return units


def law_steps(catalog: Catalog, explanation: Explanation) -> NDArray[np.int64]:
    """The step of the law (from 0) that each entry of a catalog should hold, for explanations with exact steps."""
    restart = explanation.numbering == "restart"
    return (np.arange(len(catalog)) if restart else catalog.step - explanation.base) + explanation.offset
