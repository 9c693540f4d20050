"""`keys.parquet`: by what copies of a document are found (ARCHITECTURE 5.11), one row for each row of its ledger.

    text     16 bytes   hash of its words, or of the text of one that has none
    sketch   values     sketch of its word n-grams, one byte a value; all 0 where the text is short; no column without

With the published 14 bands of 8 a document takes 128 bytes, which hashes cannot be made to take less. The hash of its
URL stands in `documents.parquet` already.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import bounded_parquet
from ettin_data.base.errors import ShardError
from ettin_data.base.files import HashedFile
from ettin_data.storage.split import Marker, read_marker

TEXT_BYTES = 16
_ROW_GROUP = 1 << 16

Keys = NDArray[np.uint8]
"""Shape (documents, TEXT_BYTES + values): the hash of the text, then the sketch."""

_OF_KEYS = ("keys", "only_keys", "copies")  # in which a split and its keys beside it are made differently


class KeysWriter:
    """Writes a keys file as the rows come, in the memory of one row group; to be used in a `with` block."""

    def __init__(self, path: Path, values: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [("text", pa.binary(TEXT_BYTES)), *([("sketch", pa.binary(values))] if values else [])]
        self._schema, self._values = pa.schema(fields), values
        self._held, self._rows = np.zeros((_ROW_GROUP, TEXT_BYTES + values), np.uint8), 0
        self._hashed = HashedFile(path)
        self._file = pq.ParquetWriter(
            self._hashed, self._schema, compression="NONE", use_dictionary=False, write_statistics=False
        )

    @property
    def digest(self) -> dict[str, Any]:
        """Of the file, when the block is left."""
        return self._hashed.digest

    def add(self, keys: Keys) -> None:
        """More rows. How they are portioned leaves no trace in the file."""
        begin = 0
        while begin < len(keys):
            some = keys[begin : begin + _ROW_GROUP - self._rows]
            self._held[self._rows : self._rows + len(some)] = some
            self._rows, begin = self._rows + len(some), begin + len(some)
            if self._rows == _ROW_GROUP:
                self._write(self._held)
                self._rows = 0

    def _write(self, keys: Keys) -> None:
        import pyarrow as pa

        columns = [keys[:, :TEXT_BYTES], *([keys[:, TEXT_BYTES:]] if self._values else [])]
        arrays = [
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(column.shape[1]), len(keys), [None, pa.py_buffer(np.ascontiguousarray(column))]
            )
            for column in columns
        ]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def __enter__(self) -> KeysWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:  # which a full disk must not hide by another one
            with suppress(OSError), self._hashed:
                self._file.close()
            return
        with self._hashed, self._file:
            if self._rows:
                self._write(self._held[: self._rows])


def read_keys(path: Path, values: int, into: Keys | None = None) -> Keys:
    """The keys of a split, in a new array or the one that is given.

    Raises `ShardError` when the file is missing, damaged, its sketches have other sizes, or it has other rows than the
    array.
    """
    import pyarrow as pa

    try:
        with bounded_parquet.opened(path, {"text"}) as file:
            count = file.metadata.num_rows
            keys = np.empty((count, TEXT_BYTES + values), np.uint8) if into is None else into
            if count != len(keys):
                raise ValueError(f"{count:,} keys for {len(keys):,} documents")
            begin = 0
            for number in range(file.num_row_groups):  # one at a time, as it is copied while a cache has it
                table = file.read_row_group(number, use_threads=False)
                some = keys[begin : begin + len(table)]
                some[:, :TEXT_BYTES] = _bytes(table["text"], TEXT_BYTES)
                if values:
                    some[:, TEXT_BYTES:] = _bytes(table["sketch"], values)
                begin += len(table)
        return keys
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise ShardError("the keys of a split cannot be read", where=path, why=error) from error


def _bytes(column: Any, width: int) -> Keys:
    if str(column.type) != f"fixed_size_binary[{width}]" or column.null_count:
        raise ValueError(f"a column of {column.type} with {column.null_count:,} nulls, not of {width} bytes")
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width).reshape(-1, width)
        for chunk in column.chunks
    ]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, width), np.uint8), *parts])


def keyed_split(pool: Path, beside: Path, made_from: Mapping[str, Any]) -> tuple[Path, Marker] | None:
    """Where the documents of a split of the pool have keys of this kind, and the marker there; None where nowhere.

    In the pool itself, or beside it, where they count if both were made of the same inputs in the same way. Raises
    `ShardError` where the split is not finished.
    """
    of_pool = read_marker(pool)
    if of_pool.made_from.get("keys") == made_from:
        return pool, of_pool
    try:
        marker = read_marker(beside)
    except ShardError:
        return None
    text, same = (
        {name: value for name, value in each.made_from.items() if name not in _OF_KEYS} for each in (of_pool, marker)
    )
    fits = marker.made_from.get("keys") == made_from and text == same and marker.inputs == of_pool.inputs
    return (beside, marker) if fits else None
