"""The jobs in the middle of the join: of one kind of key and one part of its hashes, who has a better-ranked twin.

Documents of one key are a group. All but the best-ranked of a group have a twin in it, which is the local rule: nobody
has to know of any other group, and what a lower-ranked source brings changes nothing for those above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ettin_data.dedup import arrays, sketch
from ettin_data.dedup.runs import NEAR, TEXT, RunJob
from ettin_data.storage.keys import TEXT_BYTES, Keys
from ettin_data.storage.split import fingerprint

_AT_ONCE = 1 << 15  # keys at a time: they stay in the processor's caches
_TRIED = 8
"""Better-ranked documents of a group that a near copy is compared with, the best first, before it counts as none."""


@dataclass(frozen=True)
class SortedRun:
    """The output of a run, as a job behind it finds it: where, of which job, and the numbers of its documents."""

    path: Path
    digest: str
    base: int
    documents: int

    @classmethod
    def of(cls, job: RunJob) -> SortedRun:
        return cls(job.path, job.digest, job.base, job.documents)

    def output(self) -> arrays.Arrays:
        return arrays.Arrays(self.path, self.digest)


@dataclass(frozen=True)
class GroupJob:
    """One part of one kind of key.

    Attributes:
        path: of its output.
        kind: number of the kind (`runs.kinds`).
        reason: that it gives.
        part: of its keys.
        runs: all.
        verify: least likeness of near copies; None takes every shared band.
    """

    path: Path
    kind: int
    reason: str
    part: int
    runs: tuple[SortedRun, ...]
    verify: float | None

    @property
    def digest(self) -> str:
        """Of all that decides the output."""
        return fingerprint(
            {"kind": self.kind, "part": self.part, "runs": [run.digest for run in self.runs], "tried": _TRIED}
        )

    def output(self) -> arrays.Arrays:
        """What the job has left; see `find_twins`."""
        return arrays.Arrays(self.path, self.digest)


class Documents:
    """The keys and ranks of documents by their numbers, whichever run they are of; only what is asked for is read."""

    def __init__(self, runs: tuple[SortedRun, ...]) -> None:
        self.runs = runs
        self.bases = np.array([run.base for run in runs], np.int64)
        self._outputs: dict[int, arrays.Arrays] = {}

    def output(self, run: int) -> arrays.Arrays:
        if run not in self._outputs:
            self._outputs[run] = self.runs[run].output()
        return self._outputs[run]

    def by_run(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """An order in which the documents of each run stand together, shape (numbers,), and where those of each begin.

        The second has the shape (runs + 1,).
        """
        if len(self.runs) == 1:
            return np.arange(len(numbers)), np.array([0, len(numbers)])
        run = (np.searchsorted(self.bases, numbers, side="right") - 1).astype(np.min_scalar_type(len(self.runs)))
        begin = np.concatenate([[0], np.cumsum(np.bincount(run, minlength=len(self.runs)))])
        return np.argsort(run, kind="stable"), begin  # a sort by digits, as it is of small numbers

    def of(self, name: str, numbers: NDArray[np.int64], columns: slice | None = None) -> arrays.Array:
        """The rows of `rank`, or of some columns of `keys`, of these documents."""
        order, begin = self.by_run(numbers)
        some = np.flatnonzero(np.diff(begin)).tolist() or [0]
        if len(some) == 1:
            return _some(self.output(some[0])[name], numbers - self.bases[some[0]], columns)
        found: arrays.Array | None = None
        for each in some:
            mine = order[begin[each] : begin[each + 1]]
            rows = _some(self.output(each)[name], numbers[mine] - self.bases[each], columns)
            found = np.empty((len(numbers), *rows.shape[1:]), rows.dtype) if found is None else found
            found[mine] = rows
        assert found is not None
        return found


def _some(array: arrays.Array, rows: NDArray[np.int64], columns: slice | None) -> arrays.Array:
    return (array if columns is None else array[:, columns])[rows]


def find_twins(job: GroupJob) -> None:
    """Make the output of a part: `document` and `twin` (int64, numbers), `rank` (uint64) of the twin, run by run.

    `begin` (int64) says where the documents of each run begin, shape (runs + 1,).
    """
    arrays.make_once(job.path, job.digest, lambda: _found(job))


def _found(job: GroupJob) -> Iterator[tuple[str, arrays.Array]]:
    documents = Documents(job.runs)
    outputs = [documents.output(place) for place in range(len(job.runs))]
    parts = [output[f"begin_{job.kind}"][job.part : job.part + 2].tolist() for output in outputs]
    count = sum(end - begin for begin, end in parts)
    key, number, rank = np.empty(count, np.uint64), np.empty(count, np.int64), np.empty(count, np.uint64)
    stop = 0
    for run, output, (begin, end) in zip(job.runs, outputs, parts, strict=True):
        mine = slice(stop, stop := stop + end - begin)
        rows = output[f"row_{job.kind}"][begin:end]
        key[mine] = output[f"key_{job.kind}"][begin:end]
        np.add(rows, np.int64(run.base), out=number[mine])
        rank[mine] = output["rank"][rows]
    some, begins = repeated(key)
    key, number, rank = key[some], number[some], rank[some]
    low = None
    if job.reason == TEXT:  # the other half of the 128 bits
        low = documents.of("keys", number, slice(8, TEXT_BYTES)).view("<u8").reshape(-1)
    order, begins = _groups(begins, key, low)
    if order is not None:
        number, rank = number[order], rank[order]
    tested = job.verify is not None and job.reason == NEAR
    if tested:
        order = np.lexsort((number, rank, np.cumsum(begins)))
        number, rank = number[order], rank[order]
    head = _best(begins, rank, number)
    member = np.flatnonzero(head != np.arange(len(head)))
    twin = head[member]
    if tested and job.verify is not None:
        found = documents.of("keys", number, slice(TEXT_BYTES, None))
        member, twin = _alike(member, twin, found, job.verify)
    order, begin = documents.by_run(number[member])
    member, twin = member[order], twin[order]
    yield "document", number[member]
    yield "twin", number[twin]
    yield "rank", rank[twin]
    yield "begin", begin


def repeated(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Places of keys that may stand more than once: all that do, and a few that do not.

    The place goes into a key's lowest bits, so that one sort of plain numbers, which numpy does several times as fast
    as an `argsort`, brings equal keys together and still knows where they were.

    Returns: the places, those of keys with the same upper bits side by side; and a mask of where others begin.
    """
    bits = np.uint64(max(len(keys), 2).bit_length())
    low = (np.uint64(1) << bits) - np.uint64(1)
    packed = np.arange(len(keys), dtype=np.uint64)
    for begin in range(0, len(keys), _AT_ONCE):
        packed[begin : begin + _AT_ONCE] |= keys[begin : begin + _AT_ONCE] & ~low
    packed.sort()
    apart = np.ones(len(keys) + 1, bool)  # whether the key at a place has others than the one before
    for begin in range(0, len(keys) - 1, _AT_ONCE):
        upper = packed[begin : begin + _AT_ONCE + 1] >> bits
        np.not_equal(upper[1:], upper[:-1], out=apart[begin + 1 : begin + len(upper)])
    mask = ~(apart[1:] & apart[:-1])
    places: NDArray[np.int64] = (packed[mask] & low).view(np.int64)
    return places, apart[:-1][mask]


