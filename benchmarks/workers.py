"""Two workers against one: the wall time of the same splits; and what a tiny split costs.

    python -m benchmarks.workers [--workers 2] [--splits 24] [--megabytes 8] [--rounds 3] [--tiny 300] [--json FILE]

Every split is a file of its own of the same real text, built as a build does it. Workers are up and warm before the
clock starts, because a build starts them once. The claim is 1.8 times as fast with two workers. It needs two cores that
nobody else uses, so it is in `make bench` only.

One large file shows what the cutting into parts is for: whole, it keeps one worker busy and the others waiting.

Tiny splits of a few documents show what every split costs beside its text: a folder, a ledger, a marker, the flushes to
disk, and being handed out, by local processes and by Ray. The claim is under 0.1 s.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import text
from benchmarks.end_to_end import split_job, split_jobs, write_input
from benchmarks.measure import report
from ettin_data.build.pool import SplitJob, build_split
from ettin_data.executor import Executor, ExecutorOptions, Task
from ettin_data.tokenizer.encoder import Tokenizer, resolve

CLAIM = 1.8


def tokens_of(job: SplitJob) -> int:
    """Build a split; the tokens that it read."""
    return build_split(job).tally["tokens_in"]


def copies(path: Path, folder: Path, tokenizer: Tokenizer, number: int) -> list[SplitJob]:
    """Splits of the same file under names of their own."""
    job = split_job(path, folder / "run", tokenizer, 1024, "backfill")
    names = [f"{job.name}_{copy:04}" for copy in range(number)]
    return [replace(job, name=name, folder=job.folder.with_name(name)) for name in names]


def measure(jobs: Sequence[SplitJob], options: ExecutorOptions, rounds: int) -> dict[str, Any]:
    """Wall seconds of the splits, the median over the rounds; a first round starts the workers and warms them up."""
    walls: list[float] = []
    tokens = 0
    with Executor(options) as executor:
        for _ in range(rounds + 1):
            tasks = [Task(job.name, job, job.bytes) for job in jobs]
            began = time.perf_counter()
            tokens = sum(executor.run(tokens_of, tasks).values())
            walls.append(time.perf_counter() - began)
            shutil.rmtree(jobs[0].folder.parent)
    wall = median(walls[1:])
    return {
        "executor": options.kind,
        "workers": options.workers or 0,
        "splits": len(jobs),
        "M tokens": tokens / 1e6,
        "wall s": wall,
        "M tokens/s": tokens / 1e6 / wall,
        "ms a split": wall / len(jobs) * 1e3,
    }


def measure_one_file(folder: Path, options: argparse.Namespace, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """A parquet file that is all there is to do: whole, where only one worker has work, and in parts."""
    folder.mkdir()
    path = write_input(folder, "parquet", text.documents(options.megabytes * options.splits / 2), tokenizer)
    workers = ExecutorOptions(workers=options.workers)
    rows = []
    for part_bytes in (None, -(-path.stat().st_size // (4 * options.workers))):
        jobs = split_jobs(path, folder / "run", tokenizer, 1024, "backfill", part_bytes=part_bytes)
        rows.append({"parts": len(jobs), **measure(jobs, workers, options.rounds)})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--splits", type=int, default=24)
    parser.add_argument("--megabytes", type=float, default=8, help="of text in a split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", type=int, default=300, help="tiny splits")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ettin-workers-") as name:
        tokenizer, folder = Tokenizer(resolve()), Path(name)
        large, small = folder / "large", folder / "small"
        for part, megabytes in ((large, options.megabytes), (small, 0.02)):
            part.mkdir()
            write_input(part, "jsonl.gz", text.documents(megabytes), tokenizer)
        jobs = copies(large / "bench.jsonl.gz", large, tokenizer, options.splits)
        rows = [
            measure(jobs, ExecutorOptions(workers=workers), options.rounds)
            for workers in dict.fromkeys((1, options.workers))
        ]
        jobs = copies(small / "bench.jsonl.gz", small, tokenizer, options.tiny)
        one_file = measure_one_file(folder / "one", options, tokenizer)
        tiny = [measure(jobs, ExecutorOptions(kind=kind, workers=options.workers), 1) for kind in ("local", "ray")]
    times = rows[0]["wall s"] / rows[-1]["wall s"]
    report("Workers: the same splits", rows, options.json, {f"{options.workers} workers against one": times})
    print(f"{times:.2f} times as fast with {options.workers} workers; claimed: {CLAIM:g} with two\n")
    report("One large file", one_file, options.json and options.json.with_name(f"{options.json.stem}-one-file.json"))
    shared = one_file[0]["wall s"] / one_file[-1]["wall s"]
    print(f"one file: {shared:.2f} times as fast in parts with {options.workers} workers as whole\n")
    report("Tiny splits", tiny, options.json and options.json.with_name(f"{options.json.stem}-tiny.json"))


if __name__ == "__main__":
    main()
