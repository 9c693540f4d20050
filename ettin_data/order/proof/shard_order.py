"""Finds the shard order that a permutation referred to, when it is not that of the local `index.json`.

Under the right seed, a published row of step k is one of the B samples that the permutation puts there. If the row is
sample o of a local shard, each of these B positions p votes that the shard starts at p - o. Wrong positions scatter
their votes; the right start gets one from every row of the shard. So each shard is placed by itself, whatever the order
was.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.law import OrderLaw, Positions
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.explanation import Explanation, Finding, law_steps
from ettin_data.order.proof.parts import by_parts, indices_of
from ettin_data.order.proof.probe import Evidence

_VOTERS = 64  # rows of a shard that vote; more do not make it surer

_JURY = 8  # shards of which one at least has to have a start that its rows agree on: of a true law four in five have

_DRIFT = 4  # rows by which a row of a publication without exact steps may stand off its number
_MOST_WORLD = 64  # ranks, each of which is tried
_WITNESSES = 24  # rows of one shard by which lacking rows are counted
_MOST_SLOTS = 1 << 24  # places that the rows of one shard vote for, at most

_SWEEPS = ((2, 0.9, False), (2, 0.9, True), (2, 0.4, False), (1, 0.9, False), (1, 0.9, True))
"""Fewest votes, least share of the rows, and whether two starts may have as many: a shard stored twice has two."""

_LEAST_SHARE = min(share for _, share, _ in _SWEEPS)


@dataclass(frozen=True)
class Slots:
    """Where in the law's order the rows of each entry may stand: `size` places of the saver's order from `begin` on.

    The saver's order is the law's, or that of one rank of `world`. -1: nowhere.
    """

    begin: NDArray[np.int64]
    size: int
    world: int = 1
    rank: int = 0


def slots_of(catalog: Catalog, explanation: Explanation) -> Slots:
    """Of an explanation with exact steps and one rank for all files."""
    law, world = explanation.law, explanation.world
    step, rows = law_steps(catalog, explanation), law.batch // world
    return Slots(np.where((step >= 0) & (step < law.steps), step * rows, -1), rows, world, explanation.ranks[0])


def shard_order_findings(
    catalog: Catalog,
    evidence: Evidence,
    law: OrderLaw,
    order: Positions,
    starts: NDArray[np.int64],
    known: Sequence[Finding] = (),
) -> Iterator[Finding]:
    """Findings for steps numbered through and in each folder, for one rank's steps, and for steps of other sizes.

    For the last, rows are taken to be where their number in the publication says, which is nearly so, or where a known
    finding puts their parts; from there on each part is placed by its own rows.
    """
    rows = catalog.common_rows()
    base = 0 if catalog.step.min() == 0 else 1
    world = law.batch // rows if law.batch % rows == 0 else 1
    for saved in dict.fromkeys([1, world if world <= _MOST_WORLD else 1]):
        batch = min(rows * saved, law.samples)
        for rank in range(saved):
            plain = Explanation(replace(law, batch=batch), base=base, world=saved, ranks=(rank,))
            for explanation in (plain, replace(plain, numbering="restart")):
                yield shard_order_finding(catalog, evidence, explanation, order, starts)
            whole, part, before = _longest_stretch(catalog, evidence)
            begins = [(evidence, np.array(f.explanation.spans)[:, 0]) for f in known if f.explanation.exact == "rows"]
            begins += [(part, before + skipped) for skipped in _skipped(part, before, law, order, starts, saved, rank)]
            begins += [(evidence, before)] if whole else []
            for seen, begin in begins:
                slots = Slots(np.maximum(begin - _DRIFT, 0), int(catalog.rows.max()) + 2 * _DRIFT, saved, rank)
                if slots.size * _VOTERS > _MOST_SLOTS:
                    continue
                places = _fill_gaps(_place_shards(seen, slots, law, order, starts)[0], starts, law)
                place = indices_of(order, law_positions_of(evidence.position, starts, places))
                for finding in by_parts(catalog, evidence, law, place):
                    fitted = replace(finding.explanation, starts=tuple(places.tolist()))
                    yield replace(finding, explanation=fitted)


def _skipped(
    evidence: Evidence,
    before: NDArray[np.int64],
    law: OrderLaw,
    order: Positions,
    starts: NDArray[np.int64],
    world: int,
    rank: int,
) -> list[int]:
    """How many rows of the saver's order may be lacking before the first published one, whatever the shard order is.

    Rows of one shard lie as far apart in the index as in their shard. For the true number of lacking rows the order has
    positions for them that are so; for any other that is chance.
    """
    shard = np.searchsorted(starts, evidence.position, side="right") - 1
    mine = np.flatnonzero(shard == np.bincount(shard).argmax())[:_WITNESSES]
    saver = order[rank::world].astype(np.int64)
    number = before[evidence.entry[mine]] + evidence.place[mine]
    ways = len(saver) - int(number.max())
    if len(mine) < 4 or not ways > 1 or len(mine) * ways > _MOST_SLOTS:
        return []
    begins = np.stack([saver[n : n + ways] - p for n, p in zip(number.tolist(), evidence.position[mine], strict=True)])
    begins.sort(axis=0)
    alike = (begins[1:] == begins[:-1]).sum(axis=0)
    best = int(alike.argmax())
    return [best] if best and alike[best] >= 3 else []


def _longest_stretch(catalog: Catalog, evidence: Evidence) -> tuple[bool, Evidence, NDArray[np.int64]]:
    """The longest run of steps without a gap in their numbers: whether it is all, its rows, and the rows before each.

    How many rows are lacking in a gap is not known, but inside a stretch every row stands where its number says.
    """
    edges = np.append(0, np.flatnonzero(np.diff(catalog.step) > 1) + 1)
    sizes = np.add.reduceat(catalog.rows, edges)
    first = int(edges[sizes.argmax()])
    last = int(np.append(edges, len(catalog))[sizes.argmax() + 1])
    before = np.cumsum(catalog.rows) - catalog.rows
    return len(edges) == 1, evidence.of(first, last), before - before[first]


def shard_order_finding(
    catalog: Catalog, evidence: Evidence, explanation: Explanation, order: Positions, starts: NDArray[np.int64]
) -> Finding:
    """An explanation with the shard order that follows from its steps and from where these rows were found.

    Args:
        order: the permutation of its first epoch. starts: first position of each local shard, and the end of the last.
    """
    law, slots = explanation.law, slots_of(catalog, explanation)
    places, explained = _place_shards(evidence, slots, law, order, starts)
    places = _fill_gaps(places, starts, law)
    chance = evidence.found * min(1.0, 4 * slots.size / law.samples)
    return Finding(replace(explanation, starts=tuple(places.tolist())), explained, evidence.found, chance)


def law_positions_of(
    positions: NDArray[np.int64], starts: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Positions in the order of the shards that the law refers to, for local ones; -1 where not known."""
    shard = np.searchsorted(starts, positions, side="right") - 1
    return np.where(places[shard] >= 0, places[shard] + positions - starts[shard], -1)


