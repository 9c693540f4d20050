"""The scheduling loop, the same for every kind of worker: which task runs when, what is tried again, how a run ends."""

from __future__ import annotations

import contextlib
import heapq
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from ettin_data.base.units import duration
from ettin_data.executor.model import (
    Event,
    EventKind,
    ExecutorError,
    ExecutorOptions,
    Failure,
    FailureKind,
    Task,
    TaskFailure,
    clean,
    summary,
)
from ettin_data.executor.pool import Answer, Died, Ready, Reply, WorkerPool
from ettin_data.executor.worker import Done, Job

Result = TypeVar("Result")
OnEvent = Callable[[Event], None]

_START_DEATHS = 3  # workers in a row that may die before they are ready
_WAITING_NOTICE_S = 10.0  # before it is said that workers are slow to come


@dataclass(slots=True)
class Roster:
    """What is known of the workers between and during runs, by their number."""

    ready: dict[int, Ready] = field(default_factory=dict)  # all that have started and not ended
    idle: list[int] = field(default_factory=list)
    starting: set[int] = field(default_factory=set)
    start_deaths: int = 0  # since one became ready
    waiting_since: float = 0.0  # for those that are starting, without any coming or going
    notice_given: bool = False
    cpu_s: float = 0.0  # of all that have ended a job

    def came(self, ready: Ready) -> None:
        self.starting.discard(ready.worker)
        self.ready[ready.worker] = ready
        self.idle.append(ready.worker)
        self.start_deaths, self.waiting_since, self.notice_given = 0, time.monotonic(), False

    def went(self, worker: int) -> None:
        self.starting.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)
        if self.ready.pop(worker, None) is not None:
            self.waiting_since, self.notice_given = time.monotonic(), False


@dataclass(frozen=True, slots=True)
class _Flight:
    """A task in a worker's hands."""

    index: int
    attempt: int
    deadline: float


