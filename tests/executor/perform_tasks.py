"""Functions for `test_perform.py` to run here and in workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettin_data.base.errors import EttinError, ExitStatus
from ettin_data.executor import ExecutorOptions, Failure, Task, TaskFailure, perform
from ettin_data.stages.read import FilesLost


class QuotaError(EttinError):
    """With an initializer and fields of its own, and another exit status, as a plug-in may have it."""

    exit_status = ExitStatus.INCOMPLETE

    def __init__(self, limit: int, place: Path) -> None:
        super().__init__(f"more than {limit:,} bytes", where=place)
        self.limit, self.place = limit, place


class Stubborn(Exception):
    """Pickles, and cannot be unpickled: as errors of several cloud clients."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code} {body}")


@dataclass(frozen=True)
class Raise:
    """An error to raise."""

    kind: type[EttinError]
    what: str
    where: str | Path | None = None
    why: Any = None
    remedy: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def error(self) -> EttinError:
        if self.kind is TaskFailure:
            error: EttinError = TaskFailure([Failure(self.what, "died", 2, "killed", "", "{}")], {"a": 1}, ["b"], 3)
        elif self.kind is QuotaError:
            error = QuotaError(len(self.what), Path("a/b"))
        elif self.kind is FilesLost:
            error = FilesLost("mine", [self.what])
        else:
            error = self.kind(self.what, where=self.where, why=self.why, remedy=self.remedy)
        vars(error).update(self.extra)
        for note in self.notes:
            error.add_note(note)
        return error


def raise_it(wanted: Raise) -> None:
    raise wanted.error()


def square_or_raise(value: int | Raise | str) -> int:
    if isinstance(value, Raise):
        raise value.error()
    if isinstance(value, str):
        raise ValueError(value)
    return value * value


def raise_below(wanted: Raise) -> None:
    """In a worker of a worker."""
    perform(raise_it, [Task("inner", wanted)], ExecutorOptions(workers=1))


def raise_stubborn(code: int) -> None:
    why = Stubborn(code, "password=hunter2")
    raise EttinError("the bucket refuses", where=Path("x"), why=why)


def raise_unknown(_: object) -> None:
    class Local(EttinError):
        """Only this process knows it."""

    raise Local("a class that nobody else can import", remedy="none")
