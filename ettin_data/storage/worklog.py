"""What those who build a phase say while they work: a log a split, and of each process a beat, a file that it renews.

Neither is of any digest, and nobody trusts them: what cannot be written of them stops no build, and what is read of
them is bounded and only shown. `inspect.status` puts them together with the markers of what is finished.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from ettin_data.base import files, shapes
from ettin_data.base.lock import began, is_running
from ettin_data.base.redact import redact
from ettin_data.base.shapes import Number, Shape, Word
from ettin_data.base.visible import visible
from ettin_data.storage.records import StageTime

BEGAN, FINISHED, FAILED, STOPPED = "began", "finished", "failed", "stopped"
"""The words of a split's log; the last one says how it is."""

RENEWED_S = 10.0
"""Seconds between two beats of a process."""

_SILENT_S = 6 * RENEWED_S  # after which a process of another machine is taken to be gone
_TAIL = 1 << 16  # bytes of a log that are read
_MOST_BEAT = 1 << 24
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}) (\S+) (began|finished|failed|stopped)(?: (.*))?")


@dataclass(frozen=True)
class Entry:
    """One entry of a split's log: when (seconds since 1970), which process (`host/pid`), how it is, and more words."""

    at: float
    who: str
    word: str
    text: str


def note(log: Path, word: str, text: str = "") -> None:
    """Append an entry to the log of a split. What does not fit a line stands below it, further in."""
    first, *more = visible(redact(text)).splitlines() or [""]
    head = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {socket.gethostname()}/{os.getpid()} {word} {first}".rstrip()
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            files.require_ordinary(log)
        with open(log, "a", encoding="utf-8") as file:
            file.write("\n".join([head, *(f"    {line}" for line in more)]) + "\n")


def last_entry(log: Path) -> Entry | None:
    """The last entry of a split's log; None where there is none that can be read."""
    try:
        with files.open_ordinary(log) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            lines = file.read(_TAIL).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    more: list[str] = []
    for line in reversed(lines):
        if match := _LINE.fullmatch(line):
            with suppress(ValueError):
                at = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S%z").timestamp()
                return Entry(at, match[2], match[3], "\n".join([match[4] or "", *reversed(more)]))
        more.append(line.removeprefix("    "))
    return None


@dataclass
class Beat:
    """What a process that builds says of itself, every `RENEWED_S` seconds.

    Attributes:
        share: as `3/64`; empty for a build of the whole.
        since, seen: when it began and when this was written, in seconds since 1970.
        began: what tells the process from a later one with its number (`base.lock.began`).
        stage, done, jobs: what it is doing, and how much of that is done.
        again: splits (`pools/<source>/<split>`) that are there and are made again.
        ended: the error that it ended with; empty while it works.
        stages: stage -> what it took, of those that have ended.
    """

    share: str
    pid: int
    host: str
    began: str
    since: float
    seen: float
    stage: str
    done: int
    jobs: int
    again: list[str]
    ended: str
    stages: dict[str, StageTime] = field(default_factory=dict)

    @classmethod
    def of_this_process(cls, share: str) -> Beat:
        now = time.time()
        return cls(share, os.getpid(), socket.gethostname(), began(os.getpid()), now, now, "plan", 0, 0, [], "")

    @property
    def alive(self) -> bool:
        """Whether it is at work: of this machine that is known, of another it follows from its last beat."""
        if self.ended:
            return False
        known = is_running(self.host, self.pid, self.began)
        return time.time() - self.seen < _SILENT_S if known is None else known

    @property
    def who(self) -> str:
        return f"share {self.share}" if self.share else "build"

    def write(self, path: Path) -> None:
        """Renew the file."""
        self.seen = time.time()
        said = {**asdict(self), "stages": {name: spent.model_dump() for name, spent in self.stages.items()}}
        with suppress(OSError):
            files.write(path, json.dumps(said, indent=1) + "\n")


class _Beat(Shape):
    share: Word
    pid: Number
    host: Word
    began: Word
    since: float
    seen: float
    stage: Word
    done: Number
    jobs: Number
    again: list[str]
    ended: str
    stages: dict[Word, StageTime] = {}


def read_beat(path: Path) -> Beat | None:
    """A beat; None for a file that is none, or that is gone."""
    try:
        body = json.loads(files.read(path, _MOST_BEAT))
        shapes.require(_Beat, body)
        stages = {name: StageTime.model_validate(spent) for name, spent in body.get("stages", {}).items()}
        return Beat(**{name: body[name] for name in _Beat.model_fields if name != "stages"}, stages=stages)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
