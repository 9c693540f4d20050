"""The order index: its files against `order.json`, and its positions against the law made again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import bounded_parquet, files
from ettin_data.base.errors import OrderError
from ettin_data.order.appended import AppendedLaw
from ettin_data.order.index import OrderIndex, index_digest
from ettin_data.order.law import Positions
from ettin_data.storage.phase import EARLIER, ORDER, ORDER_FILE, TRAIN
from ettin_data.verify.model import Finding, sentence
from ettin_data.verify.quick import STRAYS, strays

UNIT = ORDER
_FILE = f"{ORDER}/{ORDER_FILE}"
_UNREADABLE = ("missing_file", "unreadable_file", "wrong_size")


def check_order(folder: Path, samples: int | None, draw: tuple[int, int] | None, full: bool) -> list[Finding]:
    """Look at `<phase>/order`.

    Args:
        folder: of the phase.
        samples: in `train/`; None if that is not known.
        draw: seed and epoch as the recipe has them; None if that is not known.
        full: regenerate the law, which needs 4 bytes of memory a sample, and compare every position.
    """
    try:
        index = OrderIndex.open(folder / UNIT)
    except OrderError as error:
        return [Finding(_FILE, "damaged_order", sentence(error), UNIT)]
    findings = list(_check_files(index))
    beside = {EARLIER} if index.info.earlier_file else set()
    for name in strays(index.folder, {ORDER_FILE, *beside, *(each.file for each in index.info.intervals)})[:STRAYS]:
        findings.append(Finding(f"{UNIT}/{name}", "stray_file", f"{ORDER_FILE} does not know it; move it elsewhere"))
    whole = True  # whether the law is of an order as long as its files
    if samples is not None and index.law.samples != samples:
        whole = False
        detail = f"it orders {index.law.samples:,} samples, train has {samples:,}"
        findings.append(Finding(_FILE, "wrong_order", detail, UNIT))
    if draw is not None and draw != (index.law.seed, index.law.epoch):
        detail = f"its seed and epoch are {index.law.seed} and {index.law.epoch}, the recipe's {draw[0]} and {draw[1]}"
        findings.append(Finding(_FILE, "wrong_order", detail, UNIT))
    ends = [0, *(interval.last_step for interval in index.info.intervals)]
    firsts = [*(interval.first_step for interval in index.info.intervals), index.law.steps + 1]
    for end, first in zip(ends, firsts, strict=True):
        if first != end + 1:
            whole = False
            detail = f"after step {end:,} its files go on with step {first:,}"
            findings.append(Finding(_FILE, "wrong_order", detail, UNIT))
    try:
        data = index_digest(folder / TRAIN)
    except OSError:
        data = ""  # found where train is looked at
    if data and data != index.info.data_digest:
        detail = "it was made for another train/index.json: positions would mean other samples"
        findings.append(Finding(_FILE, "wrong_order", detail, UNIT))
    if full and whole and not any(finding.reason in _UNREADABLE for finding in findings):
        findings += _check_positions(index)
    return findings


def _check_files(index: OrderIndex) -> Iterator[Finding]:
    info = index.info
    written = [(each.file, each.bytes, each.sha256) for each in info.intervals]
    if info.earlier_file is not None:
        written.append((EARLIER, info.earlier_file.bytes, info.earlier_file.sha256))
    for file, wanted, sha256 in written:
        name = f"{UNIT}/{file}"
        path = index.folder / file
        try:
            size = files.require_ordinary(path)
            if size != wanted:
                yield Finding(name, "wrong_size", f"{size:,} bytes, not {wanted:,}", UNIT)
                continue
            digest = files.sha256(path)
        except FileNotFoundError:
            yield Finding(name, "missing_file", "the file is missing", UNIT)
            continue
        except OSError as error:
            yield Finding(name, "unreadable_file", f"the file cannot be read: {error.strerror}", UNIT)
            continue
        if digest != sha256:
            yield Finding(name, "wrong_hash", f"sha256 {digest}, not {sha256}: its bytes were changed", UNIT)


def _check_positions(index: OrderIndex) -> Iterator[Finding]:
    """Each interval's first step that is not the law's, and the digest of all positions."""
    import pyarrow

    law = index.law
    expected = law.permutation()[: law.used]
    digest = hashlib.sha256(np.ascontiguousarray(expected, expected.dtype.newbyteorder("<")).data).hexdigest()
    if digest != index.info.digest:
        detail = f"the digest of the law's positions is {digest}, order.json says {index.info.digest}"
        yield Finding(_FILE, "wrong_digest", detail, UNIT)
    for earlier in index.info.earlier:
        assert isinstance(law, AppendedLaw)
        if law.digest_of(earlier, expected) != earlier.digest:
            detail = f"its first {law.used_by(earlier):,} samples are not those of the order {earlier.digest}"
            yield Finding(_FILE, "other_beginning", detail, UNIT)
    for interval in index.info.intervals:
        name = f"{UNIT}/{interval.file}"
        rows = slice((interval.first_step - 1) * law.batch, interval.last_step * law.batch)
        try:
            with bounded_parquet.opened(index.folder / interval.file, {"step", "sample"}, 2 * interval.rows) as file:
                table = file.read()
            steps = bounded_parquet.integers(table["step"], np.dtype(np.int64))
            positions = bounded_parquet.integers(table["sample"], np.dtype(np.uint64))
        except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
            yield Finding(name, "unreadable_order", (str(error).splitlines() or ["?"])[0], UNIT)
            continue
        if problem := _first_wrong(steps, positions, expected[rows], interval.first_step, law.batch):
            yield Finding(name, "not_the_law", problem[1], UNIT, problem[0])


def _first_wrong(
    steps: NDArray[np.int64], positions: Positions, expected: Positions, first_step: int, batch: int
) -> tuple[int, str] | None:
    """(row, sentence) of the first row of an interval that is not the law's; rows are counted in the file from 0."""
    numbers = first_step + np.arange(len(expected)) // batch
    both = min(len(steps), len(expected))
    wrong = np.flatnonzero((steps[:both] != numbers[:both]) | (positions[:both] != expected[:both]))
    if len(steps) != len(expected):
        row = int(wrong[0]) if len(wrong) else both
        return (
            row,
            f"{len(steps):,} rows, the law has {len(expected):,}; the first that is not the law's is row {row:,}",
        )
    if not len(wrong):
        return None
    row = int(wrong[0])
    return row, (
        f"{len(wrong):,} rows are not the law's, first in step {numbers[row]}: "
        f"position {positions[row]} in step {steps[row]} instead of {expected[row]}"
    )
