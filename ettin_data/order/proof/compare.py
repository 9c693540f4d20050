"""Compare published rows with the samples that a law puts there, one multiset for each unit (a step, or a folder).

Both sides are hashed row by row (xxh3-64) and never held as lists of tokens: the published row without its padding, the
stored sample in the `Form` that the publication was found to have. What is left over on both sides of a unit is
compared again in the canonical form, which forgives just the edits that a loader makes; such rows are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.data import Data, fingerprint, hash_rows
from ettin_data.order.law import OrderLaw, permutation
from ettin_data.order.loader_edits import Form
from ettin_data.order.proof.catalog import Catalog, Piece
from ettin_data.order.proof.explanation import Explanation, Unit
from ettin_data.order.published import iter_rows, read_rows

KEEP, KEEP_A_UNIT = 256, 8
"""Rows of each side that a job, and at least a unit, reports in detail; all are counted."""


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
        pieces: of each unit, where its rows are.
        permutations: epoch -> file of its permutation.
        max_length: tokens at which the loader cut rows, None when it cut none.
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
    max_length: int | None

    @property
    def rows(self) -> int:
        return sum(count for pieces in self.pieces for _, _, count in pieces)


@dataclass(frozen=True)
class UnitResult:
    """How a unit compares.

    Attributes:
        published: rows on the published side; law: samples that the law puts there.
        equal: in both, token for token. edited: further pairs that differ by a loader's edits only.
        unread: samples of the law that are not in the local data, so that as many rows cannot be judged.
        row_order: how the rows stand, for a unit that is whole and equal (`row_order`); "" otherwise.
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


def jobs(
    catalog: Catalog,
    units: Sequence[Unit],
    explanation: Explanation,
    data: Data,
    store: Permutations,
    form: Form,
    max_length: int | None,
) -> list[CompareJob]:
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
        CompareJob(
            root=catalog.root,
            paths={number: catalog.files[number].path for number in files},
            pieces=tuple(tuple(p for e in range(u.first, u.last + 1) for p in catalog.pieces[e]) for u in members),
            units=tuple(members),
            permutations={unit.epoch: permutations[unit.epoch] for unit in members},
            starts=starts,
            data=data,
            form=form,
            max_length=max_length,
        )
        for files, members in groups
    ]


def compare(job: CompareJob) -> list[UnitResult]:
    """Compare every unit of a job; the function that runs in a worker."""
    sides = _published_side(job)
    laws = _law_side(job)
    rests = []
    for side, law in zip(sides, laws, strict=True):
        surplus, missing = unmatched(side.hashes, law.hashes)
        rests.append((np.flatnonzero(surplus), np.flatnonzero(missing)))
    edited = _pair_edited(job, sides, laws, rests)
    kept, results = KEEP, list[UnitResult]()
    for unit, side, law, (rows, samples), pairs in zip(job.units, sides, laws, rests, edited, strict=True):
        rows, samples = np.setdiff1d(rows, pairs[0]), np.setdiff1d(samples, pairs[1])
        shown = pairs[0][: max(kept, KEEP_A_UNIT)], pairs[1][: max(kept, KEEP_A_UNIT)]
        limit = max(kept, KEEP_A_UNIT)
        results.append(
            UnitResult(
                unit=unit,
                published=len(side.hashes),
                law=len(law.hashes) + law.unread,
                equal=len(law.hashes) - len(samples) - len(pairs[1]),
                edited=len(pairs[0]),
                unread=law.unread,
                row_order=row_order(side, law) if len(rows) == len(samples) == law.unread == 0 else "",
                rows=tuple(zip(side.files[rows[:limit]].tolist(), side.rows[rows[:limit]].tolist(), strict=True)),
                positions=tuple(law.positions[samples[:limit]].tolist()),
                pairs=tuple(
                    zip(
                        side.files[shown[0]].tolist(),
                        side.rows[shown[0]].tolist(),
                        law.positions[shown[1]].tolist(),
                        strict=True,
                    )
                ),
            )
        )
        kept -= max(len(results[-1].rows), len(results[-1].positions), len(results[-1].pairs))
    return results


