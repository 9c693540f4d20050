"""In which order the rows of a step stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_RANKS = 4096


def row_order(rows: NDArray[np.uint64], law: NDArray[np.uint64], positions: NDArray[np.int64]) -> str:
    """`law`, `rank by rank, for R ranks`, `sorted` by place in the data, or `other`, of a unit that is equal.

    Args:
        rows: the unit's rows, each by a number that its sample has too. law: the numbers of the samples in the law's
            order, and `positions` their places in the data.
    """
    if np.array_equal(rows, law):
        return "law"
    count = len(law)
    if len(rows) != count:
        return "other"
    for world in range(2, min(count // 2, _MOST_RANKS) + 1):
        if count % world or rows[1] != law[world]:
            continue
        if np.array_equal(rows, law.reshape(-1, world).T.ravel()):
            return f"rank by rank, for {world} ranks"
    return "sorted" if np.array_equal(rows, law[np.argsort(positions, kind="stable")]) else "other"
