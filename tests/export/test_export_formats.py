"""A finished phase in other projects' formats."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import ettin_data
from ettin_data.base import files
from ettin_data.base.errors import RecipeError
from ettin_data.cli.main import app
from ettin_data.executor import ExecutorOptions
from ettin_data.export.export import export_phase
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
    record = export_phase(built, "parquet", tmp_path / "out")
    found = {}
    for name in record["files"]:
        table = pq.read_table(tmp_path / "out" / name)
        assert str(table.schema.field("input_ids").type) == "list<element: uint16>"
        found[name.removesuffix(".parquet")] = list(zip(table["id"].to_pylist(), table["input_ids"].to_pylist()))
    assert found == stored(built)
    assert record["samples"] == sum(map(len, found.values()))


def test_olmo_reads_tokens_end_to_end(built: Path, tmp_path: Path) -> None:
    record = export_phase(built, "olmo-numpy", tmp_path / "out")
    for name, samples in stored(built).items():
        ids = np.fromfile(tmp_path / f"out/{name}.npy", "<u2")
        with gzip.open(tmp_path / f"out/{name}.csv.gz", "rt") as file:
            rows = list(csv.reader(file))
        assert [(row[2], ids[int(row[0]) : int(row[1])].tolist()) for row in rows] == samples
        assert len(ids) == int(rows[-1][1])
    assert record["tokens"] == sum(len(ids) for samples in stored(built).values() for _, ids in samples)


@pytest.mark.parametrize("name", ["parquet", "olmo-numpy"])
def test_the_same_bytes_here_and_on_workers(built: Path, tmp_path: Path, name: str) -> None:
    here = export_phase(built, name, tmp_path / "here")
    workers = export_phase(built, name, tmp_path / "workers", workers=ExecutorOptions("local", 2))
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
