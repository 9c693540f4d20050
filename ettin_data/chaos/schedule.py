"""What chaos does, as a pure function of a seed: the same schedule can be printed, read and played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ettin_data.base import draws
from ettin_data.chaos.refusals import Refusal, drawn

Kind = Literal["kill driver", "kill worker", "interrupt", "damage", "full disk", "refusal"]
BOUNDARIES = ("start", "tokenize", "train", "validation", "order", "end")
"""Where the stages of a build begin. A build in chaos stands still there until it is told to go on, so that a kill at a
boundary is exactly there."""

HARMS = ("flip", "rot", "truncate", "append", "remove", "remove marker", "swap splits", "leave temporary", "lose power")
"""What is done to a finished file; `rot` leaves its time of change as it was, as a bad disk does."""

_AT_BOUNDARY, _WORKERS, _INTERRUPTS = 0.3, 0.4, 0.05  # shares of the kills
_WORK = ("tokenize", "tokenize", "tokenize", "train", "validation")  # stages with workers, by how long they take


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    Attributes:
        kind: what.
        at: the boundary at or after which a kill comes.
        after: how long after it, as a share of what its stage takes in an undisturbed build; 0 is at the boundary.
        pick: 64 random bits, for the choice of a worker, a file, a byte.
        harm: what is done to a file.
        refusal: what the file system refuses.
    """

    kind: Kind
    at: str = "start"
    after: float = 0.0
    pick: int = 0
    harm: str = ""
    refusal: Refusal | None = None

    @property
    def ends_the_build(self) -> bool:
        return self.kind in ("kill driver", "interrupt")

    def __str__(self) -> str:
        if self.kind == "damage":
            return f"damage: {self.harm} (pick {self.pick % 1000})"
        if self.kind == "full disk":
            return "full disk"
        if self.kind == "refusal":
            return f"refusal: {self.refusal}"
        return f"{self.kind} {f'{self.after:.0%} into' if self.after else 'at'} {self.at}"


def make_schedule(seed: int, kills: int, *, damages: int, full_disks: int, refused: int = 0) -> list[Step]:
    """A schedule of `kills` kills and interrupts, with damages, full disks and refusals spread among them."""
    random = draws.generator("chaos", seed)
    steps = [_kill(random) for _ in range(kills)]
    for kind, number in (("damage", damages), ("full disk", full_disks)):
        for i in range(number):
            harm = HARMS[(i + seed) % len(HARMS)] if kind == "damage" else ""
            pick = int(random.integers(1 << 62))
            steps.insert(
                int(random.integers(len(steps) + 1)),
                Step("damage" if kind == "damage" else "full disk", pick=pick, harm=harm),
            )
    for _ in range(refused):
        steps.insert(int(random.integers(len(steps) + 1)), Step("refusal", refusal=drawn(random)))
    return steps


def _kill(random: np.random.Generator) -> Step:
    pick, chance, after = int(random.integers(1 << 62)), random.random(), float(random.random())
    if chance < _WORKERS:
        return Step("kill worker", _WORK[int(random.integers(len(_WORK)))], after, pick)
    kind: Kind = "interrupt" if chance > 1 - _INTERRUPTS else "kill driver"
    if random.random() < _AT_BOUNDARY:
        return Step(kind, BOUNDARIES[int(random.integers(len(BOUNDARIES)))], 0.0, pick)
    stages = (*BOUNDARIES[:-1], *_WORK)
    return Step(kind, stages[int(random.integers(len(stages)))], after, pick)
