"""Where the samples of an earlier phase are in a later one, and the law that goes on from the earlier one's order.

Splits have the same names in both. One that has not changed is found by the digest of its marker; of one that has, each
row is found by the hash of its tokens in the ledgers, in the same sequence: two rows that are alike are as good as each
other. Where a sample is gone, or the sequence is another one, the earlier steps are no steps of the later phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError, ShardError
from ettin_data.order.appended import AppendedLaw, Earlier, as_runs
from ettin_data.order.index import OrderIndex, index_digest
from ettin_data.storage import ledger, records
from ettin_data.storage import split as markers
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import Phase

_NAMED = 3  # splits in a message
_REMEDY = (
    "build with --after and the folder of the earlier phase, which takes all that it took and the rest beside it; or "
    "begin a new order"
)


@dataclass(frozen=True)
class _Rows:
    """A split in an index: its folder and the positions [first, end) of its rows."""

    folder: Path
    first: int
    end: int


def appended_law(phase: Phase, before: Phase) -> AppendedLaw:
    """The law of `phase` that goes on from the order of `before`, which is the same phase with fewer samples.

    Raises:
        OrderError: it cannot go on: samples are gone or in another sequence, or nothing was added.
    """
    earlier = OrderIndex.open(before.order)
    earlier.check_data(before.train)
    then, now = MdsReader(before.train), MdsReader(phase.train)
    if index_digest(before.train) == index_digest(phase.train):
        raise OrderError("nothing was added", where=phase.train, why=f"its index is that of {before.train}")
    stated = records.read_run(phase).order  # not the index, which this may be to make again
    drawn, present = ((law.seed, law.epoch, law.batch) for law in (earlier.law, stated))
    if drawn != present:
        raise OrderError(
            f"the order has seed, epoch and batch {present}, the earlier one {drawn}",
            where=phase.order,
            remedy="build the phase with the `order` of the earlier recipe",
        )
    places = positions_now(then, now)
    moved = tuple(replace(each, runs=as_runs(places[each.positions()])) for each in earlier.info.earlier)
    last = Earlier(earlier.law.samples, earlier.info.digest, earlier.info.data_digest, as_runs(places))
    law = earlier.law
    return AppendedLaw(law.seed, law.epoch, len(now), law.batch, earlier=(*moved, last))


def positions_now(then: MdsReader, now: MdsReader) -> NDArray[np.int64]:
    """Of each sample of one index its position in another that has them all in the same sequence, int64, rising.

    Raises:
        OrderError: a sample is gone, or the sequence is another one.
    """
    here, found, gone = _splits(now), [], []
    for name, rows in _splits(then).items():
        new = here.get(name)
        matched = None if new is None else _matched(rows, new)
        if matched is None:
            gone.append(f"{name} has lost samples" if new is not None else f"{name} is gone")
        else:
            found.append(matched)
    if gone:
        more = f", and {len(gone) - _NAMED:,} more" if len(gone) > _NAMED else ""
        raise OrderError(
            "the earlier order cannot go on here: samples that it names are not in the data any more",
            where=now.folder,
            why=f"{', '.join(gone[:_NAMED])}{more}",
            remedy=_REMEDY,
        )
    places: NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *found])
    if not all(a[-1] < b[0] for a, b in pairwise(each for each in found if len(each))):
        raise OrderError("the splits stand in another sequence", where=now.folder, remedy=_REMEDY)
    return places


def _splits(reader: MdsReader) -> Mapping[str, _Rows]:
    """Folder -> its rows, in the order of the index."""
    found: dict[str, _Rows] = {}
    for number, info in enumerate(reader.infos):
        name, end = str(PurePosixPath(info.basename).parent), int(reader.starts[number + 1])
        begun = found.get(name)
        first = int(reader.starts[number]) if begun is None else begun.first
        found[name] = _Rows(reader.folder / name, first, end)
    return found


def _matched(then: _Rows, now: _Rows) -> NDArray[np.int64] | None:
    """The new positions of a split's rows; None if not all of them are there in their sequence."""
    whole: NDArray[np.int64] = np.arange(now.first, now.end)
    if _root(then.folder) == _root(now.folder) is not None:
        return whole
    old, new = _contents(then), _contents(now)
    if np.array_equal(old, new):
        return whole
    rows, at, there = [], 0, new.tolist()
    for content in old.tolist():
        while at < len(there) and there[at] != content:
            at += 1
        if at == len(there):
            return None
        rows.append(now.first + at)
        at += 1
    found: NDArray[np.int64] = np.array(rows, np.int64)
    return found


def _root(folder: Path) -> str | None:
    """The digest of a split's samples, as its marker says; None without a marker."""
    try:
        return markers.read_marker(folder).root
    except ShardError:
        return None


def _contents(rows: _Rows) -> NDArray[np.uint64]:
    """The hash of each row's tokens, uint64. Raises `ShardError` for a split without a ledger."""
    if not (rows.folder / ledger.SAMPLES).exists():
        raise ShardError(
            "the split has no ledger, so its samples cannot be told apart",
            where=rows.folder,
            remedy="use the folders of two builds",
        )
    contents: NDArray[np.uint64] = ledger.read_table(rows.folder, ledger.SAMPLES, ["content"])["content"]
    if len(contents) != rows.end - rows.first:
        raise ShardError(f"the ledger has {len(contents):,} samples, not {rows.end - rows.first:,}", where=rows.folder)
    return contents
