"""The order index: its files against `order.json`, and its positions against the law made again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ettin_data.errors import OrderError
from ettin_data.stages.order import OrderIndex, index_digest
from ettin_data.verify.model import Finding

UNIT = "order"


def check_order(folder: Path, samples: int | None, full: bool) -> list[Finding]:
    """Look at `<phase>/order`.

    Args:
        folder: of the phase.
        samples: in `train/`; None if that is not known.
        full: regenerate the law, which needs 4 bytes of memory a sample, and compare every position.
    """
    try:
        index = OrderIndex.open(folder / UNIT)
    except OrderError as error:
        return [Finding(f"{UNIT}/order.json", "damaged_order", _sentence(error), UNIT)]
    findings = list(_check_files(index))
    if samples is not None and index.law.samples != samples:
        detail = f"it orders {index.law.samples:,} samples, train has {samples:,}"
        findings.append(Finding(f"{UNIT}/order.json", "wrong_order", detail, UNIT))
    try:
        data = index_digest(folder / "train")
    except OSError:
        data = ""  # found where train is looked at
    if data and data != index.info.data_digest:
        detail = "it was made for another train/index.json: positions would mean other samples"
        findings.append(Finding(f"{UNIT}/order.json", "wrong_order", detail, UNIT))
    if full and not any(finding.reason in ("missing_file", "damaged_order") for finding in findings):
        findings += _check_positions(index)
    return findings


def _check_files(index: OrderIndex) -> Iterator[Finding]:
    for interval in index.info.intervals:
        name = f"{UNIT}/{interval.file}"
        path = index.folder / interval.file
        try:
            size = path.stat().st_size
            if size != interval.bytes:
                yield Finding(name, "wrong_size", f"{size:,} bytes, not {interval.bytes:,}", UNIT)
                continue
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            yield Finding(name, "missing_file", "the file is missing", UNIT)
            continue
        if digest != interval.sha256:
            yield Finding(name, "wrong_hash", f"sha256 {digest}, not {interval.sha256}: its bytes were changed", UNIT)


def _check_positions(index: OrderIndex) -> Iterator[Finding]:
    """Each interval's first step that is not the law's, and the digest of all positions."""
    import pyarrow
    import pyarrow.parquet as pq

    law = index.law
    expected = law.permutation()[: law.used]
    digest = hashlib.sha256(np.ascontiguousarray(expected, expected.dtype.newbyteorder("<")).data).hexdigest()
    if digest != index.info.digest:
        detail = f"the digest of the law's positions is {digest}, order.json says {index.info.digest}"
        yield Finding(f"{UNIT}/order.json", "wrong_digest", detail, UNIT)
    for interval in index.info.intervals:
        name = f"{UNIT}/{interval.file}"
        rows = slice((interval.first_step - 1) * law.batch, interval.last_step * law.batch)
        try:
            table = pq.read_table(index.folder / interval.file, partitioning=None)
            steps, positions = table["step"].to_numpy(), table["sample"].to_numpy()
        except (OSError, KeyError, pyarrow.ArrowException) as error:
            yield Finding(name, "unreadable_order", str(error).splitlines()[0], UNIT)
            continue
        numbers = np.repeat(np.arange(interval.first_step, interval.last_step + 1), law.batch)
        if len(steps) != len(numbers):
            detail = f"{len(steps):,} rows for steps {interval.first_step} to {interval.last_step} of {law.batch:,}"
            yield Finding(name, "wrong_order", detail, UNIT)
            continue
        wrong = np.flatnonzero((steps != numbers) | (positions != expected[rows]))
        if len(wrong):
            row = int(wrong[0])
            detail = (
                f"{len(wrong):,} rows are not the law's, first in step {numbers[row]}: "
                f"position {positions[row]} in step {steps[row]} instead of {expected[rows][row]}"
            )
            yield Finding(name, "not_the_law", detail, UNIT, row)


def _sentence(error: OrderError) -> str:
    return error.what if error.why is None else f"{error.what}: {error.why}"
