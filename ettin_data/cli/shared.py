"""What the commands share: options, the executor, one console, one bar, one way to fail."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from ettin_data.bar import Bar
    from ettin_data.base.errors import EttinError
    from ettin_data.executor import ExecutorOptions

console = Console(stderr=True)

TIME_LIMIT_H = 6.0
"""Hours that one task may take before its worker is taken for hung; the largest upstream file needs minutes."""

PhaseName = Annotated[str | None, typer.Option(help="pretrain, extension or decay, where there are several.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
MaxLength = Annotated[int | None, typer.Option(help="max_seq_len of the trainer's loader.")]
Kind = Annotated[str, typer.Option("--executor", help="local (processes) or ray")]
Workers = Annotated[int | None, typer.Option(help="Workers at once; 1 works in this process.")]
RayAddress = Annotated[str | None, typer.Option(help="auto or an address; default: start Ray on this machine.")]


def executor_options(kind: str, workers: int | None, ray_address: str | None, **limits: Any) -> ExecutorOptions:
    """The executor that the options of a command describe; raises `ExecutorError` for one that there is not."""
    from ettin_data.executor import ExecutorOptions

    return ExecutorOptions(cast(Any, kind), workers, ray_address, **{"time_limit_s": TIME_LIMIT_H * 3600, **limits})


def parallel(kind: str, workers: int | None, ray_address: str | None) -> ExecutorOptions | None:
    """The same for commands that check and look: None for one local worker, which is this process."""
    return None if (kind, workers) == ("local", 1) else executor_options(kind, workers, ray_address)


def print_table(table: RenderableType, width: int = 0) -> None:
    """Print a table or a tree as the result of a command, at least so wide that no column is cut."""
    Console(width=max(Console().width, width)).print(table)


def bar(name: str = "") -> Bar:
    """A bar of the command line that leaves nothing behind, so that the result stands alone."""
    from ettin_data.bar import Bar

    return Bar(name, console, transient=True)


def fail(error: EttinError, status: int | None = None) -> NoReturn:
    """Show an error, without a traceback, and end with its exit status."""
    console.print("[bold red]error[/] ", end="")
    console.print(error.full_text(), markup=False, highlight=False, soft_wrap=True)
    sys.exit(error.exit_status if status is None else status)