class Run(Generic[Result]):
    """One call of `Executor.run`."""

    def __init__(
        self,
        pool: WorkerPool,
        workers: Roster,
        options: ExecutorOptions,
        fn: Callable[[Any], Result],
        tasks: tuple[Task, ...],
        on_result: Callable[[Task, Result], None] | None,
        on_event: OnEvent | None,
    ) -> None:
        names = {task.name for task in tasks}
        if len(names) != len(tasks):
            twice = sorted(name for name in names if sum(task.name == name for task in tasks) > 1)
            raise ExecutorError(f"two tasks have the same name: {', '.join(twice[:5])}")
        try:
            self.packed_fn = pool.pack(fn)
        except Exception as error:
            raise ExecutorError(
                f"the function {fn!r} cannot be sent to a worker", why=error, remedy="define it at the top of a module"
            ) from error
        self.pool, self.workers, self.options, self.tasks = pool, workers, options, tasks
        self.on_result, self.on_event = on_result, on_event
        self.waiting = [(-task.weight, index) for index, task in enumerate(tasks)]  # a heap: the heaviest first
        heapq.heapify(self.waiting)
        self.delayed: list[tuple[float, int]] = []  # a heap: (when it may run again, task)
        self.flights: dict[int, _Flight] = {}
        self.attempts = [0] * len(tasks)
        self.done: dict[int, Result] = {}
        self.failures: list[Failure] = []
        self.stopped: list[int] = []
        self.drain_until = float("inf")

    def results(self) -> dict[str, Result]:
        self.workers.waiting_since = time.monotonic()
        if self.tasks:
            self.hear(self.pool.wait(0))  # a worker that died between two runs is not this run's
        while self.goes_on():
            self.hear(self.pool.wait(self.patience()))
            self.enforce_limits()
        results = {task.name: self.done[index] for index, task in enumerate(self.tasks) if index in self.done}
        if self.failures:
            left = len(self.tasks) - len(results) - len(self.failures) - len(self.stopped)
            raise TaskFailure(self.failures, results, [self.tasks[index].name for index in self.stopped], left)
        return results

    def goes_on(self) -> bool:
        """Start what can be started; whether there is anything left to wait for."""
        if not self.failures:
            self.feed()
        return bool(self.flights) or not (self.failures or len(self.done) == len(self.tasks))

    def feed(self) -> None:
        """Give waiting tasks to idle workers, and start workers while there are tasks without one."""
        now = time.monotonic()
        while self.delayed and self.delayed[0][0] <= now:
            _, index = heapq.heappop(self.delayed)
            heapq.heappush(self.waiting, (-self.tasks[index].weight, index))
        while self.waiting and self.workers.idle and not self.failures:
            self.begin(heapq.heappop(self.waiting)[1], self.workers.idle.pop(), now)
        wanted = min(self.pool.slots, len(self.flights) + len(self.waiting)) if not self.failures else 0
        for _ in range(wanted - len(self.workers.ready) - len(self.workers.starting)):
            self.workers.starting.add(self.pool.start())

    def begin(self, index: int, worker: int, now: float) -> None:
        task = self.tasks[index]
        self.attempts[index] += 1
        try:
            payload = self.pool.pack(task.payload)
        except Exception as error:
            self.workers.idle.append(worker)
            self.fail(index, "error", f"the payload cannot be pickled: {type(error).__name__}: {error}", "")
            return
        limit = self.options.time_limit_s
        self.flights[worker] = _Flight(index, self.attempts[index], now + limit if limit else float("inf"))
        self.tell("started", index, worker)
        self.pool.submit(worker, Job(self.packed_fn, payload))

    def patience(self) -> float | None:
        """Seconds until something is due without anything happening."""
        due = min((flight.deadline for flight in self.flights.values()), default=float("inf"))
        due = min(due, self.drain_until)
        if self.delayed:
            due = min(due, self.delayed[0][0])
        if self.workers.starting and not self.failures:
            if not self.workers.notice_given:
                due = min(due, self.workers.waiting_since + _WAITING_NOTICE_S)
            if not self.workers.ready:
                due = min(due, self.workers.waiting_since + self.options.start_limit_s)
        return None if due == float("inf") else max(0.0, due - time.monotonic())

    def hear(self, replies: list[Reply]) -> None:
        for reply in replies:
            match reply:
                case Ready():
                    self.workers.came(reply)
                    self.tell("worker_started", None, reply.worker)
                case Answer():
                    self.answer(reply)
                case Died():
                    self.died(reply)

    def answer(self, reply: Answer) -> None:
        flight, body = self.flights.pop(reply.worker), reply.body
        task = self.tasks[flight.index]
        if reply.output:
            self.tell("output", flight.index, reply.worker, reply.output)
        if isinstance(body, Done):
            self.workers.cpu_s += body.cpu_s
            try:
                result = pickle.loads(body.result)
            except Exception as error:
                self.fail(flight.index, "error", f"the result cannot be unpickled: {type(error).__name__}: {error}", "")
            else:
                self.done[flight.index] = result
                self.tell("finished", flight.index, reply.worker)
                if self.on_result is not None:
                    self.on_result(task, result)
        elif body.transient:
            self.retry(flight, "error", body.reason, body.detail)
        else:
            self.fail(flight.index, "error", body.reason, body.detail, body.error)
        self.workers.idle.append(reply.worker)
        if body.retire:
            self.end(reply.worker)

    def died(self, reply: Died) -> None:
        self.tell("worker_died", None, reply.worker, reply.reason)
        self.workers.start_deaths += reply.worker in self.workers.starting and not reply.with_machine
        self.workers.went(reply.worker)
        flight = self.flights.pop(reply.worker, None)
        if flight is not None:
            if (
                reply.with_machine
            ):  # which counts for nothing: a cluster may take its machines away as often as it likes
                self.attempts[flight.index] -= 1
                flight = replace(flight, attempt=flight.attempt - 1)
            self.retry(flight, "died", reply.reason, reply.output)
        if self.workers.start_deaths >= _START_DEATHS:
            raise ExecutorError(
                f"{_START_DEATHS} workers in a row died before they could take a task",
                why=clean(f"{reply.reason}\n{reply.output}".strip()),
                remedy="see that a fresh Python process on every machine can import ettin_data",
            )

    def enforce_limits(self) -> None:
        now = time.monotonic()
        for worker, flight in list(self.flights.items()):
            if flight.deadline <= now:
                limit = self.options.time_limit_s or 0.0
                reason = f"stopped at the time limit of {duration(limit) if limit >= 60 else f'{limit:g}s'}"
                self.tell("timed_out", flight.index, worker, reason)
                del self.flights[worker]
                self.retry(flight, "timed_out", reason, self.end(worker))
            elif self.drain_until <= now:
                del self.flights[worker]
                self.stopped.append(flight.index)
                self.end(worker)
        if self.workers.starting and not self.failures:
            self.check_start(now - self.workers.waiting_since)

    def check_start(self, waited: float) -> None:
        """Workers that do not come are a notice, and an error only while there is no worker at all."""
        if waited >= self.options.start_limit_s and not self.workers.ready:
            raise ExecutorError(
                f"no worker could start within {duration(self.options.start_limit_s)}",
                why=f"{len(self.workers.starting)} were asked for; there are {self.pool.resources()}",
                remedy="wait for other jobs to end, ask for fewer workers, or raise the time to start: --start-limit",
            )
        if waited >= _WAITING_NOTICE_S and not self.workers.notice_given:
            self.workers.notice_given = True
            self.tell("waiting", None, 0, f"{len(self.workers.starting)} workers to start; {self.pool.resources()}")

    def end(self, worker: int) -> str:
        self.workers.went(worker)
        return self.pool.kill(worker)

    def retry(self, flight: _Flight, kind: FailureKind, reason: str, detail: str) -> None:
        """After a failure that may not come again."""
        if flight.attempt >= self.options.max_attempts:
            self.fail(flight.index, kind, reason, detail)
            return
        if self.failures:
            self.fail(flight.index, kind, f"{reason}; not tried again, because the run is ending", detail)
            return
        delay = self.options.retry_delay(flight.attempt)
        heapq.heappush(self.delayed, (time.monotonic() + delay, flight.index))
        next_try = f"attempt {flight.attempt + 1} of {self.options.max_attempts} in {delay:g}s"
        self.tell("retried", flight.index, 0, f"{reason}; {next_try}")

    def fail(self, index: int, kind: FailureKind, reason: str, detail: str, packed: bytes | None = None) -> None:
        task, error = self.tasks[index], None
        if packed is not None:
            with contextlib.suppress(Exception):  # of a class that is not known here: the reason says the same
                error = pickle.loads(packed)
        if not self.failures:
            self.drain_until = time.monotonic() + self.options.drain_s
        text = clean(reason), clean(detail), summary(task.payload)
        self.failures.append(Failure(task.name, kind, self.attempts[index], *text, error))
        self.tell("failed", index, 0, reason)

    def tell(self, kind: EventKind, index: int | None, worker: int, message: str = "") -> None:
        if self.on_event is None:
            return
        name, attempt = ("", 0) if index is None else (self.tasks[index].name, self.attempts[index])
        known = self.workers.ready.get(worker)
        pid, node = (known.pid, known.node) if known else (0, "")
        self.on_event(Event(kind, name, attempt, pid, node, clean(message) if message else ""))
