"""`index.json`: the one module that knows its form, and what makes one unsafe."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from ettin_data.base import files
from ettin_data.base.errors import ShardError
from ettin_data.storage.phase import INDEX

SIZE_LIMIT = 1 << 26
"""Bytes of a full raw shard: the published size and `MDSWriter`'s default."""

HASH = "xxh3_64"
"""Algorithm in the `hashes` field: costs about 0.1% of a build, and `StreamingDataset(validate_hash=...)` knows it."""


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
                    f"shard format {obj['format']!r} version {obj['version']!r} is not MDS version 2", where=where
                )
            raw, zipped = obj["raw_data"], obj.get("zip_data")
            info = cls(
                basename=raw["basename"],
                samples=int(obj["samples"]),
                bytes=int(raw["bytes"]),
                hashes=dict(raw.get("hashes") or {}),
                columns=dict(zip(obj["column_names"], obj["column_encodings"], strict=True)),
                sizes=tuple(obj["column_sizes"]),
                compression=obj.get("compression"),
                zip_data=dict(zipped) if zipped else None,
                size_limit=obj.get("size_limit"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ShardError(
                f"not a valid shard entry: {type(error).__name__} {error}",
                where=where,
                remedy="rebuild or download this folder's index.json again",
            ) from error
        for name in (info.basename, *([zipped["basename"]] if zipped else [])):
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


def check_inside(name: str, where: object) -> None:
    """Raise `ShardError` if a relative path would leave its folder."""
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath()
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name:
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
    if not os.path.realpath(path).startswith(f"{home.rstrip('/')}/"):
        raise _leaves(name, folder)
    return path


def _leaves(name: object, where: object) -> ShardError:
    return ShardError(
        f"path {name!r} leaves its folder",
        where=where,
        why="an index may only name files below itself",
        remedy="do not use this data set unless you trust its origin; fix the path in its index.json",
    )


_NO_INDEX = "name a folder that holds an MDS index; `ettin-data index` makes one of those of the folders below it"


def read_index(folder: Path) -> list[ShardInfo]:
    """The shards that `<folder>/index.json` lists, in its order. Raises `ShardError` if missing or damaged."""
    path = Path(folder) / INDEX
    try:
        obj = json.loads(path.read_bytes())
        if obj["version"] != 2:
            raise ShardError(f"index version {obj['version']!r} is not 2", where=path)
        entries = list(obj["shards"])
    except FileNotFoundError:
        raise ShardError("no index.json", where=folder, remedy=_NO_INDEX) from None
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
