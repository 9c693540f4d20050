"""The one way in which every command does its independent work: in this process, or on local or Ray workers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ettin_data.base.errors import EttinError
from ettin_data.base.progress import SILENT, Progress, stage
from ettin_data.executor.executor import Executor, run_tasks
from ettin_data.executor.model import Event, ExecutorOptions, Failure, Task, TaskFailure

Result = TypeVar("Result")

_TOLD = ("retried", "worker_died", "timed_out", "waiting")
_OTHERS = 5  # further failures that an error names


@contextlib.contextmanager
def open_workers(workers: Executor | ExecutorOptions | None, shared: Path | None = None) -> Iterator[Executor | None]:
    """Workers that live for several calls of `perform`: those that are open already, or new ones for these options.

    None, and no workers, for work in this process. `shared` is the folder that they write to (`ExecutorOptions`).
    """
    if not isinstance(workers, ExecutorOptions):
        yield workers
        return
    if shared is not None:
        workers = replace(workers, shared=os.path.abspath(shared))
    with Executor(workers) as opened:
        yield opened


def perform(
    function: Callable[[Any], Result],
    tasks: Sequence[Task],
    workers: Executor | ExecutorOptions | None = None,
    progress: Progress = SILENT,
    *,
    title: str = "",
    tokens: Callable[[Result], int] = lambda result: 0,
    told: Callable[[Result], str | None] = lambda result: None,
) -> list[Result]:
    """`function(task.payload)` of each task, in the order of the tasks wherever and whenever they are done.

    Args:
        function: importable, so that a worker finds it.
        tasks: their names are what errors and messages call them; their weights are the work that `progress` hears of.
        workers: those of `open_workers`, or options for some of this call's own; None does all in this process, one
            after the other, where nothing is tried again and no time or memory is limited.
        title: of the stage. Without tasks there is no stage.
        tokens: of a result, for `progress`.
        told: what a person should know of a result, at once; None for nothing.

    Raises:
        EttinError: what a task raised, the first in the order of the tasks if several did: the very error, with its
            type and fields, and with notes of where it was raised and of what else failed. From workers, its cause is
            the `TaskFailure` that holds all failures and results.
        TaskFailure: workers died, hung or met other errors, which it has as text with their tracebacks.
        ExecutorError: there are no workers.
        Exception: in this process, whatever else `function` raises.
    """
    if not tasks:
        return []

    def on_result(task: Task, result: Result) -> None:
        progress.advance(task.weight, tokens(result))
        if message := told(result):
            progress.say(f"{task.name}: {message}")

    def on_event(event: Event) -> None:
        if event.kind in _TOLD:
            progress.say(f"{event.kind.replace('_', ' ')} {event.task}: {event.message}")

    with stage(progress, title, len(tasks), sum(task.weight for task in tasks)):
        if workers is None:
            return _here(function, tasks, on_result)
        try:
            if isinstance(workers, ExecutorOptions):
                done = run_tasks(function, tasks, workers, on_result=on_result, on_event=on_event)
            else:
                done = workers.run(function, tasks, on_result=on_result, on_event=on_event)
        except TaskFailure as failure:
            order = {task.name: number for number, task in enumerate(tasks)}
            failed = sorted(failure.failures, key=lambda failed: order[failed.task])
            ours = [(failed.task, failed.error) for failed in failed if failed.error is not None]
            if not ours:
                raise
            raise _with_notes(*ours[0], failed) from failure
    return list(done.values())


def _here(
    function: Callable[[Any], Result], tasks: Sequence[Task], on_result: Callable[[Task, Result], None]
) -> list[Result]:
    results = []
    for task in tasks:
        try:
            results.append(function(task.payload))
        except Exception as error:
            error.add_note(f"in {task.name}")
            raise
        on_result(task, results[-1])
    return results


def _with_notes(task: str, error: EttinError, failed: Sequence[Failure]) -> EttinError:
    error.add_note(f"in {task}")
    others = [other for other in failed if other.task != task]
    for other in others[:_OTHERS]:
        error.add_note(f"also failed: {other.task}: {other.reason.splitlines()[0]}")
    if len(others) > _OTHERS:
        error.add_note(f"and {len(others) - _OTHERS:,} more")
    return error
