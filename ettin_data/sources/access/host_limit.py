"""A limit on the requests to one host at a time, over all processes of this machine.

A slot is a locked file in the temporary folder: a process that dies gives its slot back by itself.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

_POLL_S = 0.02


@contextmanager
def slot(host: str, limit: int) -> Iterator[None]:
    """Hold one of `limit` slots of a host; waits until one is free."""
    folder = os.path.join(tempfile.gettempdir(), f"ettin-data-slots-{os.getuid()}", re.sub(r"[^\w.\-]", "_", host))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    first = os.getpid() % limit  # processes start at different slots, so that few collide
    while True:
        for number in range(limit):
            handle = os.open(
                os.path.join(folder, str((first + number) % limit)), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            try:
                yield
            finally:
                os.close(handle)
            return
        time.sleep(_POLL_S)
