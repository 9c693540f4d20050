"""How much an agreement proves: how many different rows there are, and how likely chance would have agreed.

Rows that are all alike agree with every order. So each side's forms (what a row is, as a hash) are counted, and the
probability is computed that a random order of the same data, drawn without regard to the law, had put the same rows
into the same units. It is the share of all orders of N samples that give these multisets: of M samples compared, form i
occurs c_i times, unit u holds b_u of them and of form i c_ui, and the data holds form i n_i times in all:

    P = product over i of n_i! / (n_i - c_i)!  *  product over u of (b_u! / product over i of c_ui!)  /  (N! / (N - M)!)

A unit whose rows stand in the law's own order proves more than its multiset: its factor over u is 1. Samples that were
not compared are taken to repeat as much as those that were. With all rows alike P is 1; M rows that are all different
have one chance in N! / (N - M)! / product of b_u!.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 1e-9
"""Probability of an agreement by chance from which on it proves nothing."""

_KEPT = 1 << 16  # forms counted one by one


@dataclass(frozen=True)
class Forms:
    """Different rows among some, and how often each occurs; above 65,536 of them by a sample of their hashes.

    Kept are the smallest hashes: a fair draw, in which every kept one is counted from its first row to its last.

    Attributes:
        hashes, counts: of the kept ones, hashes rising. rows: all rows.
        below: the hashes are all those under this limit (2**64 when none was dropped).
    """

    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    rows: int
    below: int = 1 << 64

    @classmethod
    def of(cls, hashes: NDArray[np.uint64]) -> Forms:
        return cls(*np.unique(hashes, return_counts=True), len(hashes))._cut()

    @classmethod
    def together(cls, parts: Iterable[Forms]) -> Forms:
        parts = list(parts)
        below = min([part.below for part in parts], default=1 << 64)
        hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
        counts = np.concatenate([np.zeros(0, np.int64), *(part.counts for part in parts)])
        values, place = np.unique(hashes, return_inverse=True)
        totals = np.bincount(place, counts, len(values)).astype(np.int64)
        known = len(values) if below >> 64 else int(np.searchsorted(values, np.uint64(below)))
        return cls(values[:known], totals[:known], sum(part.rows for part in parts), below)._cut()

    def _cut(self) -> Forms:
        if len(self.hashes) <= _KEPT:
            return self
        return Forms(self.hashes[:_KEPT], self.counts[:_KEPT], self.rows, int(self.hashes[_KEPT]))

    @property
    def exact(self) -> bool:
        return bool(self.below >> 64)

    @property
    def different(self) -> int:
        """How many forms there are; estimated when not `exact`."""
        estimate = len(self.hashes) if self.exact else round(len(self.hashes) / (self.below / 2**64))
        return min(estimate, self.rows)

    def __str__(self) -> str:
        return f"{'' if self.exact else 'about '}{self.different:,} of {self.rows:,}"


def log_chance(samples: int, compared: int, arrangements: float, forms: Forms, tried: int) -> float:
    """The natural logarithm of the probability that chance would have agreed, at most 0.

    Args:
        samples: of the data, N. compared: samples of one epoch that were compared with rows, M.
        arrangements: the sum over the units, of ln(b_u! / product of c_ui!), but 0 for a unit in the law's order.
        forms: of the compared samples.
        tried: laws that were tried until one agreed.
    """
    if compared == 0:
        return 0.0
    compared = min(compared, samples)  # rows that are there again prove nothing more
    repeating = 1 - float((forms.counts == 1).sum()) / max(float(forms.counts.sum()), 1.0)
    beyond = repeating * (samples - compared) / compared  # copies that the rest of the data has of each compared row
    ways = 0.0
    for count, many in zip(*np.unique(forms.counts, return_counts=True), strict=True):
        there = count * (1 + beyond)
        ways += many * (math.lgamma(there + 1) - math.lgamma(there - count + 1))
    ways *= forms.different / max(len(forms.hashes), 1)
    orders = math.lgamma(samples + 1) - math.lgamma(samples - compared + 1)
    return min(0.0, ways + arrangements - orders + math.log(max(tried, 1)))


def arrangements(hashes: NDArray[np.uint64]) -> float:
    """ln(b! / product of c_i!) of a unit with these rows: in how many orders its multiset can stand."""
    _, counts = np.unique(hashes, return_counts=True)
    return math.lgamma(len(hashes) + 1) - sum(math.lgamma(count + 1) for count in counts[counts > 1].tolist())


def chance_text(log: float) -> str:
    """A probability by its logarithm, such as "1 in 10^2,304"."""
    if log > math.log(0.5):
        return "near 1"
    tens = -log / math.log(10)
    return f"1 in {round(math.exp(-log)):,}" if tens < 6 else f"1 in 10^{tens:,.0f}"
