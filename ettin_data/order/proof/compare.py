"""Compare published rows with the samples that a law puts there, one multiset for each unit (a step, or a folder).

Both sides are hashed row by row (xxh3-64) and never held as lists of tokens: the published row without its padding, the
stored sample in the form that the publication was found to have. What is left over on both sides of a unit is compared
again in the canonical form, which forgives just the edits that a loader makes; such rows are counted apart. A row
without tokens equals nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.data import fingerprint, hash_rows
from ettin_data.order.proof.chance import Forms, arrangements
from ettin_data.order.proof.jobs import KEEP, KEEP_A_UNIT, Compared, CompareJob, UnitResult, job_rows, law_positions
from ettin_data.order.proof.masked import compare_masked
from ettin_data.order.proof.row_order import row_order
from ettin_data.order.published import Damage, read_rows


def compare(job: CompareJob) -> Compared:
    """Compare every unit of a job; the function that runs in a worker."""
    if job.reading.masking is not None:
        return compare_masked(job)
    damage = list[Damage]()
    sides = _published_side(job, damage)
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
        order = (
            row_order(side.hashes, law.hashes, law.positions) if len(rows) == len(samples) == law.unread == 0 else ""
        )
        results.append(
            UnitResult(
                unit=unit,
                published=len(side.hashes),
                law=len(law.hashes) + law.unread,
                equal=len(law.hashes) - len(samples) - len(pairs[1]),
                edited=len(pairs[0]),
                unread=law.unread,
                broken=side.broken,
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
    return Compared(results, forms, shown, tuple(damage), dict(job.data.broken))


@dataclass(frozen=True)
class _Side:
    """Rows of a unit: hashes, which have any text, where they are, and how many more cannot be read.

    A row without text has a hash that is its own.
    """

    hashes: NDArray[np.uint64]
    text: NDArray[np.bool_]
    files: NDArray[np.int32]
    rows: NDArray[np.int64]
    broken: int

    def places(self, numbers: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
        """(file, row) of some of them."""
        return tuple(zip(self.files[numbers].tolist(), self.rows[numbers].tolist(), strict=True))


@dataclass(frozen=True)
class _Law:
    """Samples of a unit that can be read, in the law's order, and how many cannot."""

    hashes: NDArray[np.uint64]
    positions: NDArray[np.int64]
    unread: int


def _published_side(job: CompareJob, damage: list[Damage]) -> list[_Side]:
    hashes, text = np.zeros(job.rows, np.uint64), np.zeros(job.rows, bool)
    files, numbers = np.full(job.rows, -1, np.int32), np.zeros(job.rows, np.int64)
    for batch, file, row, place in job_rows(job, damage):
        found, full = hash_rows(batch.values, batch.starts, batch.ends), batch.ends > batch.starts
        empty = np.flatnonzero(~full)
        found[empty] = (batch.first + empty).astype(np.uint64) + (np.uint64(file) << np.uint64(40))
        hashes[place], text[place] = found[row], full[row]
        files[place], numbers[place] = file, batch.first + row
    sides, bounds = [], np.cumsum(job.sizes)[:-1]
    for h, t, f, n in zip(*(np.split(a, bounds) for a in (hashes, text, files, numbers)), strict=True):
        read = f >= 0
        sides.append(_Side(h[read], t[read], f[read], n[read], int((~read).sum())))
    return sides


def _law_side(job: CompareJob) -> list[_Law]:
    positions = law_positions(job)
    together = np.concatenate(positions)
    known = together >= 0
    hashes = np.zeros(len(together), np.uint64)
    hashes[known] = job.data.hashes(together[known], job.reading.form)
    together[known] = np.where(job.data.lost(together[known]), -1, together[known])
    bounds = np.cumsum([len(p) for p in positions])[:-1]
    positions = np.split(together, bounds)
    return [
        _Law(h[p >= 0], p[p >= 0], int((p < 0).sum())) for h, p in zip(np.split(hashes, bounds), positions, strict=True)
    ]


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
