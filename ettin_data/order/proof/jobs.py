"""What a comparison is made of: jobs for workers, the result of each unit, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.data import Data
from ettin_data.order.law import OrderLaw
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.chance import Forms
from ettin_data.order.proof.explanation import Explanation, Reading, Unit
from ettin_data.order.published import Damage, Rows, iter_rows

KEEP, KEEP_A_UNIT = 256, 8
"""Rows of each side that a job, and at least a unit, reports in detail; all are counted."""


class Permutations:
    """Permutations of a law by epoch, computed once, kept in files that all workers map."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ready: dict[tuple[str, int, int, int], str] = {}

    def path(self, law: OrderLaw, epoch: int) -> str:
        """The `.npy` file of that epoch's permutation."""
        key = law.rule, law.samples, law.seed, epoch
        if key not in self._ready:
            path = self.folder / f"permutation-{len(self._ready)}.npy"
            np.save(path, replace(law, epoch=epoch).permutation())
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
class CompareJob:
    """Units to compare in one go; their rows lie in the same files. Small: what is large is a file that workers map.

    Attributes:
        paths: file number -> path, of the files concerned.
        runs: (file, first row, rows, place) of each run of rows, int64; `place` numbers the rows of all units through.
        sizes: rows of each unit.
        permutations: epoch -> file of its permutation.
        starts: file of the shard order (`Explanation.starts`), or None.
    """

    root: str
    paths: dict[int, str]
    runs: NDArray[np.int64]
    sizes: tuple[int, ...]
    units: tuple[Unit, ...]
    permutations: dict[int, str]
    starts: str | None
    data: Data
    reading: Reading

    @property
    def rows(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True)
class UnitResult:
    """How a unit compares.

    Attributes:
        published: rows on the published side; law: samples that the law puts there.
        equal: in both, token for token. edited: further pairs that differ by a loader's edits only.
        masked: further pairs that differ by masking only. changes: of all pairs that were compared so, the tokens,
            those that became the mask, and those that became others; and the pairs without evidence (`Pairs.weak`).
        unread: samples of the law that are not in the local data, so that as many rows cannot be judged.
        broken: rows, beside those of `published`, that cannot be read, so that as many samples cannot be judged.
        row_order: how the rows stand, for a unit that is whole and equal (`row_order`); "" otherwise.
        arrangements: what its samples add to the sum of that name (`chance.py`), 0 when they stand in the law's order.
        rows: (file, row) of published rows without a partner. positions: of samples without a partner.
        pairs: (file, row, position) of edited pairs. All three are cut to `KEEP` for each job, but never below
            `KEEP_A_UNIT` for a unit.
    """

    unit: Unit
    published: int
    law: int
    equal: int
    edited: int
    unread: int
    row_order: str
    arrangements: float = 0.0
    rows: tuple[tuple[int, int], ...] = ()
    positions: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int, int], ...] = ()
    masked: int = 0
    changes: tuple[int, int, int, int] = (0, 0, 0, 0)
    broken: int = 0

    @property
    def matched(self) -> int:
        """Pairs of a row and a sample."""
        return self.equal + self.edited + self.masked

    @property
    def missing(self) -> int:
        """Samples of the law that were looked for and not found."""
        return max(0, self.law - self.unread - self.matched - self.broken)

    @property
    def surplus(self) -> int:
        """Published rows without a partner, less those whose partner may be a sample that cannot be read."""
        return max(0, self.published - self.matched - self.unread)

    @property
    def agrees(self) -> bool:
        return self.missing == 0 and self.surplus == 0


