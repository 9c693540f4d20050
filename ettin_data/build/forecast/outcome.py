"""At the end of a build: how each figure of its plan came out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ettin_data.base.units import count, duration, size
from ettin_data.build.forecast.contract import Contract
from ettin_data.build.forecast.estimates import Figure
from ettin_data.storage.phase import Phase
from ettin_data.storage.records import RunRecord

_WORST = 3  # sources that are named
_OFF = 0.05  # from which share on


@dataclass(frozen=True)
class Outcome:
    """A figure of a plan and what became of it."""

    what: str
    planned: Figure
    came: float
    shown: Callable[[float], str]

    @property
    def off(self) -> float:
        """By what share of the plan the build was above it."""
        return (self.came - self.planned.value) / max(self.planned.value, 1e-9)

    def __str__(self) -> str:
        low, high = self.planned.low, self.planned.high
        between = "" if low is None or high is None else f" ({self.shown(low)} to {self.shown(high)})"
        planned, came = self.shown(self.planned.value), self.shown(self.came)
        return f"{self.what}: {planned}{between} planned, {came} built, {self.off:+.1%}"


def outcomes(promised: Contract, made: RunRecord, phase: Phase) -> Iterator[Outcome]:
    """Each figure that was promised: tokens and documents of the pools, bytes on disk, time of what was made."""
    rows = made.sources.values()
    yield Outcome("tokens of the pools", promised.tokens, sum(row.pool_tokens for row in rows), count)
    if promised.documents is not None:
        used = sum(row.records - sum(row.rejected.values()) - sum(row.filtered.values()) for row in rows)
        yield Outcome("documents", promised.documents, used, count)
    if promised.at_end is not None:
        yield Outcome("bytes on disk", promised.at_end, bytes_on_disk(phase), size)
    if promised.wall_s is not None:
        yield Outcome("time", promised.wall_s, made.seconds, duration)


def said(promised: Contract, made: RunRecord, phase: Phase) -> str:
    """All of it for people, with the sources that were furthest off."""
    lines = [f"  {outcome}" for outcome in outcomes(promised, made, phase)]
    off = {
        key: made.sources[key].pool_tokens / max(source.tokens.value, 1) - 1
        for key, source in promised.sources.items()
        if key in made.sources
    }
    worst = [key for key in sorted(off, key=lambda key: -abs(off[key])) if abs(off[key]) >= _OFF][:_WORST]
    if worst:
        lines.append(f"  furthest off in tokens: {', '.join(f'{key} {off[key]:+.0%}' for key in worst)}")
    how = "with a pilot" if promised.measured else "from the sizes of files; `ettin-data plan --pilot 0.1%` measures"
    return "\n".join([f"how the plan came out ({how}):", *lines])


def bytes_on_disk(phase: Phase) -> int:
    """Bytes of the files of a phase, each once however many names it has; not of other disks that it links to."""
    seen: set[tuple[int, int]] = set()
    held = 0
    for folder, _, names in os.walk(phase.folder):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            held += status.st_size
    return held
