"""What runs inside a worker, whatever its kind: unpack a job, call its function, pack the answer.

Imports only the standard library and the smallest modules, so that a worker starts in milliseconds; the job's function
brings its own imports, once for each worker.
"""

from __future__ import annotations

import _thread
import errno
import multiprocessing.spawn
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ettin_data.base.errors import EttinError
from ettin_data.base.units import size

_TRACEBACK_LIMIT = 8000  # characters; a message, not an archive
_MEMORY_CHECK_S = 0.1


class Job(NamedTuple):
    """A packed function and a packed payload; apart, so that a worker unpacks the function of a run only once."""

    function: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The packed result of a job.

    Attributes:
        retire: the worker holds more memory than it may and should be replaced.
        cpu_s: seconds of processors that the worker has used since it last said so, its start included.
    """

    result: bytes
    retire: bool = False
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Raised:
    """A job's exception as text: the exception itself may not survive pickling, and its module may be heavy.

    Our own does: `error` is an `EttinError`, packed.
    """

    reason: str
    detail: str
    transient: bool
    retire: bool = False
    error: bytes | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What every worker is told when it starts.

    Args:
        memory_limit: see `ExecutorOptions`.
        sys_path: the driver's import path, so that what it can import a worker can.
        main: how to import the driver's main module, as `multiprocessing.spawn` describes it.
        folder: the driver's working folder, on which relative paths depend.
        token: a file that the driver has left in the folder that all share, and what is in it.
    """

    memory_limit: int | None
    sys_path: tuple[str, ...] = ()
    main: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    token: tuple[str, str] | None = None


def unseen(token: tuple[str, str], patience_s: float = 5.0) -> str | None:
    """Why this machine does not see the folder that all share, or None. A file server may need a moment to show it."""
    path, written = token
    until = time.monotonic() + patience_s
    while True:
        try:
            found = Path(path).read_text(encoding="ascii")
            return None if found == written else f"{path} is another file there"
        except (OSError, UnicodeError) as error:
            if time.monotonic() > until or not os.path.isdir(os.path.dirname(path)):
                return str(error)
            time.sleep(0.2)


class Terminated(BaseException):
    """SIGTERM arrived: unwinds the task, so that its `finally` blocks remove temporary files."""


importing_main = False
"""True in a worker while it imports the driver's main module: a script without a guard would start a run in a run."""


class Runner:
    """Performs the jobs of one worker; must be made and used in the main thread, where signals are handled."""

    def __init__(self, settings: Settings, pack: Callable[[Any], bytes]) -> None:
        self._settings, self._pack = settings, pack
        self._function: tuple[bytes, Callable[[Any], Any] | None] = (b"", None)
        self._main_imported = not settings.main
        self._cpu_s = 0.0  # that was said
        self._memory = MemoryWatch(settings.memory_limit) if settings.memory_limit else None
        known = set(sys.path)
        sys.path.extend(path for path in settings.sys_path if path not in known)

    def perform(self, job: Job) -> Done | Raised:
        """Do one job. Whatever it raises becomes a `Raised`, but for `Terminated`."""
        try:
            with self._memory.watching() if self._memory else nullcontext():
                result = self._call(job)
            retire = self._memory is not None and self._memory.exceeded()
        except Terminated:
            raise
        except BaseException as error:
            return self._raised(error)
        try:
            packed, before = self._pack(result), self._cpu_s
            self._cpu_s = time.process_time()
            return Done(packed, retire, self._cpu_s - before)
        except Exception as error:
            reason = f"the task returned a {type(result).__qualname__} that cannot be pickled: {_one_line(error)}"
            return Raised(reason, "", transient=False)

    def _raised(self, error: BaseException) -> Raised:
        if not isinstance(error, EttinError):
            return _described(error)
        packed = None
        with suppress(Exception):  # of a class that only this process knows
            packed = self._pack(error)
        return Raised(error.full_text(), "", transient=False, error=packed)

    def _call(self, job: Job) -> Any:
        # Only a pickle that names the main module needs it; importing it always would run an unguarded script again.
        if not self._main_imported and (b"__main__" in job.function or b"__main__" in job.payload):
            self._main_imported = True
            _import_main(self._settings.main)
        packed, function = self._function
        if function is None or packed != job.function:
            function = pickle.loads(job.function)
            self._function = (job.function, function)
        assert function is not None
        return function(pickle.loads(job.payload))


def main_module() -> dict[str, str]:
    """How a worker can import the driver's main module, in the words of `multiprocessing.spawn.prepare`."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return {"init_main_from_name": spec.name}
    path = getattr(main, "__file__", None)
    return {"init_main_from_path": os.path.abspath(path)} if path else {}


def _import_main(main: dict[str, str]) -> None:
    global importing_main
    importing_main = True
    try:
        multiprocessing.spawn.prepare(main)
    finally:
        importing_main = False


def _described(error: BaseException) -> Raised:
    trace = error.__traceback__.tb_next if error.__traceback__ else None  # without this module's own frame
    detail = "".join(traceback.format_exception(type(error), error, trace)).strip()
    if len(detail) > _TRACEBACK_LIMIT:
        detail = detail[: _TRACEBACK_LIMIT // 4] + "\n[…]\n" + detail[-_TRACEBACK_LIMIT * 3 // 4 :]
    reason = f"{type(error).__qualname__}: {_one_line(error)}"
    return Raised(reason, detail, transient=is_transient(error), retire=isinstance(error, MemoryError))


def _one_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else "(no message)"


_PERMANENT = frozenset({
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EINVAL,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EXDEV, errno.EFBIG,
})  # fmt: skip
_NETWORK_LIBRARIES = frozenset({"aiohttp", "botocore", "http", "httpcore", "httpx", "requests", "urllib3"})


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: errors of the machine and the network, not of data or code.

    An `EttinError` was raised on purpose and will be again. Of the `OSError`s, a missing file, a full disk or a refused
    access stays so for longer than a retry waits. The network libraries do not all derive their errors from `OSError`.
    """
    if isinstance(error, EttinError):
        return False
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno not in _PERMANENT
    return any(kind.__module__.split(".")[0] in _NETWORK_LIBRARIES for kind in type(error).__mro__)


class MemoryWatch:
    """Raises `MemoryError` in the main thread when the process holds more than `limit` bytes of its own during a task.

    A limit of the address space would count memory-mapped shards and reserved stacks; this counts resident, anonymous
    pages, which is what the kernel's out-of-memory killer cares for. Code that never returns to Python is not stopped.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self._armed = limit, False
        signal.signal(signal.SIGUSR2, self._stop_task)
        threading.Thread(target=self._check, name="memory watch", daemon=True).start()

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._armed = True
        try:
            yield
        finally:
            self._armed = False

    def exceeded(self) -> bool:
        return own_memory() > self.limit

    def _check(self) -> None:
        while True:
            time.sleep(_MEMORY_CHECK_S)
            if self._armed and self.exceeded():
                _thread.interrupt_main(signal.SIGUSR2)

    def _stop_task(self, *_: object) -> None:
        if self._armed:
            self._armed = False  # once a task: its clean-up may run
            raise MemoryError(f"the worker holds {size(own_memory())}, over its limit of {size(self.limit)}")


def own_memory() -> int:
    """Bytes of resident memory of this process that no file backs. Linux only."""
    with open("/proc/self/statm", "rb") as statm:
        fields = statm.read().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
