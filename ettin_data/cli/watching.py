"""How a build is shown while it goes on: a live view on a terminal, a line a minute in a log, events for programs.

All three, and `ettin-data status`, show what `inspect.status` reads of the folder: what other shares finish counts.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, redirect_stderr, suppress
from pathlib import Path
from typing import Any, cast

from rich.console import Group
from rich.live import Live
from rich.table import Table

from ettin_data.bar import Screen, styled
from ettin_data.base import files
from ettin_data.base.errors import EttinError
from ettin_data.base.progress import Silent
from ettin_data.base.redact import redact
from ettin_data.base.units import count, duration
from ettin_data.base.visible import visible
from ettin_data.cli.shared import tell_line
from ettin_data.executor import ray_metrics
from ettin_data.inspect.metrics import exposition, gauges
from ettin_data.inspect.status import BUILDING, PhaseStatus, SourceStatus, Watcher
from ettin_data.storage.phase import Phase

LINE_S = 60.0
"""Seconds between two lines of a log."""
LOOK_S = 2.0
"""Seconds between two looks at the folder on a terminal; more where a look takes long."""
METRICS_S = 15.0

_SHARE_OF_TIME = 20  # a look may take this part of the time between two
_WIDE = 110  # columns from which there is room for every number


def view(status: PhaseStatus, width: int, stage: str = "") -> Group:
    """A table, a line a source, no wider than `width`, and a line on the whole."""
    table = Table(box=None, pad_edge=False, padding=(0, 2 if width >= _WIDE else 1, 0, 0), header_style="dim")
    table.add_column("source", no_wrap=True, overflow="ellipsis", max_width=max(width // 4, 8))
    for name in ("splits", "tokens", *(["of target"] if width >= _WIDE else []), "tokens/s", "rejects", "lost", "left"):
        table.add_column(name, justify="right", no_wrap=True, overflow="ellipsis")
    for key, source in status.sources.items():
        table.add_row(styled((key, "cyan")), *_cells(source, width))
    if len(status.sources) > 1:
        table.add_row(styled(("total", "bold")), *_cells(status.total, width))
    return Group(table, styled(_cut(f"{status.phase} {stage or in_a_line(status)}", width)))


def _cells(source: SourceStatus, width: int) -> list[str]:
    share = [f"{source.tokens / max(source.target_tokens, 1):.0%}"] if width >= _WIDE else []
    return [
        f"{source.splits:,}/{source.planned_splits:,}",
        count(source.tokens),
        *share,
        count(source.tokens_per_s) if source.tokens_per_s else "",
        count(source.rejected) if source.rejected else "",
        f"{source.lost_files:,}" if source.lost_files else "",
        _left(source),
    ]


def _left(source: SourceStatus) -> str:
    if source.splits >= source.planned_splits:
        return "done"
    return duration(source.seconds_left) if source.seconds_left is not None else ""


def in_a_line(status: PhaseStatus) -> str:
    """The whole in one line: what a log says every minute."""
    total = status.total
    words = [f"{total.splits:,}/{total.planned_splits:,} splits", f"{count(total.tokens)} tokens"]
    if total.tokens_per_s:
        words.append(f"{count(total.tokens_per_s)} tokens/s")
    words.append(f"{total.rejected:,} rejects")
    if total.lost_files:
        words.append(f"{total.lost_files:,} lost files")
    if status.failures:
        words.append(f"{len(status.failures):,} failed")
    if status.state == BUILDING and total.splits < total.planned_splits and total.seconds_left is not None:
        words.append(f"{duration(total.seconds_left)} left")
    return ", ".join(words)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


class Watching(Silent):
    """A `Progress` of a build that has a clock of its own. A context manager.

    Args:
        phase: what is built.
        name: before every line: the phase, and the share if it is one.
        console: where to; a terminal gets a live view, anything else lines.
        events: instead of these, one JSON object a line on standard output.
        metrics: a file that is renewed for Prometheus.
    """

    def __init__(
        self, phase: Phase, name: str, console: Screen, *, events: bool = False, metrics: Path | None = None
    ) -> None:
        self._watcher, self._name, self._console, self._metrics, self._events = (
            Watcher(phase),
            name,
            console,
            metrics,
            events,
        )
        self._title, self._jobs, self._done, self._began = "", 0, 0, 0.0
        self._live: Live | None = None
        self._above = ExitStack()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._clock, name="watching", daemon=True)

    def __enter__(self) -> Watching:
        if self._console.is_terminal and not self._events:
            self._live = Live(
                "", console=self._console, auto_refresh=False, transient=False,
                redirect_stdout=False, redirect_stderr=False, vertical_overflow="ellipsis",
            )  # fmt: skip
            self._live.start()
            self._above.enter_context(redirect_stderr(cast(Any, _Above(self._console))))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._live is not None:
            self._show(self._look())
            self._above.close()
            self._live.stop()
        self._write_metrics(self._look())
        if self._events and isinstance(error, EttinError):
            self.event(
                "failed", what=error.what, where=str(error.where or ""), why=str(error.why or ""), do=error.remedy
            )

    # what the build tells

    def start(self, title: str, jobs: int, work: int) -> None:
        self._title, self._jobs, self._done, self._began = title, jobs, 0, time.monotonic()
        if self._events:
            self.event("stage", stage=title, jobs=jobs, work=work)
        elif self._live is None:
            self._line(f"{title}: {jobs:,} to do")

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None:
        self._done += 1
        if self._events:
            self.event("job", stage=self._title, done=self._done, jobs=self._jobs, work=work, tokens=tokens)

    def say(self, message: str) -> None:
        if self._events:
            self.event("said", message=message)
        else:
            self._console.print(styled((self._name, "yellow"), " ", message), soft_wrap=self._live is None)

    def done(self) -> None:
        if self._events:
            self.event("stage_ended", stage=self._title, done=self._done, jobs=self._jobs)
        elif self._live is None:
            took = duration(time.monotonic() - self._began)
            self._line(f"{self._title}: {self._done:,}/{self._jobs:,} done in {took}")
        self._title = ""

    def event(self, kind: str, **fields: Any) -> None:
        """Print an event; its fields are documented in docs/watch.md."""
        tell_line({"event": kind, "at": round(time.time(), 3), "phase": self._watcher.phase.name, **fields})

    # the clock

    def _clock(self) -> None:
        looked, lined, measured = 0.0, time.monotonic(), 0.0
        took = 0.0
        while not self._ended.wait(0.25 if self._live else 0.5):
            now = time.monotonic()
            if self._live is not None and now - looked >= max(LOOK_S, took * _SHARE_OF_TIME):
                status = self._look()
                took, looked = time.monotonic() - now, time.monotonic()
                self._show(status)
            if self._live is None and now - lined >= max(LINE_S, took * _SHARE_OF_TIME):
                lined, status = now, self._look()
                took = time.monotonic() - now
                if status is not None and self._events:
                    self.event("status", **status.to_json())
                elif status is not None:
                    self._line(self._stage() or in_a_line(status))
            wanted = self._metrics is not None or ray_metrics.connected()
            if wanted and now - measured >= max(METRICS_S, took * _SHARE_OF_TIME):
                measured = now
                self._write_metrics(self._look())

    def _look(self) -> PhaseStatus | None:
        with suppress(EttinError, OSError):  # nothing is planned yet
            return self._watcher.look()
        return None

    def _stage(self) -> str:
        """What is done behind the splits; nothing while they are built."""
        if self._title in ("", "tokenize"):
            return ""
        return f"{self._title}: {self._done:,}/{self._jobs:,}"

    def _show(self, status: PhaseStatus | None) -> None:
        if self._live is not None and status is not None:
            self._live.update(view(status, self._console.width, self._stage()), refresh=True)

    def _line(self, text: str) -> None:
        self._console.print(
            visible(redact(f"{time.strftime('%H:%M:%S')} {self._name} {text}"), lines=False), soft_wrap=True
        )

    def _write_metrics(self, status: PhaseStatus | None) -> None:
        if status is None:
            return
        ray_metrics.renew(gauges([status]))
        if self._metrics is not None:
            with suppress(OSError):  # what cannot be watched is built all the same
                files.write(self._metrics, exposition([status]))


class _Above:
    """Where warnings and libraries write while there is a live view: above it, a line at a time, wrapped as it is."""

    def __init__(self, console: Screen) -> None:
        self.rich_proxied_file = console.file  # where the console itself goes on to write
        self._console, self._begun = console, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(styled(line))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
