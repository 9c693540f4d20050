"""Compare published rows with the samples that a law puts there, one multiset for each unit (a step, or a folder).

Both sides are hashed row by row (xxh3-64) and never held as lists of tokens: the published row without its padding, the
stored sample in the form that the publication was found to have. What is left over on both sides of a unit is compared
again in the canonical form, which forgives just the edits that a loader makes; such rows are counted apart. A row
without tokens equals nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.data import Data, fingerprint, hash_rows
from ettin_data.order.law import OrderLaw, permutation
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.chance import Forms, arrangements
from ettin_data.order.proof.explanation import Explanation, Reading, Unit
from ettin_data.order.published import iter_rows, read_rows

KEEP, KEEP_A_UNIT = 256, 8
"""Rows of each side that a job, and at least a unit, reports in detail; all are counted."""

_MOST_RANKS = 4096


class Permutations:
    """Permutations of a law by epoch, computed once, kept in files that all workers map."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ready: dict[int, str] = {}

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
        unread: samples of the law that are not in the local data, so that as many rows cannot be judged.
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

    @property
    def missing(self) -> int:
        """Samples of the law that were looked for and not found."""
        return self.law - self.unread - self.equal - self.edited

    @property
    def surplus(self) -> int:
        """Published rows without a partner, less those whose partner may be a sample that cannot be read."""
        return max(0, self.published - self.equal - self.edited - self.unread)

    @property
    def agrees(self) -> bool:
        return self.missing == 0 and self.surplus == 0


@dataclass(frozen=True)
class Compared:
    """Results of some units, and the forms of the samples and of the rows in them."""

    results: list[UnitResult]
    samples: Forms
    rows: Forms

    @classmethod
    def together(cls, parts: Sequence[Compared]) -> Compared:
        results = sorted((result for part in parts for result in part.results), key=lambda r: r.unit.first)
        samples, rows = Forms.together(part.samples for part in parts), Forms.together(part.rows for part in parts)
        return cls(results, samples, rows)

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


def compare(job: CompareJob) -> Compared:
    """Compare every unit of a job; the function that runs in a worker."""
    sides = _published_side(job)
    laws = _law_side(job)
    rests = []
    for side, law in zip(sides, laws, strict=True):
        surplus, missing = unmatched(side.hashes, law.hashes)
        rests.append((np.flatnonzero(surplus), np.flatnonzero(missing)))
    edited = _pair_edited(job, sides, laws, rests)
    kept, results = KEEP, list[UnitResult]()
    for unit, side, law, (left, right), pairs in zip(job.units, sides, laws, rests, edited, strict=True):
        rows, samples = np.setdiff1d(left, pairs[0]), np.setdiff1d(right, pairs[1])
        limit = max(kept, KEEP_A_UNIT)
        order = row_order(side, law) if len(rows) == len(samples) == law.unread == 0 else ""
        results.append(
            UnitResult(
                unit=unit,
                published=len(side.hashes),
                law=len(law.hashes) + law.unread,
                equal=len(law.hashes) - len(samples) - len(pairs[1]),
                edited=len(pairs[0]),
                unread=law.unread,
                row_order=order,
                arrangements=0.0 if order == "law" or order.startswith("rank") else arrangements(law.hashes),
                rows=side.places(rows[:limit]),
                positions=tuple(law.positions[samples[:limit]].tolist()),
                pairs=tuple(
                    (*place, position)
                    for place, position in zip(
                        side.places(pairs[0][:limit]), law.positions[pairs[1][:limit]].tolist(), strict=True
                    )
                ),
            )
        )
        kept -= max(len(results[-1].rows), len(results[-1].positions), len(results[-1].pairs))
    first = min((unit.epoch for unit in job.units), default=0)
    known = [law.hashes for unit, law in zip(job.units, laws, strict=True) if unit.epoch == first]
    forms = Forms.of(np.concatenate([np.zeros(0, np.uint64), *known]))
    shown = Forms.of(np.concatenate([np.zeros(0, np.uint64), *(side.hashes[side.text] for side in sides)]))
    return Compared(results, forms, shown)


