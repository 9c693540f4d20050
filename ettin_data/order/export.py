"""Writes the order of a phase in the published form (`order/published.py`): the rows themselves, by step.

Rows stand in the law's order inside each step and are not padded. A folder is one checkpoint interval of the index; a
file is `steps_per_file` steps, written with `base.files`, so a file that has its name is whole, and a
second run with the same arguments makes only what is missing. `export_law` writes what another loader would have read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ettin_data.base import files
from ettin_data.base.columns import to_arrow
from ettin_data.base.errors import OrderError
from ettin_data.base.progress import SILENT, Progress, stage
from ettin_data.executor import ExecutorOptions, Task, perform
from ettin_data.order.data import Data
from ettin_data.order.index import OrderIndex
from ettin_data.order.laws import Law, Rows, Samples, steps
from ettin_data.order.loader_edits import Form
from ettin_data.order.published import STEPS_A_FILE, file_name, folder_name
from ettin_data.tokenizer.vocabulary import AnyTokens

_STEPS_A_GROUP = 4  # row groups of some 20,000 rows: a reader needs tens of MB at a time


@dataclass(frozen=True)
class ExportInfo:
    """What an export wrote: files made now, files that were there already, steps and rows in all of them."""

    folder: Path
    made: int
    reused: int
    steps: int
    rows: int


@dataclass(frozen=True)
class _FileJob:
    index: OrderIndex
    data: Data
    form: Form
    path: Path
    first: int  # steps from 0; last is not included
    last: int


def export_order(
    order: Path,
    data: Path | str,
    out: Path,
    *,
    phase: str | None = None,
    form: Form | None = None,
    steps_per_file: int = STEPS_A_FILE,
    first_step: int = 1,
    last_step: int | None = None,
    options: ExecutorOptions | None = None,
    progress: Progress = SILENT,
) -> ExportInfo:
    """Export steps `first_step` to `last_step` (from 1, both included; default all) of a phase.

    Args:
        order: folder of the index (`order/index.py`).
        data: folder of the `index.json` that the positions point into.
        phase: names the folders; default is the phase that the index says.
        form: rows as stored (None), or as the loader gives them to an encoder or decoder.
        options: None writes in this process.
        progress: told of the stage `exporting`, in rows.

    Raises `OrderError` when the index does not belong to the data.
    """
    index, samples = OrderIndex.open(order), Data(str(data), loader=form.loader if form else None)
    form = form or Form("stored", samples.loader)
    index.check_samples(len(samples))
    index.check_data(samples.reader.folder)
    last_step = index.steps if last_step is None else last_step
    if not 1 <= first_step <= last_step <= index.steps:
        raise OrderError(f"steps {first_step} to {last_step} cannot be exported", why=f"there are 1 to {index.steps}")
    jobs = []
    for number, interval in enumerate(index.info.intervals, start=1):
        folder = Path(out) / folder_name(phase or index.info.phase, number)
        for first in range(interval.first_step, interval.last_step + 1, steps_per_file):
            a, b = first, min(first + steps_per_file - 1, interval.last_step)
            a, b = max(a, first_step), min(b, last_step)
            if a <= b:
                jobs.append(_FileJob(index, samples, form, folder / file_name(a, b), a - 1, b))
    todo = [job for job in jobs if not job.path.exists()]
    tasks = [Task(f"{job.path.parent.name}/{job.path.name}", job, (job.last - job.first) * index.batch) for job in todo]
    perform(_export_file, tasks, options, progress, title="exporting")
    steps = last_step - first_step + 1
    return ExportInfo(Path(out), len(todo), len(jobs) - len(todo), steps, steps * index.batch)


def export_law(
    law: Law,
    data: Path | str,
    out: Path,
    *,
    phase: str,
    form: Form,
    interval_steps: int,
    steps_per_file: int = STEPS_A_FILE,
    first_step: int = 1,
    last_step: int | None = None,
    progress: Progress = SILENT,
) -> ExportInfo:
    """Export what a loader with another law would have read, from step `first_step` to `last_step` (default: all).

    In one process, since the steps of some laws depend on all before them; files that are there are made again.

    Args:
        law: of the loader.
        data, out, form, steps_per_file: as of `export_order`.
        phase, interval_steps: name the folders, each of which has so many steps.

    Raises `OrderError` when the law has no such step.
    """
    samples = Data(str(data), loader=form.loader)
    lengths = samples.lengths(form) if law.needs_lengths else None
    numbered = enumerate(steps(law, Samples(np.diff(samples.reader.starts), lengths)), 1)
    wanted = islice(numbered, first_step - 1, last_step)
    made, done, rows = 0, 0, 0
    with stage(progress, "exporting", 1, 0):
        while (one := next(wanted, None)) is not None:
            first = one[0]
            # A file ends where its steps do, where its folder does, or with the steps.
            last = min(-(-first // steps_per_file) * steps_per_file, -(-first // interval_steps) * interval_steps)
            group = [one, *islice(wanted, last - first)]
            folder = folder_name(phase, (first - 1) // interval_steps + 1)
            _write(Path(out) / folder / file_name(first, group[-1][0]), samples, form, group)
            made, done, rows = made + 1, done + len(group), rows + sum(len(step) for _, step in group)
    if done == 0 or (last_step is not None and done < last_step - first_step + 1):
        there = f"{done + first_step - 1:,}" if done else f"fewer than {first_step:,}"
        raise OrderError(f"steps {first_step} to {last_step or 'the end'} cannot be exported", why=f"there are {there}")
    return ExportInfo(Path(out), made, 0, done, rows)


def _export_file(job: _FileJob) -> None:
    bounds = np.arange(job.index.batch + 1)
    numbered = ((k + 1, Rows(job.index.step(k), bounds)) for k in range(job.first, job.last))
    _write(job.path, job.data, job.form, numbered)


def _write(path: Path, data: Data, form: Form, numbered: Iterable[tuple[int, Rows]]) -> None:
    """Write one file of steps, each with its number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = pa.uint16() if data.dtype == np.uint16 else pa.uint32()
    schema = pa.schema([("input_ids", pa.list_(tokens)), ("step", pa.uint64())])
    options = {"compression": "zstd", "use_dictionary": ["step"], "write_statistics": ["step"]}  # as upstream's saver
    with files.replacing(path) as partial, pq.ParquetWriter(partial, schema, **options) as writer:
        for group in _grouped(numbered):
            positions = np.concatenate([step.positions for _, step in group])
            parts: list[AnyTokens] = [np.empty(0, data.dtype)] * len(positions)
            for i, sample in data.tokens(positions):
                parts[i] = form.apply(sample)
            ends = np.cumsum([0, *map(len, parts)], dtype=np.int32)
            firsts = np.cumsum([0, *(len(step.positions) for _, step in group)])[:-1]
            bounds = [step.bounds[:-1] + first for (_, step), first in zip(group, firsts, strict=True)]
            offsets = ends[np.concatenate([*bounds, [len(positions)]])]  # of rows: a packed one has several samples
            lists = pa.ListArray.from_arrays(to_arrow(offsets), to_arrow(np.concatenate(parts)))
            numbers = np.repeat(np.array([k for k, _ in group], np.uint64), [len(step) for _, step in group])
            writer.write_table(pa.table([lists, to_arrow(numbers)], schema=schema), row_group_size=len(numbers))


def _grouped(numbered: Iterable[tuple[int, Rows]]) -> Iterator[list[tuple[int, Rows]]]:
    rest = iter(numbered)
    while group := list(islice(rest, _STEPS_A_GROUP)):
        yield group
