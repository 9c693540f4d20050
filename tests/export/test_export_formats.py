"""A finished phase in other projects' formats."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import ettin_data
from ettin_data.base import files
from ettin_data.base.errors import OrderError, RecipeError
from ettin_data.cli.main import app
from ettin_data.executor import ExecutorOptions
from ettin_data.export.export import By, export_phase
from ettin_data.export.format import choose_format, export_formats
from ettin_data.tokenizer.encoder import TokenizerFile

RECIPE = """
phase: pretrain
length: 64
filters: []
split_bytes: 2KB
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 4}
sources:
  mine: {root: mine, tokens: 1500}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: TokenizerFile) -> Path:
    """A phase of several splits."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "mine").mkdir()
    for name in "abc":
        lines = [
            json.dumps({"id": f"{name}{n}", "text": f"Document {n}. " + f"Of {name}, again. " * 14}) for n in range(20)
        ]
        (folder / f"mine/{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE.replace("root: mine", f"root: {folder}/mine"))
    ettin_data.build(ettin_data.load_recipe(folder / "recipe.yaml"), folder / "run")
    return folder / "run/pretrain"


def stored(phase: Path) -> dict[str, list[tuple[str, list[int]]]]:
    """Split -> its samples, as they lie in train/."""
    opened = ettin_data.open_run(phase)["pretrain"]
    found: dict[str, list[tuple[str, list[int]]]] = {}
    for sample in opened:
        found.setdefault(sample.split.name, []).append((sample.id, sample.tokens.tolist()))
    return found


def test_parquet_holds_every_sample(built: Path, tmp_path: Path) -> None:
    record = export_phase(built, "parquet", tmp_path / "out", by="split")
    found = {}
    for name in (name for name in record["files"] if name.endswith(".parquet")):
        table = pq.read_table(tmp_path / "out" / name)
        assert str(table.schema.field("input_ids").type) == "list<element: uint16>"
        found[name.removesuffix(".parquet")] = list(zip(table["id"].to_pylist(), table["input_ids"].to_pylist()))
    assert found == stored(built)
    assert record["samples"] == sum(map(len, found.values()))


def test_olmo_reads_tokens_end_to_end(built: Path, tmp_path: Path) -> None:
    record = export_phase(built, "olmo-numpy", tmp_path / "out", by="split")
    for name, samples in stored(built).items():
        ids = np.fromfile(tmp_path / f"out/{name}.npy", "<u2")
        with gzip.open(tmp_path / f"out/{name}.csv.gz", "rt") as file:
            rows = list(csv.reader(file))
        assert [(row[2], ids[int(row[0]) : int(row[1])].tolist()) for row in rows] == samples
        assert len(ids) == int(rows[-1][1])
    assert record["tokens"] == sum(len(ids) for samples in stored(built).values() for _, ids in samples)


@pytest.mark.parametrize("name", sorted(export_formats()))
@pytest.mark.parametrize("by", ["order", "split"])
def test_the_same_bytes_here_and_on_workers(built: Path, tmp_path: Path, name: str, by: By) -> None:
    here = export_phase(built, name, tmp_path / "here", by=by)
    workers = export_phase(built, name, tmp_path / "workers", by=by, workers=ExecutorOptions("local", 2))
    assert here["files"] == workers["files"] and here["files"]
    for path, entry in here["files"].items():
        assert files.digest(tmp_path / "workers" / path) == entry


def test_an_unknown_format_is_named(built: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean parquet"):
        export_phase(built, "parket", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_was_written(built: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["export", str(built), "--to", "parquet", "--out", str(tmp_path / "out"), "--part", "validation"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out/export.json").read_text())["part"] == "validation"
    assert "validation" in done.output


# ---------------------------------------------------------------------------------------------------------------------
# in the order of training, read back by the readers of those projects and by small ones from what they document


def in_order(phase: Path) -> list[tuple[str, list[int]]]:
    """The samples of all steps, in their order."""
    opened = ettin_data.open_run(phase)["pretrain"]
    return [(each.id, each.tokens.tolist()) for step in range(opened.order.steps) for each in opened.step(step)]


def stems(record: dict[str, Any], suffix: str) -> list[str]:
    return [name.removesuffix(suffix) for name in record["files"] if name.endswith(suffix)]


@pytest.fixture(params=[None, 1, 3])
def number(request: pytest.FixtureRequest) -> int | None:
    """Of files."""
    return request.param


def test_parquet_follows_the_order_and_load_dataset_reads_it(built: Path, tmp_path: Path, number: int | None) -> None:
    record = export_phase(built, "parquet", tmp_path / "out", number=number)
    tables = [pq.read_table(tmp_path / f"out/{stem}.parquet") for stem in stems(record, ".parquet")]
    assert len(tables) == (number or 1)
    rows = [row for table in tables for row in zip(table["id"].to_pylist(), table["input_ids"].to_pylist())]
    assert rows == in_order(built) and record["by"] == "order"
    datasets = pytest.importorskip("datasets")
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert [(row["id"], row["input_ids"]) for row in read["train"]] == rows


def test_load_dataset_reads_validation_by_split(built: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    record = export_phase(built, "parquet", tmp_path / "out", part="validation")
    read = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert len(read["validation"]) == record["samples"] > 0
    with pytest.raises(OrderError, match="validation has no order"):
        export_phase(built, "parquet", tmp_path / "out", part="validation", by="order")
    with pytest.raises(OrderError, match="files cannot be made"):
        export_phase(built, "parquet", tmp_path / "out", number=10_000)


def test_megatron_files_are_as_documented(built: Path, tmp_path: Path, number: int | None) -> None:
    record = export_phase(built, "megatron", tmp_path / "out", number=number)
    found = []
    for stem in stems(record, ".idx"):
        index = (tmp_path / f"out/{stem}.idx").read_bytes()
        assert index[:9] == b"MMIDIDX\x00\x00"
        version, code, sequences, entries = struct.unpack_from("<QBQQ", index, 9)
        assert (version, code, entries) == (1, 8, sequences + 1)
        at = 9 + struct.calcsize("<QBQQ")
        lengths = np.frombuffer(index, "<i4", sequences, at)
        begins = np.frombuffer(index, "<i8", sequences, at + 4 * sequences)
        documents = np.frombuffer(index, "<i8", entries, at + 12 * sequences)
        assert documents.tolist() == list(range(entries)) and len(index) == at + 12 * sequences + 8 * entries
        data = (tmp_path / f"out/{stem}.bin").read_bytes()
        found += [np.frombuffer(data, "<u2", n, begin).tolist() for n, begin in zip(lengths, begins)]
        assert len(data) == 2 * lengths.sum()
    assert found == [ids for _, ids in in_order(built)]


def test_megatron_core_reads_it(built: Path, tmp_path: Path) -> None:
    """Megatron's own reader, where it is installed (`pip install megatron-core`)."""
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    record = export_phase(built, "megatron", tmp_path / "out", number=2)
    read = [indexed.IndexedDataset(str(tmp_path / "out" / stem), mmap=True) for stem in stems(record, ".idx")]
    assert [ids.tolist() for each in read for ids in each] == [ids for _, ids in in_order(built)]


