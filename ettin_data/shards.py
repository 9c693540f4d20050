"""MosaicML MDS: the only module that knows the bytes of a shard and the form of an `index.json`.

A shard is `uint32 n`, `n + 1` uint32 offsets, a JSON config, then the samples; a sample is one uint32 size for each
column of variable size, then the columns' bytes in the order of their names (`streaming/base/format/mds`). A column
`ndarray:<dtype>` is one byte `(ndim << 2) | k` (k = 0..3 for dimensions in uint8/16/32/64), the dimensions, the values.

`ShardWriter` builds a whole shard's bytes at once from columnar input, byte-identical to `streaming.MDSWriter` with the
same settings, at a fraction of its cost. `MdsReader` reads through memory maps: no shared memory, no lock files, any
number of processes on one folder, and it never writes. That matters: `streaming`'s own reader deletes the raw
shard of a folder whose index claims a compression although only the raw file is there, which is the state of the
published Ettin data sets.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import struct
import sys
import types
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xxhash

from ettin_data.errors import ShardError

SIZE_LIMIT = 1 << 26
"""Bytes of a full raw shard: the published size and `MDSWriter`'s default."""

HASH = "xxh3_64"
"""Algorithm in the `hashes` field: costs about 0.1% of a build, and `StreamingDataset(validate_hash=...)` knows it."""

INDEX = "index.json"
_SHAPE_BYTES = (1, 2, 4, 8)
_SHAPE_FORMATS = ("<BB", "<BH", "<BI", "<BQ")


def import_streaming() -> types.ModuleType:
    """Import `streaming` without its image datasets.

    `streaming/__init__.py` imports `streaming.vision` and with it torchvision, for which no build matches CPU-only
    torch, and which costs seconds. Nothing here reads images, so an empty module stands in for it. This is the only
    place that imports `streaming`.
    """
    sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
    import streaming

    return streaming


# ---------------------------------------------------------------------------------------------------------------------
# index.json


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
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ShardError(
            f"path {name!r} leaves its folder",
            where=where,
            why="an index may only name files below itself",
            remedy="do not use this data set unless you trust its origin; fix the path in its index.json",
        )


def read_index(folder: Path) -> list[ShardInfo]:
    """The shards that `<folder>/index.json` lists, in its order. Raises `ShardError` if missing or damaged."""
    path = Path(folder) / INDEX
    try:
        obj = json.loads(path.read_bytes())
        if obj["version"] != 2:
            raise ShardError(f"index version {obj['version']!r} is not 2", where=path)
        entries = list(obj["shards"])
    except FileNotFoundError:
        raise ShardError("no index.json", where=folder, remedy="name a folder that holds an MDS index") from None
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
    temporary = Path(folder) / f".{INDEX}.tmp"
    temporary.write_text(index_text(shards))
    os.replace(temporary, Path(folder) / INDEX)


# ---------------------------------------------------------------------------------------------------------------------
# writing


@dataclass(frozen=True)
class Layout:
    """How samples are stored.

    Attributes:
        token_dtype: "uint16" (published) or "uint32".
        cu_seqlens: whether samples carry a `cu_seqlens` column (int32 boundaries of the documents in the sample).
        compression: None, or "zstd" / "zstd:<level>" for a compressed copy instead of the raw shard.
        size_limit: bytes of a raw shard after which a new one starts.
    """

    token_dtype: str = "uint16"
    cu_seqlens: bool = False
    compression: str | None = None
    size_limit: int = SIZE_LIMIT

    @property
    def columns(self) -> dict[str, str]:
        columns = {"id": "str", "input_ids": f"ndarray:{self.token_dtype}"}
        return {"cu_seqlens": "ndarray:int32", **columns} if self.cu_seqlens else columns


