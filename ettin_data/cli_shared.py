"""What the commands about orders and runs share: options, the executor, the progress bar."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ettin_data.errors import OrderError

if TYPE_CHECKING:
    from ettin_data.executor import ExecutorOptions

console = Console(stderr=True)

PhaseName = Annotated[str | None, typer.Option(help="pretrain, extension or decay, where there are several.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
MaxLength = Annotated[int | None, typer.Option(help="max_seq_len of the trainer's loader.")]
Kind = Annotated[str, typer.Option("--executor", help="local (processes) or ray")]
Workers = Annotated[int | None, typer.Option(help="Workers at once; 1 works in this process.")]
RayAddress = Annotated[str | None, typer.Option(help="auto or an address; default: start Ray on this machine.")]


def executor_options(kind: str, workers: int | None, ray_address: str | None) -> ExecutorOptions | None:
    if kind == "local" and workers == 1:
        return None
    from ettin_data.executor import ExecutorOptions

    if kind not in ("local", "ray"):
        raise OrderError(f"--executor {kind!r} is not known", remedy="use local or ray")
    return ExecutorOptions("ray" if kind == "ray" else "local", workers, ray_address, time_limit_s=6 * 3600.0)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for `(what, done, total)`; total 0 where it is not known."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, Any] = {}
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done, total=total or None)

        yield show
