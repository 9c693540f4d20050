"""Where each part of a publication begins in the law's order, when its steps are not the law's (batch-size warm-up).

A part is a step, or a folder where steps inside it are mixed. Its rows were found in the data, so their places in the
law's order are known; they should be a run without gaps that begins where the part before ends. Every part is placed by
its own rows: what is lacking, doubled or resumed in one leaves the others where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.law import OrderLaw, Positions
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.explanation import Explanation, Finding, parts_of
from ettin_data.order.proof.probe import Evidence

_SLACK = 8  # rows between two parts, or a quarter of one, that are a mistake in the rows and not a break between them
_FEW = 4  # rows that agree on a shift of their own by chance
_WHOLE = 0.8  # share of the rows of a part that must be found for its ends to be read from them


WORLDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
"""World sizes that are tried."""
_ODD = 0.05  # share of the steps that may be irregular where steps are the law's


def by_parts(catalog: Catalog, evidence: Evidence, law: OrderLaw, index: NDArray[np.int64]) -> Iterator[Finding]:
    """Explanations in which steps are not the law's, but all rows, or those of each folder, are a run of its order."""
    file = catalog.first_file()[evidence.entry]
    known = index >= 0
    for world in (1, *WORLDS):
        ranks = ranks_of(catalog, file[known], index[known] % world)
        mine = known & (index % world == ranks[file])
        if len(np.unique(evidence.row[mine])) < 0.5 * evidence.found:
            continue
        one = (int(ranks[0]),) if len(set(ranks.tolist())) == 1 else tuple(ranks.tolist())
        for exact in ("rows", "folders"):
            spans, explained, ordered = place_parts(catalog, evidence, exact, np.where(mine, index // world, -1))
            # Each break between two parts was put where some rows say so, which explains these by itself.
            breaks = sum(a[1] != b[0] for a, b in pairwise(spans))
            # Rows that stand one by one where the order has them are more than a set that is the right one.
            size = 1.0 if ordered > 0.9 * explained else float(np.mean([end - begin for begin, end in spans]))
            chance = evidence.found * min(1.0, size / law.samples)
            begins = np.array(spans)[:, 0] * world
            odd = (
                (catalog.rows != catalog.common_rows()) | (begins % law.batch != 0) if exact == "rows" else begins >= 0
            )
            explanation = Explanation(law, exact=exact, spans=spans, world=world, ranks=one)
            regular = exact == "rows" and odd.sum() <= max(2, _ODD * len(odd))
            yield Finding(explanation, max(explained - _FEW * breaks, 0), evidence.found, chance, bool(regular))


def ranks_of(catalog: Catalog, file: NDArray[np.int64], rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank that most rows of each file are of; files of which no row is known have the commonest."""
    if len(rank) == 0:
        return np.zeros(len(catalog.files), np.int64)
    ranks = np.full(len(catalog.files), np.bincount(rank).argmax())
    return _commonest(file, rank, ranks)


def _commonest(group: NDArray[np.int64], value: NDArray[np.int64], rest: NDArray[np.int64]) -> NDArray[np.int64]:
    """The commonest value of each group, the largest of several; `rest` for groups of which there is none."""
    if len(group) == 0:
        return rest
    low = int(value.min())
    width = int(value.max()) - low + 1
    # As one number a pair is sorted ten times as fast as in two columns.
    both, counts = np.unique(group * width + (value - low), return_counts=True)
    rising, found = np.argsort(counts, kind="stable"), rest.copy()
    found[both[rising] // width] = both[rising] % width + low  # the last one written is the commonest
    return found


def indices_of(order: Positions, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each position stands in a permutation, -1 where it does not: int64, shape of `positions`. One pass."""
    wanted, inverse = np.unique(positions, return_inverse=True)
    mask = np.zeros(len(order), bool)
    mask[wanted[(wanted >= 0) & (wanted < len(order))]] = True
    where = np.full(len(wanted), -1, np.int64)
    for begin in range(0, len(order), 1 << 24):
        hits = np.flatnonzero(mask[order[begin : begin + (1 << 24)]]) + begin
        where[np.searchsorted(wanted, order[hits])] = hits
    return where[inverse]


@dataclass(frozen=True)
class _Found:
    """Rows with their places in the saver's order: part, row number in the publication, place; int64 all."""

    part: NDArray[np.int64]
    number: NDArray[np.int64]
    place: NDArray[np.int64]


def place_parts(
    catalog: Catalog, evidence: Evidence, exact: str, place: NDArray[np.int64]
) -> tuple[tuple[tuple[int, int], ...], int, int]:
    """The rows [begin, end) of the saver's order that each part of a publication should hold.

    Args:
        exact: "rows" or "folders", which says what a part is.
        place: of each pair of the evidence in the saver's order, -1 where it has none.

    Returns: the spans of all parts, how many rows of the evidence lie in theirs, and how many of these follow each
        other as in the order, one by one.
    """
    firsts, lasts = parts_of(catalog, exact)
    before = np.cumsum(catalog.rows) - catalog.rows
    sizes = np.add.reduceat(catalog.rows, firsts)
    part_of = np.repeat(np.arange(len(firsts)), lasts - firsts + 1)
    row = evidence.row
    known = np.flatnonzero(place >= 0)
    found = _Found(part_of[evidence.entry[known]], before[evidence.entry[known]] + evidence.place[known], place[known])
    shift = _shifts(found, row[known], sizes, catalog.first_file()[firsts])
    # Of a row with several places the one nearest to its part counts, and none that is far from it.
    away = np.abs(found.place - found.number - shift[found.part])
    order = np.lexsort([away, row[known]])
    nearest = order[np.unique(row[known][order], return_index=True)[1]]
    near = nearest[away[nearest] <= sizes[found.part[nearest]] + _SLACK]
    begin = before[firsts] + shift
    whole = _WHOLE
    if exact == "folders":  # in which a quarter of the rows that were found may be many more or fewer of all
        begin, whole = _begins(found.part[near], found.place[near], sizes, begin), 1.0
    begin, end = _ends(found.part[near], found.place[near], sizes, begin, whole)
    begin, end = _joined(begin, end, sizes)
    inside = (found.place[near] >= begin[found.part[near]]) & (found.place[near] < end[found.part[near]])
    off = (found.place - found.number - shift[found.part])[near][inside]
    ordered = int(np.unique(off, return_counts=True)[1].max(initial=0))
    return tuple(zip(begin.tolist(), end.tolist(), strict=True)), int(inside.sum()), ordered


def _shifts(
    found: _Found, row: NDArray[np.int64], sizes: NDArray[np.int64], file: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each part how far its rows stand in the order from their numbers in the publication.

    The commonest of its file, if as many of its rows are near that as are near their own median; a median that few rows
    share is chance, and the part stands as the one before it does. Rows with one place decide.
    """
    away = found.place - found.number
    single = np.bincount(row, minlength=1)[row] == 1
    chosen = np.flatnonzero(single) if single.any() else np.arange(len(row))
    order = chosen[np.lexsort([away[chosen], found.part[chosen]])]
    parts, first, many = np.unique(found.part[order], return_index=True, return_counts=True)
    own = np.zeros(len(sizes), np.int64)
    own[parts] = away[order[first + many // 2]]
    common = _commonest(file[found.part[order]], away[order], np.zeros(int(file.max(initial=0)) + 1, np.int64))
    part, reach = found.part[order], sizes[found.part[order]] + _SLACK

    def near(shift: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many rows of each part are near a shift of it."""
        return np.bincount(part[np.abs(away[order] - shift[part]) <= reach], minlength=len(sizes))

    at_common, at_own = near(common[file]), near(own)
    shift = np.where(at_common >= at_own, common[file], own)
    sure = (at_own >= _FEW) & (2 * at_own >= np.bincount(part, minlength=len(sizes)))
    have = (at_common >= np.maximum(at_own, 1)) | sure
    if have.any():
        last = np.maximum.accumulate(np.where(have, np.arange(len(sizes)), -1))
        shift = shift[np.where(last < 0, np.argmax(have), last)]
    return shift


def _begins(
    part: NDArray[np.int64], place: NDArray[np.int64], sizes: NDArray[np.int64], guess: NDArray[np.int64]
) -> NDArray[np.int64]:
    """First place of each part of mixed rows, of which only some were found: as many as can be lie in so many places.

    Where those that were not found leave several, a part begins where the one before it ends, or the order does; and so
    it does when hardly any was found.
    """
    begin, before, known = guess.copy(), 0, False
    for number in range(len(sizes)):
        mine = np.sort(place[part == number])
        if len(mine) <= _FEW:
            begin[number] = before if known else guess[number]
        else:
            known = True
            # A span holds as many rows as any if it begins at one of them, or as far on as its last row allows.
            held = np.searchsorted(mine, mine + sizes[number], "left") - np.arange(len(mine))
            most = np.flatnonzero(held == held.max())
            low = mine[most + held.max() - 1] - sizes[number] + 1
            at = np.clip(before, low, mine[most])
            begin[number] = at[np.abs(at - before).argmin()]
        before = int(begin[number] + sizes[number])
    return begin


def _ends(
    part: NDArray[np.int64], place: NDArray[np.int64], sizes: NDArray[np.int64], guess: NDArray[np.int64], share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First place of each part and the place behind its last, from its rows where that share of them was found."""
    begin, end = guess.copy(), guess + sizes
    order = np.lexsort([place, part])
    both = np.column_stack([part[order], place[order]])
    both = both[np.append(True, np.any(np.diff(both, axis=0) != 0, axis=1))] if len(both) else both
    parts, first, many = np.unique(both[:, 0], return_index=True, return_counts=True)
    whole = np.bincount(part, minlength=len(sizes))[parts] >= share * sizes[parts]
    parts, first, many = parts[whole], first[whole], many[whole]
    # In a run without gaps, place less number in the run is the same everywhere. Taken a quarter from either end it
    # gives the ends, whatever a stray row at the very end says.
    within = both[:, 1] - (np.arange(len(both)) - np.repeat(*_repeat(both[:, 0])))
    begin[parts] = within[first + many // 4]
    end[parts] = within[first + 3 * many // 4] + many
    odd = np.abs(end - begin - sizes) > np.maximum(_SLACK // 2, sizes // 4)  # rows of other places among them
    return np.where(odd, guess, begin), np.where(odd, guess + sizes, end)


def _repeat(sorted_parts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each run of equal values begins, and how long it is."""
    _, first, many = np.unique(sorted_parts, return_index=True, return_counts=True)
    return first, many


def _joined(
    begin: NDArray[np.int64], end: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Let parts that nearly meet do so: a part that has fewer places than rows gets them first."""
    starts, ends, rows = begin.tolist(), end.tolist(), sizes.tolist()
    for i in range(1, len(starts)):
        gap = starts[i] - ends[i - 1]
        if 0 < gap <= max(_SLACK, rows[i] // 4):
            ends[i - 1] += min(gap, max(rows[i - 1] - (ends[i - 1] - starts[i - 1]), 0))
            starts[i] = ends[i - 1]
        elif -max(_SLACK, rows[i] // 4) <= gap < 0 and ends[i - 1] < ends[i]:
            starts[i] = ends[i - 1]
    return np.array(starts, np.int64), np.array(ends, np.int64)
