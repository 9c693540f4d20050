"""What the scheduling loop asks of a kind of workers, and what it hears from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ettin_data.executor.worker import Done, Job, Raised


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has started and can take its first job."""

    worker: int
    pid: int
    node: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A worker is done with its job and can take another; `output` is the last that it printed meanwhile."""

    worker: int
    body: Done | Raised
    output: str


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone, with its job if it had one; `with_machine` if its whole machine is, which no job has done."""

    worker: int
    reason: str
    output: str
    with_machine: bool = False


Reply = Ready | Answer | Died


class WorkerPool(Protocol):
    """Workers known by number. Single-threaded: only the thread that runs the loop calls it."""

    @property
    def slots(self) -> int:
        """How many workers there should be at most, now."""

    def pack(self, value: Any) -> bytes:
        """Pickle a function or payload so that a worker of this pool can read it."""

    def start(self) -> int:
        """Begin to start a worker and return its number; `wait` will say `Ready` or `Died`."""

    def submit(self, worker: int, job: Job) -> None:
        """Give a job to a worker that is ready and idle; `wait` will give its `Answer` or say `Died`."""

    def wait(self, timeout: float | None) -> list[Reply]:
        """What has happened, waiting for something for at most `timeout` seconds (None: as long as it takes)."""

    def kill(self, worker: int) -> str:
        """End a worker at once; nothing more is heard from it. Returns where it was and the last it wrote, if known."""

    def resources(self) -> str:
        """One line on what there is to run workers on, for the message that none could start."""

    def close(self) -> None:
        """End all workers: politely, then by force after a few seconds. Safe to call twice."""