def _groups(
    begins: NDArray[np.bool_], key: NDArray[np.uint64], low: NDArray[np.uint64] | None
) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_]]:
    """Equal keys side by side, of keys of which the upper bits are.

    Args:
        begins: where other upper bits begin.
        key, low: both halves of the keys; the second is None where there is one.

    Returns: the order in which they are, None if they are already; and a mask of where each group begins, in it.
    """
    other = np.zeros(len(key), bool)
    other[1:] = key[1:] != key[:-1]
    if low is not None:
        other[1:] |= low[1:] != low[:-1]
    within = other & ~begins
    if not within.any():
        return None, begins
    part = np.cumsum(begins) - 1
    several = np.zeros(int(part[-1]) + 1, bool)
    several[part[within]] = True
    at = np.flatnonzero(several[part])  # few, unless keys are alike by intent
    halves = (key[at], part[at]) if low is None else (low[at], key[at], part[at])
    order = np.arange(len(key))
    order[at] = at[np.lexsort(halves)]
    key, begins = key[order], begins.copy()
    begins[1:] |= key[1:] != key[:-1]
    if low is not None:
        low = low[order]
        begins[1:] |= low[1:] != low[:-1]
    return order, begins


def _best(begins: NDArray[np.bool_], rank: NDArray[np.uint64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place that of the best-ranked of its group, of several with one rank the lowest number.

    Args:
        begins: whether a group begins at a place.
        rank, number: of the document there.
    """
    if not len(begins):
        return np.zeros(0, np.int64)
    first, group = np.flatnonzero(begins), np.cumsum(begins) - 1
    best = np.flatnonzero(rank == np.minimum.reduceat(rank, first)[group])
    if len(best) > len(first):  # some rank is that of several
        among = group[best]
        order = np.lexsort((number[best], among))
        best, among = best[order], among[order]
        best = best[np.concatenate([[True], among[1:] != among[:-1]])]
    places: NDArray[np.int64] = best[group]  # one in each group, in their order
    return places


def _alike(
    member: NDArray[np.int64], best: NDArray[np.int64], found: Keys, least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The members that are as alike as `least` to a better-ranked one of their group, and the first such one.

    Args:
        member: places of all but the best-ranked of each group, which stand in a row, by rank.
        best: for each of them the place of the best-ranked.
        found: sketches at all places.
    """
    alike, twins = [member[:0]], [member[:0]]
    for tried in range(_TRIED):
        better = best + tried < member
        member, best = member[better], best[better]
        good = sketch.likeness(found[member], found[best + tried]) >= least
        alike.append(member[good])
        twins.append(best[good] + tried)
        member, best = member[~good], best[~good]
    return np.concatenate(alike), np.concatenate(twins)
