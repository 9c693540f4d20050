"""By which temperature were given counts made? The inverse of `temperature`, for counts that somebody published.

The law is a straight line: log(tokens) = log(C) + tau * log(weight). Published counts follow it for most members only:
weights may come from another edition of a table, single members were treated in another way, and small ones had no more
to give and lie below the line, along one of their own (tokens in proportion to weight). Least squares believes all of
them, and finds nothing true. So the line sought is the one on which the most members lie, within `WITHIN`: first among
all members, then among the half with the largest weights, a quarter, and so on, since those that are capped are small.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.errors import BuildError, near

WITHIN = 0.05
"""How far from the law a member may be that follows it."""
FEWEST = 8
"""Members without which no law is sought."""
_TAUS = np.arange(0, 151) / 100
_CHANCE = 0.5  # what a member off the line takes from the score of a part, against 1 that one on it gives


@dataclass(frozen=True)
class Point:
    """A member and the law.

    Attributes:
        name, weight, tokens: of the member.
        expected: C * weight ** tau.
        verdict: `follows`; `capped`, below the law where most are; `more` or `less`, of an exception.
    """

    name: str
    weight: int
    tokens: int
    expected: float
    verdict: str

    @property
    def residual(self) -> float:
        """Relative: 0.02 is 2% more than the law gives."""
        return self.tokens / self.expected - 1


@dataclass(frozen=True)
class Fit:
    """The law of some counts.

    Attributes:
        tau: the temperature; of those that as good as fit best, the roundest.
        best: the temperature that fits best, to three digits.
        scale: C.
        bend: weight up to which most members give less than the law, for they have no more; 0 where none do.
        points: by falling weight.
        unweighted: names that have tokens and no weight.
    """

    tau: float
    best: float
    scale: float
    bend: int
    points: tuple[Point, ...]
    unweighted: tuple[str, ...]

    def with_verdict(self, *verdicts: str) -> list[Point]:
        """The points of these kinds, the farthest from the law first."""
        found = [point for point in self.points if point.verdict in verdicts]
        return sorted(found, key=lambda point: (-abs(np.log(point.tokens / point.expected)), point.name))


def fit(weights: Mapping[str, int], tokens: Mapping[str, int]) -> Fit:
    """The temperature law that most of the counts follow.

    Args:
        weights, tokens: name -> how much; members without tokens are not part of the mix.

    Raises:
        BuildError: fewer than `FEWEST` members have both, or they hardly differ in weight.
    """
    names = sorted(
        (name for name in tokens if tokens[name] > 0 and weights.get(name, 0) > 0), key=lambda n: (-weights[n], n)
    )
    if len(names) < FEWEST or weights[names[0]] < 2 * weights[names[-1]]:
        raise BuildError(
            f"no temperature can be told from {len(names)} members",
            why=f"at least {FEWEST} with tokens and weights, which differ by more than a factor of 2, are needed",
            remedy="see that the names of both tables are the same kind of code",
        )
    x = np.log([float(weights[name]) for name in names])
    y = np.log([float(tokens[name]) for name in names])
    size, best = _part(x, y)
    best, width = _refined(x[:size], y[:size], best)
    tau = _roundest(x[:size], y[:size], best, width)
    scale = _line(x[:size], y[:size], tau, width)[1]
    off = y - scale - tau * x
    capped = _capped(off < np.log1p(-WITHIN))
    points = []
    for number, (name, at) in enumerate(zip(names, off.tolist(), strict=True)):
        verdict = "more" if at > np.log1p(WITHIN) else "less" if at < np.log1p(-WITHIN) else "follows"
        if verdict == "less" and number >= capped:
            verdict = "capped"
        points.append(Point(name, weights[name], tokens[name], float(np.exp(scale) * weights[name] ** tau), verdict))
    lacking = sorted(name for name in tokens if tokens[name] > 0 and weights.get(name, 0) <= 0)
    bend = weights[names[capped]] if capped < len(names) else 0
    return Fit(tau, best, float(np.exp(scale)), bend, tuple(points), tuple(lacking))


def _capped(below: NDArray[np.bool_]) -> int:
    """Where the small members begin of which most lie below the law; `below` says which do, by falling weight.

    From the smallest upwards, as long as half of the last `4 * FEWEST` do. The number of members if none does.
    """
    flags = below[::-1]
    sums = np.concatenate([[0], np.cumsum(flags)])
    ends = np.arange(1, len(flags) + 1)
    firsts = np.maximum(0, ends - 4 * FEWEST)
    most = 2 * (sums[ends] - sums[firsts]) >= ends - firsts
    end = int(np.argmin(most)) if not most.all() else len(flags)
    found = np.flatnonzero(flags[:end])
    return len(below) - 1 - int(found[-1]) if found.size else len(below)


def _part(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[int, float]:
    """How many of the largest members the law is sought in, and the temperature that fits them best.

    A part is better, the more of its members lie on its line, less half of those that do not.
    """
    found = []
    size = len(x)
    while size >= min(len(x), 4 * FEWEST):
        if x[0] - x[size - 1] < np.log(2):
            break
        on = [_line(x[:size], y[:size], tau)[0] for tau in _TAUS]
        most = max(on)
        # Neighbouring temperatures are as good: the one in the middle of the best ones.
        tied = [tau for tau, number in zip(_TAUS.tolist(), on, strict=True) if number == most]
        found.append((most - _CHANCE * (size - most), size, tied[len(tied) // 2]))
        size = size * 3 // 4
    _, size, tau = max(found)
    return size, tau


def _line(x: NDArray[np.float64], y: NDArray[np.float64], tau: float, within: float = WITHIN) -> tuple[int, float]:
    """How many members lie on the best line of a slope, and its log(C): the middle of the fullest band of heights."""
    heights = np.sort(y - tau * x)
    ends = np.searchsorted(heights, heights + 2 * within, "right")  # of the band that begins at each height
    number = ends - np.arange(len(heights))
    first = int(np.argmax(number))
    return int(number[first]), float(np.median(heights[first : ends[first]]))


def _refined(x: NDArray[np.float64], y: NDArray[np.float64], tau: float) -> tuple[float, float]:
    """The slope to three digits by least squares over those on the line, and how near to it they are.

    Counts that were made by the law, and only rounded, lie much nearer than `WITHIN`: then the slope is known better.
    """
    width, scale = WITHIN, _line(x, y, tau)[1]
    for _ in range(6):
        on = np.abs(y - scale - tau * x) <= width
        if on.sum() < FEWEST // 2 or np.ptp(x[on]) < np.log(2):
            break
        tau, scale = map(float, np.polyfit(x[on], y[on], 1))
        width = float(np.clip(4 * np.median(np.abs(y - scale - tau * x)[on]), 1e-4, width))
    return round(tau, 3), width


def _roundest(x: NDArray[np.float64], y: NDArray[np.float64], best: float, within: float) -> float:
    """The temperature of the fewest digits that has seven in ten of the members that the best one has on its line."""
    needed = 0.7 * _line(x, y, best, within)[0]
    for step in (0.1, 0.05, 0.01):
        near = round(round(best / step) * step, 2)
        if abs(near - best) <= 0.03 and _line(x, y, near, within)[0] >= needed:
            return near
    return best


@dataclass(frozen=True)
class Table:
    """A CSV file of numbers by name.

    Attributes:
        where: the file.
        columns: header -> name -> number; rows of the same name are added up, and what is no number is left out.
    """

    where: Path
    columns: dict[str, dict[str, int]]

    def column(self, name: str) -> dict[str, int]:
        """A column. Raises `BuildError` if there is none of that name."""
        if name in self.columns:
            return self.columns[name]
        raise BuildError(f"the table has no column {name!r}", where=self.where, remedy=near(name, self.columns))


def read_table(path: Path, rename: Callable[[str], str] = str) -> Table:
    """A table whose names stand in its column `language`, `code`, `member` or `name`, else in the first one.

    Raises `BuildError` for a file without names or numbers.
    """
    try:
        rows = list(csv.reader(files.read(path).decode("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BuildError("this is no table", where=path, why=error, remedy="name a CSV file") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    at = next((header.index(name) for name in ("language", "code", "member", "name") if name in header), 0)
    columns: dict[str, dict[str, int]] = {}
    for row in rows[1:]:
        for title, cell in zip(header, row, strict=False):
            if title != header[at] and cell.strip().isdecimal() and row[at].strip():
                column = columns.setdefault(title, {})
                name = rename(row[at].strip())
                column[name] = column.get(name, 0) + int(cell)
    if not columns:
        raise BuildError(
            "the table has no numbers", where=path, remedy="the first line names the columns; counts are whole numbers"
        )
    return Table(path, columns)
