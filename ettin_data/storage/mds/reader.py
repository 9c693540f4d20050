"""Random access to samples through memory maps.

No shared memory, no lock files, any number of processes on one folder, and it never writes. That matters: `streaming`'s
own reader deletes the raw shard of a folder whose index claims a compression although only the raw file is there, which
is the state of the published Ettin data sets.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.errors import ShardError
from ettin_data.storage.mds.index import MOST_BYTES, SIZE_LIMIT, ShardInfo, bytes_digest, path_inside, read_index
from ettin_data.tokenizer.vocabulary import AnyTokens

_SHAPE_BYTES = (1, 2, 4, 8)
_EXPANSION = 200


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
        header = 4 + 4 * len(self.offsets)
        falls = (np.diff(self.offsets.astype(np.int64)) < 0).any()
        if size != int(self.offsets[-1]) or int(self.offsets[0]) < header or falls:
            raise ShardError(
                f"sample offsets do not fit the file of {size:,} bytes",
                where=self.path,
                why="the file is cut or damaged",
                remedy="rebuild or download it again",
            )
        names = list(info.columns)
        if "input_ids" not in names:
            raise ShardError(f"no column input_ids, only {names}", where=self.path)
        self.dtype = np.dtype((info.columns["input_ids"].split(":")[1:] or ["int64"])[0]).newbyteorder("<")
        self._tokens = names.index("input_ids")
        self._ids = names.index("id") if "id" in names else None
        # The common layout has two variable columns, and its samples are parsed without a loop.
        self._strict = names == ["id", "input_ids"] and ":" in info.columns["input_ids"]

    def __len__(self) -> int:
        return self.info.samples

    def digest(self) -> str:
        """The hash of the raw shard as it is, to be compared with its entry's in the index."""
        return bytes_digest(self._data)

    def rows(self, numbers: NDArray[np.int64]) -> tuple[memoryview, NDArray[np.int64], NDArray[np.int64]]:
        """The bytes of the shard, and where in them the encoded samples of these numbers begin and end."""
        offsets = self.offsets.astype(np.int64)
        return memoryview(self._data), offsets[numbers], offsets[numbers + 1]

    def sample(self, i: int) -> tuple[str, AnyTokens]:
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
        except (ValueError, struct.error) as error:
            raise self._unreadable(i, error) from error

    def column(self, i: int, name: str) -> Any:
        """One column of sample i: `str` -> str, arrays -> numpy views (1-D). Raises `ShardError` if damaged."""
        try:
            begin, end = int(self.offsets[i]), int(self.offsets[i + 1])
            at, size = self._spans(begin, end)[list(self.info.columns).index(name)]
            encoding = self.info.columns[name]
            if encoding == "str":
                return str(self._data[at : at + size], "utf-8")
            return self._array(at, size, np.dtype(encoding.split(":")[1]).newbyteorder("<"))
        except (ValueError, TypeError, IndexError, struct.error) as error:
            raise self._unreadable(i, error) from error

    def _unreadable(self, i: int, error: Exception) -> ShardError:
        return ShardError(
            f"sample {i} of the shard cannot be read",
            where=self.path,
            why=error,
            remedy="rebuild or download the shard again",
        )

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

    def _any_columns(self, begin: int, end: int) -> tuple[str, AnyTokens]:
        spans = self._spans(begin, end)
        name = ""
        if self._ids is not None:
            at, size = spans[self._ids]
            name = str(self._data[at : at + size], "utf-8")
        at, size = spans[self._tokens]
        return name, self._array(at, size, self.dtype)

    def _array(self, at: int, size: int, dtype: np.dtype[Any]) -> AnyTokens:
        if size < 2:
            raise ValueError(f"an array in {size} bytes")
        first = self._data[at]
        width = _SHAPE_BYTES[first & 3]
        length = int.from_bytes(self._data[at + 1 : at + 1 + width], "little")
        if first >> 2 != 1 or 1 + width + length * dtype.itemsize != size:
            raise ValueError(f"an array of {length} x {dtype} in {size} bytes")
        return np.frombuffer(self._data, dtype, length, at + 1 + width)


def _raw_bytes(folder: Path, info: ShardInfo) -> bytes | memoryview:
    path = path_inside(folder, info.basename)
    try:
        if files.require_ordinary(path, MOST_BYTES) == 0:
            raise ShardError("shard is empty", where=path, remedy="rebuild or download it again")
        return files.mapped(path)
    except FileNotFoundError:
        if not info.zip_data:
            raise ShardError("shard is missing", where=path, remedy="rebuild or download it again") from None
    except OSError as error:
        raise ShardError("shard cannot be read", where=path, why=error) from error
    return _decompressed(path_inside(folder, info.zip_data["basename"]), info)


def _decompressed(path: Path, info: ShardInfo) -> bytes:
    import zstandard

    try:
        size = files.require_ordinary(path, 2 * MOST_BYTES)
        if info.bytes > _EXPANSION * size + SIZE_LIMIT:  # it is held in memory as a whole
            raise ShardError(
                f"shard of {size:,} bytes is said to hold {info.bytes:,}",
                where=path,
                why=f"token ids shrink by much less than {_EXPANSION} times: it is a decompression bomb",
            )
        with files.open_ordinary(path) as file:
            data = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read(info.bytes + 1)
    except FileNotFoundError:
        raise ShardError("shard is missing, raw and compressed", where=path) from None
    except (zstandard.ZstdError, OSError) as error:
        raise ShardError("shard cannot be decompressed", where=path, why=error) from error
    if len(data) != info.bytes:
        raise ShardError(f"shard is {len(data):,} bytes decompressed, not {info.bytes:,}", where=path)
    return data


class MdsReader:
    """Random access to the samples of an MDS folder by position in its `index.json`, or in another `index` of it.

    Opens shards on first use and keeps the `keep_open` most recently used: a map costs address space, not memory and
    not a descriptor. Raises `ShardError` for a folder or a shard that is not what its index says.
    """

    def __init__(self, folder: str | Path, keep_open: int = 4096, index: Path | None = None) -> None:
        self.folder = Path(folder)
        self.infos = read_index(self.folder, index)
        self.starts = np.zeros(len(self.infos) + 1, np.int64)
        np.cumsum([info.samples for info in self.infos], out=self.starts[1:])
        self._starts: list[int] = self.starts.tolist()
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

    def close(self, number: int) -> None:
        """Let go of a shard, which is opened again when it is next used. What was read of it stays valid."""
        self._open.pop(number, None)

    def locate(self, position: int) -> tuple[int, int]:
        """Shard number and row of a position. Raises IndexError outside of [0, len)."""
        if not 0 <= position < self._starts[-1]:
            raise IndexError(f"sample {position} of {self._starts[-1]}")
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]

    def sample(self, position: int) -> tuple[str, AnyTokens]:
        """Id and tokens (a read-only view, the shard's dtype) of a sample."""
        number, row = self.locate(position)
        return self.shard(number).sample(row)

    def id(self, position: int) -> str:
        return self.sample(position)[0]

    def tokens(self, position: int) -> AnyTokens:
        return self.sample(position)[1]
