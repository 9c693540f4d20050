"""A progress bar for a terminal or a notebook: `build(recipe, BuildOptions(out, progress=Bar()))`.

And the only console there is, because a name with `[/x]` in it ends a program whose console reads `[...]` as markup.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from ettin_data.base.redact import redact
from ettin_data.base.units import count
from ettin_data.base.visible import visible

_NUMBERS = "{task.percentage:>3.0f}%  {task.fields[done]:,}/{task.fields[jobs]:,}  {task.fields[rate]}"


class Screen(Console):
    """A console on which every string is text: no markup, no emoji codes, and nothing in it steers the terminal.

    What has a colour is a `styled` text.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def tell(self, text: str) -> None:
        """Print a text whose lines are not wrapped: a terminal does that, and a file keeps them whole."""
        self.print(text, soft_wrap=True)


def styled(*parts: str | tuple[str, str]) -> Text:
    """A text of strings and (string, style) pairs, without secrets and visible whatever is in it."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(redact(text)), style) for text, style in pairs))


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
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn(_NUMBERS, markup=False))
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        shown = Progress(
            *columns, *times, console=self._console, transient=self._transient,
            redirect_stdout=False, redirect_stderr=False,  # rich would take escapes of foreign text there for colours
        )  # fmt: skip
        task = shown.add_task(
            visible(f"{self._name} {title}".strip(), lines=False), total=work or None, done=0, jobs=jobs, rate=""
        )
        self._shown, self._tokens = (shown, task), 0
        shown.start()

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None:
        if self._shown is None:
            return
        shown, number = self._shown
        task = shown.tasks[number]
        self._tokens += tokens
        rate = f"{count(self._tokens / max(task.elapsed or 0, 1e-3))} tokens/s" if self._tokens else ""
        shown.update(
            number, advance=work, done=task.fields["done"] + 1, rate=visible(f"{rate}  {note}".strip(), lines=False)
        )

    def say(self, message: str) -> None:
        self._console.print(styled((self._name, "yellow"), " " if self._name else "", message))

    def done(self) -> None:
        if self._shown is not None:
            self._shown[0].stop()
            self._shown = None


def _console() -> Console:
    console = Screen(stderr=True)
    if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:  # rich would draw nothing
        return Screen(stderr=True, force_jupyter=False)
    return console
