"""Finds the stored sample that shares the most n-grams with an edited row: among a few, or in the whole data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.ngrams import Needles, ngram_hashes
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor, Task, perform
from ettin_data.order.data import Data
from ettin_data.order.loader_edits import canonical
from ettin_data.order.proof.edits import GRAM
from ettin_data.order.proof.probe import shards_name
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

_SHARDS_A_JOB = 4


@dataclass(frozen=True)
class _Wanted:
    """n-grams of some rows: `grams[i]` occurs in row `owners[i]`; sorted by gram."""

    grams: NDArray[np.uint64]
    owners: NDArray[np.int64]
    rows: int

    @classmethod
    def of(cls, rows: Sequence[AnyTokens], vocabulary: Vocabulary) -> _Wanted:
        hashes = [np.unique(ngram_hashes(canonical(row, vocabulary), GRAM)) for row in rows]
        grams = np.concatenate([np.zeros(0, np.uint64), *hashes])
        owners = np.repeat(np.arange(len(rows)), [len(h) for h in hashes])
        order = np.argsort(grams, kind="stable")
        return cls(grams[order], owners[order], len(rows))


def most_alike(
    rows: Sequence[AnyTokens], samples: Iterable[tuple[int, AnyTokens]], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row the position of the sample that shares the most n-grams (-1: none does), and how many it shares."""
    return _most_alike(_Wanted.of(rows, vocabulary), samples)


def _most_alike(
    wanted: _Wanted, samples: Iterable[tuple[int, AnyTokens]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    needles = Needles(wanted.grams)
    best, shared = np.full(wanted.rows, -1, np.int64), np.zeros(wanted.rows, np.int64)
    for position, tokens in samples:
        _, number = needles.find(ngram_hashes(tokens, GRAM))
        if len(number) == 0:
            continue
        found = needles.hashes[np.unique(number)]
        low, high = np.searchsorted(wanted.grams, found, "left"), np.searchsorted(wanted.grams, found, "right")
        owners = np.concatenate([wanted.owners[a:b] for a, b in zip(low.tolist(), high.tolist(), strict=True)])
        counts = np.bincount(owners, minlength=wanted.rows)
        better = counts > shared
        best[better], shared[better] = position, counts[better]
    return best, shared


def most_alike_in_data(
    rows: Sequence[AnyTokens],
    data: Data,
    shards: Sequence[int],
    *,
    workers: Executor | None = None,
    progress: Progress = SILENT,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`most_alike` among all samples of some shards."""
    wanted = _Wanted.of(rows, data.loader.vocabulary)
    groups = [tuple(shards[i : i + _SHARDS_A_JOB]) for i in range(0, len(shards), _SHARDS_A_JOB)]
    best, shared = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.int64)
    tasks = [Task(shards_name(numbers), _Job(data, numbers, wanted)) for numbers in groups]
    for position, count in perform(_run, tasks, workers, progress, title="looking for what resembles"):
        better = count > shared
        best[better], shared[better] = position[better], count[better]
    return best, shared


@dataclass(frozen=True)
class _Job:
    data: Data
    shards: tuple[int, ...]
    wanted: _Wanted


def _run(job: _Job) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts = job.data.reader.starts
    positions = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in job.shards])
    samples = ((int(positions[i]), tokens) for i, tokens in job.data.tokens(positions))
    return _most_alike(job.wanted, samples)
