"""The footer of a parquet file as pyarrow writes it, and as nobody should."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ettin_data.base.bounded_parquet import opened, require_few_values
from ettin_data.base.parquet_footer import footer

TABLE = pa.table(
    {
        "step": pa.array(np.arange(100) // 7, pa.uint64()),
        "input_ids": pa.array([[1, 2, 3] * (row % 5) for row in range(100)], pa.list_(pa.uint16())),
        "more": [{"a": row, "b": "text"} for row in range(100)],
    }
)
WAYS = [{}, {"row_group_size": 7}, {"compression": "none", "use_dictionary": False}, {"write_page_index": True}]


def written(**how) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink, **how)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_a_footer_says_what_pyarrow_says(how) -> None:
    data = written(**how)
    metadata = pq.read_metadata(io.BytesIO(data))
    groups = footer(io.BytesIO(data))
    assert len(groups) == metadata.num_row_groups
    for number, group in enumerate(groups):
        theirs = metadata.row_group(number)
        assert group.rows == theirs.num_rows and len(group.columns) == theirs.num_columns
        for column in map(theirs.column, range(theirs.num_columns)):
            mine = group.columns[column.path_in_schema]
            assert (mine.values, mine.stored, mine.page, mine.size, mine.dictionary or None) == (
                column.num_values, column.total_compressed_size, column.data_page_offset,
                column.total_uncompressed_size, column.dictionary_page_offset,
            )  # fmt: skip


def test_any_byte_of_a_footer_may_be_another() -> None:
    """Every byte from the start of the footer on, to a few values: it is read, or refused in words."""
    data, rng = written(), np.random.default_rng(0)
    first = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    refused = 0
    for at in range(first, len(data)):
        changed = bytearray(data)
        changed[at] ^= int(rng.integers(1, 256))
        try:
            footer(io.BytesIO(bytes(changed)))
        except ValueError:
            refused += 1
    assert refused > 100
    for short in (b"", b"PAR1", b"\xff\xff\xff\xffPAR1", data[-8:], data[:-1]):
        with pytest.raises((ValueError, OSError)):
            footer(io.BytesIO(short))


def test_what_a_file_declares_is_bounded_by_its_bytes(tmp_path) -> None:
    """Five million equal tokens take a few hundred bytes, and so may a billion."""
    honest, bomb = io.BytesIO(written()), io.BytesIO()
    require_few_values(honest)
    row = pa.array([np.zeros(5 << 20, np.uint16)], pa.list_(pa.uint16()))
    pq.write_table(pa.table({"input_ids": row, "step": [1]}), bomb)
    assert len(bomb.getvalue()) < 10_000
    with pytest.raises(ValueError, match=r"it declares 5,242,880 values in"):
        require_few_values(bomb)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": np.zeros(5 << 20, np.int64)}), path)
    with pytest.raises(ValueError, match=r"it declares 5,242,880 rows"), opened(path, {"a"}):
        pass
    with opened(path, {"a"}, 5 << 20) as file:
        assert file.metadata.num_rows == 5 << 20