@dataclass
class ShardWriter:
    """Writes samples into numbered shards of a folder, then its `index.json`.

    Call `write` (columnar) or `write_raw` (already encoded samples of the same layout) any number of times, then
    `finish`. Nothing is readable as a data set before `finish`.
    """

    folder: Path
    layout: Layout = field(default_factory=Layout)

    def __post_init__(self) -> None:
        self.shards: list[ShardInfo] = []
        self._samples: list[bytes] = []
        columns = self.layout.columns
        config = {
            "version": 2,
            "format": "mds",
            "compression": self.layout.compression,
            "hashes": [HASH],
            "size_limit": self.layout.size_limit,
            "column_names": list(columns),
            "column_encodings": list(columns.values()),
            "column_sizes": [None] * len(columns),
        }
        self._config = json.dumps(config, sort_keys=True).encode()
        self._empty = 8 + len(self._config)
        self._bytes = self._empty

    def write(
        self,
        ids: Sequence[str],
        tokens: np.ndarray,
        offsets: np.ndarray,
        cu_seqlens: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Append samples.

        Args:
            ids: n strings.
            tokens: all samples' tokens end to end, dtype of the layout.
            offsets: shape (n + 1,), int64; sample i is `tokens[offsets[i]:offsets[i + 1]]`, never empty.
            cu_seqlens: n int32 arrays of boundaries, if the layout has that column.
        """
        if tokens.dtype != self.layout.token_dtype:
            raise ShardError(f"tokens are {tokens.dtype}, the shard holds {self.layout.token_dtype}", where=self.folder)
        lengths = np.diff(offsets)
        if (lengths <= 0).any():
            raise ShardError("a sample without tokens cannot be stored", where=self.folder)
        data = memoryview(np.ascontiguousarray(tokens)).cast("B")
        limits = (offsets * tokens.dtype.itemsize).tolist()
        names = [name.encode("utf-8") for name in ids]
        headers = [_array_header(length) for length in lengths.tolist()]
        join, append, sizes = b"".join, self._append, struct.Struct(f"<{len(self.layout.columns)}I").pack
        if cu_seqlens is None:
            for name, header, begin, end in zip(names, headers, limits[:-1], limits[1:], strict=True):
                append(join((sizes(len(name), len(header) + end - begin), name, header, data[begin:end])))
            return
        for bounds, name, header, begin, end in zip(cu_seqlens, names, headers, limits[:-1], limits[1:], strict=True):
            first, body = _array_header(len(bounds)), bounds.tobytes()
            head = sizes(len(first) + len(body), len(name), len(header) + end - begin)
            append(join((head, first, body, name, header, data[begin:end])))

    def write_raw(self, samples: Iterable[bytes]) -> None:
        """Append samples that are encoded already, in this layout's columns (as `Shard.raw` gives them)."""
        for sample in samples:
            self._append(sample)

    def _append(self, sample: bytes) -> None:
        if self._bytes + len(sample) + 4 > self.layout.size_limit and self._samples:
            self._flush()
        self._samples.append(sample)
        self._bytes += len(sample) + 4

    def _flush(self) -> None:
        count = len(self._samples)
        lengths = np.fromiter(map(len, self._samples), np.int64, count)
        ends = np.zeros(count + 1, np.int64)
        np.cumsum(lengths, out=ends[1:])
        ends += 4 + 4 * (count + 1) + len(self._config)
        if ends[-1] >= 1 << 32:
            raise ShardError(f"a shard of {ends[-1]:,} bytes is over the 4 GiB of MDS offsets", where=self.folder)
        header = np.uint32(count).tobytes() + ends.astype(np.uint32).tobytes() + self._config
        raw = b"".join((header, *self._samples))
        self._samples, self._bytes = [], self._empty
        basename = f"shard.{len(self.shards):05}.mds"
        zip_data, name, stored = None, basename, raw
        if self.layout.compression:
            name, stored = f"{basename}.zstd", _zstd(raw, self.layout.compression)
            zip_data = {"basename": name, "bytes": len(stored), "hashes": {HASH: digest(stored)}}
        with open(Path(self.folder) / name, "wb") as file:
            file.write(stored)
        columns = self.layout.columns
        self.shards.append(
            ShardInfo(
                basename,
                count,
                len(raw),
                {HASH: digest(raw)},
                columns,
                (None,) * len(columns),
                self.layout.compression,
                zip_data,
                self.layout.size_limit,
            )
        )

    def finish(self) -> list[ShardInfo]:
        """Write the last shard and the index."""
        if self._samples:
            self._flush()
        write_index(self.folder, self.shards)
        return self.shards


def digest(data: bytes | memoryview | mmap.mmap) -> str:
    """The hex digest that index entries carry (xxh3-64)."""
    return xxhash.xxh3_64_hexdigest(data)


@functools.lru_cache(maxsize=1 << 16)
def _array_header(length: int) -> bytes:
    k = 0 if length < 1 << 8 else 1 if length < 1 << 16 else 2
    return struct.pack(_SHAPE_FORMATS[k], 4 | k, length)


def _zstd(data: bytes, compression: str) -> bytes:
    import zstandard

    name, _, level = compression.partition(":")
    if name != "zstd":
        raise ShardError(f"compression {compression!r} is not supported", remedy="use zstd, zstd:<level> or none")
    return zstandard.ZstdCompressor(level=int(level or 3), write_content_size=True).compress(data)


# ---------------------------------------------------------------------------------------------------------------------
# reading


class Shard:
    """One open shard: the raw bytes and where its samples are.

    Raises `ShardError` when the header does not fit the file; it reads the offsets, not the samples.
    """

    __slots__ = ("_data", "_ids", "_strict", "_tokens", "dtype", "info", "offsets", "path")

    def __init__(self, folder: Path, info: ShardInfo) -> None:
        self.info, self.path = info, Path(folder) / info.basename
        self._data = _raw_bytes(Path(folder), info)
        size = len(self._data)
        if size < 8 or struct.unpack_from("<I", self._data)[0] != info.samples or size < 8 + 4 * info.samples:
            raise ShardError(
                f"the shard's header does not say {info.samples} samples in {size:,} bytes",
                where=self.path,
                why="the file is cut, or not the one that index.json describes",
                remedy="rebuild or download it again",
            )
        self.offsets = np.frombuffer(self._data, np.uint32, info.samples + 1, 4)
        if size != int(self.offsets[-1]) or (np.diff(self.offsets.astype(np.int64)) < 0).any():
            raise ShardError(
                f"sample offsets do not fit the file of {size:,} bytes",
                where=self.path,
                why="the file is cut or damaged",
                remedy="rebuild or download it again",
            )
        names = list(info.columns)
        if "input_ids" not in names:
            raise ShardError(f"no column input_ids, only {names}", where=self.path)
        self.dtype = np.dtype(info.columns["input_ids"].partition(":")[2] or "int64").newbyteorder("<")
        self._tokens = names.index("input_ids")
        self._ids = names.index("id") if "id" in names else None
        # The common layout has two variable columns, and its samples are parsed without a loop.
        self._strict = names == ["id", "input_ids"] and ":" in info.columns["input_ids"]

    def __len__(self) -> int:
        return self.info.samples

    def digest(self) -> str:
        """The hash of the raw shard as it is, to be compared with its entry's in the index."""
        return digest(self._data)

    def raw(self, i: int) -> bytes:
        """The encoded bytes of sample i."""
        return self._data[int(self.offsets[i]) : int(self.offsets[i + 1])]

    def sample(self, i: int) -> tuple[str, np.ndarray]:
        """Id and tokens of sample i; the tokens are a read-only view of the file. Raises `ShardError` if damaged."""
        try:
            begin, end = int(self.offsets[i]), int(self.offsets[i + 1])
            if not self._strict:
                return self._any_columns(begin, end)
            id_size, array_size = struct.unpack_from("<II", self._data, begin)
            at = begin + 8 + id_size
            if at + array_size != end:
                raise ValueError(f"columns of {id_size} and {array_size} bytes in a sample of {end - begin}")
            return str(self._data[begin + 8 : at], "utf-8"), self._array(at, array_size, self.dtype)
        except (ValueError, struct.error, UnicodeDecodeError) as error:
            raise ShardError(
                f"sample {i} of the shard cannot be read",
                where=self.path,
                why=error,
                remedy="rebuild or download the shard again",
            ) from error

    def column(self, i: int, name: str) -> Any:
        """One column of sample i: `str` -> str, arrays -> numpy views (1-D)."""
        begin, end = int(self.offsets[i]), int(self.offsets[i + 1])
        at, size = self._spans(begin, end)[list(self.info.columns).index(name)]
        encoding = self.info.columns[name]
        if encoding == "str":
            return str(self._data[at : at + size], "utf-8")
        return self._array(at, size, np.dtype(encoding.partition(":")[2]).newbyteorder("<"))

    def _spans(self, begin: int, end: int) -> list[tuple[int, int]]:
        variable = sum(size is None for size in self.info.sizes)
        heads = iter(struct.unpack_from(f"<{variable}I", self._data, begin))
        at, spans = begin + 4 * variable, []
        for fixed in self.info.sizes:
            size = next(heads) if fixed is None else fixed
            spans.append((at, size))
            at += size
        if at != end:
            raise ValueError(f"columns end at byte {at - begin} of a sample of {end - begin}")
        return spans

    def _any_columns(self, begin: int, end: int) -> tuple[str, np.ndarray]:
        spans = self._spans(begin, end)
        name = ""
        if self._ids is not None:
            at, size = spans[self._ids]
            name = str(self._data[at : at + size], "utf-8")
        at, size = spans[self._tokens]
        return name, self._array(at, size, self.dtype)

    def _array(self, at: int, size: int, dtype: np.dtype) -> np.ndarray:
        first = self._data[at]
        width = _SHAPE_BYTES[first & 3]
        length = int.from_bytes(self._data[at + 1 : at + 1 + width], "little")
        if first >> 2 != 1 or 1 + width + length * dtype.itemsize != size:
            raise ValueError(f"an array of {length} x {dtype} in {size} bytes")
        return np.frombuffer(self._data, dtype, length, at + 1 + width)


def _raw_bytes(folder: Path, info: ShardInfo) -> Any:
    path = folder / info.basename
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        if not info.zip_data:
            raise ShardError("shard is missing", where=path, remedy="rebuild or download it again") from None
    except ValueError:
        raise ShardError("shard is empty", where=path, remedy="rebuild or download it again") from None
    return _decompressed(folder / info.zip_data["basename"], info)


def _decompressed(path: Path, info: ShardInfo) -> bytes:
    import zstandard

    try:
        with open(path, "rb") as file:
            data = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read(info.bytes + 1)
    except FileNotFoundError:
        raise ShardError("shard is missing, raw and compressed", where=path) from None
    except zstandard.ZstdError as error:
        raise ShardError("shard cannot be decompressed", where=path, why=error) from error
    if len(data) != info.bytes:
        raise ShardError(f"shard is {len(data):,} bytes decompressed, not {info.bytes:,}", where=path)
    return data


class MdsReader:
    """Random access to the samples of an MDS folder by position in its `index.json`.

    Opens shards on first use and keeps the `keep_open` most recently used: a map costs address space, not memory.
    """

    def __init__(self, folder: str | Path, keep_open: int = 4096) -> None:
        self.folder = Path(folder)
        self.infos = read_index(self.folder)
        self.starts = np.zeros(len(self.infos) + 1, np.int64)
        np.cumsum([info.samples for info in self.infos], out=self.starts[1:])
        self._starts = self.starts.tolist()
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._keep_open = keep_open

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, position: int) -> dict[str, Any]:
        name, tokens = self.sample(position)
        return {"id": name, "input_ids": tokens}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:  # memory maps stay with their process
        return {**self.__dict__, "_open": OrderedDict()}

    def shard(self, number: int) -> Shard:
        """The open shard of that number in the index."""
        shard = self._open.get(number)
        if shard is None:
            shard = self._open[number] = Shard(self.folder, self.infos[number])
            if len(self._open) > self._keep_open:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(number)
        return shard

    def locate(self, position: int) -> tuple[int, int]:
        """Shard number and row of a position. Raises IndexError outside of [0, len)."""
        if not 0 <= position < self._starts[-1]:
            raise IndexError(f"sample {position} of {self._starts[-1]}")
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]

    def sample(self, position: int) -> tuple[str, np.ndarray]:
        """Id and tokens (a read-only view, the shard's dtype) of a sample."""
        number, row = self.locate(position)
        return self.shard(number).sample(row)

    def id(self, position: int) -> str:
        return self.sample(position)[0]

    def tokens(self, position: int) -> np.ndarray:
        return self.sample(position)[1]
