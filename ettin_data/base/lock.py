"""One build at a time in a folder: the second is refused at once, and names the first.

It is an `flock`, which the kernel releases with the process that held it. Where a file system has none (Lustre without
`-o flock`, NFS without its lock service) it is a second file that only one process can make. That one outlives a kill:
it says which process of which machine made it, and when that began, so that one of this machine is known to be gone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from ettin_data.base import files
from ettin_data.base.errors import BuildError

_TRIES, _MOMENT_S = 5, 0.02
_WAIT_S = 0.1
_NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
_UNWRITTEN_S = 60.0  # a lock file that is empty for so long is of a process that was killed before it wrote its name


_LONGEST = 1 << 16  # bytes of what a holder says of itself


class Held(BuildError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, refusal: str = "another build writes here", patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock that the file `path` is; its folder is made where it is missing.

    Args:
        refusal: what somebody is told who does not get it.
        patience_s: seconds to wait for it.

    Raises:
        Held: another process holds it; names that process, its machine and since when.
    """
    until = time.monotonic() + patience_s
    while True:
        taking = _taking(path)
        try:
            taking.__enter__()
            break
        except Held as held:
            if time.monotonic() >= until:
                raise Held(refusal, where=held.where, why=held.why, remedy=held.remedy) from None
        time.sleep(_WAIT_S)
    with ExitStack() as stack:
        stack.push(taking)
        yield


@contextmanager
def _taking(path: Path) -> Iterator[None]:
    """One try."""
    files.make_folder(path.parent)
    with suppress(FileNotFoundError):
        files.require_ordinary(path)
    with open(path, "a+", encoding="utf-8") as file:
        kernel = _taken(file, path)
        if kernel:
            _refuse_other(path)
            file.truncate(0)
            file.write(_myself())
            file.flush()
        else:
            _make(_second(path))
        try:
            yield
        finally:
            if kernel:
                file.truncate(0)
            else:
                _second(path).unlink(missing_ok=True)


def holder(path: Path) -> str | None:
    """Who holds the lock now; None when nobody does. Changes nothing."""
    if _second(path).exists():
        return None if _left_behind(_second(path)) else _named(_second(path))
    try:
        with files.open_ordinary(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _named(path)
    except OSError:  # no lock file, or one that may not be read, or no locks here and no second file
        return None


def _taken(file: TextIO, path: Path) -> bool:
    """Whether the kernel gave us the lock; False where it has none to give. Raises `Held`.

    More than one try, because `holder` has it for an instant when it looks.
    """
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_MOMENT_S)
        except OSError as error:
            if error.errno in _NO_FLOCK:
                return False
            raise
    raise _held(path)


def _refuse_other(path: Path) -> None:
    """Where one machine has `flock` and another has not, the second file counts for both."""
    if _second(path).exists():
        if not _left_behind(_second(path)):
            raise _held(_second(path))
        _second(path).unlink(missing_ok=True)


def _second(path: Path) -> Path:
    return path.with_name(f"{path.name}.held")


def _make(path: Path) -> None:
    """Make the second file, in the place of one that a process that is gone has left. Raises `Held`."""
    mine = _myself()
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            if not _left_behind(path):
                raise _held(path) from None
            path.unlink(missing_ok=True)
            continue
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(mine)
        time.sleep(_MOMENT_S)  # another that found the same file left behind may have removed this one in its place
        with suppress(FileNotFoundError):
            if path.read_text(encoding="utf-8") == mine:
                return
    raise _held(path)


def _left_behind(path: Path) -> bool:
    """Whether the process that made a lock file is gone. Of another machine nobody can tell: then it is not."""
    try:
        made = _read(path)
        if made is None:
            return time.time() - path.stat().st_mtime > _UNWRITTEN_S
    except FileNotFoundError:
        return True
    return is_running(made["host"], made["pid"], made["began"]) is False


def _myself() -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S %z")
    own = {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "began": began(os.getpid())}
    return json.dumps(own)


def began(pid: int) -> str:
    """What tells a process from a later one with its number: the boot and the tick in which it began; "" if gone."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {status.rpartition(')')[2].split()[19]}"  # field 22 of proc(5), counted from after the name
    except (OSError, IndexError):
        return ""


def is_running(host: str, pid: int, since: str) -> bool | None:
    """Whether a process is there still, by its number and `began`; None of another machine: nobody can tell ."""
    return began(pid) == since if host == socket.gethostname() else None


def _held(path: Path) -> Held:
    made = _read(path) if path.exists() else None
    remedy = "wait for it or stop it, or build into another folder with --out"
    if path.suffix == ".held":
        remedy += f"; if that process is gone, remove {path}"
    return Held("it is held", where=path.parent, why=_sentence(made), remedy=remedy)


def _named(path: Path) -> str:
    return _sentence(_read(path) if path.exists() else None)


def _sentence(made: dict[str, Any] | None) -> str:
    return f"process {made['pid']} on {made['host']} since {made['since']}" if made else "it has just started"


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock file says of its holder, None while it says nothing. Raises `FileNotFoundError`."""
    try:
        made = json.loads(files.read(path, _LONGEST))
        return {"began": "", **{name: made[name] for name in ("pid", "host", "since")}, **made}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        return None
