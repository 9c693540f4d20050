"""What running a task costs: local processes and Ray actors beside a bare `multiprocessing.Pool`, in one run.

    python -m benchmarks.executor [--workers 2] [--tasks 1000] [--splits 64] [--seconds 0.5] [--json FILE]

* `start s`: from nothing to the first result. Paid once for a build, which keeps its workers.
* `tiny ms`: one of the tasks that do nothing, given out one at a time. At most 100 ms, and 2 ms for local processes.
* `splits s`: wall time of the splits, each of which sleeps; `ideal s` is splits x seconds / workers.
* `of a minute %`: the same loss, with the start, if each split took a minute. Ray's is at most 2% more than local.
* `machinery CPU %`: of the workers' cores, what everything below this process uses beside the work when splits compute:
  the driver and, with Ray, its own processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import Row, report
from ettin_data.executor import Executor, ExecutorOptions, Task

Call = Callable[[Callable[[Any], None], list[Any]], object]


def nothing(_: int) -> None:
    """The tiny task."""


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def compute(seconds: float) -> None:
    """Use this much CPU time, however long it takes."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(1000))


def with_pool(pool: Any) -> Call:
    return lambda fn, payloads: list(pool.imap_unordered(fn, payloads, chunksize=1))


def with_executor(executor: Executor) -> Call:
    return lambda fn, payloads: executor.run(fn, [Task(str(n), payload) for n, payload in enumerate(payloads)])


def measure(
    name: str, opening: Callable[[], AbstractContextManager[Any]], call: Callable[[Any], Call], args: argparse.Namespace
) -> Row:
    began = time.perf_counter()
    with opening() as opened:
        run = call(opened)
        run(nothing, [0])
        start = time.perf_counter() - began
        run(sleep, [0.5] * args.workers)  # all workers are up: the start of the others is not a cost of tiny tasks
        tiny = min(_wall(run, nothing, list(range(args.tasks))) for _ in range(3)) / args.tasks
        splits = _wall(run, sleep, [args.seconds] * args.splits)
        cpu = _tree_cpu()
        wall = _wall(run, compute, [args.seconds] * args.splits)
        cpu = _tree_cpu() - cpu
    work = args.splits * args.seconds
    ideal = work / args.workers
    return {
        "": name,
        "start s": start,
        "tiny ms": tiny * 1e3,
        "splits s": splits,
        "ideal s": ideal,
        "of a minute %": (start + splits - ideal) / (args.splits * 60 / args.workers) * 100,
        "machinery CPU %": (cpu - work) / (wall * args.workers) * 100,
    }


def _wall(run: Call, fn: Callable[[Any], None], payloads: list[Any]) -> float:
    began = time.perf_counter()
    run(fn, payloads)
    return time.perf_counter() - began


def _tree_cpu() -> float:
    """CPU seconds so far of this process and all that are below it."""
    own = psutil.Process()
    return sum(times.user + times.system for times in (p.cpu_times() for p in [own, *own.children(recursive=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=1000, help="tiny tasks")
    parser.add_argument("--splits", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one split")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    def executor(kind: Any, workers: int) -> Callable[[], Executor]:
        return lambda: Executor(ExecutorOptions(kind=kind, workers=workers))

    spawned = multiprocessing.get_context("spawn")
    one = argparse.Namespace(**vars(args) | {"workers": 1, "splits": max(1, args.splits // args.workers)})
    pool, _, local, ray = rows = [
        measure("multiprocessing.Pool", lambda: spawned.Pool(args.workers), with_pool, args),
        measure("local, one worker", executor("local", 1), with_executor, one),
        measure("local", executor("local", args.workers), with_executor, args),
        measure("ray", executor("ray", args.workers), with_executor, args),
    ]
    ratios = {
        "local tiny / pool tiny": local["tiny ms"] / pool["tiny ms"],
        "ray tiny / local tiny": ray["tiny ms"] / local["tiny ms"],
        "ray over local, splits of a minute, %": ray["of a minute %"] - local["of a minute %"],
        "ray over local, machinery CPU, %": ray["machinery CPU %"] - local["machinery CPU %"],
    }
    report(
        f"Running tasks: {args.workers} workers, {args.splits} splits of {args.seconds:g} s", rows, args.json, ratios
    )
    for name, value in ratios.items():
        print(f"{name}: {value:.2f}")


if __name__ == "__main__":
    main()
