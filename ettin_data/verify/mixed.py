"""A split of `train/` or `validation/` against the one of the pool that it was cut from: all that is taken is there."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ettin_data.build.mix import Cut, SampleTable
from ettin_data.storage.attributes import samples_with
from ettin_data.storage.ledger import Ledger
from ettin_data.storage.split import Marker, sample_leaves
from ettin_data.verify.rows import Difference, compare_leaves


def mix_problems(
    ledger: Ledger, marker: Marker, pool: Ledger, held_out: NDArray[np.uint64], left_out: NDArray[np.bool_]
) -> list[Difference] | None:
    """The differences from what the mix takes, derived again from the pool's ledger and the cut in the marker.

    Args:
        ledger, marker: of the split.
        pool: ledger of the pool's split.
        held_out: sorted, unique keys of the documents in `validation/` of its source, uint64.
        left_out: mask over the pool's documents, True for those that attributes leave out.

    Returns:
        None where it cannot be derived, because `validation/` is not what it was when the cut was made.
    """
    rows = _taken(marker, pool, held_out, left_out)
    if rows is None:
        return None
    expected = pool.select(np.flatnonzero(rows))
    differences = compare_leaves(sample_leaves(ledger), sample_leaves(expected), "the mix")
    if not differences and not _equal(ledger, expected):
        detail = "the ledger does not say of every sample what the pool's says"
        differences = [Difference(0, "wrong_ledger", detail)]
    return differences


def _taken(
    marker: Marker, pool: Ledger, held_out: NDArray[np.uint64], left_out: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Mask of the pool's samples that are taken."""
    keys, first = pool.documents["key"], pool.samples["document"]
    taken = ~samples_with(left_out, first, pool.segments)
    if (cut := marker.made_from.get("cut")) is not None:
        purpose, limit, before, number = cut
        table = SampleTable(keys[first], pool.samples["tokens"])
        taken &= Cut(tuple(purpose), limit, tuple(before)).rows(table, number)
    if (digest := marker.made_from.get("held_out")) is not None:
        if hashlib.sha256(held_out.tobytes()).hexdigest() != digest:
            return None
        taken &= ~samples_with(np.isin(keys, held_out), first, pool.segments)
    return taken


def _equal(one: Ledger, other: Ledger) -> bool:
    pairs = [(one.documents, other.documents), (one.samples, other.samples), (one.segments, other.segments)]
    for mine, theirs in pairs:
        if mine is None or theirs is None:
            if mine is not theirs:
                return False
        elif mine.keys() != theirs.keys() or any(not np.array_equal(mine[name], theirs[name]) for name in mine):
            return False
    return True
