"""The export: names and types of the published form, rows of the law, and `datasets` reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modernbert import form

from ettin_data.base.errors import OrderError
from ettin_data.order.export import export_order
from ettin_data.order.index import OrderLaw, write_order
from ettin_data.storage.mds import MdsReader


def test_names_types_and_rows(published) -> None:
    names = [str(path.relative_to(published.out)) for path in published.files()]
    assert names[:4] == [
        "checkpoint_000001/steps_000001_to_000010.parquet",
        "checkpoint_000001/steps_000011_to_000020.parquet",
        "checkpoint_000001/steps_000021_to_000025.parquet",
        "checkpoint_000002/steps_000026_to_000035.parquet",
    ]
    assert names[-1] == "checkpoint_000003/steps_000061_to_000062.parquet"
    schema = pq.read_schema(published.files()[0])
    assert schema.field("input_ids").type == pa.list_(pa.uint16()) and schema.field("step").type == pa.uint64()
    reader, index = MdsReader(published.data), published.index
    expected = [(k + 1, reader.tokens(int(i)).tolist()) for k in range(index.steps) for i in index.step(k)]
    assert [(step, row) for _, step, row in published.rows()] == expected


def test_datasets_reads_it(published, tmp_path: Path) -> None:
    import datasets

    files = str(published.out / "checkpoint_000001/*.parquet")
    read = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert read.column_names == ["input_ids", "step"] and len(read) == 25 * 16
    assert read[17]["step"] == 2
    assert read[17]["input_ids"] == MdsReader(published.data).tokens(int(published.index.step(1)[1])).tolist()


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_rows_as_the_trainer_saw_them(make, kind: str) -> None:
    published = make(300, 8, length=64, form=form(kind, 50))
    reader, index = MdsReader(published.data), published.index
    cut = 0
    for (_, step, row), position in zip(
        published.rows(), np.concatenate([index.step(k) for k in range(index.steps)]), strict=True
    ):
        stored = reader.tokens(int(position)).tolist()
        assert step >= 1 and row[0] == 50281 and len(row) == min(len(stored), 50)
        if len(stored) > 50:
            cut += 1
            assert row[:49] == stored[:49] and row[49] == (50282 if kind == "encoder" else stored[49])
        else:
            assert row == stored
    assert cut > 20


def test_a_second_run_makes_only_what_is_missing(published) -> None:
    before = {path: path.read_bytes() for path in published.files()}
    published.files()[3].unlink()
    info = export_order(published.order, published.data, published.out, steps_per_file=10)
    assert (info.made, info.reused) == (1, len(before) - 1)
    assert {path: path.read_bytes() for path in published.files()} == before


def test_part_of_the_steps_and_other_phases(published, tmp_path: Path) -> None:
    info = export_order(published.order, published.data, tmp_path / "part", phase="decay", first_step=24, last_step=27)
    assert (info.steps, info.rows, info.made) == (4, 64, 2)
    names = sorted(str(p.relative_to(tmp_path / "part")) for p in (tmp_path / "part").rglob("*.parquet"))
    assert names == ["decay_000001/steps_000024_to_000025.parquet", "decay_000002/steps_000026_to_000027.parquet"]
    with pytest.raises(OrderError, match="steps 1 to 63"):
        export_order(published.order, published.data, tmp_path / "x", last_step=63)


def test_an_order_of_other_data_is_refused(published, tmp_path: Path) -> None:
    write_order(tmp_path / "other", OrderLaw(21, 0, 1004, 16), interval_steps=9, phase="pretrain")
    with pytest.raises(OrderError, match="1,004 samples, the data has 1,003"):
        export_order(tmp_path / "other", published.data, tmp_path / "x")
