"""What a machine refuses, said so that a person knows what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ettin_data.base.errors import BuildError

_CONTINUE = "the same command then continues; what is finished stays"
_REFUSALS = {
    errno.ENOSPC: ("the disk is full", f"free some space (`ettin-data plan` says how much is needed); {_CONTINUE}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space or raise the quota; {_CONTINUE}"),
    errno.EFBIG: (
        "a file is larger than this file system, or `ulimit -f`, allows",
        f"raise the limit, or set a smaller shards.size_limit; {_CONTINUE}",
    ),
    errno.EROFS: ("the file system is read-only", f"mount it writable, or name another folder with --out; {_CONTINUE}"),
    errno.EACCES: ("access is not permitted", f"give this user permission, or name another folder; {_CONTINUE}"),
    errno.EPERM: ("access is not permitted", f"give this user permission, or name another folder; {_CONTINUE}"),
}


@contextmanager
def explained(where: object) -> Iterator[None]:
    """Turn an `OSError` of a disk that does not take what is written into a `BuildError` that names place and remedy.

    Other errors pass as they are: the executor tries those of the machine and the network again.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        what, remedy = _REFUSALS[error.errno]
        raise BuildError(what, where=error.filename or where, why=error, remedy=remedy) from error
