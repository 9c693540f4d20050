"""A small disk: a tmpfs where this user may mount one, else a limit on the size of files."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ettin_data.base.units import size

FILE_LIMIT = 4096
"""Bytes that a file may have where no small disk can be mounted: enough for a lock, too few for a split."""

_LEFT = 16 * 1024  # bytes free on a full disk: enough to begin something, not to finish it


@contextlib.contextmanager
def small_disk(folder: Path, capacity: int) -> Iterator[bool]:
    """Mount a tmpfs of `capacity` bytes on a folder; False, and an ordinary folder, where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.path.ismount(folder):  # of an experiment that was killed itself
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={capacity}", "ettin-chaos", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[str]:
    """Fill the file system of a folder until next to nothing is left; free it again at the end."""
    ballast = folder / ".ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - _LEFT
    with open(ballast, "wb") as file:
        while free > 0:
            free -= file.write(bytes(min(free, 1 << 20)))
    try:
        yield f"{size(ballast.stat().st_size)} of ballast"
    finally:
        ballast.unlink(missing_ok=True)
