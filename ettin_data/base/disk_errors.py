"""What a machine refuses, said so that a person knows what to do about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ettin_data.base.errors import BuildError
from ettin_data.base.files import NotOrdinary

_CONTINUE = "the same command then continues; what is finished stays"
_REFUSALS = {
    errno.ENOSPC: ("the disk is full", f"free some space (`ettin-data plan` says how much is needed); {_CONTINUE}"),
    errno.EDQUOT: (
        "the disk quota is used up",
        f"free some space or raise the quota, of bytes or of files; {_CONTINUE}",
    ),
    errno.EFBIG: (
        "a file is larger than this file system, or `ulimit -f`, allows",
        f"raise the limit, or set a smaller shards.size_limit; {_CONTINUE}",
    ),
    errno.EROFS: ("the file system is read-only", f"mount it writable, or name another folder with --out; {_CONTINUE}"),
    errno.EACCES: ("access is not permitted", f"give this user permission, or name another folder; {_CONTINUE}"),
    errno.EPERM: ("access is not permitted", f"give this user permission, or name another folder; {_CONTINUE}"),
}
_NO_INODES = (
    "the file system has no room for more files (its inodes are used up, not its bytes)",
    f"remove files there, or set a larger split_bytes, which makes fewer of them; {_CONTINUE}",
)
_FAILURES = {
    errno.EIO: (
        "the disk reports an error of input or output",
        f"look at the kernel's log (dmesg) and at the disk, or name another folder with --out; {_CONTINUE}",
    ),
    errno.ESTALE: (
        "the file server no longer knows this file",
        f"mount the file system again, and see that nobody removes the folder meanwhile; {_CONTINUE}",
    ),
}
for _number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOLCK):
    _FAILURES[_number] = (
        "the file system does not do what was asked of it",
        f"name a folder on another file system with --out, or the same again; {_CONTINUE}",
    )
for _number in (errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EREMOTEIO, errno.ENODEV, errno.ENXIO):
    _FAILURES[_number] = (
        "the file system is not to be reached",
        f"see that it is mounted and its server is up; {_CONTINUE}",
    )


@contextmanager
def explained(where: object, *, last: bool = False) -> Iterator[None]:
    """Turn an `OSError` of a disk that does not take what is written into a `BuildError` that names place and remedy.

    Args:
        where: the folder, if the error names no file.
        last: nobody tries again after this. Otherwise errors that may pass (of a server, of the machine) go on as they
            are, and the executor tries again what met them.
    """
    try:
        yield
    except OSError as error:
        found = said(error, where)
        if found is None or (error.errno in _FAILURES and not last):
            raise
        raise found from error


def said(error: OSError, where: object = None) -> BuildError | None:
    """An error of a disk in our words; None for another error."""
    place = error.filename or where
    if isinstance(error, NotOrdinary):
        remedy = "look at what lies there, and remove it if it is not yours"
        return BuildError("this is no file that is read", where=place, why=error, remedy=remedy)
    what = _REFUSALS.get(error.errno or 0) or _FAILURES.get(error.errno or 0)
    if what is None:
        return None
    if error.errno == errno.ENOSPC and _out_of_inodes(place):
        what = _NO_INODES
    return BuildError(what[0], where=place, why=error, remedy=what[1])


def free_bytes(path: str) -> int | None:
    """Bytes that the file system of a folder has free for this user; None where it does not say."""
    try:
        counts = os.statvfs(path)
    except OSError:
        return None
    return counts.f_bavail * counts.f_frsize if counts.f_blocks else None


def _out_of_inodes(place: object) -> bool:
    """Whether the file system of a path has next to no inode left, and bytes; not all of them count inodes.

    What was being written when it failed is removed by now, and a few inodes with it.
    """
    path = Path(os.fsdecode(place) if isinstance(place, (str, bytes, os.PathLike)) else ".").absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        counts = os.statvfs(path)
    except OSError:
        return False
    few = counts.f_favail < max(64, counts.f_files // 100)
    return counts.f_files > 0 and few and counts.f_bavail > counts.f_blocks // 100
