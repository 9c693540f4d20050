"""A pilot: a keyed sample of each source goes the way of a split, and a tiny phase is built, in temporary folders.

What that took and gave is measured (`build.measured`), and `build.contract` makes of it what a plan promises. Nothing
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
from ettin_data.base.progress import Progress, Silent
from ettin_data.base.units import duration
from ettin_data.build.build import build_phase
from ettin_data.build.measured import (
    MeasuredBuild,
    MeasuredFile,
    MeasuredSource,
    keep,
    kept,
    of_build,
    of_source,
)
from ettin_data.build.plan import SourcePlan
from ettin_data.build.pool import SplitJob, pipeline
from ettin_data.build.prepare import BuildOptions, Resolved
from ettin_data.build.sampling import Ask, sample, text_bytes
from ettin_data.executor import ExecutorOptions, Task, perform
from ettin_data.recipe import SourceChoice
from ettin_data.sources.base import Record
from ettin_data.stages.batches import TokenRows
from ettin_data.stages.pack.step import Pack
from ettin_data.stages.read import Read
from ettin_data.stages.running import run_steps
from ettin_data.storage.phase import PARTS, TRAIN, VALIDATION

_TWICE_S = 20.0  # a sample that took longer is not gone through once more to see how much the time varies
_FEW = 2  # documents of the run that shows what a split has beside its text
_MARKER_BYTES = 3_000  # of a split of one file; and of its log
_TINY_FILES, _TINY_DOCUMENTS = 4, 8


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


def make_pilots(resolved: Resolved, asked: str, progress: Progress, resolved_s: float = 0.0) -> None:
    """Measure every source, and a tiny build, unless the cache has the same measurement.

    Args:
        asked: how much of each source, as of `parse_ask`.
        resolved_s: seconds that it took to resolve the recipe, which a build does as well.
    """
    ask = parse_ask(asked)
    of = of_build(resolved)
    if kept(MeasuredBuild, of) is None and (said := keep(measure_build(resolved, resolved_s), of)):
        progress.say(said)
    missing = []
    for key, source in resolved.plan.sources.items():
        found = kept(MeasuredSource, of_source(resolved, source))
        if found is None or found.asked != asked:
            missing.append(key)
    progress.start("pilot", len(missing), len(missing))
    try:
        for key in missing:
            source, began = resolved.plan.sources[key], time.monotonic()
            said = keep(measure(resolved, source, ask, asked), of_source(resolved, source))
            progress.advance(1, note=f"{key} in {duration(time.monotonic() - began)}")
            if said:
                progress.say(said)
    finally:
        progress.done()


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


class _Clock(Silent):
    """How long each stage takes, and how many jobs it has."""

    def __init__(self) -> None:
        self.seconds, self.jobs, self._stage, self._began = dict[str, float](), dict[str, int](), "", 0.0

    def start(self, title: str, jobs: int, work: int) -> None:
        self._stage, self._began = title, time.monotonic()
        self.jobs[title] = self.jobs.get(title, 0) + jobs

    def done(self) -> None:
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + time.monotonic() - self._began


def measure_build(resolved: Resolved, resolved_s: float) -> MeasuredBuild:
    """Build a phase of a few words with the tokenizer, packing and layout of this one, and see what takes how long."""
    with _temporary() as folder:
        texts = folder / "texts"
        texts.mkdir()
        for number in range(_TINY_FILES):
            rows = [{"id": f"{number}-{n}", "text": f"document {number} {n} " * 40} for n in range(_TINY_DOCUMENTS)]
            (texts / f"{number}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
        recipe = resolved.recipe.model_copy(
            update={
                "sources": {"tiny": SourceChoice(root=str(texts), passes=1.0, terms="own text", licence="CC0-1.0")},
                "filters": [], "attributes": [], "dedup": None, "decontaminate": None, "pii": None, "allow": None,
                "validation_twins": None, "validation": 0.01, "split_bytes": 1,
            }
        )  # fmt: skip
        clock, began = _Clock(), time.monotonic()
        build_phase(recipe, BuildOptions(folder / "run", executor=None, progress=clock))
        took, phase = time.monotonic() - began, folder / "run" / recipe.phase
        splits = clock.seconds.get("tokenize", 0.0)
        folders = sum(clock.seconds.get(part, 0.0) for part in (TRAIN, VALIDATION))
        base = _bytes_in(phase) - sum(_bytes_in(phase / part) for part in PARTS)
    return MeasuredBuild(
        at=time.time(),
        base_s=resolved_s + max(took - splits - folders, 0.0),
        split_s=splits / max(clock.jobs.get("tokenize", 0), 1),
        folder_s=folders / max(sum(clock.jobs.get(part, 0) for part in (TRAIN, VALIDATION)), 1),
        worker_s=_worker_start(resolved),
        base_bytes=base,
    )


def _worker_start(resolved: Resolved) -> float:
    """Seconds until a worker process has started and loaded the tokenizer."""
    began = time.monotonic()
    perform(first_word, [Task("tokenizer", resolved.tokenizer, 1)], ExecutorOptions("local", 1))
    return time.monotonic() - began


def first_word(tokenizer: Any) -> int:
    """What a worker does first: it loads the tokenizer."""
    return len(tokenizer.encode_batch(["a word"])[0])
