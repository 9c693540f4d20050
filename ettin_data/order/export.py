"""Writes the order of a phase in the published form (`order/published.py`): the rows themselves, by step.

Rows stand in the law's order inside each step and are not padded. A folder is one checkpoint interval of the index; a
file is `steps_per_file` steps, written with `base.files`, so a file that has its name is whole, and a
second run with the same arguments makes only what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ettin_data.base import files
from ettin_data.base.errors import OrderError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import ExecutorOptions, Task, perform
from ettin_data.order.data import Data
from ettin_data.order.index import OrderIndex
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


def _export_file(job: _FileJob) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = pa.uint16() if job.data.dtype == np.uint16 else pa.uint32()
    schema = pa.schema([("input_ids", pa.list_(tokens)), ("step", pa.uint64())])
    options = {"compression": "zstd", "use_dictionary": ["step"], "write_statistics": ["step"]}  # as upstream's saver
    with files.replacing(job.path) as partial, pq.ParquetWriter(partial, schema, **options) as writer:
        for first in range(job.first, job.last, _STEPS_A_GROUP):
            steps = range(first, min(first + _STEPS_A_GROUP, job.last))
            positions = np.concatenate([job.index.step(k) for k in steps])
            rows: list[AnyTokens] = [np.empty(0, job.data.dtype)] * len(positions)
            for i, row in job.data.tokens(positions):
                rows[i] = job.form.apply(row)
            offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
            lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows), tokens))
            numbers = np.repeat(np.array(steps, np.uint64) + np.uint64(1), job.index.batch)
            writer.write_table(pa.table([lists, pa.array(numbers)], schema=schema), row_group_size=len(rows))
