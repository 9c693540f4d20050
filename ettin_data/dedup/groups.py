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

    def of(self, name: str, numbers: NDArray[np.int64]) -> arrays.Array:
        """The rows of `keys` or `rank` of these documents."""
        run = np.searchsorted(self.bases, numbers, side="right") - 1
        found = np.zeros((len(numbers), *self.output(0)[name].shape[1:]), self.output(0)[name].dtype)
        for each in np.unique(run).tolist():
            mine = run == each
            found[mine] = self.output(each)[name][numbers[mine] - self.bases[each]]
        return found


def find_twins(job: GroupJob) -> None:
    """Make the output of a part: `document` and `twin` (int64, numbers), `rank` (uint64) of the twin, by document.

    `begin` (int64) says where the documents of each run begin, shape (runs + 1,).
    """
    arrays.make_once(job.path, job.digest, lambda: _found(job))


def _found(job: GroupJob) -> Iterator[tuple[str, arrays.Array]]:
    documents = Documents(job.runs)
    keys, numbers = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for place, run in enumerate(job.runs):
        output = documents.output(place)
        begin, end = output[f"begin_{job.kind}"][job.part : job.part + 2].tolist()
        keys.append(output[f"key_{job.kind}"][begin:end])
        numbers.append(output[f"row_{job.kind}"][begin:end] + np.int64(run.base))
    key = np.concatenate(keys)
    some = repeated(key)
    key, number = key[some], np.concatenate(numbers)[some]
    low = np.zeros(len(key), np.uint64)
    if job.reason == TEXT and len(key):  # the other half of the 128 bits
        low = np.ascontiguousarray(documents.of("keys", number)[:, 8:TEXT_BYTES]).view("<u8").reshape(-1)
    rank = documents.of("rank", number)
    tested = job.verify is not None and job.reason == NEAR
    order = np.lexsort((number, rank, low, key) if tested else (low, key))  # nearly in order already, but for ranks
    key, low, number, rank = key[order], low[order], number[order], rank[order]
    begins = np.ones(len(key), bool)
    begins[1:] = (key[1:] != key[:-1]) | (low[1:] != low[:-1])
    head = _best(begins, rank, number)
    member = np.flatnonzero(head != np.arange(len(key)))
    twin = head[member]
    if tested and job.verify is not None:
        member, twin = _alike(member, twin, documents.of("keys", number)[:, TEXT_BYTES:], job.verify)
    order = np.argsort(number[member], kind="stable")
    member, twin = member[order], twin[order]
    yield "document", number[member]
    yield "twin", number[twin]
    yield "rank", rank[twin]
    yield "begin", np.append(np.searchsorted(number[member], documents.bases), len(member))


def _best(begins: NDArray[np.bool_], rank: NDArray[np.uint64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place that of the best-ranked of its group, of several with one rank the lowest number.

    Args:
        begins: whether a group begins at a place.
        rank, number: of the document there.
    """
    if not len(begins):
        return np.zeros(0, np.int64)
    first, group = np.flatnonzero(begins), np.cumsum(begins) - 1
    among = rank == np.minimum.reduceat(rank, first)[group]
    lowest = np.minimum.reduceat(np.where(among, number, np.iinfo(np.int64).max), first)
    best = np.flatnonzero(among & (number == lowest[group]))  # one in each group, in their order
    places: NDArray[np.int64] = best[group]
    return places


def repeated(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places of keys that may stand more than once, equal ones nearly side by side: all that do, and a few that do not.

    The place goes into a key's lowest bits, so that one sort of plain numbers, which numpy does several times as fast
    as an `argsort`, brings equal keys together and still knows where they were.
    """
    bits = np.uint64(max(len(keys), 2).bit_length())
    low = (np.uint64(1) << bits) - np.uint64(1)
    packed = (keys & ~low) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    same = (packed[1:] >> bits) == (packed[:-1] >> bits)
    mask = np.zeros(len(keys), bool)
    mask[1:] |= same
    mask[:-1] |= same
    places: NDArray[np.int64] = (packed[mask] & low).astype(np.int64)
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
