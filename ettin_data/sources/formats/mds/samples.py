"""Upstream MDS shards, read directly: their columns vary, and `streaming` must never open them.

`streaming` deletes the raw shard when an index claims compression but only raw files exist, as in the published data
sets. This reader opens nothing for writing and needs no index: a shard says its own columns.

Layout (streaming's MDS writer): uint32 n, n+1 uint32 offsets, a JSON config, then the samples. A sample is one uint32
size for each column of variable size, then the columns' bytes in the config's order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ettin_data.sources.base import Damaged, ReadOptions, Reject

MAX_CONFIG = 1 << 20
_SPARED = ("attention_mask", "domain", "url")
"""Columns that help where they can be read."""
_SCALARS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
# The dtype byte of an array of no fixed type: its bits, plus 1 for signed, 2 for floating point.
_DTYPE_CODES = {
    np.dtype(name).itemsize * 8 + {"u": 0, "i": 1, "f": 2}[np.dtype(name).kind]: np.dtype(name) for name in _SCALARS
}


def looks_like_mds(head: bytes) -> bool:
    """Whether bytes start an MDS shard: the first offset points just behind the offset table and a short config."""
    if len(head) < 8:
        return False
    n, first = struct.unpack_from("<II", head)
    return bool(n > 0 and 4 + 4 * (n + 1) + 2 <= first <= 4 + 4 * (n + 1) + MAX_CONFIG)


class _Stream:
    """Exact reads from blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = b""
        self._at = 0

    def read(self, size: int, what: str) -> bytes:
        """Exactly `size` bytes; `Damaged` if the file ends before."""
        end = self._at + size
        if end <= len(self._held):
            out = self._held[self._at : end]
            self._at = end
            return out
        parts = [self._held[self._at :]]
        missing = size - len(parts[0])
        while missing > 0:
            block = next(self._blocks, None)
            if block is None:
                raise Damaged("truncated", f"the file ends inside {what}: {missing:,} bytes missing")
            parts.append(block[:missing] if len(block) > missing else block)
            self._held, self._at = block, min(missing, len(block))
            missing -= len(block)
        return b"".join(parts)

    def skip(self, size: int, what: str) -> None:
        """Pass over exactly `size` bytes without holding them."""
        while size > 0:
            step = min(size, 1 << 20)
            self.read(step, what)
            size -= step

    def rest(self) -> int:
        """How many bytes are left."""
        return len(self._held) - self._at + sum(map(len, self._blocks))


def _array(dtype: np.dtype[Any]) -> Callable[[bytes], NDArray[Any]]:
    def decode(data: bytes) -> NDArray[Any]:
        ndim, code = data[0] >> 2, data[0] & 3
        width = np.dtype(f"uint{8 << code}")
        start = 1 + ndim * width.itemsize
        shape = np.frombuffer(data, width, ndim, 1).astype(np.int64).tolist()
        return np.frombuffer(data, dtype, offset=start).reshape(shape)

    return decode


def _untyped_array(data: bytes) -> NDArray[Any]:
    if data[0] not in _DTYPE_CODES:
        raise ValueError(f"dtype code {data[0]}")
    return _array(_DTYPE_CODES[data[0]])(data[1:])


def _decoder(encoding: str) -> Callable[[bytes], Any] | None:
    """How a column's bytes become a value; None for encodings that are not read (pickle above all)."""
    if encoding == "str":
        return lambda data: data.decode("utf-8", "surrogateescape")  # so that the reader can say what was not UTF-8
    if encoding == "bytes":
        return bytes
    if encoding == "int":
        return lambda data: struct.unpack("<q", data)[0]
    if encoding in _SCALARS:
        dtype = np.dtype(encoding)
        return lambda data: np.frombuffer(data, dtype, 1)[0].item()
    if encoding == "json":
        return orjson.loads
    if encoding == "ndarray":
        return _untyped_array
    name, _, rest = encoding.partition(":")
    dtype_name, _, shape = rest.partition(":")
    if name == "ndarray" and dtype_name in _SCALARS:
        dtype = np.dtype(dtype_name)
        if not shape:
            return _array(dtype)
        fixed = tuple(map(int, shape.split(",")))
        return lambda data: np.frombuffer(data, dtype).reshape(fixed)
    return None


