"""Exporting: the samples of a part become files of a format, in parallel.

`by` order, a file is a run of whole steps, and the files in the order of their names are the order of training; a
sample that is in no step is in no file. `by` split, a file is a split, below the folder of its source.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ettin_data.base import files, sealed_json
from ettin_data.base.errors import BuildError, OrderError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import ExecutorOptions, Task
from ettin_data.executor.perform import perform
from ettin_data.export.format import Samples, Whole, choose_format
from ettin_data.order.index import OrderIndex
from ettin_data.storage import records
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import SHARDS, TRAIN, Phase, open_phase
from ettin_data.tokenizer.vocabulary import Vocabulary

EXPORT_RECORD = "export.json"
By = Literal["order", "split"]
_FILE_TOKENS = 1 << 27  # of a file by order, about


@dataclass(frozen=True)
class _Split:
    """All samples of a split, in the order of its shards."""

    folder: Path

    def samples(self) -> Samples:
        reader = MdsReader(self.folder)
        return (reader.sample(position) for position in range(len(reader)))


@dataclass(frozen=True)
class _Steps:
    """The samples of the steps [first, last) of an order, from 0."""

    train: Path
    order: Path
    first: int
    last: int

    def samples(self) -> Samples:
        reader, order = MdsReader(self.train), OrderIndex.open(self.order)
        for step in range(self.first, self.last):
            for position in order.step(step).tolist():
                yield reader.sample(position)


@dataclass(frozen=True)
class _Job:
    rows: _Split | _Steps
    name: str
    vocabulary: Vocabulary
    format: str
    out: Path


@dataclass(frozen=True)
class Exported:
    """What became of one job: its samples and tokens, and name -> {"bytes", "xxh3_64"} of its files."""

    samples: int
    tokens: int
    files: dict[str, dict[str, Any]]


def export_phase(
    path: Path,
    format_name: str,
    out: Path,
    *,
    part: str = TRAIN,
    by: By | None = None,
    number: int | None = None,
    workers: ExecutorOptions | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write a part of a finished phase in another format; what is there already, by `export.json`, is replaced.

    Args:
        path: folder of the phase.
        format_name: of `export_formats()`.
        out: folder that gets the files and, last, `export.json` with the phase's root and every file's hash.
        part: "train" or "validation".
        by: "order" or "split"; None is by order for train, which has one, and by split for validation.
        number: files by order; None makes them of some 128 million tokens.
        workers: None works in this process.

    Raises:
        RecipeError: there is no such format.
        OrderError: validation has no order, or the order has not so many steps.
        BuildError: the phase is not finished, or says nothing of its vocabulary.
    """
    chosen, phase = choose_format(format_name), open_phase(path)
    run = records.read_run(phase)
    if run.vocabulary is None:
        raise BuildError(
            "the run does not say of which vocabulary its tokens are",
            where=phase.run_json,
            remedy="build it again with the same command: finished splits are used as they are",
        )
    vocabulary = Vocabulary.from_json(run.vocabulary)
    by = by or ("order" if part == TRAIN else "split")
    if by == "split":
        pieces = _by_split(phase, part)
    else:
        pieces = _by_order(phase, part, number, run.totals["tokens"] / max(run.totals["samples"], 1))
    out.mkdir(parents=True, exist_ok=True)
    (out / EXPORT_RECORD).unlink(missing_ok=True)
    tasks = [
        Task(name, _Job(rows, name, vocabulary, chosen.name, out), weight) for name, (rows, weight) in pieces.items()
    ]
    done = perform(
        export_piece, tasks, workers, progress, title=f"export {chosen.name}", tokens=lambda result: result.tokens
    )
    made = {name: entry for each in done for name, entry in each.files.items()}
    if chosen.beside is not None:
        counted = {name: (entry["bytes"], each.samples) for each in done for name, entry in each.files.items()}
        for name, text in chosen.beside(Whole(part, counted, vocabulary)).items():
            files.write(out / name, text)
            made[name] = files.digest(out / name)
    record = {
        "format": chosen.name,
        "phase": run.phase,
        "root": run.root,
        "part": part,
        "by": by,
        "vocabulary": run.vocabulary,
        "samples": sum(each.samples for each in done),
        "tokens": sum(each.tokens for each in done),
        "files": made,
    }
    sealed_json.write(out / EXPORT_RECORD, record)
    return record


def export_piece(job: _Job) -> Exported:
    """What a worker does: one piece into a private folder, then file by file into place."""
    target = job.out / Path(job.name).parent
    counts = [0, 0]

    def counted(samples: Samples) -> Samples:
        for name, ids in samples:
            counts[0] += 1
            counts[1] += len(ids)
            yield name, ids

    temporary = files.private_folder(target, Path(job.name).name)
    try:
        choose_format(job.format).write(counted(job.rows.samples()), job.vocabulary, temporary, Path(job.name).name)
        made = {}
        for path in sorted(temporary.iterdir()):
            made[(Path(job.name).parent / path.name).as_posix()] = files.digest(path)
            files.move(path, target / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(counts[0], counts[1], made)


_Pieces = Mapping[str, tuple[_Split | _Steps, int]]
"""Name of the files without suffix -> what is in them, and their weight among others."""


def _by_split(phase: Phase, part: str) -> _Pieces:
    """The splits of a part that have samples: a validation split that came out empty is not in the index either."""
    found = {}
    for name in phase.splits(part):
        if sizes := [path.stat().st_size for path in (phase.folder / name).glob(SHARDS)]:
            found[name.partition("/")[2]] = (_Split(phase.folder / name), max(sum(sizes), 1))
    return found


def _by_order(phase: Phase, part: str, number: int | None, tokens: float) -> _Pieces:
    """Runs of whole steps, `number` of them or of `_FILE_TOKENS`, where a sample has so many `tokens` on average."""
    if part != TRAIN:
        raise OrderError(f"{part} has no order", where=phase.folder, remedy="--by split")
    order = OrderIndex.open(phase.order)
    order.check_data(phase.train)
    if number is not None and not 0 < number <= order.steps:
        raise OrderError(f"{number} files cannot be made of {order.steps:,} steps", where="--files")
    step_tokens = max(int(tokens * order.batch), 1)
    each = max(_FILE_TOKENS // step_tokens, 1) if number is None else -(-order.steps // number)
    firsts = range(0, order.steps, each)
    return {
        f"{part}-{i:05d}-of-{len(firsts):05d}": (
            _Steps(phase.train, phase.order, first, min(first + each, order.steps)),
            step_tokens * each,
        )
        for i, first in enumerate(firsts)
    }
