"""Runs the independent jobs of a verification: in this process, or on local or Ray workers that live for several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ettin_data.executor import Executor, ExecutorOptions

Payload = TypeVar("Payload")
Result = TypeVar("Result")


@contextlib.contextmanager
def open_workers(options: ExecutorOptions | None) -> Iterator[Executor | None]:
    """Workers for `run_jobs`; None, and no workers, for work in this process."""
    if options is None:
        yield None
        return
    from ettin_data.executor import Executor

    with Executor(options) as workers:
        yield workers


def run_jobs(
    fn: Callable[[Payload], Result],
    payloads: Sequence[Payload],
    *,
    workers: Executor | None = None,
    weights: Sequence[int] = (),
    on_result: Callable[[Any], None] | None = None,
) -> list[Result]:
    """`fn` of each payload, in the order of the payloads.

    Args:
        workers: of `open_workers`; a single job, or any without workers, runs in this process.
        weights: sizes of the jobs, largest first in parallel runs.
        on_result: called with each result as it comes.
    """
    if workers is None or len(payloads) < 2:
        results = []
        for payload in payloads:
            results.append(fn(payload))
            if on_result is not None:
                on_result(results[-1])
        return results
    from ettin_data.executor import Task

    sizes = weights or [1] * len(payloads)
    tasks = [Task(f"{i:06d}", p, w) for i, (p, w) in enumerate(zip(payloads, sizes, strict=True))]
    done = workers.run(fn, tasks, on_result=None if on_result is None else lambda _, result: on_result(result))
    return [done[task.name] for task in tasks]
