"""Compare published rows with the samples that a law puts there, one multiset for each unit (a step, or a folder).

Both sides are hashed row by row (xxh3-64) and never held as lists of tokens. The published side is the row without its
padding; the data side is the stored sample in the `Form` that the publication was found to have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ettin_data.loader_edits import Form
from ettin_data.order.catalog import Catalog, Explanation, Piece, Unit
from ettin_data.order.data import Data, hash_rows
from ettin_data.order.law import OrderLaw, permutation
from ettin_data.order.published import iter_rows

KEEP = 256
"""Rows of each side that a job reports in detail; all are counted."""


class Permutations:
    """Permutations of a law by epoch, computed once, kept in files that all workers map."""

    def __init__(self, folder: Path, ready: dict[int, str] | None = None) -> None:
        self.folder, self._ready = folder, dict(ready or {})

    def path(self, law: OrderLaw, epoch: int) -> str:
        """The `.npy` file of that epoch's permutation."""
        key = law.seed + epoch
        if key not in self._ready:
            path = self.folder / f"permutation-{law.samples}-{key}.npy"
            np.save(path, permutation(law.samples, key))
            self._ready[key] = str(path)
        return self._ready[key]

    def starts(self, explanation: Explanation) -> str | None:
        """The file of an explanation's shard order, None when it is the local one."""
        if explanation.starts is None:
            return None
        path = self.folder / "starts.npy"
        np.save(path, np.array(explanation.starts, np.int64))
        return str(path)


@dataclass(frozen=True)
class Job:
    """Units to compare in one go; their rows lie in the same files. Small: what is large is a file that workers map.

    Attributes:
        paths: file number -> path, of the files concerned.
        pieces: of each unit, where its rows are.
        permutations: epoch -> file of its permutation.
        starts: file of the shard order (`Explanation.starts`), or None.
    """

    root: str
    paths: dict[int, str]
    pieces: tuple[tuple[Piece, ...], ...]
    units: tuple[Unit, ...]
    permutations: dict[int, str]
    starts: str | None
    data: Data
    form: Form

    @property
    def rows(self) -> int:
        return sum(count for pieces in self.pieces for _, _, count in pieces)


