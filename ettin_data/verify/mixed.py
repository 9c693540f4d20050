"""A split of `train/` or `validation/` against the one of the pool that it was cut from: all that is taken is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.build.assemble import FORMAT
from ettin_data.build.mix import Cut, SampleTable, held_out
from ettin_data.storage.attributes import samples_with
from ettin_data.storage.ledger import Ledger
from ettin_data.storage.split import Marker, document_places, sample_leaves
from ettin_data.verify.rows import Difference, compare_leaves


def mix_problems(ledger: Ledger, marker: Marker, pool: Ledger, left_out: NDArray[np.bool_]) -> list[Difference]:
    """The differences from what the mix takes, derived again from the pool's ledger and the cuts in the marker.

    Args:
        ledger, marker: of the split.
        pool: ledger of the pool's split.
        left_out: mask over the pool's documents, True for those that attributes leave out.
    """
    made = marker.cut_from_pool  # nothing for a split that is whole, which has the pool's own marker
    if made and (made["format"] != FORMAT or isinstance(made["held_out"], str)):
        detail = f"this mix is of format {made['format']}, not {FORMAT}: the version that made it can verify it"
        return [Difference(0, "other_format", detail)]
    expected = pool.select(np.flatnonzero(_taken(marker, pool, left_out)))
    differences = compare_leaves(sample_leaves(ledger), sample_leaves(expected), "the mix")
    if not differences and not _equal(ledger, expected):
        detail = "the ledger does not say of every sample what the pool's says"
        differences = [Difference(0, "wrong_ledger", detail)]
    return differences


def _taken(marker: Marker, pool: Ledger, left_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask of the pool's samples that are taken."""
    first = pool.samples["document"]
    there = ~samples_with(left_out, first, pool.segments)
    table = SampleTable(document_places(marker.inputs, pool.documents), first, there.astype(np.int64), pool.segments)
    taken = there
    if (stated := marker.cut_from_pool.get("cut")) is not None:
        cuts = [stated, *marker.cut_from_pool.get("also", ())]
        taken &= np.logical_or.reduce([_cut(each).rows(table, each[3]) for each in cuts])
    if (stated := marker.cut_from_pool.get("held_out")) is not None:
        taken &= ~table.beside(held_out(table, _cut(stated), stated[3]))
    return taken


def _cut(stated: Sequence[Any]) -> Cut:
    purpose, limit, before, _ = stated
    return Cut(tuple(purpose), limit, tuple(before))


def _equal(one: Ledger, other: Ledger) -> bool:
    pairs = [(one.documents, other.documents), (one.samples, other.samples), (one.segments, other.segments)]
    for mine, theirs in pairs:
        if mine is None or theirs is None:
            if mine is not theirs:
                return False
        elif mine.keys() != theirs.keys() or any(not np.array_equal(mine[name], theirs[name]) for name in mine):
            return False
    return True
