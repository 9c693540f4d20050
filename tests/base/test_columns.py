"""Arrays as pyarrow's columns: the same as pyarrow makes of them, without pandas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ettin_data.base.columns import to_arrow, to_numpy

NUMBERS = arrays.arrays(
    st.sampled_from([np.dtype(t) for t in ("u1", "<u2", "<i4", "<u8", "<f4", "<f8")]), st.integers(0, 9)
)


@given(NUMBERS, st.integers(1, 3))
def test_there_and_back(values: np.ndarray, step: int) -> None:
    column = to_arrow(values[::step])
    assert column.type == pa.array(values).type and not column.null_count
    assert column.to_numpy().tobytes() == values[::step].tobytes()
    chunked = pa.chunked_array([column[:2], column[2:]], column.type)
    assert np.array_equal(to_numpy(chunked), values[::step], equal_nan=values.dtype.kind == "f")


def test_what_has_no_numbers_goes_as_pyarrow_has_it() -> None:
    for values in (np.array([True, False]), np.array(["a", "bc"])):
        assert to_arrow(values).equals(pa.array(values))
        assert to_numpy(pa.chunked_array([to_arrow(values)])).tolist() == values.tolist()


@pytest.mark.parametrize("column", [pa.array([1, None], pa.int64()), pa.array([1, 2], pa.int32())])
def test_another_type_and_nulls_are_named(column: pa.Array) -> None:
    with pytest.raises(ValueError, match=r"a column of int\d\d with \d nulls, not of int64"):
        to_numpy(pa.chunked_array([column]), "int64")


def test_a_ledger_and_a_source_of_parquet_are_read_without_slow_imports(tmp_path: object) -> None:
    lines = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
from ettin_data import sources
from ettin_data.storage.ledger import DOCUMENTS, TYPES, TableWriter, read_table
with TableWriter(sys.argv[1], DOCUMENTS) as table:
    table.add({name: np.arange(3, dtype=dtype) for name, dtype in TYPES[DOCUMENTS].items()})
assert read_table(sys.argv[1], DOCUMENTS)["tokens"].tolist() == [0, 1, 2]
ends, letters = pa.py_buffer(np.array([0, 3, 6], "<i4")), pa.py_buffer(b"onetwo")
texts = pa.Table.from_arrays([pa.StringArray.from_buffers(2, ends, letters)], names=["text"])
pq.write_table(texts, sys.argv[1] + "/texts.parquet")
source = sources.own_source("mine", sys.argv[1] + "/texts.parquet")
(file,) = sources.list_files(source)
assert [record.text for record in sources.read_file(source, file)] == ["one", "two"]
assert not {"pandas", "pyarrow.compute"} & set(sys.modules)  # a tenth of a second and more for each
"""
    subprocess.run([sys.executable, "-c", lines, str(tmp_path)], check=True)
