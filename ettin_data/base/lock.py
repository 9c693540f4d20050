"""One build at a time in a folder: the second is refused at once, and names the first."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ettin_data.base.errors import BuildError

_TRIES, _MOMENT_S = 5, 0.02


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that the file `path` is; its folder is made where it is missing.

    It is an `flock`, so the kernel releases it with the process that held it: a lock that a dead process left behind
    does not hold. What the file says is for people.

    Raises:
        BuildError: another process holds it; names that process, its machine and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        if not _taken(file):
            raise BuildError(
                "another build writes here",
                where=path.parent,
                why=_holder(path),
                remedy="wait for it or stop it, or build into another folder with --out",
            )
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S %z")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _taken(file: TextIO) -> bool:
    """Take the lock; more than one try, because `holder` has it for an instant when it looks."""
    for attempt in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(_MOMENT_S if attempt < _TRIES - 1 else 0)
    return False


def holder(path: Path) -> str | None:
    """Who holds the lock now; None when nobody does. Changes nothing."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _holder(path)
    except OSError:  # no lock file, or one that may not be read
        return None


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "it has just started"
