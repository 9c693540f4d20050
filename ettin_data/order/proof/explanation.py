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
        skipped: with "rows" and "folders", rows of the order before the first published one.
        rank: (r, R) when only the rows of one rank of R were saved.
        starts: position of each local shard in the order that the permutation refers to, where that differs from the
            local `index.json`; -1 where it could not be found out. None: the same order.
    """

    law: OrderLaw
    base: int = 1
    offset: int = 0
    numbering: Literal["global", "restart"] = "global"
    exact: Literal["steps", "rows", "folders"] = "steps"
    skipped: int = 0
    rank: tuple[int, int] | None = None
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
        if seed != wanted:
            shift = seed - asked.seed
            known = f" (epoch {shift} of seed {asked.seed})" if 0 < shift < 16 else ""
            found.append(Deviation("another_seed", f"another seed: {seed}{known}, not {wanted}"))
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
        if self.skipped:
            found.append(Deviation("offset", f"the first published row is row {self.skipped + 1:,} of the order"))
        if self.rank:
            found.append(Deviation("one_rank", f"only rank {self.rank[0]} of {self.rank[1]} was saved"))
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

    Names: another_seed, another_batch, world_size, drop_last_off, numbering_base, numbering_restarts, offset,
    inexact_steps, one_rank, another_shard_order, steps_moved, step_repeated, step_passed_over, step_missing; and for
    rows that are their samples up to a loader's edits, the kind of the edit (`edits.Kind`).
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

    @property
    def share(self) -> float:
        return self.explained / self.rows if self.rows else 0.0

    @property
    def believed(self) -> bool:
        """At least half of the rows, twice the chance, and six standard deviations above it."""
        likely = self.chance + 6 * max(self.chance, 1.0) ** 0.5
        return self.share >= 0.5 and self.explained >= max(2 * self.chance, likely)


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
    law = explanation.law
    if explanation.exact != "steps":
        return _plan_by_rows(catalog, explanation)
    units = []
    for entry, k in enumerate(law_steps(catalog, explanation).tolist()):
        if not 0 <= k < MOST_EPOCHS * law.steps:
            units.append(Unit(entry, entry, law.epoch, 0, 0))
            continue
        epoch, step = divmod(k, law.steps)
        unit = Unit(entry, entry, law.epoch + epoch, step * law.batch, (step + 1) * law.batch)
        left = law.samples - law.used
        if k == law.steps and left <= catalog.rows[entry] < min(law.batch, left + 1024) and left:
            # drop_last was off: the rest, perhaps filled up from the start to a multiple of the world size
            unit = replace(unit, epoch=law.epoch, start=law.used, stop=law.used + int(catalog.rows[entry]), tail=True)
        elif explanation.rank:
            rank, world = explanation.rank
            unit = replace(unit, start=unit.start + rank, stride=world)
        units.append(unit)
    return _once(units)


def _once(units: list[Unit]) -> list[Unit]:
    """The law gives each of its steps once an epoch: where one is published again, no row is expected."""
    met: set[tuple[int, int]] = set()
    for i, unit in enumerate(units):
        key = unit.epoch, unit.start // unit.stride
        if unit.stop and key in met:
            units[i] = replace(unit, start=0, stop=0)
        elif unit.stop:
            met.add(key)
    return units


def law_steps(catalog: Catalog, explanation: Explanation) -> NDArray[np.int64]:
    """The step of the law (from 0) that each entry of a catalog should hold, for explanations with exact steps."""
    restart = explanation.numbering == "restart"
    return (np.arange(len(catalog)) if restart else catalog.step - explanation.base) + explanation.offset


def _plan_by_rows(catalog: Catalog, explanation: Explanation) -> list[Unit]:
    law, rows = explanation.law, catalog.rows.tolist()
    firsts = (catalog.first_rows() + explanation.skipped).tolist()
    if explanation.exact == "rows":
        spans = [(entry, entry) for entry in range(len(catalog))]
    else:
        ends = np.append(np.flatnonzero(np.diff(catalog.folder)), len(catalog) - 1).tolist()
        spans = list(zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True))
    return [Unit(a, b, law.epoch, max(firsts[a], 0), max(firsts[b] + rows[b], 0)) for a, b in spans]
