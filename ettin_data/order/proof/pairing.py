"""Gives masked rows (`masking.py`) their samples, each to one row, where rows and samples stand in any order.

Most rows are found by a window that one row and one sample of that length have at a place, which takes a sort; most of
the others by the number of windows that they share with a sample. So the work grows with the rows, not with the pairs.
What is left over are rows so short, or so much hidden, that several samples would do: they are matched as a whole, the
likeliest pairs first, and then so that as many rows as can be have a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws
from ettin_data.order.proof.masking import GRID, UNLIKELY, Masking, Pairs, Tokens, compare_pairs, votes, windows

_SURE = 4  # evidence of a pair that is not given up for another one: two tokens of text, and nothing against it
_GROUP = 1 << 14  # rows whose windows are held at a time, unless more are of one length
_PASSES = [np.arange(first, 25, 3) for first in (1, 2, 3)]
"""Places of windows that are looked up one after the other; those of a pass have no token in common."""

_WORTH = 0.1  # share of the rows looked up that a pass has to find, so that there is another one
_ROUNDS = 4  # of giving samples to rows, when several rows want the same one
_WORK = 1 << 24  # tokens of rows that are left over, and of all rows so many times, that are compared one by one
_TIMES = 16
_AT_ONCE = 1 << 22  # of these for rows of one length
_SHORT = 64  # tokens above which a row that shares no window with a sample is not it
_DRAWN = 64  # samples that a row is held against when all of its length are too many


def pair(rows: Tokens, samples: Tokens, masking: Masking) -> Pairs:
    """Give each row the sample that it is but for masking; a sample goes to one row only.

    When more pairs are without evidence (`Pairs.weak`) than masking leaves so, these are none.
    """
    in_order = np.arange(min(len(rows.starts), len(samples.starts)))
    found = compare_pairs(rows, samples, (in_order, in_order), masking)
    if len(found.rows) < max(len(rows.starts), len(samples.starts)):  # otherwise the usual case
        found = _pair_mixed(rows, samples, found[found.evidence >= _SURE], masking)
    weak, expected = int(found.weak.sum()), masking.weak(rows.lengths[found.rows])
    # By Chernoff's bound on Poisson's distribution; twice as many may be due to an inexact share.
    beyond = weak > 2 * expected and weak * math.log(weak / max(expected, 1e-300)) - weak + expected
    return found[~found.weak] if beyond > -math.log(UNLIKELY) else found


def _pair_mixed(rows: Tokens, samples: Tokens, known: Pairs, masking: Masking) -> Pairs:
    """Pairs of rows and samples in any order, further to those that are known; some lengths at a time."""
    parts, work = [known], _WORK + _TIMES * int(rows.lengths.sum())
    left, right = _rest(rows, samples, parts)
    for mine, theirs in _by_length(rows, samples, left, right, _GROUP):
        found = _pair_by_windows(rows[mine], samples[theirs], masking)
        parts.append(found.of(mine, theirs))
        left, right = (each[rest] for each, rest in zip((mine, theirs), _rest(rows[mine], samples[theirs], [found])))
        for mine, theirs in _by_length(rows, samples, left, right):
            which, whose = _possible(rows[mine], samples[theirs], work)
            parts.append(match(compare_pairs(rows, samples, (mine[which], theirs[whose]), masking)))
            work -= int(rows.lengths[mine[which]].sum())
    return Pairs.together(parts)


def _pair_by_windows(rows: Tokens, samples: Tokens, masking: Masking) -> Pairs:
    """Pairs that are sure, of rows and samples that share windows.

    First those that share a window which no other one of that length has at that place. What two rows or two samples
    have in common says nothing there and is passed over, so near duplicates are left to the number of shared windows.
    """
    parts = [Pairs.none()]
    for places in _PASSES:
        looked_up, before = len(_rest(rows, samples, parts)[0]), len(parts)
        for place in places:
            left, right = _rest(rows, samples, parts)
            (keys, owners), (others, theirs) = (
                _keys(side, 3, np.array([place])) for side in (rows[left], samples[right])
            )
            # Each side's keys that occur once, sorted; those of both sides are the pairs.
            (keys, first), (others, second) = _singles(keys), _singles(others)
            _, mine, their = np.intersect1d(keys, others, assume_unique=True, return_indices=True)
            which, whose = left[owners[first[mine]]], right[theirs[second[their]]]
            found = compare_pairs(rows, samples, (which, whose), masking)
            parts.append(found[found.evidence >= _SURE])
        if sum(len(part.rows) for part in parts[before:]) <= _WORTH * looked_up:
            break
    for _ in range(_ROUNDS):
        left, right = _rest(rows, samples, parts)
        which, whose, shared = _candidates(rows[left], samples[right], 3)
        kept = _one_each(which, whose, -shared)
        found = compare_pairs(rows, samples, (left[which[kept]], right[whose[kept]]), masking)
        parts.append(found[found.evidence >= _SURE])
        if len(parts[-1].rows) == 0:
            break
    return Pairs.together(parts)


def _singles(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The keys that occur once, rising, and their numbers."""
    values, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return values[counts == 1], first[counts == 1]


