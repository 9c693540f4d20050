"""Large files in parts: each an input of its own, so that one file of a terabyte is work for many.

`cut` says where, once, when a source is listed: behind each multiple of a size, the first place where reading can
begin.

`Format.cut` knows the places: plain JSON Lines anywhere, gzip and zstd where a member or frame begins if a file has
many (bgzip, pzstd, files end to end), parquet where a row group begins. All else is read whole, layers of compression
and what is no data as well.

The parts of a file hold all of its records, each once and in order. A member, or a place that was chosen blindly,
begins in the middle of a line: that line belongs to the part in which it begins, which reads on to its end, and the
next part passes it over. A line that begins with its part is taken for such a one as well, since nobody can tell.

Over a network a part asks for its own bytes. A web server that knows no ranges sends all that lies before them as well;
for large files on such a one, turn parts off (`part_bytes: null`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, pairwise

from ettin_data.base.errors import SourceError
from ettin_data.sources import formats
from ettin_data.sources.access import inflate
from ettin_data.sources.access.transport import byte_range
from ettin_data.sources.base import Damaged, ReadOptions, Source, SourceFile, TransportOptions

MOST_PARTS = 10_000
"""Of one file: each is a split, and a file to keep."""


def cut_files(source: Source, files: Sequence[SourceFile], size: int, options: TransportOptions) -> list[SourceFile]:
    """The files, those above `size` bytes in parts of about equal size where their format allows it.

    A function of their content and of `size` alone. Of large files it reads the ends, and some MiB where they may be
    cut. Raises `SourceError` when the network stays down, or for a `size` that makes too many parts; a file that cannot
    be read stays whole, for the build to say.
    """
    large = [file for file in files if file.size > size]
    said = formats.FORMATS.get(source.format)
    if not large or source.encoding or formats.of_root(source.root) or (said is not None and said.cut is None):
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
    head = byte_range(source, file, 0, inflate.WINDOW, options)
    inside, _ = inflate.content(iter([head]), ReadOptions(), layers=1)
    format = formats.of_content(inside, source, file)
    if format.cut is None or inflate.is_compressed(inside):
        return []
    count = -(-file.size // size)
    if count > MOST_PARTS:
        raise SourceError(
            f"{count:,} parts of {size:,} bytes, of at most {MOST_PARTS:,}",
            where=f"{source.key}: {file.path}",
            remedy="give a larger part_bytes, or part_bytes: null",
        )
    wanted = [file.size * i // count for i in range(1, count)]
    return sorted({place for place in format.cut(source, file, head, wanted, options) if place > 0})
