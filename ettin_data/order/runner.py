"""Runs the independent jobs of a verification: in this process, or on local or Ray workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Payload = TypeVar("Payload")
Result = TypeVar("Result")


def run_jobs(
    fn: Callable[[Payload], Result],
    payloads: Sequence[Payload],
    *,
    options: Any = None,
    weights: Sequence[int] = (),
    on_result: Callable[[Any], None] | None = None,
) -> list[Result]:
    """`fn` of each payload, in the order of the payloads.

    Args:
        options: `executor.ExecutorOptions`; None runs in this process.
        weights: sizes of the jobs, largest first in parallel runs.
        on_result: called with each result as it comes.
    """
    if options is None or len(payloads) < 2:
        results = []
        for payload in payloads:
            results.append(fn(payload))
            if on_result is not None:
                on_result(results[-1])
        return results
    from ettin_data.executor import Task, run_tasks

    sizes = weights or [1] * len(payloads)
    tasks = [Task(f"{i:06d}", p, w) for i, (p, w) in enumerate(zip(payloads, sizes, strict=True))]
    done = run_tasks(fn, tasks, options, on_result=None if on_result is None else lambda _, result: on_result(result))
    return [done[task.name] for task in tasks]
