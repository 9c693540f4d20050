"""The optional local cache of remote files: one file an entry, the least recently used given up first."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from ettin_data.sources.base import Source, SourceFile, TransportOptions


def cached(source: Source, file: SourceFile, options: TransportOptions) -> str:
    """The path of a file in the cache, fetched if it is not there; its length is that of the listing.

    An entry is named by root, path, size and ETag, so that a file that changed upstream is another entry. Two processes
    that want the same file fetch it once. Raises what `transport.remote` raises.
    """
    from ettin_data.sources.transport import remote

    folder = Path(options.cache or "").expanduser()
    identity = f"{source.root}\n{file.path}\n{file.size}\n{file.etag}"
    entry = folder / (hashlib.blake2b(identity.encode(), digest_size=16).hexdigest() + ".data")
    folder.mkdir(parents=True, exist_ok=True)
    with open(entry.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if entry.exists() and (file.size < 0 or entry.stat().st_size == file.size):
            os.utime(entry)
            return str(entry)
        part = entry.with_suffix(".part")
        with open(part, "wb") as out:
            for chunk in remote(source, file, options):
                out.write(chunk)
        os.replace(part, entry)
    _trim(folder, options.cache_bytes, keep=entry)
    return str(entry)


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
            path.with_suffix(".lock").unlink(missing_ok=True)
            total -= size
