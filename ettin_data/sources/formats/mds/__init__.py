"""MDS, the shards of MosaicML `streaming`: samples with a text, ids of another vocabulary, or of the run's own.

`samples` knows the bytes of a shard, `unpack` takes packs of documents apart, `decoder` turns ids into text, `records`
puts them together; here is what a folder of shards is.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

import orjson

from ettin_data.base.errors import SourceError
from ettin_data.base.redact import redact
from ettin_data.sources.access.transport import chunks
from ettin_data.sources.base import Damaged, Source, SourceFile, TransportOptions
from ettin_data.sources.formats.format import Format, Index
from ettin_data.sources.formats.mds.records import read_shard
from ettin_data.sources.formats.mds.samples import looks_like_mds

MAX_INDEX_BYTES = 1 << 30


class _NoIndex(SourceError):
    """A file of the index's name is none. What the network does to it raises other errors."""


def shards(
    source: Source, index: SourceFile, found: Mapping[str, SourceFile], options: TransportOptions
) -> tuple[list[SourceFile], list[str]] | None:
    """The shards that an index names, and those of them that are missing; None for an index of something else.

    An index is believed in which shards there are, not in whether they are compressed: published indexes claim
    compressed files that were unpacked and removed.
    """
    files: list[SourceFile] = []
    missing: list[str] = []
    try:
        entries = _entries(source, index, options)
    except _NoIndex:
        folder = posixpath.dirname(index.path)
        beside = (path for path in found if posixpath.dirname(path) == folder and path != index.path)
        if len(source.pick) > 1 and not any(map(FORMAT.names, beside)):
            return None
        raise
    for shard in entries:
        names = []
        for part in (shard.get("raw_data"), shard.get("zip_data")):
            if isinstance(part, dict) and isinstance(part.get("basename"), str):
                name = posixpath.normpath(posixpath.join(posixpath.dirname(index.path), part["basename"]))
                if name.startswith(("../", "/")):
                    raise SourceError(
                        f"an MDS index names {part['basename']!r}, outside of its source", where=index.path
                    )
                names.append(name)
        there = next((found[name] for name in names if name in found), None)
        if there is not None:
            files.append(there)
        elif names:
            missing.append(names[-1])
            files.append(SourceFile(names[-1], -1))
    return files, missing


def _entries(source: Source, index: SourceFile, options: TransportOptions) -> list[dict[str, Any]]:
    try:
        if index.size > MAX_INDEX_BYTES:
            raise ValueError(f"{index.size:,} bytes")
        entries: list[dict[str, Any]] = orjson.loads(b"".join(chunks(source, index, options)))["shards"]
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("shards are not objects")
        return entries
    except (Damaged, ValueError, KeyError, TypeError) as error:
        raise _NoIndex(
            f"source {source.key!r}: an MDS index cannot be read", where=redact(source.root) + index.path, why=error
        ) from None


FORMAT = Format(
    "mds",
    version=1,
    read=read_shard,
    suffixes=("mds",),
    recognise=looks_like_mds,
    tokens_per_byte={"": 0.24, "gz": 0.62, "zst": 0.52, "zstd": 0.52},
    index=Index("index.json", shards),
)
"""Rate: int32 ids in a vocabulary of a similar size. Documents reach from sample to sample, so no shard is cut."""
