"""A task that the kernel kills for memory: it joins a memory cgroup with little room, and takes more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

ROOM = 64 << 20


def _own_group() -> Path | None:
    """The folder of this process's memory cgroup (v1 or v2)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return Path("/sys/fs/cgroup/memory") / path.strip("/")
        if controllers == "" and Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path("/sys/fs/cgroup") / path.strip("/")
    return None


@contextlib.contextmanager
def small_memory() -> Iterator[Path | None]:
    """A cgroup whose processes may hold `ROOM` bytes; None where this user may not make one."""
    parent = _own_group()
    group = None if parent is None else parent / f"ettin-test-{os.getpid()}"
    try:
        if group is not None:
            group.mkdir()
            limit = group / "memory.limit_in_bytes"
            (limit if limit.exists() else group / "memory.max").write_text(str(ROOM))
    except OSError:
        if group is not None and group.exists():
            group.rmdir()
        group = None
    try:
        yield group
    finally:
        if group is not None:
            group.rmdir()


def take_memory(payload: tuple[str, str]) -> str:
    """Take four times what the group allows, until the file named second exists: made by the first attempt."""
    group, tried = payload
    if tried and Path(tried).exists():
        return "done"
    if tried:
        Path(tried).touch()
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    return str(len(os.urandom(1 << 20) * (4 * ROOM >> 20)))
