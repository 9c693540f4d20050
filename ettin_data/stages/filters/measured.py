"""What the rules of a filter measured: why each dropped document went, and how all of them lie around a threshold.

Values are put into bins that depend on the threshold alone, which is itself an edge: counts of any number of splits add
up to the same, in any order, and the bins on one side of the threshold are the documents that the rule has dropped.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_STEPS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9)  # between a power of two and the next
_DOUBLINGS = 14  # above the threshold and below it


class Reason(str):
    """The name of the rule that a document broke, which is all of it that datatrove knows, with what was measured.

    Attributes:
        value, threshold: None of a rule that measures nothing.
    """

    value: float | None
    threshold: float | None

    def __new__(cls, rule: str, value: float | None = None, threshold: float | None = None) -> Reason:
        made = super().__new__(cls, rule)
        made.value, made.threshold = value, threshold
        return made


class Measured:
    """The values of one rule, of the documents of which it had to know them.

    Args:
        threshold: that of the rule.
        at_least: whether a value has to reach it to be kept, or else not to exceed it.
    """

    def __init__(self, threshold: float, at_least: bool) -> None:
        self.threshold, self.at_least = threshold, at_least
        self.recent = array("d")
        self._counts = np.zeros(len(edges(threshold)) + 1, np.int64)

    def settle(self) -> None:
        """Put the recent values into their bins."""
        if self.recent:
            side: Literal["left", "right"] = "right" if self.at_least else "left"
            bins = np.searchsorted(edges(self.threshold), np.frombuffer(self.recent), side)
            self._counts += np.bincount(bins, minlength=len(self._counts))
            self.recent = array("d")

    def to_json(self) -> dict[str, Any]:
        """Threshold, side, and the bins that have documents: edge -> how many.

        With `at_least` a bin is named by the least value in it, otherwise by the largest; the last and the first bin
        hold what lies beyond all edges too.
        """
        self.settle()
        bounds = edges(self.threshold)
        names = np.concatenate([bounds[:1], bounds] if self.at_least else [bounds, bounds[-1:]]).tolist()
        bins: dict[str, int] = {}
        for name, count in zip(names, self._counts.tolist(), strict=True):
            if count:
                bins[repr(name)] = bins.get(repr(name), 0) + count
        return {"threshold": self.threshold, "at_least": self.at_least, "bins": bins}


@cache
def edges(threshold: float) -> NDArray[np.float64]:
    """The bounds between bins, rising, float64: zero, and steps of a tenth of a doubling around the threshold.

    They are products of decimals and powers of two, which every machine rounds alike.
    """
    scale = abs(threshold) or 1.0
    around = [scale * step * 2.0**k for k in range(-_DOUBLINGS, _DOUBLINGS) for step in _STEPS]
    return np.array(sorted({0.0, *around, float(threshold)}))


def added(several: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What `Measured.to_json` gave for several splits, together."""
    total: dict[str, Any] = {}
    for one in several:
        total = total or {"threshold": one["threshold"], "at_least": one["at_least"], "bins": {}}
        for name, count in one["bins"].items():
            total["bins"][name] = total["bins"].get(name, 0) + count
    return total | {"bins": dict(sorted(total["bins"].items(), key=lambda item: float(item[0])))}


def histogram(measured: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """(value that names it, documents, whether the rule drops them) of each bin from the first to the last with any."""
    threshold, bounds = measured["threshold"], edges(measured["threshold"])
    counts = np.zeros(len(bounds), np.int64)
    for name, count in measured["bins"].items():
        counts[min(int(np.searchsorted(bounds, float(name))), len(bounds) - 1)] += count
    seen = np.flatnonzero(counts)
    part = slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 0)
    values = bounds[part]
    return values, counts[part], values < threshold if measured["at_least"] else values > threshold


def median_dropped(measured: Mapping[str, Any]) -> float | None:
    """About the median of the values for which the rule dropped a document, to a tenth of itself; None without any."""
    threshold, at_least = measured["threshold"], measured["at_least"]
    named = sorted((float(name), count) for name, count in measured["bins"].items())
    broke = [(v, count) for v, count in named if (v < threshold if at_least else v > threshold)]
    half = sum(count for _, count in broke) / 2
    for value, count in broke:
        half -= count
        if half <= 0:
            return value
    return None
