"""Parquet files that others may have written: what they declare is looked at before anything is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.files import open_ordinary

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MAGIC = b"PAR1"
TAIL = 8  # bytes at the end of a file: length of the footer, and the magic number
FEW_ROWS = 1 << 22
"""Rows that any file may have: a few columns of them are no burden, however small the file is."""

_VALUES_A_BYTE = 64  # of lists: rows of tokens that are padded to one width shrink by as much


def is_encrypted(file: IO[bytes], metadata: pq.FileMetaData) -> bool:
    """Whether columns of a file are encrypted: to ask pyarrow for their metadata would end the process.

    A plain footer of such a file is signed: a nonce of 12 bytes and a tag of 16 follow it (parquet's Encryption.md).
    """
    file.seek(-TAIL, os.SEEK_END)
    footer = int.from_bytes(file.read(4), "little")
    return footer == int(metadata.serialized_size) + 28


@contextmanager
def opened(path: Path | str, columns: Set[str], most_rows: int | None = None) -> Iterator[pq.ParquetFile]:
    """A parquet file that can be read without surprises; arguments and errors as of `require_bounded`."""
    import pyarrow.parquet as pq

    with open_ordinary(path) as stored, pq.ParquetFile(path) as file:
        require_bounded(stored, file, columns, most_rows)
        yield file


def require_bounded(
    stored: IO[bytes], file: pq.ParquetFile, columns: Set[str] = frozenset(), most_rows: int | None = None
) -> None:
    """See that a parquet file has what it should, and does not declare more than its bytes can hold.

    Args:
        stored: its bytes.
        columns: that have to be there.
        most_rows: it may have; None bounds them by its bytes, so that memory grows with those alone.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: it is no parquet file, or not what it should be.
    """
    metadata, size = file.metadata, stored.seek(0, os.SEEK_END)
    if is_encrypted(stored, metadata):
        raise ValueError("its columns are encrypted")
    if lacking := columns - set(file.schema_arrow.names):
        raise ValueError(f"it has no column {', '.join(sorted(lacking))}")
    most = max(size << 1, FEW_ROWS) if most_rows is None else most_rows
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if not 0 <= metadata.num_rows == sum(rows) <= most or min(rows, default=0) < 0:
        raise ValueError(f"it declares {metadata.num_rows:,} rows, at most {most:,} can be right")
    most = max(size * _VALUES_A_BYTE, FEW_ROWS)
    values = [group.column(number).num_values for group in groups for number in range(group.num_columns)]
    if sum(values) > most * max(metadata.num_columns, 1) or min(values, default=0) < 0:
        raise ValueError(f"it declares {sum(values):,} values in {size:,} bytes")


def integers(column: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A column of integers of any width, as numpy's `dtype`. Raises `ValueError` for nulls and what does not fit."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or column.null_count:
        raise ValueError(f"a column of {column.type} with {column.null_count:,} nulls, not of integers")
    values: NDArray[Any] = column.cast(pa.from_numpy_dtype(dtype)).to_numpy()
    return values