@dataclass(frozen=True)
class Compared:
    """Results of some units, the forms of the samples and of the rows in them, and what of both could not be read.

    `shards`: damaged ones of the data (`Data.broken`).
    """

    results: list[UnitResult]
    samples: Forms
    rows: Forms
    damage: tuple[Damage, ...] = ()
    shards: dict[int, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def together(cls, parts: Sequence[Compared]) -> Compared:
        results = sorted((result for part in parts for result in part.results), key=lambda r: r.unit.first)
        samples, rows = Forms.together(part.samples for part in parts), Forms.together(part.rows for part in parts)
        damage = tuple(sorted({each for part in parts for each in part.damage}, key=lambda d: (d.path, d.first)))
        shards: dict[int, tuple[int, str]] = {}
        for number, found in (pair for part in parts for pair in part.shards.items()):
            shards[number] = min(shards.get(number, found), found)
        return cls(results, samples, rows, damage, shards)

    @property
    def wrong(self) -> int:
        """Rows that do not agree."""
        return sum(max(result.surplus, result.missing) for result in self.results)


def jobs(
    catalog: Catalog,
    units: Sequence[Unit],
    explanation: Explanation,
    data: Data,
    store: Permutations,
    reading: Reading,
) -> list[CompareJob]:
    """Group units into jobs so that each file is read once: units that share a file share a job."""
    groups: list[tuple[set[int], list[Unit]]] = []
    first_file = catalog.first_file()
    for unit in sorted(units, key=lambda u: int(first_file[u.first])):
        files = set(np.unique(catalog.pieces(unit.first, unit.last)[:, 0]).tolist())
        if groups and groups[-1][0] & files:
            groups[-1][0].update(files)
            groups[-1][1].append(unit)
        else:
            groups.append((files, [unit]))
    permutations = {epoch: store.path(explanation.law, epoch) for epoch in {unit.epoch for unit in units}}
    starts = store.starts(explanation)
    found = []
    for files, members in groups:
        pieces = [catalog.pieces(unit.first, unit.last) for unit in members]
        runs = np.concatenate(pieces)
        places = np.cumsum(runs[:, 2]) - runs[:, 2]
        found.append(
            CompareJob(
                root=catalog.root,
                paths={number: catalog.files[number].path for number in files},
                runs=np.column_stack([runs, places]),
                sizes=tuple(int(each[:, 2].sum()) for each in pieces),
                units=tuple(members),
                permutations={unit.epoch: permutations[unit.epoch] for unit in members},
                starts=starts,
                data=data,
                reading=reading,
            )
        )
    return found


def job_rows(job: CompareJob, damage: list[Damage]) -> Iterator[tuple[Rows, int, NDArray[np.int64], NDArray[np.int64]]]:
    """The published rows of a job as they lie in the files.

    Yields some rows of a file, its number, and which of them are meant: their numbers among these rows, and the places
    that they take among the rows of all units (`CompareJob.runs`); both int64 of the same shape. What cannot be read is
    put on the list `damage`.
    """
    pad = job.data.loader.vocabulary.pad
    for file, path in sorted(job.paths.items()):
        runs = job.runs[job.runs[:, 0] == file]
        runs = runs[np.argsort(runs[:, 1])]
        firsts, ends = runs[:, 1], runs[:, 1] + runs[:, 2]
        for begin, end in merged(firsts, ends):
            for batch in iter_rows(job.root, path, job.data.dtype, pad, begin, end, damage):
                stop = batch.first + len(batch)
                here = slice(int(np.searchsorted(ends, batch.first, "right")), int(np.searchsorted(firsts, stop)))
                low, high = np.maximum(firsts[here], batch.first), np.minimum(ends[here], stop)
                # The rows of the runs that this batch holds, and the places that they take, as one flat list each.
                counts = high - low
                row = np.arange(counts.sum()) + np.repeat(low - np.cumsum(counts) + counts, counts)
                yield batch, file, row - batch.first, row + np.repeat(runs[here, 3] - firsts[here], counts)


def merged(firsts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Row ranges that cover sorted runs, adjacent ones joined."""
    new = np.flatnonzero(np.append(True, firsts[1:] > ends[:-1]))
    return list(zip(firsts[new].tolist(), ends[np.append(new[1:] - 1, len(ends) - 1)].tolist(), strict=True))


def law_positions(job: CompareJob) -> list[NDArray[np.int64]]:
    """The local positions that the law has in each unit, in its order; -1 where unknown or not here."""
    starts = None if job.starts is None else np.load(job.starts)
    orders = {epoch: np.load(path, mmap_mode="r") for epoch, path in job.permutations.items()}
    return [
        local_positions(orders[u.epoch][u.indices(len(orders[u.epoch]))].astype(np.int64), starts, job.data)
        for u in job.units
    ]


def local_positions(positions: NDArray[np.int64], starts: NDArray[np.int64] | None, data: Data) -> NDArray[np.int64]:
    """Positions in the local index for positions in the permutation's shard order; -1 where unknown or not here."""
    if starts is not None:
        known = np.flatnonzero(starts >= 0)
        known = known[np.argsort(starts[known])]
        at = np.searchsorted(starts[known], positions, side="right") - 1
        shard = known[np.maximum(at, 0)]
        row = positions - starts[shard]
        sizes = np.diff(data.reader.starts)
        positions = np.where((at >= 0) & (row < sizes[shard]), data.reader.starts[shard] + row, -1)
    here = (positions >= 0) & (positions < len(data))
    here[here] = data.present(positions[here])
    return np.where(here, positions, -1)