def test_litdata_chunks_are_as_documented(built: Path, tmp_path: Path, number: int | None) -> None:
    export_phase(built, "litdata", tmp_path / "out", number=number)
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["config"]["data_format"] == ["str", "no_header_numpy:5"]
    found = []
    for chunk in index["chunks"]:
        data = (tmp_path / "out" / chunk["filename"]).read_bytes()
        assert len(data) == chunk["chunk_bytes"]
        (samples,) = struct.unpack_from("<I", data)
        assert samples == chunk["chunk_size"]
        offsets = struct.unpack_from(f"<{samples + 1}I", data, 4)
        assert offsets[0] == 4 * (samples + 2) and offsets[-1] == len(data)
        for begin, end in itertools.pairwise(offsets):
            word, values = struct.unpack_from("<II", data, begin)
            assert begin + 8 + word + values == end
            name = data[begin + 8 : begin + 8 + word].decode()
            found.append((name, np.frombuffer(data[end - values : end], "<u2").tolist()))
    assert found == in_order(built)


def test_litdata_reads_it(built: Path, tmp_path: Path, number: int | None) -> None:
    """Lightning's own reader, where it is installed (`pip install litdata`)."""
    litdata = pytest.importorskip("litdata")
    export_phase(built, "litdata", tmp_path / "out", number=number)
    read = litdata.StreamingDataset(str(tmp_path / "out"), shuffle=False)
    assert [(each["id"], each["input_ids"].tolist()) for each in read] == in_order(built)
    assert read[0]["input_ids"].dtype == np.uint16


def test_olmo_follows_the_order(built: Path, tmp_path: Path, number: int | None) -> None:
    record = export_phase(built, "olmo-numpy", tmp_path / "out", number=number)
    ids = np.concatenate([np.fromfile(tmp_path / f"out/{stem}.npy", "<u2") for stem in stems(record, ".npy")])
    assert ids.tolist() == [token for _, tokens in in_order(built) for token in tokens]


@pytest.mark.parametrize("name", sorted(export_formats()))
def test_ids_of_32_bits_are_kept(built: Path, tmp_path: Path, name: str) -> None:
    """A vocabulary that needs them: written by the format itself, read as it says."""
    opened = ettin_data.open_run(built)["pretrain"].loader.vocabulary
    wide = replace(opened, size=200_000)
    assert wide.dtype == "uint32"
    ids = np.array([1, 70_000, 199_999], np.uint32)
    choose_format(name).write(iter([("a", ids), ("b", ids[:1])]), wide, tmp_path, "x")
    if name == "parquet":
        assert pq.read_table(tmp_path / "x.parquet")["input_ids"].to_pylist() == [ids.tolist(), [1]]
    else:
        data = (tmp_path / ("x.npy" if name == "olmo-numpy" else "x.bin")).read_bytes()
        assert np.array([*ids, 1], "<u4").tobytes() == (data if name != "litdata" else data[25:37] + data[46:])
