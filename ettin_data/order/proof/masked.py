"""Compares rows that were masked with the samples of their units (`masking.py`), one unit after the other."""

from __future__ import annotations

from collections import defaultdict

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

_SAMPLES = 1 << 14  # read at a time, since each is an object of its own until they lie one after the other

_Part = tuple[AnyTokens, NDArray[np.int64], NDArray[np.int64], int, NDArray[np.int64]]
"""Tokens, lengths, places in the unit, file and numbers in the file, of some rows of a unit."""


def compare_masked(job: CompareJob) -> Compared:
    """Compare every unit of a job. Of published rows only those of units that are not whole yet are held."""
    bounds = np.cumsum([0, *job.sizes])
    positions = law_positions(job)
    waiting: dict[int, list[_Part]] = defaultdict(list)
    have = np.zeros(len(job.sizes), np.int64)
    results: dict[int, UnitResult] = {}
    samples, shown, first = list[NDArray[np.uint64]](), list[NDArray[np.uint64]](), min(u.epoch for u in job.units)
    kept, damage = KEEP, list[Damage]()
    for batch, file, row, place in job_rows(job, damage):
        hashes = hash_rows(batch.values, batch.starts, batch.ends)[row]
        shown.append(hashes[(batch.ends > batch.starts)[row]])
        unit_of = np.searchsorted(bounds, place, "right") - 1
        for number in np.unique(unit_of).tolist():
            mine = np.flatnonzero(unit_of == number)
            rows = row[mine]
            tokens = Tokens(batch.values, batch.starts[rows], batch.ends[rows])
            part = tokens.flat().copy(), tokens.lengths, place[mine] - bounds[number], file, batch.first + rows
            waiting[number].append(part)
            have[number] += len(mine)
            if have[number] == job.sizes[number]:
                results[number], law = _compare_unit(job, number, waiting.pop(number), positions[number], kept)
                kept -= max(len(results[number].rows), len(results[number].positions))
                samples += [law] if job.units[number].epoch == first else []
    for number in range(len(job.sizes)):  # some of whose rows cannot be read, or all
        if number not in results:
            results[number], law = _compare_unit(job, number, waiting.pop(number, []), positions[number], kept)
            samples += [law] if job.units[number].epoch == first else []
    none = np.zeros(0, np.uint64)
    return Compared(
        [results[number] for number in sorted(results)],
        Forms.of(np.concatenate([none, *samples])),
        Forms.of(np.concatenate([none, *shown])),
        tuple(damage),
        dict(job.data.broken),
    )


def _compare_unit(
    job: CompareJob, number: int, parts: list[_Part], positions: NDArray[np.int64], kept: int
) -> tuple[UnitResult, NDArray[np.uint64]]:
    masking, unit = job.reading.masking, job.units[number]
    assert masking is not None
    here = positions[positions >= 0]
    law, hashes = _samples(job, here)
    there = np.flatnonzero(~job.data.lost(here))
    here, law, hashes = here[there], law[there], hashes[there]
    none = np.zeros(0, np.int64)
    parts = parts or [(np.zeros(0, job.data.dtype), none, none, 0, none)]
    order = np.argsort(np.concatenate([part[2] for part in parts]))
    lengths = np.concatenate([part[1] for part in parts])
    ends = np.cumsum(lengths)
    rows = Tokens(np.concatenate([part[0] for part in parts]), ends - lengths, ends)[order]
    files = np.concatenate([np.full(len(part[4]), part[3]) for part in parts])[order]
    numbers = np.concatenate([part[4] for part in parts])[order]
    del parts  # a folder's tokens are held once
    pairs = pair(rows, law, masking)
    exact = pairs.masks + pairs.others == 0
    surplus = np.setdiff1d(np.arange(len(numbers)), pairs.rows)
    missing = np.setdiff1d(np.arange(len(here)), pairs.samples)
    unread, limit = len(positions) - len(here), max(kept, KEEP_A_UNIT)
    stands = ""
    if len(surplus) == len(missing) == unread == 0:
        sample_of = np.zeros(len(numbers), np.uint64)
        sample_of[pairs.rows] = pairs.samples
        stands = row_order(sample_of, np.arange(len(here), dtype=np.uint64), here)
    result = UnitResult(
        unit=unit,
        published=len(numbers),
        law=len(positions),
        equal=int(exact.sum()),
        edited=0,
        unread=unread,
        broken=job.sizes[number] - len(numbers),
        row_order=stands,
        arrangements=0.0 if stands == "law" or stands.startswith("rank") else arrangements(hashes),
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
    return result, hashes


def _samples(job: CompareJob, positions: NDArray[np.int64]) -> tuple[Tokens, NDArray[np.uint64]]:
    """The samples at these positions and their hashes, read as they lie in the data."""
    order = np.argsort(positions, kind="stable")
    starts, ends = np.zeros((2, len(positions)), np.int64)
    hashes, tokens, before = np.zeros(len(positions), np.uint64), [np.zeros(0, job.data.dtype)], 0
    for begin in range(0, len(order), _SAMPLES):
        mine = order[begin : begin + _SAMPLES]
        values, offsets = job.data.gather(positions[mine], job.reading.form)
        starts[mine], ends[mine] = before + offsets[:-1], before + offsets[1:]
        hashes[mine] = hash_rows(values, offsets[:-1], offsets[1:])
        tokens.append(values)
        before += len(values)
    return Tokens(np.concatenate(tokens), starts, ends), hashes
