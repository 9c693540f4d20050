"""The command line, `ettin-data`: the commands of this folder under one name, and how errors are shown."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ettin_data.base import disk_errors
from ettin_data.base.errors import EttinError, ExitStatus, RecipeError
from ettin_data.base.modules import found_in
from ettin_data.base.redact import redact
from ettin_data.base.version import VERSION
from ettin_data.base.visible import VisibleStream
from ettin_data.cli.examples import at_work, show_examples
from ettin_data.cli.shared import console, fail, tell


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=at_work)


_HELP = """Builds the Ettin pre-training mixture, or a mix of your own, and proves what it built.

\b
  ettin-data demo                                     the whole way in small, on this machine
  ettin-data recipe init mine.yaml                    a recipe of your own to start from
  ettin-data plan mine.yaml                           what it would take
  ettin-data build mine.yaml --out runs/mine          build it, or what is missing of it
  ettin-data verify runs/mine --full                  prove it

Each command has its own --help. The pages are in docs/, exit codes in docs/errors.md.
"""

app = typer.Typer(
    cls=_InOrder,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        tell(f"ettin-data {VERSION}")
        raise typer.Exit


@app.callback(help=_HELP)
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


for module in found_in("ettin_data.cli"):
    if module.__name__ == "ettin_data.cli.main":
        continue
    for command in getattr(module, "COMMANDS", ()):
        app.command()(command)
    if group := getattr(module, "app", None):
        app.add_typer(group, name=module.__name__.rpartition(".")[2])
show_examples(app)


def build_script(recipe: str, changes: Sequence[str]) -> None:
    """All of a script in `pipelines/`: `ettin-data build <recipe>` with changes and the script's own options."""
    with _errors_shown():
        app(["build", recipe, *(word for change in changes for word in ("--set", change)), *sys.argv[1:]])


def _refuse_options_before_the_command(words: Sequence[str], commands: typer.Typer = app) -> None:
    """Raise `RecipeError` for `ettin-data --out runs/x build`, with the words in the order that works."""
    if not words or not words[0].startswith("-"):
        return
    root = typer.main.get_command(commands)
    known = {option for parameter in root.params for option in parameter.opts} | {"--help"}
    if words[0].partition("=")[0] in known:
        return
    at = next((n for n, word in enumerate(words) if word in getattr(root, "commands", {})), None)
    if at is not None:
        raise RecipeError(
            f"{words[0]} stands before the command",
            why="options belong behind the command whose they are",
            remedy=f"write: ettin-data {shlex.join([words[at], *words[at + 1 :], *words[:at]])}",
        )


@contextlib.contextmanager
def _errors_shown() -> Iterator[None]:
    received = _interrupted_by_signals()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(VisibleStream, streams)
    try:
        yield
    except EttinError as error:
        fail(error)
    except Exception as error:
        if isinstance(error, OSError) and (found := disk_errors.said(error)):
            fail(found)
        # ours to correct: shown whole, but for secrets
        console.tell(redact(traceback.format_exc()))
        sys.exit(ExitStatus.WRONG)
    except (SystemExit, KeyboardInterrupt) as end:  # the first is how typer ends a command that Ctrl-C stopped
        if isinstance(end, SystemExit) and end.code != ExitStatus.INTERRUPTED:
            raise
        with contextlib.suppress(OSError):  # the terminal may be gone
            console.tell("stopped; what is finished stays, and the same command continues")
        sys.exit(ExitStatus.TERMINATED if signal.SIGTERM in received else ExitStatus.INTERRUPTED)
    finally:
        sys.stdout, sys.stderr = streams


def _interrupted_by_signals() -> list[int]:
    """From now on SIGTERM, and SIGHUP but below `nohup`, stop a command as Ctrl-C does; returns those to come."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)
    return received


def main() -> None:
    """Run the command line; an `EttinError` is shown without a traceback and exits with its status (docs/errors.md).

    Ctrl-C and a terminal that goes away exit with 130, SIGTERM with 143; what is finished stays.
    """
    with _errors_shown():
        _refuse_options_before_the_command(sys.argv[1:])
        app()
