"""A part of a build without a coordinator: `--share 3/64` builds its part of the splits, beside the other shares.

Which splits are whose follows from the plan alone, so shares need not speak to each other. A share holds a lock of its
own, a whole build that of the phase; each takes its own first and then looks at the other's, so that never both go on.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ettin_data.base.errors import RecipeError
from ettin_data.base.lock import Held, holder, locked
from ettin_data.storage.phase import Phase

MOST = 100_000
"""Shares of one build: each is a file in the folder of the phase while it is at work."""

_TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_MOMENT_S = 0.1
_PLAN_S = 3.0  # a plan that is being written holds the lock of the phase for so long at most


@dataclass(frozen=True)
class Share:
    """One of `of` parts of a build, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """`3/64`, as somebody wrote it. Raises `RecipeError`."""
        match = _TEXT.fullmatch(text.strip())
        number, of = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= of <= MOST:
            last = min(max(of, 1), MOST) if match else 64
            raise RecipeError(
                f"--share {text!r} names no share",
                why=f"shares are counted from 1, up to {MOST:,} of them: "
                + (f"1/{last} to {last}/{last}" if last > 1 else "1/1 is all"),
                remedy="write NUMBER/OF, such as --share $SLURM_ARRAY_TASK_ID/64 under `sbatch --array=1-64`; "
                "of a number that counts from 0, take one more",
            )
        return cls(number, of)

    def part(self, sizes: Mapping[str, int]) -> list[str]:
        """The names that are this share's, of all with their sizes: the largest first, each to the lightest share.

        No share is heavier than the mean by more than the largest of the sizes.
        """
        return [name for name, number in parts(sizes, self.of).items() if number == self.number]


def parts(sizes: Mapping[str, int], of: int) -> dict[str, int]:
    """Name -> number of the share that has it (`Share.part`)."""
    loads = [(0, number) for number in range(1, of + 1)]
    whose = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        load, number = loads[0]
        whose[name] = number
        heapq.heapreplace(loads, (load + max(sizes[name], 1), number))
    return whose


# ---------------------------------------------------------------------------------------------------------------------
# who may work beside whom


@contextmanager
def alone(phase: Phase) -> Iterator[None]:
    """Hold a phase for a build of the whole. Raises `Held` if another build, or a share, is at work."""
    with locked(phase.lock):
        if at_work := shares_at_work(phase):
            raise Held(
                f"{len(at_work):,} shares of a build are at work here",
                where=phase.folder,
                why=_some(at_work),
                remedy="wait for them or stop them; the command without --share then builds what is missing",
            )
        yield


@contextmanager
def beside(phase: Phase, share: Share) -> Iterator[None]:
    """Hold a phase for one share. Raises `Held` if a whole build, the same share, or a share of another number is."""
    with locked(phase.share_lock(share.number, share.of), f"share {share} is at work here already"):
        if others := shares_at_work(phase, but_of=share.of):
            raise Held(
                f"share {share} would work beside shares of another number",
                where=phase.folder,
                why=_some(others),
                remedy="all shares of a build have the same number behind the stroke; wait for them or stop them",
            )
        until = time.monotonic() + _PLAN_S
        while said := holder(phase.lock):
            if time.monotonic() > until:
                raise Held(
                    "a build of the whole is at work here",
                    where=phase.folder,
                    why=said,
                    remedy="it builds what is missing by itself: wait for it; or stop it, and run the shares",
                )
            time.sleep(_MOMENT_S)
        yield


def shares_at_work(phase: Phase, but_of: int = 0) -> list[str]:
    """The shares that somebody holds, in words; without those of `but_of`. Changes nothing."""
    held = ((number, of, holder(lock)) for number, of, lock in phase.share_locks() if of != but_of)
    return [f"share {number}/{of}: {said}" for number, of, said in held if said]


def _some(shares: list[str]) -> str:
    return "; ".join(shares[:3]) + (f"; and {len(shares) - 3:,} more" if len(shares) > 3 else "")