@dataclass(frozen=True)
class _Side:
    """Rows of a unit: their hashes and where they are."""

    hashes: NDArray[np.uint64]
    files: NDArray[np.int32]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Law:
    """Samples of a unit that can be read, in the law's order, and how many cannot."""

    hashes: NDArray[np.uint64]
    positions: NDArray[np.int64]
    unread: int


def _published_side(job: CompareJob) -> list[_Side]:
    spans: dict[int, list[tuple[int, int, int, int]]] = {}  # file -> (first row, end row, unit, place in the unit)
    sizes = []
    for number, pieces in enumerate(job.pieces):
        place = 0
        for file, first, count in pieces:
            spans.setdefault(file, []).append((first, first + count, number, place))
            place += count
        sizes.append(place)
    words = job.data.loader.vocabulary
    sides = [_Side(np.zeros(n, np.uint64), np.zeros(n, np.int32), np.zeros(n, np.int64)) for n in sizes]
    for file, wanted in spans.items():
        for begin, end in _merged(wanted):
            for batch in iter_rows(job.root, job.paths[file], job.data.dtype, words.pad, begin, end):
                found = hash_rows(batch.values, batch.starts, batch.ends)
                for first, stop, number, place in wanted:
                    a, b = max(first, batch.first), min(stop, batch.first + len(batch))
                    if a < b:
                        here = slice(place + a - first, place + b - first)
                        sides[number].hashes[here] = found[a - batch.first : b - batch.first]
                        sides[number].files[here] = file
                        sides[number].rows[here] = np.arange(a, b)
    return sides


def _merged(spans: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    """Row ranges that cover the spans, adjacent ones joined."""
    merged: list[tuple[int, int]] = []
    for begin, end, *_ in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


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
    hashes[known] = job.data.hashes(together[known], job.form)
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
    for world in range(2, count // 2 + 1):
        if count % world == 0 and np.array_equal(side.hashes, law.hashes.reshape(-1, world).T.ravel()):
            return f"rank by rank, for {world} ranks"
    return "sorted" if np.array_equal(side.hashes, law.hashes[np.argsort(law.positions, kind="stable")]) else "other"


def _pair_edited(
    job: CompareJob, sides: list[_Side], laws: list[_Law], rests: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pair rows and samples that were left over in a unit, where a loader's edits alone make the difference.

    Returns for each unit the numbers of its rows and of their samples, in the same order.
    """
    words = job.data.loader.vocabulary
    prints: dict[tuple[int, int], int] = {}
    wanted: dict[int, list[int]] = {}
    for side, (rows, samples) in zip(sides, rests, strict=True):
        if len(rows) and len(samples):
            for file, row in zip(side.files[rows].tolist(), side.rows[rows].tolist(), strict=True):
                wanted.setdefault(file, []).append(row)
    for file, numbers in wanted.items():
        for row, tokens in read_rows(job.root, job.paths[file], np.array(numbers), job.data.dtype, words.pad):
            prints[file, row] = fingerprint(tokens, words, job.max_length)
    pairs = []
    for side, law, (rows, samples) in zip(sides, laws, rests, strict=True):
        if len(rows) and len(samples):
            places = zip(side.files[rows].tolist(), side.rows[rows].tolist(), strict=True)
            left = np.array([prints[place] for place in places], np.uint64)
            right = np.zeros(len(samples), np.uint64)
            for i, tokens in job.data.tokens(law.positions[samples]):
                right[i] = fingerprint(tokens, words, job.max_length)
            alone_left, alone_right = unmatched(left, right)
            left, right = left[~alone_left], right[~alone_right]
            rows = rows[~alone_left][np.argsort(left, kind="stable")]
            samples = samples[~alone_right][np.argsort(right, kind="stable")]
        else:
            rows, samples = rows[:0], samples[:0]
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
