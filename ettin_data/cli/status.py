"""`ettin-data status`: how far a build is, asked from any shell or node; reads only, and takes no lock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from ettin_data.bar import Screen
from ettin_data.base.errors import ExitStatus
from ettin_data.base.units import duration
from ettin_data.cli.shared import Json, console, print_table, tell, tell_json, tell_line
from ettin_data.cli.watching import in_a_line, view
from ettin_data.inspect.status import BUILDING, FINISHED, STOPPED, PhaseStatus, watchers, where_time_went

SHOWN = 10  # splits and processes of each kind that are printed; `--json` has them all

Run = Annotated[Path, typer.Argument(help="A run folder, or one of its phases: runs/ettin, runs/ettin/decay")]
Follow = Annotated[bool, typer.Option("--follow", help="Go on until no build is at work.")]
Every = Annotated[float, typer.Option(help="Seconds between two looks of --follow; in a log at least a minute.")]


def status(run: Run, follow: Follow = False, every: Every = 2.0, as_json: Json = False) -> None:
    """Show how far a build is: splits, tokens, speed, time left, failures with their logs. Changes nothing.

    With --follow, exits with 0 when all phases are finished, 3 when a build has stopped before that.
    """
    watched = watchers(run)
    found = [watcher.look() for watcher in watched]
    if not follow:
        if as_json:
            tell_json([phase.to_json() for phase in found])
        else:
            for phase in found:
                show(phase)
        return
    lines = as_json or not console.is_terminal
    with _live(enabled=not lines) as live:
        while True:
            if live is not None:
                live.update(Group(*(view(phase, console.width) for phase in found)), refresh=True)
            for phase in found if lines else ():
                if as_json:
                    tell_line(phase.to_json())
                else:
                    tell(f"{time.strftime('%H:%M:%S')} {phase.phase} {phase.state}: {in_a_line(phase)}")
            if not any(phase.state == BUILDING for phase in found):
                break
            time.sleep(max(every, 60.0 if lines and not as_json else 0.1))
            found = [watcher.look() for watcher in watched]
    if not lines:
        for phase in found:
            show(phase)
    done = all(phase.state == FINISHED for phase in found)
    raise typer.Exit(ExitStatus.OK if done else ExitStatus.INCOMPLETE)


@contextmanager
def _live(enabled: bool) -> Iterator[Live | None]:
    if not enabled:
        yield None
        return
    with Live(
        "", console=console, auto_refresh=False, transient=True, vertical_overflow="ellipsis",
        redirect_stdout=False, redirect_stderr=False,
    ) as live:  # fmt: skip
        yield live


def show(phase: PhaseStatus) -> None:
    """A phase as somebody wants to see it who has just come."""
    tell(f"{phase.phase}: {_state(phase)}")
    print_table(view(phase, Screen().width))
    for worker in phase.workers[:SHOWN]:
        doing = f"{worker.stage} {worker.done:,}/{worker.jobs:,}" if worker.jobs else worker.stage
        if worker.ended:
            doing = f"ended: {worker.ended.splitlines()[0]}"
        elif not worker.alive:
            doing = f"gone, its last word {duration(worker.silent_s)} ago"
        tell(f"  {worker.who}: process {worker.pid} on {worker.host}, {doing}")
    _more(len(phase.workers), "processes")
    for split in phase.failures[:SHOWN]:
        tell(f"  failed: {split.name}: {split.text.splitlines()[0] if split.text else ''}", f"    log: {split.log}")
    _more(len(phase.failures), "failures")
    if phase.state == BUILDING:
        for split in phase.begun[:SHOWN]:
            tell(f"  at it: {split.name} since {duration(phase.at - split.at)} ({split.who})")
        _more(len(phase.begun), "splits")
    if took := where_time_went(phase.stages):
        tell(f"  took: {took}")
    if phase.root is not None:
        tell(f"  root {phase.root}")


def _state(phase: PhaseStatus) -> str:
    if phase.state == BUILDING and phase.ends_at is not None and phase.total.splits < phase.total.planned_splits:
        return f"building; its splits end about {time.strftime('%Y-%m-%d %H:%M', time.localtime(phase.ends_at))}"
    if phase.state == STOPPED:
        all_there = phase.total.splits >= phase.total.planned_splits
        what = (
            "all splits are there; the command without --share finishes" if all_there else "the same command continues"
        )
        return f"not at work: {what}"
    return phase.state


def _more(number: int, what: str) -> None:
    if number > SHOWN:
        tell(f"  and {number - SHOWN:,} more {what} (--json has them all)")


COMMANDS = (status,)
