"""Large files in parts: each an input of its own, so that one file of a terabyte is work for many.

`cut` says where, once, when a source is listed: behind each multiple of a size, the first place where reading can
begin.

* plain JSON Lines: anywhere;
* gzip and zstd: where a member or frame begins, for files that have many (bgzip, pzstd, files end to end);
* parquet: where a row group begins;
* all else is read whole: MDS, whose documents reach from sample to sample, layers of compression, and what is no data.

The parts of a file hold all of its records, each once and in order. A member, or a place that was chosen blindly,
begins in the middle of a line: that line belongs to the part in which it begins, which reads on to its end, and the
next part passes it over. A line that begins with its part is taken for such a one as well, since nobody can tell.

Over a network a part asks for its own bytes. A web server that knows no ranges sends all that lies before them as well;
for large files on such a one, turn parts off (`part_bytes: null`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, pairwise

from ettin_data.sources.access import inflate
from ettin_data.sources.access.transport import as_path, chunks
from ettin_data.sources.base import MIB, Damaged, ReadOptions, Source, SourceFile, TransportOptions, is_local
from ettin_data.sources.formats import hub_rows
from ettin_data.sources.formats.content import PARQUET, not_data
from ettin_data.sources.formats.mds import looks_like_mds

WINDOW = 4 * MIB
"""Bytes behind a place in which a member must begin; a file whose first is longer counts as one of a single member."""

_TAIL = 8  # bytes at the end of a parquet file: length of the footer, and the magic number
_LINE_BLOCK = MIB // 4  # asked for at a time to finish a line


def cut(source: Source, files: Sequence[SourceFile], size: int, options: TransportOptions) -> list[SourceFile]:
    """The files, those above `size` bytes in parts of about equal size where their format allows it.

    A function of their content and of `size` alone. Of large files it reads the ends, and some MiB where they may be
    cut. Raises `SourceError` when the network stays down; a file that cannot be read stays whole, for the build to say.
    """
    large = [file for file in files if file.size > size]
    if not large or source.format == "mds" or hub_rows.is_rows(source.root):
        return list(files)

    def parts(file: SourceFile) -> list[SourceFile]:
        try:
            bounds = [0, *_places(source, file, size, options), file.size]
        except (Damaged, OSError):
            return [file]
        return [replace(file, part=span) for span in pairwise(bounds)] if len(bounds) > 2 else [file]

    with ThreadPoolExecutor(min(options.per_host, 16)) as pool:
        found = dict(zip(large, pool.map(parts, large), strict=True))
    return list(chain.from_iterable(found.get(file, [file]) for file in files))


def _places(source: Source, file: SourceFile, size: int, options: TransportOptions) -> list[int]:
    """Where to cut a file, increasing, without its two ends."""
    count = -(-file.size // size)
    wanted = [file.size * i // count for i in range(1, count)]
    window = WINDOW + inflate.TRIED
    head = _range(source, file, 0, window, options)
    inside, _ = inflate.content(iter([head]), ReadOptions(), layers=1)
    if head.startswith(PARQUET):
        begins = _row_groups(source, file, options)
        found = [next((place for place in begins if place >= want), 0) for want in wanted]
    elif inside.startswith(PARQUET) or looks_like_mds(inside) or inflate.is_compressed(inside) or not_data(inside):
        found = []
    elif not inflate.is_compressed(head):
        found = wanted
    elif any(inflate.members(head[1:], head)):
        windows = (_range(source, file, want, want + window, options) for want in wanted)
        members = (next(inflate.members(window, head), None) for window in windows)
        found = [want + at for want, at in zip(wanted, members, strict=True) if at is not None]
    else:
        found = []
    return sorted({place for place in found if place > 0})


def _range(source: Source, file: SourceFile, start: int, stop: int, options: TransportOptions) -> bytes:
    part = replace(file, part=(start, min(stop, file.size)))
    return b"".join(chunks(source, part, replace(options, cache=None)))


def _row_groups(source: Source, file: SourceFile, options: TransportOptions) -> list[int]:
    """Where the row groups of a parquet file begin; none if they do not follow each other."""
    import pyarrow as pa

    from ettin_data.sources.formats.parquet import row_groups

    try:
        with parquet_path(source, replace(file, part=(0, 0)), options) as path:
            groups = row_groups(path)
    except pa.ArrowException:
        return []
    bounds = list(chain.from_iterable(groups))
    return [begin for begin, _ in groups] if bounds == sorted(bounds) else []


def is_parquet(source: Source, file: SourceFile, options: TransportOptions) -> bool:
    """Whether a file, of which only a part may be asked for, is parquet."""
    return _range(source, file, 0, len(PARQUET), options) == PARQUET


@contextmanager
def parquet_path(source: Source, file: SourceFile, options: TransportOptions) -> Iterator[str]:
    """A path that holds the part of a parquet file, and the footer, each in its place: the file, or a sparse copy.

    Raises `Damaged` for a file that does not end as parquet, and as `chunks` does.
    """
    assert file.part is not None
    if is_local(source.root):
        with as_path(source, file, iter(()), plain=True) as path:
            yield path
        return
    end = _range(source, file, file.size - _TAIL, file.size, options)
    footer = file.size - _TAIL - int.from_bytes(end[:4], "little")
    if not end.endswith(PARQUET) or footer < 0:
        raise Damaged("damaged_parquet", f"it ends with {end!r}")
    with tempfile.NamedTemporaryFile(prefix="ettin-data-") as copy:
        copy.truncate(file.size)
        for start, stop in ((file.part[0], min(file.part[1], footer)), (footer, file.size)):
            copy.seek(start)
            for chunk in chunks(source, replace(file, part=(start, stop)), options):
                copy.write(chunk)
        copy.flush()
        yield copy.name


def line_blocks(source: Source, file: SourceFile, options: ReadOptions) -> Iterator[bytes]:
    """The content of the lines that belong to a part. Raises as `chunks` does."""
    assert file.part is not None
    start, stop = file.part
    begun = start == 0  # else when the line that began before has ended
    for block in inflate.content(chunks(source, file, options.transport), options)[1]:
        if not begun:
            begun = b"\n" in block
            block = block[block.find(b"\n") + 1 :] if begun else b""
        if block:
            yield block
    if not begun or stop == file.size:
        return
    transport = replace(options.transport, block_bytes=_LINE_BLOCK, cache=None)
    for block in inflate.content(chunks(source, replace(file, part=(stop, file.size)), transport), options)[1]:
        end = block.find(b"\n") + 1
        yield block[:end] if end else block
        if end:
            return
