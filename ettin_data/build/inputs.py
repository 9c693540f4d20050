"""The inputs of a split that are files of this machine: what is known of them, and that they hold still while read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ettin_data.base import files as disk
from ettin_data.base.errors import SourceError
from ettin_data.sources.base import ReadOptions, Source, SourceFile, is_local, local_path
from ettin_data.sources.manifest import ManifestDiff, changed_since

_FRESH_NS = 2 * 10**9
"""A file touched so lately may be written to again without its times moving: they tick in milliseconds to 2 seconds."""

LocalInputs = Mapping[SourceFile, Path]


class InputChanged(SourceError):
    """An input was written to, or another file took its place, while a split was made from it."""


def local_inputs(source: Source, files: Sequence[SourceFile]) -> dict[SourceFile, Path]:
    """The inputs that are files of this machine, each with its path."""
    if not is_local(source.root):
        return {}
    paths = {file: Path(local_path(source.root)) / file.path for file in files}
    return {file: path for file, path in paths.items() if path.is_file()}


def input_digest(file: SourceFile, path: Path, read: ReadOptions) -> str:
    """The xxh3-64 of a local input, in hex: of the whole file, or of one part of a large file.

    The last line of a part may end behind it, so the part is hashed with as many bytes more as a record may have. Of a
    parquet file the last part ends with the footer, and so the footer is hashed with it.
    """
    if file.part is None:
        return str(disk.digest(path)["xxh3_64"])
    start, stop = file.part
    return str(disk.digest(path, start, stop + read.max_record_bytes)["xxh3_64"])


@contextmanager
def holding_still(source: Source, inputs: LocalInputs, read: ReadOptions) -> Iterator[None]:
    """A block that reads the inputs and hashes them, so that the hashes are of the bytes that were read.

    A file has no version to compare. What tells that it was written to is its size and its times: a program can set
    the time of change back, the system's own (ctime) it cannot. The inode says no more, and mounted object stores
    give a file a new one as they like.

    Raises:
        SourceError: an input is not as long as the listing says.
        InputChanged: one changed during the block, which may have failed for that.
    """
    changed = [
        (file.name, f"{size:,} bytes then, {file.size:,} now")
        for file, size in ((file, path.stat().st_size) for file, path in inputs.items())
        if 0 <= file.size != size
    ]
    if changed:
        raise changed_since(source, ManifestDiff((), (), tuple(changed)))
    before = {file: _times(path) for file, path in inputs.items()}
    fresh = {file: input_digest(file, inputs[file], read) for file, times in before.items() if _is_fresh(times)}
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    for file, path in inputs.items():
        if why := _change(file, path, read, before[file], fresh.get(file)):
            raise InputChanged(
                f"{file.path} of source {source.key!r} changed while it was read",
                where=path,
                why=why,
                remedy="wait until nothing writes to it any more, then run the same command again",
            ) from failure
    if failure is not None:
        raise failure


def _times(path: Path) -> tuple[int, int, int]:
    """Size in bytes, last change of the content, last change of anything (both in nanoseconds)."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_fresh(times: tuple[int, int, int]) -> bool:
    return time.time_ns() - max(times[1:]) < _FRESH_NS


def _change(
    file: SourceFile, path: Path, read: ReadOptions, before: tuple[int, int, int], digest: str | None
) -> object:
    """What tells that an input is no longer what it was, or None."""
    try:
        now = _times(path)
        if now == before and (digest is None or input_digest(file, path, read) == digest):
            return None
    except OSError as error:
        return error
    if now[0] != before[0]:
        return f"{before[0]:,} bytes then, {now[0]:,} now"
    return "of the same size, but it was written to, or another file took its place"