def read_samples(
    blocks: Iterator[bytes], columns: frozenset[str], options: ReadOptions
) -> Iterator[dict[str, Any] | Reject]:
    """Samples of one shard in order, with those of `columns` that it has; a bad sample comes as a `Reject`.

    Reads forward only, one sample in memory. Raises `Damaged` where the shard cannot be followed any further.
    """
    stream = _Stream(blocks)
    n = struct.unpack("<I", stream.read(4, "the header"))[0]
    if n > 1 << 28:
        raise Damaged("damaged_mds", f"the header claims {n:,} samples")
    offsets = np.frombuffer(stream.read(4 * (n + 1), "the offset table"), np.uint32).astype(np.int64)
    start = 4 + 4 * (n + 1)
    if offsets[0] - start > MAX_CONFIG or offsets[0] < start or (np.diff(offsets) < 0).any():
        raise Damaged("damaged_mds", "the offset table is not in order")
    seen = 0
    try:
        for sample in _samples(stream, offsets, columns, options):
            yield sample
            seen += 1
    except Damaged as damage:
        damage.lost = n - seen
        raise


def _samples(
    stream: _Stream, offsets: NDArray[np.int64], columns: frozenset[str], options: ReadOptions
) -> Iterator[dict[str, Any] | Reject]:
    """The samples behind an offset table, shape (n + 1,), int64."""
    names, decoders, sizes = _config(stream.read(int(offsets[0]) - 4 - 4 * len(offsets), "the config"))
    wanted = [name if name in columns else None for name in names]
    for name, decoder in zip(wanted, decoders, strict=True):
        if name is not None and decoder is None and name not in _SPARED:
            raise Damaged("mds_encoding", f"column {name!r} has an encoding that is not read (pickle never is)")
    variable = [i for i, size in enumerate(sizes) if size is None]
    head = 4 * len(variable)
    for position, length in enumerate(np.diff(offsets).tolist()):
        if length > options.max_record_bytes:
            stream.skip(length, f"sample {position}")
            detail = f"a sample of {length:,} bytes; the limit is {options.max_record_bytes:,}"
            yield Reject(position, "record_too_long", detail)
            continue
        data = stream.read(length, f"sample {position}")
        lengths = [size or 0 for size in sizes]
        for i, size in zip(variable, struct.unpack_from(f"<{len(variable)}I", data.ljust(head, b"\0")), strict=True):
            lengths[i] = size
        if head + sum(lengths) != length:
            yield Reject(position, "bad_sample", f"column sizes {lengths} do not add up to {length:,} bytes")
            continue
        sample, at = {}, head
        try:
            for name, decoder, size in zip(wanted, decoders, lengths, strict=True):
                if name is not None and decoder is not None:
                    sample[name] = decoder(data[at : at + size])
                at += size
        except (ValueError, IndexError, TypeError, struct.error) as error:
            yield Reject(position, "bad_sample", f"column {name!r}: {error}"[:300])
            continue
        yield sample
    if extra := stream.rest():
        raise Damaged("trailing_garbage", f"{extra:,} bytes after the last sample")


def _config(raw: bytes) -> tuple[list[str], list[Callable[[bytes], Any] | None], list[int | None]]:
    try:
        config = orjson.loads(raw)
        names, encodings, sizes = config["column_names"], config["column_encodings"], config["column_sizes"]
        if not len(names) == len(encodings) == len(sizes):
            raise ValueError("column lists of different lengths")
        fixed = [None if size is None else int(size) for size in sizes]
        return [str(name) for name in names], [_decoder(str(encoding)) for encoding in encodings], fixed
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("damaged_mds", f"its config cannot be read: {error!r}"[:300]) from None
