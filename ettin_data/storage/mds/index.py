"""`index.json`: the one module that knows its form, and what makes one unsafe."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from ettin_data.base import bounded_json, files, shapes
from ettin_data.base.errors import ExitStatus, ShardError
from ettin_data.storage.phase import INDEX, MARKER

SIZE_LIMIT = 1 << 26
"""Bytes of a full raw shard: the published size and `MDSWriter`'s default."""

HASH = "xxh3_64"
"""Algorithm in the `hashes` field: costs about 0.1% of a build, and `StreamingDataset(validate_hash=...)` knows it."""


MOST_BYTES = 1 << 32
"""Bytes of a raw shard, above which its 32-bit offsets do not reach."""

_ARRAYS = re.compile(r"ndarray:u?int(8|16|32|64)(:\d{1,9})?|ndarray|int")
"""Encodings of what is read as integers, of Streaming: integers of fixed width, or (`ndarray`) of 64 bits."""

_COLUMNS = 100
_COLUMN_BYTES = 1 << 32


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One entry of an `index.json`.

    Attributes:
        basename: path of the raw shard relative to the index's folder, posix, may have sub-folders.
        samples: number of samples.
        bytes: size of the raw shard.
        hashes: algorithm -> hex digest of the raw shard.
        columns: column name -> MDS encoding, sorted by name.
        sizes: fixed size in bytes of each column, or None, in the order of `columns`.
        compression: as the index says, which need not be what is on disk.
        zip_data: the compressed file's entry as found (`basename`, `bytes`, `hashes`), or None.
        size_limit: as the index says.
    """

    basename: str
    samples: int
    bytes: int
    hashes: Mapping[str, str]
    columns: Mapping[str, str]
    sizes: tuple[int | None, ...]
    compression: str | None = None
    zip_data: Mapping[str, Any] | None = None
    size_limit: int | None = SIZE_LIMIT

    def to_json(self) -> dict[str, Any]:
        return {
            "column_encodings": list(self.columns.values()),
            "column_names": list(self.columns),
            "column_sizes": list(self.sizes),
            "compression": self.compression,
            "format": "mds",
            "hashes": sorted(self.hashes),
            "raw_data": {"basename": self.basename, "bytes": self.bytes, "hashes": dict(self.hashes)},
            "samples": self.samples,
            "size_limit": self.size_limit,
            "version": 2,
            "zip_data": dict(self.zip_data) if self.zip_data else None,
        }

    @classmethod
    def from_json(cls, obj: Mapping[str, Any], where: object) -> ShardInfo:
        """Read one entry; raises `ShardError` for another format or version, an unsafe path or a pickled column."""
        try:
            if obj["format"] != "mds" or obj["version"] != 2:
                raise ShardError(
                    f"shard format {obj['format']!r:.40} version {obj['version']!r:.40} is not MDS version 2",
                    where=where,
                )
            raw, zipped = obj["raw_data"], obj.get("zip_data")
            names = obj["column_names"]
            info = cls(
                basename=raw["basename"],
                samples=_count(obj["samples"], "samples", MOST_BYTES >> 2),
                bytes=_count(raw["bytes"], "bytes", MOST_BYTES),
                hashes=_hashes(raw.get("hashes") or {}),
                columns=dict(zip(_words(names), _words(obj["column_encodings"]), strict=True)),
                sizes=tuple(
                    size if size is None else _count(size, "size", _COLUMN_BYTES) for size in obj["column_sizes"]
                ),
                compression=_word_or_none(obj.get("compression")),
                zip_data=_zip_data(zipped) if zipped else None,
                size_limit=None
                if (limit := obj.get("size_limit")) is None
                else _count(limit, "size_limit", shapes.MOST),
            )
            if not len(info.columns) == len(info.sizes) == len(names) <= _COLUMNS:
                raise ValueError(f"{len(names)} columns with {len(info.sizes)} sizes, {len(info.columns)} names")
            for name in ("input_ids", "cu_seqlens"):
                if not _ARRAYS.fullmatch(encoding := info.columns.get(name, "int")):
                    raise ValueError(f"{name} are {encoding[:80]!r}, not integers")
            if info.samples * 4 > info.bytes:
                raise ValueError(f"{info.samples:,} samples in {info.bytes:,} bytes")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ShardError(
                f"not a valid shard entry: {type(error).__name__} {error}",
                where=where,
                remedy="rebuild or download this folder's index.json again",
            ) from error
        for name in (info.basename, *([info.zip_data["basename"]] if info.zip_data else [])):
            check_inside(name, where)
        for column, encoding in info.columns.items():
            if encoding.split(":")[0] in ("pkl", "pickle"):
                raise ShardError(
                    f"column {column!r} is pickled", where=where, why="reading it would run code from the data"
                )
        return info

    def moved(self, prefix: str) -> ShardInfo:
        """The same shard seen from a folder above: `prefix/basename`."""
        zipped = dict(self.zip_data, basename=f"{prefix}/{self.zip_data['basename']}") if self.zip_data else None
        return ShardInfo(
            f"{prefix}/{self.basename}",
            self.samples,
            self.bytes,
            self.hashes,
            self.columns,
            self.sizes,
            self.compression,
            zipped,
            self.size_limit,
        )


def _count(value: object, what: str, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{what} {value!r:.80} is no number from 0 to {most:,}")
    return value


def _words(values: object) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r:.80} is no list of words")
    return values


def _word_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no word")
    return value


def _hashes(values: object) -> dict[str, str]:
    if not isinstance(values, dict):
        raise TypeError(f"{values!r:.80} are no hashes")
    _words(list(values.values()))
    return dict(values)


def _zip_data(values: Mapping[str, Any]) -> dict[str, Any]:
    _count(values["bytes"], "bytes", 2 * MOST_BYTES)
    return {**values, "basename": values["basename"], "hashes": _hashes(values["hashes"])}


def check_inside(name: str, where: object) -> None:
    """Raise `ShardError` if a relative path would leave its folder, or is none that can be."""
    if not shapes.is_relative_path(name):
        raise _leaves(name, where)


def path_inside(folder: Path, name: str) -> Path:
    """The path of a file that an index names. Raises `ShardError` if a link on the way leads out of the folder.

    In the hub's cache every file is a link from `snapshots` to the `blobs` beside it: there, that is the folder.
    """
    path = folder / name
    if "/" not in name and not path.is_symlink():
        return path
    home = os.path.realpath(folder)
    home = home.rpartition("/snapshots/")[0] or home
    real = os.path.realpath(path)
    if not real.startswith(f"{home.rstrip('/')}/") and not _behind_linked_source(folder, name, real):
        raise _leaves(name, folder)
    return path


def _behind_linked_source(folder: Path, name: str, real: str) -> bool:
    """Whether a file leaves its folder only because the source's folder is a link, as its owner makes for a big disk.

    A file of a split of ours, that is: a link to anything else would make its files readable under a name in the data.
    """
    source, *rest = PurePosixPath(name).parts
    linked = folder / source
    if len(rest) != 2 or not linked.is_symlink() or not (linked / rest[0] / MARKER).is_file():
        return False
    return os.path.dirname(real) == os.path.join(os.path.realpath(linked), rest[0])


def _leaves(name: object, where: object) -> ShardError:
    return ShardError(
        f"path {name!r:.200} leaves its folder",
        where=where,
        why="an index may only name files below itself",
        remedy="do not use this data set unless you trust its origin; fix the path in its index.json",
    )


_NO_INDEX = "name a folder that holds an MDS index; `ettin-data index` makes one of those of the folders below it"


def read_index(folder: Path, index: Path | None = None) -> list[ShardInfo]:
    """The shards that `<folder>/index.json`, or another index of them, lists, in its order.

    Raises `ShardError` if it is missing or damaged.
    """
    path = index or Path(folder) / INDEX
    try:
        obj = bounded_json.parse(files.read(path))
        if obj["version"] != 2:
            raise ShardError(f"index version {obj['version']!r:.40} is not 2", where=path)
        entries = obj["shards"]
        if not isinstance(entries, list):
            raise TypeError("its shards are no list")
    except FileNotFoundError:
        why = "there is no such folder" if not Path(folder).exists() else None
        raise ShardError(
            "no index.json", where=folder, why=why, remedy=_NO_INDEX, status=ExitStatus.NOT_FOUND
        ) from None
    except OSError as error:
        raise ShardError("the index cannot be read", where=path, why=error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"not a valid index: {type(error).__name__} {error}", where=path) from error
    return [ShardInfo.from_json(entry, f"{path}, shard {i}") for i, entry in enumerate(entries)]


def merged_index(folders: Sequence[tuple[str, Path]]) -> list[ShardInfo]:
    """The shards of many folders as one index, in the given order; names are relative to the common root.

    `streaming.merge_index` keeps only the last folder of a path and the order of arrival; this keeps both whole.
    """
    return [shard.moved(name) for name, folder in folders for shard in read_index(folder)]


def index_text(shards: Iterable[ShardInfo]) -> str:
    """The one text of an index of these shards."""
    return json.dumps({"shards": [shard.to_json() for shard in shards], "version": 2}, sort_keys=True)


def write_index(folder: Path, shards: Iterable[ShardInfo]) -> None:
    """Write `<folder>/index.json` in `MDSWriter`'s form, atomically."""
    files.write(Path(folder) / INDEX, index_text(shards))


def bytes_digest(*parts: bytes | bytearray | memoryview) -> str:
    """The hex digest that index entries carry (xxh3-64), of the parts end to end."""
    hashed = xxhash.xxh3_64()
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()
