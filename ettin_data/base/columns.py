"""numpy arrays as columns of pyarrow, and back.

pyarrow's own ways (`pa.array`, `to_numpy`) import pandas, to ask whether what they are given is of its kind. Each
worker would pay for that, with more time than a small split takes; so numbers go from memory to memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def to_arrow(values: NDArray[Any]) -> pa.Array:
    """A column without nulls. One of numbers shares its memory with the array where that is contiguous."""
    import pyarrow as pa

    if values.dtype.kind not in "iuf":
        return pa.array(values)
    there = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(there.dtype), len(there), [None, pa.py_buffer(there)])


def to_numpy(column: pa.ChunkedArray, dtype: str | None = None) -> NDArray[Any]:
    """The values of a column, of what type it is if none is named.

    Raises:
        ValueError: the column has another type than is named, or nulls.
    """
    import pyarrow as pa

    if (dtype and str(column.type) != dtype) or column.null_count:
        raise ValueError(
            f"a column of {column.type} with {column.null_count:,} nulls, not of {dtype or 'values alone'}"
        )
    if not pa.types.is_integer(column.type):
        values: NDArray[Any] = column.to_numpy()
        return values
    own = np.dtype(str(column.type))
    chunks = [np.frombuffer(c.buffers()[1], own, len(c), c.offset * own.itemsize) for c in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.zeros(0, own), *chunks])
