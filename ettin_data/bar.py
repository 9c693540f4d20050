"""A progress bar for a terminal or a notebook: `build(recipe, BuildOptions(out, progress=Bar()))`."""

from __future__ import annotations

import importlib.util

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from ettin_data.base.redact import redact
from ettin_data.base.units import count

_NUMBERS = "{task.percentage:>3.0f}%  {task.fields[done]:,}/{task.fields[jobs]:,}  {task.fields[rate]}"


class Bar:
    """A `base.progress.Progress` as one bar for each stage: share of the work, jobs, tokens/s and time left.

    Where there is neither a terminal nor a notebook, the end of each stage is one line, unless the bar is transient.

    Args:
        name: stands before the title of every stage and before every message, such as the phase.
        console: where to; default: standard error, or the cell of a notebook.
        transient: a bar vanishes with the end of its stage.
    """

    def __init__(self, name: str = "", console: Console | None = None, *, transient: bool = False) -> None:
        self._name, self._transient = name, transient
        self._console = console or _console()
        self._shown: tuple[Progress, TaskID] | None = None
        self._tokens = 0

    def start(self, title: str, jobs: int, work: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn(_NUMBERS))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        shown = Progress(*columns, *times, console=self._console, transient=self._transient)
        task = shown.add_task(f"{self._name} {title}".strip(), total=work or None, done=0, jobs=jobs, rate="")
        self._shown, self._tokens = (shown, task), 0
        shown.start()

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None:
        if self._shown is None:
            return
        shown, number = self._shown
        task = shown.tasks[number]
        self._tokens += tokens
        rate = f"{count(self._tokens / max(task.elapsed or 0, 1e-3))} tokens/s" if self._tokens else ""
        shown.update(number, advance=work, done=task.fields["done"] + 1, rate=f"{rate}  {note}".strip())

    def say(self, message: str) -> None:
        self._console.print(Text.assemble((self._name, "yellow"), " " if self._name else "", redact(message)))

    def done(self) -> None:
        if self._shown is not None:
            self._shown[0].stop()
            self._shown = None


def _console() -> Console:
    console = Console(stderr=True)
    if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:  # rich would draw nothing
        return Console(stderr=True, force_jupyter=False)
    return console
