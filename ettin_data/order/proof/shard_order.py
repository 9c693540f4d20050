"""Finds the shard order that a permutation referred to, when it is not that of the local `index.json`.

Under the right seed, a published row of step k is one of the B samples that the permutation puts there. If the row is
sample o of a local shard, each of these B positions p votes that the shard starts at p - o. Wrong positions scatter
their votes; the right start gets one from every row of the shard. So each shard is placed by itself, whatever the order
was.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.law import OrderLaw, Positions
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.explanation import Explanation, Finding, law_steps
from ettin_data.order.proof.probe import Evidence

_VOTERS = 64  # rows of a shard that vote; more do not make it surer

_SWEEPS = ((2, 0.9, False), (2, 0.9, True), (2, 0.4, False), (1, 0.9, False), (1, 0.9, True))
"""Fewest votes, least share of the rows, and whether two starts may have as many: a shard stored twice has two."""


def shard_order_findings(
    catalog: Catalog, evidence: Evidence, law: OrderLaw, order: Positions, starts: NDArray[np.int64]
) -> list[Finding]:
    """Findings for numbered steps and for numbers that start again in each folder."""
    law = replace(law, batch=catalog.common_rows()) if catalog.common_rows() <= law.samples else law
    base = 0 if catalog.step.min() == 0 else 1
    numbered = Explanation(law, base=base), Explanation(law, base=base, numbering="restart")
    return [shard_order_finding(catalog, evidence, explanation, order, starts) for explanation in numbered]


def shard_order_finding(
    catalog: Catalog, evidence: Evidence, explanation: Explanation, order: Positions, starts: NDArray[np.int64]
) -> Finding:
    """An explanation with the shard order that follows from its steps and from where these rows were found.

    Args:
        order: the permutation of its first epoch. starts: first position of each local shard, and the end of the last.
    """
    law = explanation.law
    step = law_steps(catalog, explanation)[evidence.entry]
    places, explained = _place_shards(evidence, step, law, order, starts)
    places = _fill_gaps(places, np.diff(starts))
    chance = evidence.found * min(1.0, 4 * law.batch / law.samples)
    return Finding(replace(explanation, starts=tuple(places.tolist())), explained, evidence.found, chance)


@dataclass(frozen=True)
class _Votes:
    """Where the rows of a shard may have it start (rising) and how many say so; it has `rows` of them."""

    shard: int
    size: int
    starts: NDArray[np.int64]
    votes: NDArray[np.int64]
    rows: int


def _place_shards(
    evidence: Evidence, step: NDArray[np.int64], law: OrderLaw, order: Positions, starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """The start of each shard (-1 unknown) and the number of rows that agree with it.

    A row whose sample is stored twice votes in two shards, and wrongly in one of them.
    The surest shards are placed first; what they take up is no place for the others, so that at last even shards of a
    row or two, whose votes alone say little, have one place left.
    """
    ballots = _vote(evidence, step, law, order, starts)
    rows_of = {ballot.shard: ballot.rows for ballot in ballots}
    places, taken, explained = np.full(len(starts) - 1, -1, np.int64), list[tuple[int, int]](), 0.0
    for least, share, ties in _SWEEPS:
        waiting = ballots
        while waiting:
            left = []
            for ballot in waiting:
                free = np.array([_fits(taken, start, ballot.size) for start in ballot.starts.tolist()], bool)
                votes = ballot.votes[free]
                top = int(votes.max(initial=0))
                best = ballot.starts[free][votes == top].tolist()
                if top < max(least, share * ballot.rows) or (len(best) > 1 and not ties):
                    left.append(ballot)
                    continue
                start = int(starts[ballot.shard]) if starts[ballot.shard] in best else best[0]
                places[ballot.shard] = start
                bisect.insort(taken, (start, start + ballot.size))
                explained += top
            if len(left) == len(waiting):
                break
            waiting = left
        ballots = waiting
    counted = sum(rows_of.values())
    return places, round(explained / max(counted, 1) * len(np.unique(evidence.row)))


def _vote(
    evidence: Evidence, step: NDArray[np.int64], law: OrderLaw, order: Positions, starts: NDArray[np.int64]
) -> list[_Votes]:
    """The votes of the rows of each shard, those with the most rows first."""
    inside = np.flatnonzero((step >= 0) & (step < law.steps))
    shard = np.searchsorted(starts, evidence.position[inside], side="right") - 1
    ballots = []
    for number in np.unique(shard).tolist():
        first = inside[shard == number][:_VOTERS]
        offsets = evidence.position[first] - starts[number]
        slots = step[first, None] * law.batch + np.arange(law.batch)
        size = int(starts[number + 1] - starts[number])
        candidates = order[slots].astype(np.int64) - offsets[:, None]
        valid = candidates[(candidates >= 0) & (candidates <= law.samples - size)]
        values, votes = np.unique(valid, return_counts=True)
        kept = votes >= max(1, votes.max(initial=0) // 2)  # the start of a large shard stands out by far
        ballots.append(_Votes(number, size, values[kept], votes[kept], len(np.unique(offsets))))
    return sorted(ballots, key=lambda ballot: -ballot.rows)


def _fits(taken: list[tuple[int, int]], start: int, size: int) -> bool:
    """Whether [start, start + size) is free; `taken` is sorted and without overlaps."""
    i = bisect.bisect_right(taken, (start, start))
    return (i == 0 or taken[i - 1][1] <= start) and (i == len(taken) or start + size <= taken[i][0])


def _fill_gaps(places: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give a shard of unknown place the one gap that it fits. It has no votes when none of its rows was published."""
    places = places.copy()
    known = np.flatnonzero(places >= 0)
    known = known[np.argsort(places[known])]
    begins = np.concatenate([[0], places[known] + sizes[known]])
    ends = np.concatenate([places[known], [sizes.sum()]])
    unknown = np.flatnonzero(places < 0)
    gaps = [(int(a), int(b - a)) for a, b in zip(begins, ends, strict=True) if b > a]
    for begin, size in gaps:
        fits = unknown[sizes[unknown] == size]
        if len(fits) == 1 and sum(gap == size for _, gap in gaps) == 1:
            places[fits[0]] = begin
    return places