def _rest(rows: Tokens, samples: Tokens, parts: list[Pairs]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the rows and of the samples that are in no pair yet."""
    alone = np.ones(len(rows.starts), bool), np.ones(len(samples.starts), bool)
    for part in parts:
        alone[0][part.rows], alone[1][part.samples] = False, False
    return np.flatnonzero(alone[0]), np.flatnonzero(alone[1])


def _keys(tokens: Tokens, width: int, places: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """`windows` that are never the same for rows of different lengths, which cannot be a row and its sample."""
    keys, owners = windows(tokens, width, places)
    with np.errstate(over="ignore"):
        keys += draws(tokens.lengths[owners].astype(np.uint64), "order row length")
    return keys, owners


def _candidates(
    rows: Tokens, samples: Tokens, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows and samples of one length that share windows, and how many."""
    return votes(*_keys(rows, width, GRID), *_keys(samples, width, GRID))


def _by_length(
    rows: Tokens, samples: Tokens, left: NDArray[np.int64], right: NDArray[np.int64], group: int = 1
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """These rows and samples of each length, shortest first; of several lengths while they are fewer than `group`."""
    left, right = (
        each[np.argsort(side.lengths[each], kind="stable")] for side, each in ((rows, left), (samples, right))
    )
    lengths, their = rows.lengths[left], samples.lengths[right]
    begin = 0
    while begin < len(left):
        end = int(np.searchsorted(lengths, lengths[min(begin + group, len(left)) - 1], "right"))
        low, high = np.searchsorted(their, lengths[begin], "left"), np.searchsorted(their, lengths[end - 1], "right")
        if high > low:
            yield left[begin:end], right[low:high]
        begin = end


def _possible(rows: Tokens, samples: Tokens, work: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and samples, all of one length, that are worth a comparison of so many tokens.

    All of them, if these are few enough; or those with a token in common at a place, and some by a key: what shares
    none with its own sample may be made of nearly any.
    """
    count, many, length = len(rows.starts), len(samples.starts), int(rows.lengths[0])
    if count * many * length <= min(work, _AT_ONCE):
        return np.repeat(np.arange(count), many), np.tile(np.arange(many), count)
    if length > _SHORT:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    near = [_candidates(rows, samples, width) for width in (1, 2)]
    drawn = draws(np.arange(count * _DRAWN, dtype=np.uint64), "order masked samples") % np.uint64(many)
    which = np.concatenate([*(each[0] for each in near), np.repeat(np.arange(count), _DRAWN)])
    whose = np.concatenate([*(each[1] for each in near), drawn.astype(np.int64)])
    both = np.unique(which * many + whose)
    return both // many, both % many


def match(edges: Pairs) -> Pairs:
    """Of possible pairs as many as can be so that no row and no sample is in two, the likeliest ones first.

    Of those that are as likely the ones that stand in order are preferred, and among others a key decides.
    """
    which, left = np.unique(edges.rows, return_inverse=True)
    whose, right = np.unique(edges.samples, return_inverse=True)
    both = draws((edges.rows << 32).astype(np.uint64) + edges.samples.astype(np.uint64), "order masked pairs")
    order = np.lexsort([both, edges.rows != edges.samples, -edges.evidence])
    chosen = np.full(len(which), -1)  # the edge that each row has
    taken = np.full(len(whose), -1)  # and each sample
    while len(order):
        best = order[np.sort(np.unique(left[order], return_index=True)[1])]  # the best of each row
        best = best[np.sort(np.unique(right[best], return_index=True)[1])]
        chosen[left[best]] = taken[right[best]] = best
        order = order[(chosen[left[order]] < 0) & (taken[right[order]] < 0)]
    _augment(left, right, chosen, taken)
    return edges[chosen[chosen >= 0]]


def _augment(
    left: NDArray[np.int64], right: NDArray[np.int64], chosen: NDArray[np.int64], taken: NDArray[np.int64]
) -> None:
    """Give further rows a sample, for which others change theirs, until no way is left (Berge's theorem).

    Args:
        left, right: row and sample of each edge. chosen, taken: the edge of each row and of each sample, or -1.
    """
    edges = np.argsort(left, kind="stable")  # those of a row follow each other
    firsts, ends = (np.searchsorted(left[edges], np.arange(len(chosen)), side) for side in ("left", "right"))
    while True:
        # All rows without a sample are roots of trees: over any edge to a sample, from that to the row that has it.
        front = np.flatnonzero(chosen < 0)
        root, came_by = np.full(len(chosen), -1), np.full(len(taken), -1)
        root[front], ways = front, np.zeros(0, np.int64)
        while len(front) and len(ways) == 0:
            counts = ends[front] - firsts[front]
            step = edges[np.repeat(firsts[front] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())]
            step = step[came_by[right[step]] < 0]
            step = step[np.unique(right[step], return_index=True)[1]]
            came_by[right[step]] = step
            free = step[taken[right[step]] < 0]
            ways = free[np.unique(root[left[free]], return_index=True)[1]]  # no two of one tree
            front = left[taken[right[step[taken[right[step]] >= 0]]]]
            root[front] = root[left[step[taken[right[step]] >= 0]]]
        if len(ways) == 0:
            return
        for edge in ways.tolist():
            while edge >= 0:
                row, before = left[edge], chosen[left[edge]]
                chosen[row] = taken[right[edge]] = edge
                edge = came_by[right[before]] if before >= 0 else -1


def _one_each(rows: NDArray[np.int64], samples: NDArray[np.int64], cost: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of pairs, the cheapest first, so that no row and no sample is in two of them."""
    order = np.argsort(cost, kind="stable")
    order = order[np.sort(np.unique(rows[order], return_index=True)[1])]  # the cheapest of each row
    chosen: NDArray[np.int64] = order[np.sort(np.unique(samples[order], return_index=True)[1])]
    return chosen
