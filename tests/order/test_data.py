"""The data side: fast hashes are those of the plain way, and data behind a URL or in part."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xxhash
from modernbert import form

from ettin_data.base.errors import OrderError, ShardError
from ettin_data.order.data import Data, token_spans
from ettin_data.order.loader_edits import Form
from ettin_data.order.proof.outcome import Request
from ettin_data.order.proof.verify import verify_order
from ettin_data.order.published import list_published
from ettin_data.storage.mds import Layout, MdsReader, ShardWriter


@pytest.mark.parametrize("wanted", [form(), form("encoder", 30), form("decoder", 30), form("encoder", 200)])
def test_hashes_are_those_of_the_samples(published, wanted: Form) -> None:
    data, reader = Data(str(published.data)), MdsReader(published.data)
    positions = np.random.default_rng(0).permutation(len(reader))
    expected = [xxhash.xxh3_64_intdigest(wanted.apply(reader.tokens(int(p))).data) for p in positions]
    assert data.hashes(positions, wanted).tolist() == expected


@pytest.mark.parametrize("layout", [Layout(), Layout("uint32"), Layout(cu_seqlens=True), Layout(compression="zstd")])
def test_hashes_of_every_layout(tmp_path: Path, layout: Layout) -> None:
    """Long ids, samples of one token, of more than 255 and of more than 65,535."""
    writer, rng = ShardWriter(tmp_path, layout), np.random.default_rng(0)
    lengths = [1, 2, 255, 256, 300, 70_000, 3]
    rows = [rng.integers(0, 50_000, n).astype(layout.token_dtype) for n in lengths]
    ids = ["x" * n for n in (0, 1, 300, 5, 7, 9, 2)]
    bounds = [np.array([0, len(row)], np.int32) for row in rows] if layout.cu_seqlens else None
    writer.write(ids, np.concatenate(rows), np.cumsum([0, *lengths]), bounds)
    writer.finish()
    expected = [xxhash.xxh3_64_intdigest(row.data) for row in rows]
    assert Data(str(tmp_path)).hashes(np.arange(len(rows)), form()).tolist() == expected


def test_a_damaged_sample_is_named_not_hashed(published) -> None:
    data = Data(str(published.data))
    shard = data.reader.shard(0)
    begin = int(shard.offsets[3])
    path = shard.path
    raw = bytearray(path.read_bytes())
    raw[begin + 4] ^= 7  # the size of the tokens
    path.write_bytes(raw)
    data = Data(str(published.data))
    assert token_spans(data.reader.shard(0), np.arange(5)) is None
    with pytest.raises(ShardError, match="sample 3 of the shard"):
        data.hashes(np.arange(5), form())


@pytest.fixture
def remote(published):
    """The data and the order behind a URL."""
    system = fsspec.filesystem("memory")
    for part, folder in (("train", published.data), ("out", published.out)):
        system.put(str(folder), f"/mirror/{part}", recursive=True)
    yield system
    system.rm("/mirror", recursive=True)


def test_data_and_order_behind_a_url(remote, published, tmp_path: Path) -> None:
    request = Request("memory://mirror/train", "memory://mirror/out", cache=tmp_path / "cache")
    found = verify_order(request)
    assert (found.verdict, found.exit_status) == ("agrees", 0)
    assert len(list((tmp_path / "cache").rglob("*.mds"))) == 11
    remote.rm("/mirror/train", recursive=True)
    remote.pipe("/mirror/train/index.json", (published.data / "index.json").read_bytes())
    assert Data("memory://mirror/train", tmp_path / "cache").hashes(np.arange(3), form()).shape == (
        3,
    )  # from the cache
    with pytest.raises(OrderError, match="needs a folder to keep"):
        Data("memory://mirror/train")


def test_what_is_not_behind_the_url_is_not_checked(remote, tmp_path: Path) -> None:
    for path in remote.find("/mirror/train/source1"):
        remote.rm(path)
    found = verify_order(Request("memory://mirror/train", "memory://mirror/out", cache=tmp_path / "cache"))
    assert found.verdict == "agrees" and not found.complete and found.exit_status == 3
    assert not list((tmp_path / "cache").rglob(".tmp-*"))


def test_a_place_that_cannot_be_opened() -> None:
    with pytest.raises(OrderError, match="cannot be opened"):
        list_published("nosuchprotocol://x")
    with pytest.raises(OrderError, match="several phases"):
        system = fsspec.filesystem("memory")
        for name in ("ext_000001", "decay_000001"):
            system.pipe(f"/two/{name}/steps_000001_to_000100.parquet", b"x")
        list_published("memory://two")
    assert [f.folder for f in list_published("memory://two", "decay")] == ["decay_000001"]


def test_folders_and_files_stand_in_the_order_of_their_numbers() -> None:
    system = fsspec.filesystem("memory")
    for name in ("checkpoint_000010/steps_000001_to_000100", "checkpoint_000002/steps_000101_to_000200"):
        system.pipe(f"/numbers/{name}.parquet", b"x")
    for first in (1, 101, 1001, 9901, 100001):
        system.pipe(f"/numbers/checkpoint_000002/steps_{first:06d}_to_{first + 99:06d}.parquet", b"x")
    found = [f"{f.folder} {f.path.rpartition('/')[2]}" for f in list_published("memory://numbers")]
    assert found[-1].startswith("checkpoint_000010") and found[0].startswith("checkpoint_000002 steps_000001")
    assert found[4].endswith("steps_100001_to_100100.parquet")
    assert json.dumps(found)
