"""A pilot: a keyed sample of each source goes the way of a split, and a tiny phase is built, in temporary folders.

What that took and gave is measured (`measured`), and `contract` makes of it what a plan promises. Nothing
is written into a run.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.base.progress import Progress
from ettin_data.build.build import build_phase
from ettin_data.build.forecast.measured import (
    MeasuredBuild,
    MeasuredFile,
    MeasuredSource,
    keep,
    kept,
    of_build,
    of_source,
)
from ettin_data.build.forecast.sampling import Ask, sample, text_bytes
from ettin_data.build.plan import SourcePlan
from ettin_data.build.pool import SplitJob, pipeline
from ettin_data.build.prepare import BuildOptions, Resolved
from ettin_data.executor import ExecutorOptions, Task, perform
from ettin_data.recipe import Recipe, SourceChoice
from ettin_data.sources.base import Record
from ettin_data.stages.batches import TokenRows
from ettin_data.stages.pack.step import Pack
from ettin_data.stages.read import Read
from ettin_data.stages.running import run_steps
from ettin_data.storage.phase import PARTS, TRAIN, VALIDATION, splits_in

_TWICE_S = 20.0  # a sample that took longer is not gone through once more to see how much the time varies
_FEW = 2  # documents of the run that shows what a split has beside its text
_MARKER_BYTES = 3_000  # of a split of one file; and of its log
_TINY_FILES, _TINY_DOCUMENTS = 4, 8
_START, _PLAN, _TOKENIZE, _MIX = "start", "plan", "tokenize", "mix"  # stages of a build (`build.clock`)
_AGAIN = "again"


def parse_ask(text: str) -> Ask:
    """`0.1%`, or a number of documents. Raises `RecipeError`."""
    try:
        ask: Ask = float(text.removesuffix("%")) / 100 if text.endswith("%") else int(text.replace(",", "_"))
    except ValueError:
        ask = 0
    if not 0 < ask <= (1 if isinstance(ask, float) else sys.maxsize):
        raise RecipeError(
            f"--pilot {text!r} says not how much",
            remedy="write a share of each source such as 0.1%, or a number of documents such as 500",
        )
    return ask


def make_pilots(resolved: Resolved, asked: str, progress: Progress, resolved_s: float = 0.0, workers: int = 0) -> None:
    """Measure every source, and tiny builds, unless the cache has the same measurement.

    Args:
        asked: how much of each source, as of `parse_ask`.
        resolved_s: seconds that it took to resolve the recipe, which a build does as well.
        workers: processes that measure at the same time, as those of a build work; 0 measures in this one.
    """
    ask = parse_ask(asked)
    of = of_build(resolved)
    if kept(MeasuredBuild, of) is None and (said := keep(measure_build(resolved, resolved_s, workers), of)):
        progress.say(said)
    tasks = []
    for key, source in resolved.plan.sources.items():
        found = kept(MeasuredSource, of_source(resolved, source))
        if found is None or found.asked != asked:
            tasks.append(Task(key, _Measure(resolved, source, ask, asked), 1))

    def keep_it(made: tuple[str, MeasuredSource]) -> str | None:
        key, measured = made
        return keep(measured, of_source(resolved, resolved.plan.sources[key]))

    options = ExecutorOptions("local", min(workers, len(tasks))) if workers and tasks else None
    perform(_measure, tasks, options, progress, title="pilot", told=keep_it)


@dataclass(frozen=True)
class _Measure:
    """What a worker is asked to measure, as of `measure`."""

    resolved: Resolved
    source: SourcePlan
    ask: Ask
    asked: str


def _measure(job: _Measure) -> tuple[str, MeasuredSource]:
    return job.source.source.key, measure(job.resolved, job.source, job.ask, job.asked)


# ---------------------------------------------------------------------------------------------------------------------
# a source


@dataclass(frozen=True)
class _Run:
    """What one way of documents through the steps of a split gave and took."""

    tokens: dict[int, int]
    filtered: dict[str, int]
    tokens_in: int
    tokens_out: int
    samples: int
    bytes: int
    cpu_s: float
    seconds: float


def measure(resolved: Resolved, source: SourcePlan, ask: Ask, asked: str) -> MeasuredSource:
    """Read a sample of a source, and take it through the steps of a split."""
    found = sample(resolved, source, ask)
    job = replace(resolved.job(source, source.listed[0]), files=tuple(one.file for one in found.looked))
    few = _through(job, found.documents[:_FEW])  # loads what has to be loaded
    runs = [_through(job, found.documents)]
    if runs[0].cpu_s < _TWICE_S:
        runs.append(_through(job, found.documents))
    made = runs[0]
    per_token = (made.bytes - few.bytes) / max(made.tokens_out - few.tokens_out, 1)
    fixed = max(few.bytes - per_token * few.tokens_out, 0.0) if per_token > 0 else 0.0
    return MeasuredSource(
        asked=asked,
        at=time.time(),
        files=[
            MeasuredFile(bytes=one.file.bytes, records=one.records, rejected=one.rejected, text_bytes=one.text_bytes)
            for one in found.looked
        ],
        file=[number for number, _ in found.documents],
        text_bytes=[text_bytes(record) for _, record in found.documents],
        tokens=[made.tokens.get(number, 0) for number in range(len(found.documents))],
        filtered=made.filtered,
        tokens_in=made.tokens_in,
        tokens_out=made.tokens_out,
        samples=made.samples,
        bytes_out=max(round(made.bytes - fixed), 0),
        bytes_split=round(fixed) + _MARKER_BYTES,
        read_cpu_s=sum(one.cpu_s for one in found.looked),
        read_s=sum(one.seconds for one in found.looked),
        make_cpu_s=[run.cpu_s for run in runs],
        make_s=[run.seconds for run in runs],
        memory=_memory(),
    )


class _Count:
    """A step that passes on what it gets, and notes how many tokens each document has."""

    def __init__(self, numbers: dict[tuple[int, int], int]) -> None:
        self.numbers, self.tokens = numbers, dict[int, int]()

    def __call__(self, data: Iterable[TokenRows], rank: int, size: int) -> Generator[TokenRows, None, None]:
        for rows in data:
            lengths = (rows.offsets[1:] - rows.offsets[:-1]).tolist()
            for file, position, length in zip(rows.files.tolist(), rows.positions.tolist(), lengths, strict=True):
                self.tokens[self.numbers[file, position]] = length
            yield rows


def _through(job: SplitJob, documents: Sequence[tuple[int, Record]]) -> _Run:
    """Take documents through the steps of a split, from the filters on."""
    records = [(file, replace(record, metadata=dict(record.metadata))) for file, record in documents]
    count = _Count({(file, record.position): number for number, (file, record) in enumerate(documents)})
    with _temporary() as folder:
        cpu, began = time.process_time(), time.monotonic()
        read, *steps = pipeline(job, folder)
        assert isinstance(read, Read)

        def given(_data: Any, _rank: int, _size: int) -> Iterator[Document]:
            return (read.document(file, record) for file, record in records)

        at = next((number for number, step in enumerate(steps) if isinstance(step, Pack)), len(steps))
        run_steps([given, *steps[:at], count, *steps[at:]])
        read.rejects.close()
        spent = time.process_time() - cpu, time.monotonic() - began
        size, tally = _bytes_in(folder), read.tally
    return _Run(
        count.tokens, dict(tally.filtered), tally.tokens_in, tally.tokens, tally.samples, size, spent[0], spent[1]
    )


def _memory() -> int:
    """Most bytes of memory that this process has had; systems say it in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def _temporary() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ettin-data-pilot-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------------------------------------------------------
