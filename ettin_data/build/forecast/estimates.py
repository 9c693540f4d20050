"""From what a pilot has measured of a source to rates with intervals: pure functions of a `MeasuredSource`.

A sample has two stages, files and documents of them, and the interval of a rate both of their spreads: how the files
differ from the mean rate, as far as not all are read, and how the documents do, as far as not all are taken. Both are
those of a ratio of sums (Cochran, Sampling Techniques, 6.3 and 10.3), times Student's t, so that nine in ten hold.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ettin_data.build.forecast.measured import MeasuredSource

_T90 = ((1, 6.31), (2, 2.92), (3, 2.35), (4, 2.13), (5, 2.02), (7, 1.89), (10, 1.81), (20, 1.72), (60, 1.67))
"""Student's t of which 90% of the draws lie between minus and plus, by degrees of freedom."""
_NORMAL90 = 1.645


@dataclass(frozen=True)
class Figure:
    """An estimate: the value, and half of the interval that holds the truth in nine of ten cases; None if not known."""

    value: float
    half: float | None = None

    @property
    def low(self) -> float | None:
        return None if self.half is None else max(self.value - self.half, 0.0)

    @property
    def high(self) -> float | None:
        return None if self.half is None else self.value + self.half

    def __mul__(self, factor: float) -> Figure:
        return Figure(self.value * factor, None if self.half is None else self.half * abs(factor))

    def __add__(self, other: Figure) -> Figure:
        """The sum of two that vary by themselves."""
        known = self.half is not None and other.half is not None
        return Figure(self.value + other.value, math.hypot(self.half or 0, other.half or 0) if known else None)

    def holds(self, value: float) -> bool:
        return self.half is not None and abs(value - self.value) <= self.half

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


def total(figures: Iterable[Figure | None]) -> Figure | None:
    """The sum of figures of different sources; None if one of them is not known at all."""
    made = Figure(0.0, 0.0)
    for each in figures:
        if each is None:
            return None
        made += each
    return made


def t90(freedom: int) -> float:
    """Student's t for 90%, by degrees of freedom; of those between two the larger value."""
    if freedom < 1:
        return _T90[0][1]
    for (first, value), (second, _) in pairwise(_T90):
        if first <= freedom < second:
            return value
    return _T90[-1][1] if freedom < 1000 else _NORMAL90


@dataclass(frozen=True)
class Rates:
    """What a byte of a source's files gives and takes.

    Attributes:
        text: bytes of text (or given tokens) for a byte of file.
        tokens: in shards, for a byte of file, and `spread` half of its interval as a share of it.
        documents, samples: for a byte of file.
        bytes: of shards and ledger for a token.
        filtered, rejected: shares of the documents, and of the records.
        cpu_s, seconds: of one core for a byte of file; `time_spread` as `spread`.
        split_bytes: that a split takes beside its samples.
        memory: bytes that a worker needs.
    """

    text: float
    tokens: float
    spread: float
    documents: float
    samples: float
    bytes: float
    filtered: float
    rejected: float
    cpu_s: float
    seconds: float
    time_spread: float
    split_bytes: int
    memory: int


def rates(measured: MeasuredSource, listed_bytes: int) -> Rates | None:
    """The rates of a source; None where the pilot has found nothing to read, or sizes are not known.

    Args:
        measured: the pilot.
        listed_bytes: of all files that the source has.
    """
    read = sum(file.bytes for file in measured.files)
    text = sum(file.text_bytes for file in measured.files)
    records = sum(file.records for file in measured.files)
    rejected = sum(file.rejected for file in measured.files)
    size, tokens = np.array(measured.text_bytes, float), np.array(measured.tokens, float)
    if not read or not size.sum():
        return None
    seen = records - rejected
    kept_of_text = measured.tokens_out / size.sum()  # tokens in shards for a byte of text
    cpu, seconds = min(measured.make_cpu_s), statistics.fmean(measured.make_s)
    per_text_cpu, per_text_s = cpu / size.sum(), seconds / size.sum()
    made_s = measured.read_s + per_text_s * text
    varied = (max(measured.make_s) - seconds) / seconds if seconds else 0.0
    spread = _spread(measured, size, tokens, read / max(listed_bytes, read), len(size) / max(seen, 1))
    return Rates(
        text=text / read,
        tokens=kept_of_text * text / read,
        spread=spread,
        documents=seen / read * float((tokens > 0).mean()),
        samples=measured.samples / size.sum() * text / read,
        bytes=measured.bytes_out / max(measured.tokens_out, 1),
        filtered=sum(measured.filtered.values()) / len(size),
        rejected=rejected / records,
        cpu_s=(measured.read_cpu_s + per_text_cpu * text) / read,
        seconds=made_s / read,
        time_spread=math.hypot(spread, varied),
        split_bytes=measured.bytes_split,
        memory=measured.memory,
    )


def _spread(
    measured: MeasuredSource,
    size: NDArray[np.float64],
    tokens: NDArray[np.float64],
    of_files: float,
    of_documents: float,
) -> float:
    """Half of the interval of tokens for a byte of file, as a share of that.

    Args:
        size, tokens: of the documents of the sample, shape (n,).
        of_files, of_documents: shares of all bytes, and of the documents read, that the sample has.
    """
    whole = tokens.sum()
    if whole == 0:
        return 0.0
    rate, number = whole / size.sum(), len(size)
    documents = 0.0
    if number > 1:
        off = tokens - rate * size
        documents = float((off**2).sum()) * number / (number - 1) / whole**2
    in_file = np.array(measured.file)
    counted = [float(size[in_file == n].sum()) for n in range(len(measured.files))]
    held = np.array(
        [
            file.text_bytes * (tokens[in_file == n].sum() / counted[n] if counted[n] else rate)
            for n, file in enumerate(measured.files)
        ]
    )
    bytes_of = np.array([file.bytes for file in measured.files], float)
    files = len(held)
    if files < 2 and of_files < 1:  # the documents have to stand for what differs between files as well
        return math.sqrt((1 - of_files * of_documents) * documents) * t90(number - 1)
    between = 0.0
    if files > 1 and held.sum():
        off = held - bytes_of * held.sum() / bytes_of.sum()
        between = float((off**2).sum()) * files / (files - 1) / held.sum() ** 2
    return math.hypot(
        math.sqrt(max(1 - of_files, 0) * between) * t90(files - 1),
        math.sqrt(max(1 - of_documents, 0) * documents) * t90(number - 1),
    )
