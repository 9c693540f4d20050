"""Shards against the library that everybody reads them with."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import ShardError
from ettin_data.storage.mds import Layout, MdsReader, OtherLayout, ShardWriter, read_index, write_index

SAMPLES = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(1, 700)), min_size=1, max_size=40
)


def columns(samples, dtype="uint16"):
    ids = [name for name, _ in samples]
    offsets = np.concatenate([[0], np.cumsum([length for _, length in samples])])
    tokens = (np.arange(offsets[-1]) * 7919 % 50_368).astype(dtype)
    return ids, tokens, offsets


def write(folder: Path, samples, layout: Layout) -> None:
    folder.mkdir(exist_ok=True)
    ids, tokens, offsets = columns(samples, layout.token_dtype)
    writer = ShardWriter(folder, layout)
    half = len(ids) // 2  # batches may be cut anywhere
    writer.write(ids[:half], tokens[: offsets[half]], offsets[: half + 1])
    writer.write(ids[half:], tokens[offsets[half] :], offsets[half:] - offsets[half])
    writer.finish()


@settings(max_examples=25, deadline=None)
@given(SAMPLES, st.sampled_from(["uint16", "uint32"]), st.sampled_from([4_000, 20_000, 1 << 26]))
def test_bytes_are_those_of_mdswriter(streaming, tmp_path_factory, samples, dtype, size_limit):
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    write(ours, samples, Layout(token_dtype=dtype, size_limit=size_limit))
    ids, tokens, offsets = columns(samples, dtype)
    with streaming.MDSWriter(
        out=str(theirs),
        columns={"id": "str", "input_ids": f"ndarray:{dtype}"},
        hashes=["xxh3_64"],
        size_limit=size_limit,
    ) as writer:
        for i, name in enumerate(ids):
            writer.write({"id": name, "input_ids": tokens[offsets[i] : offsets[i + 1]]})
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


@settings(max_examples=25, deadline=None)
@given(SAMPLES, st.sampled_from([None, "zstd"]))
def test_reads_what_was_written(tmp_path_factory, samples, compression):
    folder = tmp_path_factory.mktemp("shards")
    write(folder, samples, Layout(size_limit=3_000, compression=compression))
    ids, tokens, offsets = columns(samples)
    reader = MdsReader(folder)
    assert len(reader) == len(ids)
    for i in range(len(ids)):
        assert reader.id(i) == ids[i]
        np.testing.assert_array_equal(reader.tokens(i), tokens[offsets[i] : offsets[i + 1]])
    with pytest.raises(IndexError):
        reader[len(ids)]


@settings(max_examples=40, deadline=None)
@given(SAMPLES, st.lists(st.booleans(), min_size=40, max_size=40), st.sampled_from([900, 3_000, 9_000]))
def test_rows_that_are_copied_are_as_if_they_were_written(tmp_path_factory, samples, taken, size_limit):
    """Of shards of 2,000 bytes, whose largest samples are larger than the smallest new one."""
    folder = tmp_path_factory.mktemp("shards")
    for name in ("all", "some", "copied"):
        (folder / name).mkdir()
    write(folder / "all", samples, Layout(size_limit=2_000))
    ids, tokens, offsets = columns(samples)
    rows = np.flatnonzero(taken[: len(samples)])
    ours = ShardWriter(folder / "some", Layout(size_limit=size_limit))
    for row in rows.tolist():
        begin, end = offsets[row : row + 2]
        ours.write([ids[row]], tokens[begin:end], np.array([0, end - begin]))
    ours.finish()
    reader, writer = MdsReader(folder / "all"), ShardWriter(folder / "copied", Layout(size_limit=size_limit))
    for number, first in enumerate(reader.starts[:-1].tolist()):
        inside = rows[(rows >= first) & (rows < reader.starts[number + 1])] - first
        writer.write_rows(*reader.shard(number).rows(inside))
    writer.finish()
    assert len(MdsReader(folder / "copied")) == len(rows)
    for path in (folder / "some").iterdir():
        assert (folder / "copied" / path.name).read_bytes() == path.read_bytes()
    assert len(list((folder / "some").iterdir())) == len(list((folder / "copied").iterdir()))


def test_other_columns_are_those_of_mdswriter(streaming, tmp_path):
    columns = {"domain": "str", "input_ids": "ndarray:int32", "length": "int"}
    rows = [{"domain": f"döm {n}", "input_ids": np.arange(1 + n * 9, dtype=np.int32), "length": -n} for n in range(60)]
    with streaming.MDSWriter(
        out=str(tmp_path / "theirs"), columns=columns, hashes=["xxh3_64"], size_limit=1 << 13
    ) as theirs:
        for row in rows:
            theirs.write(row)
    (tmp_path / "ours").mkdir()
    layout = OtherLayout(columns, size_limit=1 << 13)
    ours = ShardWriter(tmp_path / "ours", layout)
    ours.write_raw(map(layout.encode, rows))
    assert len(ours.finish()) > 2
    for path in sorted((tmp_path / "theirs").glob("*.mds")):
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes()


def test_streaming_reads_ours(streaming, tmp_path):
    samples = [(f"doc {i}", 1 + i * 13 % 500) for i in range(60)]
    write(tmp_path, samples, Layout(size_limit=5_000))
    ids, tokens, offsets = columns(samples)
    dataset = streaming.StreamingDataset(local=str(tmp_path), shuffle=False, batch_size=1, validate_hash="xxh3_64")
    for i, sample in enumerate(dataset):
        assert sample["id"] == ids[i]
        np.testing.assert_array_equal(sample["input_ids"], tokens[offsets[i] : offsets[i + 1]])
    assert i == 59


def test_reads_a_merged_index_with_folders(tmp_path):
    for part in ("b/one", "a/two"):
        (tmp_path / part).mkdir(parents=True)
        write(tmp_path / part, [(part, 5)], Layout())
    write_index(tmp_path, [s.moved(p) for p in ("b/one", "a/two") for s in read_index(tmp_path / p)])
    assert [sample["id"] for sample in MdsReader(tmp_path)] == ["b/one", "a/two"]


def test_published_state_is_read_and_left_alone(tmp_path):
    """The index claims zstd, only the raw shard is there: streaming's own reader would delete it."""
    write(tmp_path, [("a", 5), ("b", 300)], Layout())
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0] |= {
        "compression": "zstd",
        "zip_data": {"basename": "shard.00000.mds.zstd", "bytes": 99, "hashes": {}},
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert [sample["id"] for sample in MdsReader(tmp_path)] == ["a", "b"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["/etc/shard.mds", "../shard.mds", "a/../../b.mds", "", "a\\b"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, name):
    write(tmp_path, [("a", 5)], Layout())
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["raw_data"]["basename"] = name
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(ShardError, match="leaves its folder"):
        MdsReader(tmp_path)


def test_pickled_columns_are_refused(tmp_path):
    write(tmp_path, [("a", 5)], Layout())
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["column_encodings"][0] = "pkl"
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(ShardError, match="pickled"):
        MdsReader(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_shard_is_an_error_that_names_it(tmp_path, keep):
    write(tmp_path, [("a", 50), ("b", 50)], Layout())
    path = tmp_path / "shard.00000.mds"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ShardError, match=r"(?s)shard.*shard\.00000\.mds"):
        MdsReader(tmp_path)[0]


def test_missing_index_and_shard(tmp_path):
    with pytest.raises(ShardError, match=r"no index\.json"):
        MdsReader(tmp_path)
    write(tmp_path, [("a", 50)], Layout())
    (tmp_path / "shard.00000.mds").unlink()
    with pytest.raises(ShardError, match="missing"):
        MdsReader(tmp_path)[0]


def test_empty_samples_are_refused(tmp_path):
    writer = ShardWriter(tmp_path)
    with pytest.raises(ShardError, match="without tokens"):
        writer.write(["a"], np.zeros(0, np.uint16), np.array([0, 0]))
