"""Copies as a weight: how often a document is taken, by how many equals it has (`options.WEIGHTS`).

FineWeb-2 keeps one document of each cluster with the cluster's size, and repeats it by that when it trains: a page that
stands in many crawls is likely to be a good one, and one that stands in thousands is likely not. Its weights were hand
picked and promising, not searched for, as its authors say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.dedup.tables import TWIN_ROW, TWIN_SPLIT
from ettin_data.storage.attributes import Attribute

VERSION = 1
"""Raised when the same tables of copies give other weights."""


def weights(sizes: NDArray[np.integer[Any]], chosen: Mapping[int, int]) -> NDArray[np.uint8]:
    """The weight of documents in clusters of these sizes, shape of `sizes`; 1 is a document without copies."""
    steps = np.searchsorted(np.array(list(chosen)), sizes, side="right")
    return np.array([1, *chosen.values()], np.uint8)[steps]


def layers(chosen: Mapping[int, int] | None) -> int:
    """How often the heaviest document is taken in each pass."""
    return max(chosen.values(), default=1) if chosen else 1


def threshold(chosen: Mapping[int, int], layer: int) -> int:
    """The largest weight that layer (from 0) of a pass leaves out, as it has been taken often enough; 0 leaves none."""
    return max((weight for weight in {1, *chosen.values()} if weight <= layer), default=0)


def cluster_sizes(table: Callable[[int], Attribute | None], documents: Sequence[int], work: Path) -> NDArray[np.uint32]:
    """How many documents each one stands for with itself, shape (all documents,), mapped; 0 for one that is left out.

    Args:
        table: gives the table of copies of the split with a number; None of one that loses nothing.
        documents: of each split, by number.
        work: a file for the numbers, four bytes a document, which are not held in memory.
    """
    starts = np.cumsum([0, *documents])
    work.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.memmap(work, np.uint32, "w+", shape=(max(int(starts[-1]), 1),))
    sizes[:] = 1
    moved = True
    while moved:  # a twin that is left out hands on what it stands for; it ranks lower than its own
        moved = False
        for number in range(len(documents)):
            if (found := table(number)) is None:
                continue
            rows = np.flatnonzero(found.codes)
            mine = sizes[starts[number] : starts[number + 1]]
            rows = rows[mine[rows] > 0]
            if len(rows):
                twins = starts[found.columns[TWIN_SPLIT][rows]] + found.columns[TWIN_ROW][rows]
                amounts = mine[rows].copy()
                mine[rows] = 0
                np.add.at(sizes, twins, amounts)
                moved = True
    return sizes[: int(starts[-1])]
