"""Exporting: every split of `train/` or `validation/` becomes files of a format, in parallel, one split a job."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_data.base import files, sealed_json
from ettin_data.base.errors import BuildError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import ExecutorOptions, Task
from ettin_data.executor.perform import perform
from ettin_data.export.format import Samples, choose_format
from ettin_data.storage import records
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import SHARDS, TRAIN, Phase, open_phase
from ettin_data.tokenizer.vocabulary import Vocabulary

EXPORT_RECORD = "export.json"


@dataclass(frozen=True)
class _Job:
    split: Path
    name: str
    vocabulary: Vocabulary
    format: str
    out: Path


@dataclass(frozen=True)
class ExportedSplit:
    """What became of one split: its samples and tokens, and name -> {"bytes", "xxh3_64"} of its files."""

    samples: int
    tokens: int
    files: dict[str, dict[str, Any]]


def export_phase(
    path: Path,
    format_name: str,
    out: Path,
    *,
    part: str = TRAIN,
    workers: ExecutorOptions | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write a part of a finished phase in another format; what is there already, by `export.json`, is replaced.

    Args:
        path: folder of the phase.
        format_name: of `export_formats()`.
        out: folder that gets `<source>/<split>.*` and, last, `export.json` with the phase's root and every file's hash.
        part: "train" or "validation".
        workers: None works in this process.

    Raises:
        RecipeError: there is no such format.
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
    out.mkdir(parents=True, exist_ok=True)
    (out / EXPORT_RECORD).unlink(missing_ok=True)
    tasks = [
        Task(
            name, _Job(phase.folder / name, name.partition("/")[2], vocabulary, chosen.name, out), _weight(phase, name)
        )
        for name in _with_samples(phase, part)
    ]
    done = perform(
        export_split, tasks, workers, progress, title=f"export {chosen.name}", tokens=lambda result: result.tokens
    )
    record = {
        "format": chosen.name,
        "phase": run.phase,
        "root": run.root,
        "part": part,
        "vocabulary": run.vocabulary,
        "samples": sum(split.samples for split in done),
        "tokens": sum(split.tokens for split in done),
        "files": {name: entry for split in done for name, entry in split.files.items()},
    }
    sealed_json.write(out / EXPORT_RECORD, record)
    return record


def export_split(job: _Job) -> ExportedSplit:
    """What a worker does: one split into a private folder, then file by file into place."""
    target = job.out / Path(job.name).parent
    counts = [0, 0]

    def counted(samples: Samples) -> Samples:
        for name, ids in samples:
            counts[0] += 1
            counts[1] += len(ids)
            yield name, ids

    temporary = files.private_folder(target, Path(job.name).name)
    try:
        choose_format(job.format).write(counted(_samples(job.split)), job.vocabulary, temporary, Path(job.name).name)
        made = {}
        for path in sorted(temporary.iterdir()):
            made[f"{Path(job.name).parent.as_posix()}/{path.name}"] = files.digest(path)
            files.move(path, target / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExportedSplit(counts[0], counts[1], made)


def _samples(folder: Path) -> Samples:
    reader = MdsReader(folder)
    for position in range(len(reader)):
        yield reader.sample(position)


def _with_samples(phase: Phase, part: str) -> list[str]:
    """The splits of a part that have samples: a validation split that came out empty is not in the index either."""
    return [name for name in phase.splits(part) if any((phase.folder / name).glob(SHARDS))]


def _weight(phase: Phase, name: str) -> int:
    return max(sum(path.stat().st_size for path in (phase.folder / name).glob(SHARDS)), 1)
