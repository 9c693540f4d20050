"""What the commands share: options, the executor, one way to print, one console, one bar, one way to fail.

Commands print with `tell`, `tell_json` and `print_table`, on `console` what is no result; nothing else in the package
writes to a terminal (`tests/test_house.py`), so that whatever a run holds is shown and not obeyed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from rich.console import RenderableType
from typer.core import TyperGroup

from ettin_data.bar import Bar, Screen, styled
from ettin_data.base.errors import RecipeError
from ettin_data.base.visible import visible

if TYPE_CHECKING:
    from ettin_data.base.errors import EttinError
    from ettin_data.executor import ExecutorOptions
    from ettin_data.inspect.decoding import Words
    from ettin_data.order.loader_edits import Loader
    from ettin_data.tokenizer.backends import Backend
    from ettin_data.tokenizer.vocabulary import Frame, Vocabulary

console = Screen(stderr=True)

TIME_LIMIT_H = 6.0
"""Hours that one task may take before its worker is taken for hung; the largest upstream file needs minutes."""

PhaseName = Annotated[str | None, typer.Option(help="Name of a phase, where a run has several.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
PackingLaw = Annotated[
    str | None,
    typer.Option(
        "--law",
        help="Steps as a loader packs them, as modernbert-packed-v1:world=8,micro=6; ettin-v1 for those of the order "
        "index. Default: what the recipe says.",
    ),
]
MaxLength = Annotated[int | None, typer.Option(help="max_seq_len of the trainer's loader.")]
Kind = Annotated[str, typer.Option("--executor", help="local (processes) or ray")]
Workers = Annotated[int | None, typer.Option(help="Workers at once; 1 works in this process.")]
TokenizerName = Annotated[
    str | None, typer.Option("--tokenizer", help="Path or hub id, where the run does not say it or it is elsewhere.")
]
FrameText = Annotated[
    str | None, typer.Option("--frame", help="Its tokens by role, such as 'open=<bos>,close=<eos>,pad=<pad>'.")
]
RayAddress = Annotated[str | None, typer.Option(help="auto or an address; default: start Ray on this machine.")]


def executor_options(kind: str, workers: int | None, ray_address: str | None, **limits: Any) -> ExecutorOptions:
    """The executor that the options of a command describe; raises `ExecutorError` for one that there is not."""
    from ettin_data.executor import ExecutorOptions

    return ExecutorOptions(cast(Any, kind), workers, ray_address, **{"time_limit_s": TIME_LIMIT_H * 3600, **limits})


def size_option(name: str, text: str) -> int:
    """The bytes that an option says, such as `4GiB`. Raises `RecipeError` with the option's name."""
    from ettin_data.base.units import parse_bytes

    try:
        return parse_bytes(text)
    except RecipeError as error:
        raise RecipeError(f"{name} {text!r} is no size", remedy=error.remedy) from None


def parallel(kind: str, workers: int | None, ray_address: str | None) -> ExecutorOptions | None:
    """The same for commands that check and look: None for one local worker, which is this process."""
    return None if (kind, workers) == ("local", 1) else executor_options(kind, workers, ray_address)


def tell(*lines: str) -> None:
    """Print lines of a command's result. Each is one line: a line end in an id or a name is shown as `\\n`."""
    for line in lines:
        print(visible(line, lines=False), flush=True)


def tell_json(value: Any) -> None:
    """Print a value as JSON, in ASCII without control characters."""
    print(json.dumps(value, indent=1).replace("\x7f", "\\u007f"))


def tell_line(value: Any) -> None:
    """Print a value as JSON in one line, as an event for a program that reads along."""
    print(json.dumps(value).replace("\x7f", "\\u007f"), flush=True)


def print_table(table: RenderableType, width: int = 0) -> None:
    """Print a table or a tree as the result of a command, at least so wide that no column is cut."""
    Screen(width=max(Screen().width, width)).print(table)


def words(stated: Vocabulary | None, name: str | None, frame: str | None, backend: Backend = "tokenizers") -> Words:
    """The tokenizer of a run that states its vocabulary, or the one that is named; without one, says so."""
    from ettin_data.inspect.decoding import words_of

    found = words_of(stated, name, frame_of(frame, name), backend)
    if found.problem:
        console.tell(f"decoded to ids: {found.problem}")
    return found


def loader_named(data: str, name: str | None, frame: str | None) -> Loader | None:
    """The loader of data whose tokenizer is named; None, without a name, lets the data say it."""
    from ettin_data.inspect.decoding import words_of
    from ettin_data.order.data import run_of
    from ettin_data.order.loader_edits import Loader, vocabulary_of

    chosen = frame_of(frame, name)
    if name is None:
        return None
    run = run_of(Path(data))
    named = words_of(vocabulary_of(run) if run else None, name, chosen).needed()
    return Loader.of_run(run) if run else Loader(named.vocabulary)


def frame_of(text: str | None, name: str | None) -> Frame | None:
    """`--frame` as a value."""
    from ettin_data.tokenizer.vocabulary import Frame

    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        if name is None or not all(equals for _, equals, _ in pairs):
            raise TypeError
        roles = {role.strip(): token for role, _, token in pairs}
        return Frame(**roles, plain=None)
    except TypeError:
        raise RecipeError(
            f"--frame {text!r} names no frame",
            why=None if name else "there is no --tokenizer whose tokens it could name",
            remedy="write --tokenizer PATH --frame 'open=<bos>,close=<eos>,pad=<pad>'; mask and unknown may be added",
        ) from None


def bar(name: str = "") -> Bar:
    """A bar of the command line that leaves nothing behind, so that the result stands alone."""
    return Bar(name, console, transient=True)


def by_default(command: str) -> type[TyperGroup]:
    """A group of commands in which `group WORDS` is `group COMMAND WORDS` where the first word is none of them."""

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # whose type has two homes
            if not args or (args[0] not in self.commands and args[0] != "--help"):
                args = [command, *args]
            return list(super().parse_args(ctx, args))

    return Group


def fail(error: EttinError, status: int | None = None) -> NoReturn:
    """Show an error, without a traceback, and end with its exit status."""
    console.print(styled(("error", "bold red"), " ", error.full_text()), soft_wrap=True)
    sys.exit(error.exit_status if status is None else status)
