"""The pulse of a build: what it is doing, renewed in a file of the phase, so that others see it from any machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ettin_data.base.errors import EttinError
from ettin_data.base.progress import Progress
from ettin_data.storage.phase import Phase
from ettin_data.storage.worklog import RENEWED_S, Beat


class Pulse:
    """A `Progress` that writes down what it is told, and passes it on."""

    def __init__(self, path: Path, share: str, progress: Progress) -> None:
        self._path, self._progress = path, progress
        self.beat = Beat.of_this_process(share)

    def start(self, title: str, jobs: int, work: int) -> None:
        self.beat.stage, self.beat.done, self.beat.jobs = title, 0, jobs
        self.write()
        self._progress.start(title, jobs, work)

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None:
        self.beat.done += 1
        self._progress.advance(work, tokens, note)

    def say(self, message: str) -> None:
        self._progress.say(message)

    def done(self) -> None:
        self._progress.done()

    def makes_again(self, names: Sequence[str]) -> None:
        """Splits that are there and do not fit, which somebody who looks would count."""
        self.beat.again = list(names)

    def write(self) -> None:
        self.beat.write(self._path)


@contextmanager
def beating(phase: Phase, share: str, progress: Progress) -> Iterator[Pulse]:
    """A pulse as long as the block goes on. It stays, with the error, where that ends with one; a kill leaves it."""
    pulse, ended = Pulse(phase.beat(share), share, progress), threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED_S):
            pulse.write()

    thread = threading.Thread(target=renew, name="pulse", daemon=True)
    pulse.write()
    thread.start()
    failure = ""
    try:
        yield pulse
    except BaseException as error:
        failure = error.full_text() if isinstance(error, EttinError) else f"{type(error).__name__} {error}".strip()
        raise
    finally:
        ended.set()
        thread.join()
        if failure:
            pulse.beat.ended = failure[:4000]
            pulse.write()
        else:
            for path in [phase.beat(share)] if share else phase.beats():
                with suppress(OSError):
                    path.unlink()
