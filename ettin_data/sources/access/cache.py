"""The optional local cache of remote files: one file an entry, the least recently used given up first."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ettin_data.base import files
from ettin_data.sources.base import Source, SourceFile, TransportOptions


def cached(fetch: Iterator[bytes], source: Source, file: SourceFile, options: TransportOptions) -> IO[bytes]:
    """A file, or a part of one, in the cache, open for reading; `fetch` gives its bytes if it is not there.

    An entry is named by root, path, size, ETag and part, so that a file that changed upstream is another entry. Two
    processes that want the same file fetch it once. Raises what `fetch` raises, and OSError when the disk is full.
    """
    folder = Path(options.cache or "").expanduser()
    identity = f"{source.root}\n{file.path}\n{file.size}\n{file.etag}" + (f"\n{file.part}" if file.part else "")
    entry = folder / (hashlib.blake2b(identity.encode(), digest_size=16).hexdigest() + ".data")
    folder.mkdir(parents=True, exist_ok=True)
    with open(entry.with_suffix(".lock"), "w") as lock:  # never removed: a new one would be another lock
        fcntl.flock(lock, fcntl.LOCK_EX)
        if entry.exists() and (file.size < 0 or entry.stat().st_size == file.bytes):
            os.utime(entry)
        else:
            with files.replacing(entry) as part, open(part, "wb") as out:
                out.writelines(fetch)
        handle = entry.open("rb")  # open before anyone trims: an open file keeps its bytes
    _trim(folder, options.cache_bytes, keep=entry)
    return handle


def _trim(folder: Path, limit: int, keep: Path) -> None:
    """Remove the least recently used entries above the limit; a reader that has one open keeps its bytes."""
    entries = []
    for path in folder.glob("*.data"):
        try:
            found = path.stat()
        except FileNotFoundError:  # another process trims too
            continue
        entries.append((found.st_mtime_ns, found.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size
