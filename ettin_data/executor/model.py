"""What a caller of the executor gives and gets: tasks, options, events and failures."""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ettin_data.base.errors import EttinError, ExitStatus
from ettin_data.base.redact import redact

_LONGEST_S = 1e9  # thirty years

EventKind = Literal[
    "worker_started",  # a worker is ready for its first task
    "worker_died",  # a worker ended that nobody asked to end
    "waiting",  # workers have been asked for and are not there yet
    "started",  # an attempt at a task begins
    "timed_out",  # an attempt was ended for its time limit
    "retried",  # an attempt failed and the task will be tried again
    "failed",  # a task failed for good: the run stops
    "finished",  # a task is done
    "output",  # what the worker wrote to its standard output and error during a finished task (local workers only)
]
FailureKind = Literal["error", "died", "timed_out"]


class ExecutorError(EttinError):
    """Tasks cannot be started: bad options, no workers, a function that cannot be sent to a worker."""


@dataclass(frozen=True, slots=True)
class Task:
    """One call of the run's function.

    Args:
        name: unique in a run; what people and messages call it, such as `pools/arxiv/arxiv_0004`.
        payload: the function's only argument; picklable and small.
        weight: bytes of work, or anything proportional: the heaviest tasks start first.
    """

    name: str
    payload: Any
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """How tasks are run.

    Args:
        kind: `local` worker processes, or `ray` actors of one CPU each.
        workers: how many at once; None: the cores that this process may use, or all CPUs of the Ray cluster, those of
            nodes that join later too.
        ray_address: `auto`, `host:port` or `ray://…` joins a cluster; None starts a local instance, bound to loopback.
        time_limit_s: seconds that one attempt at a task may take; None: no limit.
        max_attempts: tries of a task whose worker died, timed out or met an error of the machine.
        retry_delay_s: seconds before the second attempt, doubled for each further one, at most a minute.
        memory_limit: bytes of its own memory (resident, not file-backed) that a worker may hold; more is a
            `MemoryError` in the task, whose traceback shows where. None: no limit. Needs Linux.
        start_limit_s: seconds to wait for the first worker, for instance for room in a busy cluster.
        shared: a folder that tasks write to, which workers on other machines have to see as well; None: they need not.
        drain_s: after a final failure, seconds that the tasks in flight have to finish.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int | None = None
    ray_address: str | None = None
    time_limit_s: float | None = None
    max_attempts: int = 3
    retry_delay_s: float = 1.0
    memory_limit: int | None = None
    start_limit_s: float = 300.0
    drain_s: float = 600.0
    shared: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("local", "ray"):
            raise ExecutorError(
                f"{self.kind!r} is not a kind of executor",
                remedy="use local or ray; under Slurm or Kubernetes, build in parts with --share (docs/clusters.md)",
                status=ExitStatus.USAGE,
            )
        if self.ray_address is not None and self.kind != "ray":
            raise ExecutorError(
                f"a Ray address is given, but the executor is {self.kind!r}", remedy="use ray", status=ExitStatus.USAGE
            )
        if self.memory_limit is not None and sys.platform != "linux":
            raise ExecutorError(
                f"memory cannot be limited on {sys.platform}", remedy="leave memory_limit away", status=ExitStatus.USAGE
            )
        for name in ("workers", "max_attempts", "memory_limit", "time_limit_s", "start_limit_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ExecutorError(
                    f"{name} must be more than 0, not {value!r}",
                    remedy="leave it out for its default" if name != "max_attempts" else "give 1 for no second attempt",
                    status=ExitStatus.USAGE,
                )
            if name.endswith("_s") and value is not None and _LONGEST_S < value < math.inf:
                raise ExecutorError(
                    f"{name} is {value!r} seconds, which no clock counts",
                    remedy="write inf for no limit",
                    status=ExitStatus.USAGE,
                )
        for name in ("retry_delay_s", "drain_s"):
            value = getattr(self, name)
            if not value >= 0:
                raise ExecutorError(f"{name} must not be less than 0, not {value!r}", status=ExitStatus.USAGE)

    def retry_delay(self, attempt: int) -> float:
        """Seconds between the failure of this attempt (from 1) and the next."""
        return float(min(self.retry_delay_s * 2 ** min(attempt - 1, 16), 60.0))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, told to `on_event` in the driver.

    Args:
        task: the task's name; empty when the event is about a worker without a task.
        attempt: from 1; 0 without a task.
        pid: of the worker process; 0 when there is none.
        node: the machine of the worker, as Ray calls it; empty for local workers.
    """

    kind: EventKind
    task: str = ""
    attempt: int = 0
    pid: int = 0
    node: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task failed for good.

    Args:
        reason: one or a few lines: the exception, the signal, or the limit. Free of secrets, like all text here.
        detail: the worker's traceback, or the last that a dead worker wrote. Empty for an `EttinError`, which says all.
        payload: the task's payload in at most a few hundred characters.
        error: the `EttinError` itself that the task raised, if it was one.
    """

    task: str
    kind: FailureKind
    attempts: int
    reason: str
    detail: str
    payload: str
    error: EttinError | None = None

    def __str__(self) -> str:
        tries = f"{self.attempts} attempt" + ("s" if self.attempts != 1 else "")
        text = f"{self.task} ({tries}): {self.reason}\ninput: {self.payload}\n{self.detail}".rstrip()
        return text.replace("\n", "\n      ")


_REMEDIES = {
    "error": "correct the cause",
    "died": "use fewer workers or more memory if memory ran out; otherwise look at the input named here",
    "timed_out": "raise the time limit if the work is only slow; otherwise look at the input named here",
}


class TaskFailure(ExecutorError):
    """At least one task failed for good.

    Attributes:
        failures: every failed task, in the order of failing.
        results: what the finished tasks returned, in the order of the tasks.
        stopped: names of the tasks that were ended because they did not finish in time after the first failure.
        not_started: how many tasks had not begun, or waited for another attempt.
    """

    def __init__(
        self, failures: Sequence[Failure], results: Mapping[str, Any], stopped: Sequence[str] = (), not_started: int = 0
    ) -> None:
        self.failures, self.results = tuple(failures), dict(results)
        self.stopped, self.not_started = tuple(stopped), not_started
        total = len(self.failures) + len(self.results) + len(self.stopped) + not_started
        rest = f"{len(self.results)} finished, {len(self.stopped)} stopped, {not_started} not started"
        remedies = "; ".join(_REMEDIES[kind] for kind in dict.fromkeys(failure.kind for failure in self.failures))
        super().__init__(
            f"{len(self.failures)} of {total} tasks failed ({rest})",
            where=", ".join(failure.task for failure in self.failures),
            why="\n    ".join(str(failure) for failure in self.failures),
            remedy=f"{remedies}; then run again",
        )


def summary(payload: Any) -> str:
    """A payload in at most about 400 characters, without secrets."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 400
    return clean(short.repr(payload))


def clean(text: str) -> str:
    """Text without secrets."""
    return redact(text)
