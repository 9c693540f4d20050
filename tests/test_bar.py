"""The one progress bar: in a terminal, in a notebook, and where there is neither."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from ettin_data.bar import Bar, Screen
from ettin_data.base.progress import Progress, stage
from ettin_data.executor import Task, perform


def shown(terminal: bool, **options: bool) -> str:
    out = io.StringIO()
    bar: Progress = Bar("decay", Console(file=out, force_terminal=terminal, width=120, force_jupyter=False), **options)
    bar.say("[not markup] of https://me:hunter2@example.org/")
    perform(abs, [Task(str(n), -n, 10) for n in range(4)], None, bar, title="tokenize", tokens=lambda n: n)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stage_is_shown_to_its_end(terminal: bool) -> None:
    text = shown(terminal)
    assert "decay tokenize" in text and "100%" in text and "4/4" in text and "tokens/s" in text
    assert "[not markup]" in text and "hunter2" not in text


def test_nothing_foreign_steers_it(capsys) -> None:
    """Colours and the cursor are rich's; a path in a message and the name of a source are text."""
    name = "[/x][gone]:smile:\x1b]0;title\x07\x9b\u202e\rend"
    out = io.StringIO()
    bar = Bar(name, Screen(file=out, force_terminal=True, width=400, force_jupyter=False))
    bar.say(name)
    with stage(bar, name, 2, 2):
        bar.advance(1, 1, name)
        bar.say(f"split {name}: {name}\nnext")
    shown = out.getvalue()
    assert shown.count(r"[/x][gone]:smile:\x1b]0;title\x07\x9b\u202e\rend") >= 5
    assert not {"\x07", "\x9b", "\u202e"} & set(shown) and "\x1b]" not in shown


def test_a_transient_bar_leaves_nothing() -> None:
    assert "tokenize" not in shown(False, transient=True)


def test_it_ends_with_an_error_and_shows_the_next_stage() -> None:
    out = io.StringIO()
    bar = Bar(console=Console(file=out, force_terminal=True, width=120))
    with pytest.raises(TypeError):
        perform(abs, [Task("t", "text")], None, bar, title="first")
    assert perform(abs, [Task("t", -1)], None, bar, title="second") == [1]
    assert "second" in out.getvalue()
    bar.advance(1)  # between two stages: nothing to show, and no harm
    bar.done()


def test_in_a_notebook_it_is_drawn_in_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the two packages of a notebook through which rich draws."""
    drawn: list[object] = []
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=drawn.append))
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace(Output=Cell))
    console = Console(force_jupyter=True, width=100)
    assert perform(abs, [Task("t", -1)], None, Bar("decay", console), title="tokenize") == [1]
    assert any(isinstance(thing, Cell) for thing in drawn)
    assert any("decay tokenize" in str(getattr(thing, "text", "")) for thing in drawn)


def test_a_notebook_that_can_draw_nothing_gets_lines(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    perform(abs, [Task("t", -1)], None, Bar("decay"), title="tokenize")
    assert "decay tokenize" in capsys.readouterr().err


class Cell:
    """The output of a cell, of ipywidgets."""

    def __enter__(self) -> Cell:
        return self

    def __exit__(self, *_: object) -> None: ...

    def clear_output(self, wait: bool) -> None: ...


def test_a_notebook_needs_no_command_line() -> None:
    code = "import sys, ettin_data.bar; assert 'typer' not in sys.modules and 'ettin_data.cli' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
