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
from ettin_data.base.parquet_footer import TAIL, footer

if TYPE_CHECKING:
    import pyarrow.parquet as pq

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
    """A table of plain columns that can be read without surprises.

    Args:
        columns: that have to be there.
        most_rows: it may have; None bounds them by its bytes, so that memory grows with those alone.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: it is no parquet file, or not what it should be.
    """
    import pyarrow.parquet as pq

    with open_ordinary(path) as stored, pq.ParquetFile(path) as file:
        _require_rows(file, os.fstat(stored.fileno()).st_size, columns, most_rows)
        yield file


def _require_rows(file: pq.ParquetFile, size: int, columns: Set[str], most_rows: int | None) -> None:
    metadata = file.metadata
    if lacking := columns - set(file.schema_arrow.names):
        raise ValueError(f"it has no column {', '.join(sorted(lacking))}")
    most = max(size << 1, FEW_ROWS) if most_rows is None else most_rows
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if not 0 <= metadata.num_rows == sum(rows) <= most or min(rows, default=0) < 0:
        raise ValueError(f"it declares {metadata.num_rows:,} rows, at most {most:,} can be right")


def require_few_values(stored: IO[bytes]) -> None:
    """See that a file of lists does not declare more values, or rows, than its bytes can hold.

    Raises:
        OSError, ValueError: it does, or is no parquet file.
    """
    size, groups = stored.seek(0, os.SEEK_END), footer(stored)
    values = sum(max((column.values for column in group.columns.values()), default=0) for group in groups)
    if max(values, sum(group.rows for group in groups)) > max(size * _VALUES_A_BYTE, FEW_ROWS):
        raise ValueError(f"it declares {values:,} values in {size:,} bytes")


def integers(column: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A column of integers of any width, as numpy's `dtype`. Raises `ValueError` for nulls and what does not fit."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or column.null_count:
        raise ValueError(f"a column of {column.type} with {column.null_count:,} nulls, not of integers")
    values: NDArray[Any] = column.cast(pa.from_numpy_dtype(dtype)).to_numpy()
    return values