# a build


def measure_build(resolved: Resolved, resolved_s: float, workers: int) -> MeasuredBuild:
    """Build a phase of a few words with the tokenizer, packing and layout of this one, and see what takes how long.

    Twice, in a process that has just started, as that of a build will have: at first all is loaded and the workers are
    started, then what splits and folders take by themselves is seen. Without workers this process does it.
    """
    with _temporary() as folder:
        recipe, splits = _tiny(resolved, folder / "texts", max(_TINY_FILES, 2 * workers))
        executor = ExecutorOptions("local", workers) if workers else None
        job = Task("a tiny phase", _TinyBuilds(recipe, folder, executor), 1)
        (ran,) = perform(_build_twice, [job], ExecutorOptions("local", 1) if workers else None)
        phase = folder / _AGAIN / recipe.phase
        folders = sum(len(splits_in(phase / part)) for part in (TRAIN, VALIDATION))
        base = _bytes_in(phase) - sum(_bytes_in(phase / part) for part in PARTS)
    of_folders = ran.again[TRAIN] + ran.again[VALIDATION]
    of_splits = (ran.again[_TOKENIZE] + of_folders) / max(workers, 1) + ran.again[_MIX]
    found = ran.first[_START] + ran.first[_PLAN]  # of which resolving this recipe has its own
    return MeasuredBuild(
        at=time.time(),
        base_s=max(resolved_s, found) + max(sum(ran.first.values()) - found - of_splits, 0.0),
        split_s=ran.again[_TOKENIZE] / splits,
        folder_s=of_folders / max(folders, 1),
        mix_s=ran.again[_MIX] / splits,
        base_bytes=base,
    )


@dataclass(frozen=True)
class _TinyBuilds:
    """What a process is asked to build, first with these workers and then again without."""

    recipe: Recipe
    folder: Path
    executor: ExecutorOptions | None


@dataclass(frozen=True)
class _TookBoth:
    """Stage -> its seconds, of both builds."""

    first: dict[str, float]
    again: dict[str, float]


def _build_twice(job: _TinyBuilds) -> _TookBoth:
    def took(name: str, executor: ExecutorOptions | None) -> dict[str, float]:
        run = build_phase(job.recipe, BuildOptions(job.folder / name, executor=executor))
        return {stage: spent.seconds for stage, spent in run.stages.items()}

    return _TookBoth(took("first", job.executor), took(_AGAIN, None))


def _tiny(resolved: Resolved, texts: Path, splits: int) -> tuple[Recipe, int]:
    """A recipe of one source of so many splits of a few words, which are written; and how many."""
    texts.mkdir()
    for number in range(splits):
        rows = [{"id": f"{number}-{n}", "text": f"document {number} {n} " * 40} for n in range(_TINY_DOCUMENTS)]
        (texts / f"{number}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    changes: dict[str, Any] = {
        "sources": {"tiny": SourceChoice(root=str(texts), passes=1.0, terms="own text", licence="CC0-1.0")},
        "filters": [], "attributes": [], "dedup": None, "decontaminate": None, "pii": None, "allow": None,
        "paragraphs": None, "validation_twins": None, "validation": 0.01, "split_bytes": 1,
    }  # fmt: skip
    return resolved.recipe.model_copy(update=changes), splits
