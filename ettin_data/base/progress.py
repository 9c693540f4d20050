"""What long work tells of itself while it goes on, to whoever shows it. `ettin_data.bar.Bar` draws it with rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told of one stage after the other, in the thread that called; stages do not overlap and every one is ended."""

    def start(self, title: str, jobs: int, work: int) -> None:
        """A stage begins: `jobs` independent jobs, whose sizes (bytes, rows or jobs) add up to `work`."""

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None:
        """A job of the stage is done: its size, the tokens that it wrote or read, and a word on how it went."""

    def say(self, message: str) -> None:
        """Something that a person should know and that stops nothing; also between stages."""

    def done(self) -> None:
        """The stage has ended, well or not."""


class Silent:
    """A `Progress` that shows nothing; also what others derive from that want to hear of one thing only."""

    def start(self, title: str, jobs: int, work: int) -> None: ...

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None: ...

    def say(self, message: str) -> None: ...

    def done(self) -> None: ...


SILENT: Progress = Silent()


@contextmanager
def stage(progress: Progress, title: str, jobs: int, work: int) -> Iterator[None]:
    """A stage that is ended whatever happens in it."""
    progress.start(title, jobs, work)
    try:
        yield
    finally:
        progress.done()
