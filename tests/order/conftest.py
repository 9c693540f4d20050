"""A small real data set, its order and its export; every test that changes something works on its own copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from random_data import write_data, write_rows

from ettin_data.order.export import export_order
from ettin_data.order.index import OrderIndex, OrderLaw, write_order
from ettin_data.order.loader_edits import Form
from ettin_data.storage.mds import read_index, write_index


@dataclass
class Published:
    """A data folder, an order, and an export of it that a test may spoil."""

    data: Path
    order: Path
    out: Path

    @property
    def index(self) -> OrderIndex:
        return OrderIndex.open(self.order)

    def files(self) -> list[Path]:
        return sorted(self.out.rglob("*.parquet"))

    def rows(self) -> list[tuple[Path, int, list[int]]]:
        """All rows as (file, step, tokens), in order."""
        return [
            (path, step, row)
            for path in self.files()
            for step, row in zip(*(pq.read_table(path)[c].to_pylist() for c in ("step", "input_ids")), strict=True)
        ]

    def rewrite(self, rows: list[tuple[Path, int, list[int]]]) -> None:
        """Replace the files by these rows; a file that has none left is removed."""
        files = self.files()
        for path in files:
            mine = [(step, row) for p, step, row in rows if p == path]
            path.unlink()
            if mine:
                write_rows(path, [row for _, row in mine], [step for step, _ in mine])

    def shuffle_shards(self, seed: int = 5) -> None:
        """Give the data another shard order in index.json than the order was made for."""
        shards = read_index(self.data)
        write_index(self.data, [shards[i] for i in np.random.default_rng(seed).permutation(len(shards))])


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    write_data(root / "train", 1003)
    write_order(root / "order", OrderLaw(21, 0, 1003, 16), interval_steps=25, phase="pretrain")
    export_order(root / "order", root / "train", root / "out", steps_per_file=10)
    return root


@pytest.fixture
def published(_made: Path, tmp_path: Path) -> Published:
    for name in ("train", "order", "out"):
        shutil.copytree(_made / name, tmp_path / name)
    return Published(tmp_path / "train", tmp_path / "order", tmp_path / "out")


@pytest.fixture
def make(tmp_path: Path):
    """Another publication: `make(samples, batch, length=…, form=…, seed=…, interval=…)`."""

    def build(
        samples: int,
        batch: int,
        *,
        length: int = 40,
        form: Form | None = None,
        seed: int = 21,
        interval: int = 25,
        framed: bool = True,
    ) -> Published:
        write_data(tmp_path / "train", samples, length=length, framed=framed)
        write_order(tmp_path / "order", OrderLaw(seed, 0, samples, batch), interval_steps=interval, phase="pretrain")
        export_order(tmp_path / "order", tmp_path / "train", tmp_path / "out", form=form, steps_per_file=10)
        return Published(tmp_path / "train", tmp_path / "order", tmp_path / "out")

    return build
