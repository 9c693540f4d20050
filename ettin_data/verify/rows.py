"""Which samples are not where they should be, by the ledger or the mix: missing, duplicated, swapped or replaced."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

_WINDOW = 4000  # rows around a difference that are aligned one by one; aligning is quadratic


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of what was found (`row`), or the place before it where one is missing, and what is wrong there."""

    row: int
    reason: str
    detail: str


def compare_leaves(
    found: NDArray[np.uint64], expected: NDArray[np.uint64], whose: str = "the ledger"
) -> list[Difference]:
    """Compare the leaves of a split with those that it should have.

    Args:
        found, expected: shapes (n, 2) and (m, 2), uint64: key of the id and of the tokens of each sample.
        whose: what a message calls those that are expected.

    Returns:
        The differences by row; none if the two are equal.
    """
    n, m = len(found), len(expected)
    shared = min(n, m)
    differ = (found[:shared] != expected[:shared]).any(axis=1)
    if n == m and not differ.any():
        return []
    head = int(np.argmax(differ)) if differ.any() else shared
    tail = 0
    if n != m and head < shared:
        backwards = (found[::-1][: shared - head] != expected[::-1][: shared - head]).any(axis=1)
        tail = int(np.argmax(backwards)) if backwards.any() else shared - head
    there = _pairs(found[head : n - tail])
    wanted = _pairs(expected[head : m - tail])
    places = {pair: head + i for i, pair in reversed(list(enumerate(wanted)))}
    places |= {pair: i for i, pair in reversed(list(enumerate(_pairs(expected[:head]))))} if n > m else {}
    if n == m:
        rows = np.flatnonzero(differ)
        return [_instead(int(row), _pair(found[row]), places, whose) for row in rows.tolist()]
    if max(len(there), len(wanted)) > _WINDOW:
        return [Difference(head, "rows_differ", f"from here on {n:,} samples stand where {whose} has {m:,}")]
    return _align(there, wanted, head, places, whose)


def _align(
    there: list[tuple[int, int]],
    wanted: list[tuple[int, int]],
    head: int,
    places: dict[tuple[int, int], int],
    whose: str,
) -> list[Difference]:
    differences = []
    for kind, w0, w1, t0, t1 in SequenceMatcher(None, wanted, there, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        both = min(w1 - w0, t1 - t0)
        differences += [_instead(head + t0 + i, there[t0 + i], places, whose) for i in range(both)]
        for i in range(t0 + both, t1):
            place = places.get(there[i])
            what = f"no sample of {whose}" if place is None else f"sample {place} of {whose} once more"
            differences.append(Difference(head + i, "extra_row", f"a row too many: {what}"))
        for i in range(w0 + both, w1):
            differences.append(
                Difference(head + t1, "missing_row", f"sample {head + i} of {whose} is missing before this row")
            )
    return differences


def _instead(row: int, pair: tuple[int, int], places: dict[tuple[int, int], int], whose: str) -> Difference:
    place = places.get(pair)
    if place is not None:
        return Difference(row, "wrong_row", f"sample {place} of {whose} stands here")
    return Difference(row, "wrong_content", f"id or tokens are not those of {whose}")


def _pairs(leaves: NDArray[np.uint64]) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in leaves.tolist()]


def _pair(leaf: NDArray[np.uint64]) -> tuple[int, int]:
    return int(leaf[0]), int(leaf[1])