@dataclass(frozen=True)
class UnitResult:
    """How a unit compares.

    Attributes:
        published: rows on the published side; law: samples that the law puts there; equal: in both.
        unread: samples of the law that are not in the local data, so that as many rows cannot be judged.
        in_order: rows of the unit stand in the law's order (only for a unit that is whole and equal).
        rows: (file, row, hash) of published rows without a partner; at most `KEEP` for each job.
        positions: positions of samples without a partner; at most `KEEP` for each job.
    """

    unit: Unit
    published: int
    law: int
    equal: int
    unread: int
    in_order: bool
    rows: tuple[tuple[int, int, int], ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def missing(self) -> int:
        """Samples of the law that were looked for and not found."""
        return self.law - self.unread - self.equal

    @property
    def surplus(self) -> int:
        """Published rows without a partner, as far as samples that cannot be read do not excuse them."""
        return max(0, self.published - self.equal - self.unread)

    @property
    def agrees(self) -> bool:
        return self.missing == 0 and self.surplus == 0


def jobs(
    catalog: Catalog, units: Sequence[Unit], explanation: Explanation, data: Data, form: Form, store: Permutations
) -> list[Job]:
    """Group units into jobs so that each file is read once: units that share a file share a job."""
    groups: list[tuple[set[int], list[Unit]]] = []
    for unit in sorted(units, key=lambda u: catalog.pieces[u.first][0]):
        files = {piece[0] for entry in range(unit.first, unit.last + 1) for piece in catalog.pieces[entry]}
        if groups and groups[-1][0] & files:
            groups[-1][0].update(files)
            groups[-1][1].append(unit)
        else:
            groups.append((files, [unit]))
    permutations = {unit.epoch: store.path(explanation.law, unit.epoch) for unit in units}
    starts = store.starts(explanation)
    return [
        Job(
            catalog.root,
            {number: catalog.files[number].path for number in files},
            tuple(tuple(p for e in range(u.first, u.last + 1) for p in catalog.pieces[e]) for u in members),
            tuple(members),
            {unit.epoch: permutations[unit.epoch] for unit in members},
            starts,
            data,
            form,
        )
        for files, members in groups
    ]


def compare(job: Job) -> list[UnitResult]:
    """Compare every unit of a job; the function that runs in a worker."""
    hashes, files, rows = _published_hashes(job)
    kept, results = KEEP, []
    for unit, positions, wanted in zip(job.units, *_law_side(job), strict=True):
        number = len(results)
        left, right = _unmatched(hashes[number], wanted)
        equal = len(wanted) - int(right.sum())
        details = [(int(files[number][i]), int(rows[number][i]), int(hashes[number][i])) for i in _first(left, kept)]
        missing = positions[positions >= 0][_first(right, kept)]
        unread = int((positions < 0).sum())
        in_order = unread == 0 and np.array_equal(hashes[number], wanted)
        results.append(
            UnitResult(
                unit, len(left), len(positions), equal, unread, in_order, tuple(details), tuple(missing.tolist())
            )
        )
        kept = max(0, kept - max(len(details), len(missing)))
    return results


def _first(mask: np.ndarray, count: int) -> np.ndarray:
    return np.flatnonzero(mask)[:count]


def _published_hashes(job: Job) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """For each unit the hash, file and row of its published rows."""
    spans: dict[int, list[tuple[int, int, int, int]]] = {}  # file -> (first row, end row, unit, place in the unit)
    sizes = []
    for number, pieces in enumerate(job.pieces):
        place = 0
        for file, first, count in pieces:
            spans.setdefault(file, []).append((first, first + count, number, place))
            place += count
        sizes.append(place)
    hashes = [np.zeros(size, np.uint64) for size in sizes]
    files = [np.zeros(size, np.int32) for size in sizes]
    rows = [np.zeros(size, np.int64) for size in sizes]
    for file, wanted in spans.items():
        wanted.sort()
        begin, end = wanted[0][0], max(span[1] for span in wanted)
        for batch in iter_rows(job.root, job.paths[file], job.data.dtype, begin, end):
            found = hash_rows(batch.values, batch.starts, batch.ends)
            for first, stop, number, place in wanted:
                a, b = max(first, batch.first), min(stop, batch.first + len(batch))
                if a < b:
                    here = slice(place + a - first, place + b - first)
                    hashes[number][here] = found[a - batch.first : b - batch.first]
                    files[number][here] = file
                    rows[number][here] = np.arange(a, b)
    return hashes, files, rows


def _law_side(job: Job) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each unit the local positions in the law's order (-1: cannot be read) and the hashes of those that can."""
    samples = len(job.data)
    starts = None if job.starts is None else np.load(job.starts)
    orders = {epoch: np.load(path, mmap_mode="r") for epoch, path in job.permutations.items()}
    positions = [
        local_positions(orders[unit.epoch][unit.indices(samples)].astype(np.int64), starts, job.data)
        for unit in job.units
    ]
    together = np.concatenate(positions)
    known = together >= 0
    hashes = np.zeros(len(together), np.uint64)
    hashes[known] = job.data.hashes(together[known], job.form)
    bounds = np.cumsum([len(p) for p in positions])[:-1]
    wanted = [h[p >= 0] for h, p in zip(np.split(hashes, bounds), positions, strict=True)]
    return positions, wanted


def local_positions(positions: np.ndarray, starts: np.ndarray | None, data: Data) -> np.ndarray:
    """Positions in the local index for positions in the permutation's shard order; -1 where unknown or not here."""
    if starts is not None:
        known = np.flatnonzero(starts >= 0)
        known = known[np.argsort(starts[known])]
        at = np.searchsorted(starts[known], positions, side="right") - 1
        shard = known[np.maximum(at, 0)]
        row = positions - starts[shard]
        sizes = np.diff(data.reader.starts)
        positions = np.where((at >= 0) & (row < sizes[shard]), data.reader.starts[shard] + row, -1)
    here = positions >= 0
    here[here] = data.present(positions[here])
    return np.where(here, positions, -1)


def _unmatched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the elements of each side that have no partner on the other, counting repetitions."""
    if np.array_equal(np.sort(a), np.sort(b)):
        return np.zeros(len(a), bool), np.zeros(len(b), bool)
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")
    values, sides = both[order], (order >= len(a)).astype(np.int64)
    run = np.cumsum(np.concatenate([[0], values[1:] != values[:-1]]))
    in_a, in_b = (np.bincount(run, weights=side, minlength=run[-1] + 1) for side in (1 - sides, sides))
    pairs = np.minimum(in_a, in_b)
    first_of_run = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    # a stable sort puts the a side of a run before the b side, each in its own order
    place = np.arange(len(values)) - first_of_run[run]
    place = np.where(sides == 1, place - in_a[run], place)
    alone = np.empty(len(both), bool)
    alone[order] = place >= pairs[run]
    return alone[: len(a)], alone[len(a) :]
