"""`ettin-data index --like`: the index of a tree in the order that a publication was made by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_data import write_data
from typer.testing import CliRunner

from ettin_data.base.errors import EttinError
from ettin_data.cli.main import app
from ettin_data.order.export import export_order
from ettin_data.order.index import OrderLaw, write_order
from ettin_data.order.proof.like import place_folders
from ettin_data.storage.mds import read_index, write_index


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def as_published(data: Path) -> str:
    """Give each folder an index of its own, take the merged one away, and return its text."""
    shards = read_index(data)
    for folder in {Path(shard.basename).parent for shard in shards}:
        mine = [shard for shard in shards if Path(shard.basename).parent == folder]
        write_index(data / folder, [replace(shard, basename=Path(shard.basename).name) for shard in mine])
    text = (data / "index.json").read_text()
    (data / "index.json").unlink()
    return text


@pytest.mark.parametrize("seed", [21, 22])
def test_the_order_of_the_folders_is_found(make, seed: int) -> None:
    published = make(1003, 16, seed=seed)
    text = as_published(published.data)
    (published.order / "order.json").rename(published.order / "aside")  # which would tell the batch
    words = ["index", published.data, "--like", published.out]
    said = run(*words, "--dry-run")
    assert said.exit_code == 0 and "another shard order" in said.output and "1,003 samples in 11 shards" in said.output
    assert not (published.data / "index.json").exists()
    done = run(*words)
    assert done.exit_code == 0 and (published.data / "index.json").read_text() == text
    verify = run("order", "verify", "--data", published.data, "--published", published.out, "--workers", 1)
    assert verify.exit_code == (0 if seed == 21 else 1) and "shard order" not in verify.output


def test_shards_that_are_not_here_are_placed_beside_those_that_are(tmp_path: Path) -> None:
    """Folders of several shards each, of which one is here."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(20, 90, 12)
    folders = [f"f{i // 3}" for i in range(12)]
    true = [2, 0, 3, 1]  # the folders' order
    places, at = np.zeros(12, np.int64), 0
    for folder in true:
        for shard in range(3 * folder, 3 * folder + 3):
            places[shard], at = at, at + sizes[shard]
    known = np.where(np.isin(np.arange(12), [1, 3, 8]), places, -1)
    assert np.array_equal(place_folders(known, sizes, folders), places)  # and the last folder in the one gap
    known[3] = -1
    found = place_folders(known, sizes, folders)
    alike = sizes[3:6].sum() == sizes[9:12].sum()
    assert alike or (found[[0, 1, 2, 6, 7, 8]] == places[[0, 1, 2, 6, 7, 8]]).all()


def test_what_cannot_be_told_writes_nothing(make, tmp_path: Path) -> None:
    published = make(1003, 16)
    as_published(published.data)
    write_data(tmp_path / "other/train", 400, seed=5)
    write_order(tmp_path / "other/order", OrderLaw(21, 0, 400, 16), interval_steps=25, phase="pretrain")
    export_order(tmp_path / "other/order", tmp_path / "other/train", tmp_path / "other/out", steps_per_file=10)
    said = run("index", published.data, "--like", tmp_path / "other/out")
    assert isinstance(said.exception, EttinError) and "cannot be told" in str(said.exception)
    assert "none of 400 rows is in the data" in str(said.exception)
    both = run("index", published.data, "--like", published.out, "--order", "natural")
    assert isinstance(both.exception, EttinError) and "two orders" in str(both.exception)
    assert not (published.data / "index.json").exists()


def test_folders_without_a_shard_that_is_here(make) -> None:
    published = make(1003, 16)
    text = as_published(published.data)
    shards = sorted(published.data.rglob("*.mds"))
    shards[2].unlink()  # the one gap that is left is its place
    assert run("index", published.data, "--like", published.out).exit_code == 0
    assert (published.data / "index.json").read_text() == text
    (published.data / "index.json").unlink()
    shards[5].unlink()  # which of the two is where cannot be told
    said = run("index", published.data, "--like", published.out)
    assert isinstance(said.exception, EttinError) and "2 of 11 folders cannot be placed" in str(said.exception)