@dataclass(frozen=True)
class _Votes:
    """Where the rows of a shard may have it start (rising) and how many say so; it has `rows` of them."""

    shard: int
    size: int
    starts: NDArray[np.int64]
    votes: NDArray[np.int64]
    rows: int


def _place_shards(
    evidence: Evidence, slots: Slots, law: OrderLaw, order: Positions, starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """The start of each shard (-1 unknown) and the number of rows that agree with it.

    A row whose sample is stored twice votes in two shards, and wrongly in one of them.
    The surest shards are placed first; what they take up is no place for the others, so that at last even shards of a
    row or two, whose votes alone say little, have one place left.
    """
    ballots = _vote(evidence, slots, law, order, starts)
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


def _vote(evidence: Evidence, slots: Slots, law: OrderLaw, order: Positions, starts: NDArray[np.int64]) -> list[_Votes]:
    """The votes of the rows of each shard, those with the most rows first; none where the first of them all say no."""
    begin = slots.begin[evidence.entry]
    inside = np.flatnonzero(begin >= 0)
    shard = np.searchsorted(starts, evidence.position[inside], side="right") - 1
    numbers, many = np.unique(shard, return_counts=True)
    ballots = list[_Votes]()
    for number in numbers[np.argsort(-many, kind="stable")].tolist():
        if len(ballots) == _JURY and not any(len(ballot.starts) for ballot in ballots):
            return []
        first = inside[shard == number][:_VOTERS]
        offsets = evidence.position[first] - starts[number]
        at = (begin[first, None] + np.arange(slots.size)) * slots.world + slots.rank
        size = int(starts[number + 1] - starts[number])
        candidates = order[np.minimum(at, law.samples - 1)].astype(np.int64) - offsets[:, None]
        valid = candidates[(candidates >= 0) & (candidates <= law.samples - size)]
        values, votes = np.unique(valid, return_counts=True)
        rows = len(np.unique(offsets))
        # The start of a large shard stands out by far, and one with a smaller share is never taken.
        kept = votes >= max(1, _LEAST_SHARE * rows, votes.max(initial=0) // 2)
        ballots.append(_Votes(number, size, values[kept], votes[kept], rows))
    return sorted(ballots, key=lambda ballot: -ballot.rows)


def _fits(taken: list[tuple[int, int]], start: int, size: int) -> bool:
    """Whether [start, start + size) is free; `taken` is sorted and without overlaps."""
    i = bisect.bisect_right(taken, (start, start))
    return (i == 0 or taken[i - 1][1] <= start) and (i == len(taken) or start + size <= taken[i][0])


def _fill_gaps(places: NDArray[np.int64], starts: NDArray[np.int64], law: OrderLaw) -> NDArray[np.int64]:
    """Give a shard of unknown place the one gap that it fits. It has no votes when none of its rows was published."""
    places, sizes = places.copy(), np.diff(starts)
    known = np.flatnonzero(places >= 0)
    known = known[np.argsort(places[known])]
    begins = np.concatenate([[0], places[known] + sizes[known]])
    ends = np.concatenate([places[known], [law.samples]])
    unknown = np.flatnonzero(places < 0)
    gaps = [(int(a), int(b - a)) for a, b in zip(begins, ends, strict=True) if b > a]
    for begin, size in gaps:
        fits = unknown[sizes[unknown] == size]
        if len(fits) == 1 and sum(gap == size for _, gap in gaps) == 1:
            places[fits[0]] = begin
    return places
