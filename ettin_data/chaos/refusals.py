"""A file system that refuses: calls of a build fail with the error of a disk, a file server or a mount.

Where there is a C compiler, a small library (`refuse.c`) is preloaded into all processes of a build and stands before
the C library's calls, so that what C++ opens below Arrow is met too. Without one it is the process that builds alone,
for the calls that Python makes: it asks its audit hooks before each of them, and a hook that raises is its error.
Neither meets a write in the middle of a file, of which `disk` runs out of room.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.base import draws

_EVENTS = {
    "open": "open", "os.rename": "rename", "os.link": "link", "os.remove": "remove", "os.mkdir": "mkdir",
    "os.scandir": "scandir", "fcntl.flock": "flock",
}  # fmt: skip
_OFTEN = {"open": 550, "rename": 50, "link": 30, "remove": 10, "mkdir": 60, "scandir": 70, "flock": 2, "fsync": 170}
"""Call -> about how many of them a small build makes, so that every part of a build is met."""

CALLS = tuple(_OFTEN)
ERRORS = ("ENOSPC", "EIO", "ESTALE", "EXDEV", "ENOSYS", "ENOLCK")


@dataclass(frozen=True)
class Refusal:
    """Which calls are refused.

    Attributes:
        call: one of `CALLS`.
        error: one of `ERRORS`.
        at: the number of the one call, from 1; 0 for a `share` of all.
        share: from 0 to 1.
        seed: of that share.
    """

    call: str
    error: str
    at: int = 0
    share: float = 1.0
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.call} {self.error} " + (f"at call {self.at}" if self.at else f"in {self.share:.0%}")


def drawn(random: np.random.Generator) -> Refusal:
    """Mostly one call, early ones as often as late ones; or some of them, or all."""
    call, error = CALLS[int(random.integers(len(CALLS)))], ERRORS[int(random.integers(len(ERRORS)))]
    how, share, seed = float(random.random()), float(random.random()), int(random.integers(1 << 62))
    if how < 0.3:
        return Refusal(call, error, 0, 1.0 if how < 0.15 else share / 5, seed)
    return Refusal(call, error, int(np.exp(share * np.log(_OFTEN[call] + 1))))


def shim(folder: Path) -> Path | None:
    """The library for this machine, compiled into a folder; None without a C compiler that can make it."""
    compiler, out = shutil.which("cc") or shutil.which("gcc"), folder / "refuse.so"
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(out), str(Path(__file__).with_name("refuse.c")), "-ldl"]
    return out if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def preload(shim: Path, refusal: Refusal, below: Path, count: Path) -> dict[str, str]:
    """The environment in which processes refuse calls on paths below a folder.

    Args:
        count: a file of eight zero bytes, in which the calls of all of them are counted.
    """
    settings = {
        "CALL": refusal.call, "ERROR": getattr(errno, refusal.error), "AT": refusal.at, "SHARE": refusal.share,
        "SEED": refusal.seed, "BELOW": below.absolute(), "COUNT": count,
    }  # fmt: skip
    return {"LD_PRELOAD": str(shim), **{f"ETTIN_REFUSE_{name}": str(value) for name, value in settings.items()}}


def refuse(refusal: Refusal, below: Path) -> None:
    """From now on, and until this process ends, refuse calls on paths below a folder."""
    number = getattr(errno, refusal.error)
    random = draws.generator("chaos refusals", refusal.seed)
    fsync, seen = os.fsync, 0

    def meet(call: str, place: Any) -> None:
        nonlocal seen
        if call != refusal.call:
            return
        if isinstance(place, int):
            place = os.readlink(f"/proc/self/fd/{place}")
        if not isinstance(place, str | os.PathLike) or not Path(place).is_relative_to(below):
            return
        seen += 1
        if seen == refusal.at or (not refusal.at and random.random() < refusal.share):
            raise OSError(number, os.strerror(number), str(place))

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS:
            meet(_EVENTS[event], arguments[0])

    def refused_fsync(descriptor: Any) -> None:
        meet("fsync", descriptor)
        fsync(descriptor)

    os.fsync = refused_fsync  # type: ignore[assignment]
    sys.addaudithook(watch)
