"""Compares rows that were masked with the samples of their units (`masking.py`), one unit after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.data import hash_rows
from ettin_data.order.proof.chance import Forms, arrangements
from ettin_data.order.proof.jobs import KEEP, KEEP_A_UNIT, Compared, CompareJob, UnitResult, job_rows, law_positions
from ettin_data.order.proof.masking import Tokens
from ettin_data.order.proof.pairing import pair
from ettin_data.order.proof.row_order import row_order
from ettin_data.order.published import Damage
from ettin_data.tokenizer.vocabulary import AnyTokens

_SAMPLES = 1 << 14  # read at a time, of several units if they are small


@dataclass(frozen=True)
class _Published:
    """The published rows of a unit in its order, and the file and the number there of each."""

    rows: Tokens
    files: NDArray[np.int64]
    numbers: NDArray[np.int64]


@dataclass(frozen=True)
class _Law:
    """The samples of a unit that can be read, in the law's order, with hashes and positions; and how many it has."""

    samples: Tokens
    hashes: NDArray[np.uint64]
    here: NDArray[np.int64]
    count: int


class _Growing:
    """Tokens that come in parts. The array grows where it is, so that its tokens are never held twice."""

    def __init__(self, dtype: np.dtype[np.integer[Any]]) -> None:
        self._room, self.size = np.zeros(0, dtype), 0

    def append(self, tokens: AnyTokens) -> None:
        end = self.size + len(tokens)
        if end > len(self._room):  # a large array is remapped by the C library, not copied
            self._room.resize(end + self.size // 8, refcheck=False)
        self._room[self.size : end] = tokens
        self.size = end

    def tokens(self) -> AnyTokens:
        """A view of all so far, until more is appended."""
        return self._room[: self.size]


_Part = tuple[NDArray[np.int64], NDArray[np.int64], int, NDArray[np.int64]]
"""Lengths, places in the unit, file and numbers in the file, of some rows of a unit."""


class _Waiting:
    """The rows of a unit that were read so far."""

    def __init__(self, dtype: np.dtype[np.integer[Any]]) -> None:
        none = np.zeros(0, np.int64)
        self.tokens, self.parts = _Growing(dtype), list[_Part]([(none, none, 0, none)])

    def rows(self) -> _Published:
        lengths, places, numbers = (np.concatenate([part[i] for part in self.parts]) for i in (0, 1, 3))
        files = np.concatenate([np.full(len(part[3]), part[2]) for part in self.parts])
        order = np.argsort(places)
        ends = np.cumsum(lengths)
        return _Published(Tokens(self.tokens.tokens(), ends - lengths, ends)[order], files[order], numbers[order])


def compare_masked(job: CompareJob) -> Compared:
    """Compare every unit of a job. Of published rows only those of units that are not compared yet are held."""
    positions, results = law_positions(job), dict[int, UnitResult]()
    samples, shown, first = list[NDArray[np.uint64]](), list[NDArray[np.uint64]](), min(u.epoch for u in job.units)
    kept, damage = KEEP, list[Damage]()
    for group in _groups(_whole_units(job, shown, damage)):
        laws = _laws(job, [positions[number] for number, _ in group])
        for (number, published), law in zip(group, laws, strict=True):
            results[number] = _compare_unit(job, number, published, law, kept)
            kept -= max(len(results[number].rows), len(results[number].positions))
            samples += [law.hashes] if job.units[number].epoch == first else []
    none = np.zeros(0, np.uint64)
    return Compared(
        [results[number] for number in sorted(results)],
        Forms.of(np.concatenate([none, *samples])),
        Forms.of(np.concatenate([none, *shown])),
        tuple(damage),
        dict(job.data.broken),
    )


def _whole_units(
    job: CompareJob, shown: list[NDArray[np.uint64]], damage: list[Damage]
) -> Iterator[tuple[int, _Published]]:
    """The number and the rows of each unit, as soon as all of its rows were read; those of which some cannot be, last.

    Hashes of rows with text are put on the list `shown`, and what cannot be read on `damage`.
    """
    bounds = np.cumsum([0, *job.sizes])
    waiting = {number: _Waiting(job.data.dtype) for number in range(len(job.sizes))}
    have = np.zeros(len(job.sizes), np.int64)
    for batch, file, row, place in job_rows(job, damage):
        hashes = hash_rows(batch.values, batch.starts, batch.ends)[row]
        shown.append(hashes[(batch.ends > batch.starts)[row]])
        unit_of = np.searchsorted(bounds, place, "right") - 1
        for number in np.unique(unit_of).tolist():
            mine = np.flatnonzero(unit_of == number)
            rows = row[mine]
            tokens = Tokens(batch.values, batch.starts[rows], batch.ends[rows])
            waiting[number].tokens.append(tokens.flat())
            waiting[number].parts.append((tokens.lengths, place[mine] - bounds[number], file, batch.first + rows))
            have[number] += len(mine)
            if have[number] == job.sizes[number]:
                yield number, waiting.pop(number).rows()
    for number in list(waiting):
        yield number, waiting.pop(number).rows()


def _groups(units: Iterator[tuple[int, _Published]]) -> Iterator[list[tuple[int, _Published]]]:
    """Units whose samples are read together, since a shard costs as much for one sample as for many."""
    group, rows = list[tuple[int, _Published]](), 0
    for number, published in units:
        group.append((number, published))
        rows += len(published.numbers)
        if rows >= _SAMPLES:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _compare_unit(job: CompareJob, number: int, published: _Published, law: _Law, kept: int) -> UnitResult:
    masking = job.reading.masking
    assert masking is not None
    rows, files, numbers, here = published.rows, published.files, published.numbers, law.here
    pairs = pair(rows, law.samples, masking)
    exact = pairs.masks + pairs.others == 0
    surplus = np.setdiff1d(np.arange(len(numbers)), pairs.rows)
    missing = np.setdiff1d(np.arange(len(here)), pairs.samples)
    unread, limit = law.count - len(here), max(kept, KEEP_A_UNIT)
    stands = ""
    if len(surplus) == len(missing) == unread == 0:
        sample_of = np.zeros(len(numbers), np.uint64)
        sample_of[pairs.rows] = pairs.samples
        stands = row_order(sample_of, np.arange(len(here), dtype=np.uint64), here)
    return UnitResult(
        unit=job.units[number],
        published=len(numbers),
        law=law.count,
        equal=int(exact.sum()),
        edited=0,
        unread=unread,
        broken=job.sizes[number] - len(numbers),
        row_order=stands,
        arrangements=0.0 if stands == "law" or stands.startswith("rank") else arrangements(law.hashes),
        rows=tuple(zip(files[surplus[:limit]].tolist(), numbers[surplus[:limit]].tolist(), strict=True)),
        positions=tuple(here[missing[:limit]].tolist()),
        masked=int((~exact).sum()),
        changes=(
            int(rows.lengths[pairs.rows].sum()),
            int(pairs.masks.sum()),
            int(pairs.others.sum()),
            int((pairs.weak & ~exact).sum()),
        ),
    )


def _laws(job: CompareJob, positions: list[NDArray[np.int64]]) -> list[_Law]:
    """The samples at the positions of some units, read as they lie in the data; -1 is one that is not here."""
    unit = np.repeat(np.arange(len(positions)), [len(each) for each in positions])
    together = np.concatenate(positions)
    unit, together = unit[together >= 0], together[together >= 0]
    order = np.argsort(together, kind="stable")
    starts, ends = np.zeros((2, len(together)), np.int64)
    hashes, tokens = np.zeros(len(together), np.uint64), _Growing(job.data.dtype)
    for begin in range(0, len(order), _SAMPLES):
        mine = order[begin : begin + _SAMPLES]
        values, offsets = job.data.gather(together[mine], job.reading.form)
        starts[mine], ends[mine] = tokens.size + offsets[:-1], tokens.size + offsets[1:]
        hashes[mine] = hash_rows(values, offsets[:-1], offsets[1:])
        tokens.append(values)
    samples = Tokens(tokens.tokens(), starts, ends)
    read = ~job.data.lost(together)
    mine_of = [np.flatnonzero((unit == number) & read) for number in range(len(positions))]
    return [
        _Law(samples[mine], hashes[mine], together[mine], len(all_of))
        for mine, all_of in zip(mine_of, positions, strict=True)
    ]