@dataclass(frozen=True)
class _Side:
    """Rows of a unit: hashes, which have any text, where they are. A row without text has a hash that is its own."""

    hashes: NDArray[np.uint64]
    text: NDArray[np.bool_]
    files: NDArray[np.int32]
    rows: NDArray[np.int64]

    def places(self, numbers: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
        """(file, row) of some of them."""
        return tuple(zip(self.files[numbers].tolist(), self.rows[numbers].tolist(), strict=True))


@dataclass(frozen=True)
class _Law:
    """Samples of a unit that can be read, in the law's order, and how many cannot."""

    hashes: NDArray[np.uint64]
    positions: NDArray[np.int64]
    unread: int


def _published_side(job: CompareJob) -> list[_Side]:
    words, total = job.data.loader.vocabulary, job.rows
    hashes, text = np.zeros(total, np.uint64), np.zeros(total, bool)
    files, numbers = np.zeros(total, np.int32), np.zeros(total, np.int64)
    for file, path in sorted(job.paths.items()):
        runs = job.runs[job.runs[:, 0] == file]
        runs = runs[np.argsort(runs[:, 1])]
        firsts, ends = runs[:, 1], runs[:, 1] + runs[:, 2]
        for begin, end in _merged(firsts, ends):
            for batch in iter_rows(job.root, path, job.data.dtype, words.pad, begin, end):
                found = hash_rows(batch.values, batch.starts, batch.ends)
                full = batch.ends > batch.starts
                empty = np.flatnonzero(~full)
                found[empty] = (batch.first + empty).astype(np.uint64) + (np.uint64(file) << np.uint64(40))
                here = slice(
                    int(np.searchsorted(ends, batch.first, "right")),
                    int(np.searchsorted(firsts, batch.first + len(batch))),
                )
                low = np.maximum(firsts[here], batch.first)
                high = np.minimum(ends[here], batch.first + len(batch))
                # The rows of the runs that this batch holds, and the places that they take, as one flat list each.
                counts = high - low
                row = np.arange(counts.sum()) + np.repeat(low - np.cumsum(counts) + counts, counts)
                place = row + np.repeat(runs[here, 3] - firsts[here], counts)
                hashes[place], text[place] = found[row - batch.first], full[row - batch.first]
                files[place], numbers[place] = file, row
    bounds = np.cumsum(job.sizes)[:-1]
    return [_Side(*each) for each in zip(*(np.split(a, bounds) for a in (hashes, text, files, numbers)), strict=True)]


def _merged(firsts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Row ranges that cover sorted runs, adjacent ones joined."""
    new = np.flatnonzero(np.append(True, firsts[1:] > ends[:-1]))
    return list(zip(firsts[new].tolist(), ends[np.append(new[1:] - 1, len(ends) - 1)].tolist(), strict=True))


def _law_side(job: CompareJob) -> list[_Law]:
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
    hashes[known] = job.data.hashes(together[known], job.reading.form)
    bounds = np.cumsum([len(p) for p in positions])[:-1]
    return [
        _Law(h[p >= 0], p[p >= 0], int((p < 0).sum())) for h, p in zip(np.split(hashes, bounds), positions, strict=True)
    ]


def row_order(side: _Side, law: _Law) -> str:
    """`law`, `rank by rank, for R ranks`, `sorted` by place in the data, or `other`, of a unit that is equal."""
    if np.array_equal(side.hashes, law.hashes):
        return "law"
    count = len(law.hashes)
    if len(side.hashes) != count:
        return "other"
    for world in range(2, min(count // 2, _MOST_RANKS) + 1):
        if count % world or side.hashes[1] != law.hashes[world]:
            continue
        if np.array_equal(side.hashes, law.hashes.reshape(-1, world).T.ravel()):
            return f"rank by rank, for {world} ranks"
    return "sorted" if np.array_equal(side.hashes, law.hashes[np.argsort(law.positions, kind="stable")]) else "other"


def _pair_edited(
    job: CompareJob, sides: list[_Side], laws: list[_Law], rests: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pair rows and samples that were left over in a unit, where a loader's edits alone make the difference.

    Returns for each unit the numbers of its rows and of their samples, in the same order.
    """
    words, cut = job.data.loader.vocabulary, job.reading.cut
    prints: dict[tuple[int, int], int] = {}
    wanted: dict[int, list[int]] = {}
    for side, (rows, samples) in zip(sides, rests, strict=True):
        if len(rows) and len(samples):
            for file, row in side.places(rows):
                wanted.setdefault(file, []).append(row)
    for file, numbers in wanted.items():
        for row, tokens in read_rows(job.root, job.paths[file], np.array(numbers), job.data.dtype, words.pad):
            if value := fingerprint(tokens, words, cut):
                prints[file, row] = value
    pairs = []
    for side, law, (rows, samples) in zip(sides, laws, rests, strict=True):
        places = side.places(rows) if len(samples) else ()
        rows = rows[[place in prints for place in places]] if places else rows[:0]
        if len(rows):
            left = np.array([prints[place] for place in places if place in prints], np.uint64)
            right = np.zeros(len(samples), np.uint64)
            for i, tokens in job.data.tokens(law.positions[samples]):
                right[i] = fingerprint(tokens, words, cut)
            alone_left, alone_right = unmatched(left, right)
            left, right = left[~alone_left], right[~alone_right]
            rows = rows[~alone_left][np.argsort(left, kind="stable")]
            samples = samples[~alone_right][np.argsort(right, kind="stable")]
        else:
            samples = samples[:0]
        pairs.append((rows, samples))
    return pairs


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
    here = positions >= 0
    here[here] = data.present(positions[here])
    return np.where(here, positions, -1)


def unmatched(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the elements of each side that have no partner on the other.

    Each element has at most one partner: of a value that is three times in `a` and twice in `b`, the last one in `a`
    is alone.
    """
    if np.array_equal(np.sort(a), np.sort(b)):
        return np.zeros(len(a), bool), np.zeros(len(b), bool)
    # Sort both sides together: equal values become runs. In a run of n from `a` and m from `b`, the first min(n, m) of
    # each side are partners.
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")
    values, sides = both[order], (order >= len(a)).astype(np.int64)  # side 0 is `a`, side 1 is `b`
    run = np.cumsum(np.concatenate([[0], values[1:] != values[:-1]]))
    in_a, in_b = (np.bincount(run, weights=side, minlength=run[-1] + 1) for side in (1 - sides, sides))
    pairs = np.minimum(in_a, in_b)
    first_of_run = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    # The sort is stable: within a run `a` comes before `b`, each in its own order. An element's place on its own side
    # is its place in the run, less, for `b`, the number from `a`.
    place = np.arange(len(values)) - first_of_run[run]
    place = np.where(sides == 1, place - in_a[run], place)
    alone = np.empty(len(both), bool)
    alone[order] = place >= pairs[run]
    return alone[: len(a)], alone[len(a) :]
