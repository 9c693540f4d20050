"""Work in one process that is killed right before a given change of the file system: no instant is left to luck."""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ettin_data.chaos.child import PRELOADED
from ettin_data.recipe import Recipe

Work = Callable[..., Any]
_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod"})
_WRITING = os.O_WRONLY | os.O_RDWR


def _as_an_object_store() -> None:
    """From now on no folder is renamed and no file linked, as where an object store is mounted."""
    rename = os.rename

    def refuse(source: str | Path, target: str | Path) -> None:
        if os.path.isdir(source):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source))
        rename(source, target)

    def no_link(source: str | Path, target: str | Path) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(source))

    os.rename, os.link = refuse, no_link  # type: ignore[assignment]


def _main(work: Work, arguments: tuple[Any, ...], below: Path, last: int, object_store: bool, line: Any) -> None:
    """The child: does the work, and dies before the change number `last` (0: lives) below a folder."""
    if object_store:
        _as_an_object_store()
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            changes = isinstance(arguments[0], str) and bool(arguments[2] & _WRITING)
        else:
            changes = event in _CHANGES
        if changes and str(arguments[0]).startswith(str(below)):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    line.send((work(*arguments), seen))


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def performed(
    work: Work, arguments: tuple[Any, ...], below: Path, last: int = 0, object_store: bool = False
) -> tuple[Any, int] | None:
    """(result, number of changes below a folder), or None if it was killed before the change number `last`."""
    ours, theirs = _context().Pipe()
    process = _context().Process(target=_main, args=(work, arguments, below, last, object_store, theirs))
    process.start()
    theirs.close()
    try:
        result: tuple[Any, int] = ours.recv()
    except EOFError:
        process.join()
        assert process.exitcode == -signal.SIGKILL, process.exitcode
        return None
    process.join()
    return result


def _build(recipe: str, out: Path) -> str:
    from ettin_data.build import build as run
    from ettin_data.build.prepare import BuildOptions

    return run.build_phase(Recipe.model_validate_json(recipe), BuildOptions(out, executor=None)).root


def build(recipe: str, out: Path, last: int = 0, object_store: bool = False) -> tuple[str, int] | None:
    """(root, number of changes), or None if the build was killed before the change number `last`."""
    return performed(_build, (recipe, out), out, last, object_store)
