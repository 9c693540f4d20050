"""Write: a split is written as it comes, and what is left is what it would be if all of it were held."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base import draws
from ettin_data.stages.batches import Tally, TokenRows
from ettin_data.stages.pack import choose, strategies
from ettin_data.stages.pack.framing import Framing
from ettin_data.stages.pack.step import Pack
from ettin_data.stages.write import PERCENTILES, Write, content_hashes, percentiles, write_statistics
from ettin_data.storage import ledger
from ettin_data.storage.ledger import DOCUMENTS, SAMPLES, SEGMENTS, TYPES, Ledger, TableWriter
from ettin_data.storage.mds import Layout, MdsReader
from ettin_data.storage.split import samples_root

CLS, SEP = 50281, 50282
TABLES = (DOCUMENTS, SAMPLES, SEGMENTS)
HASHES = {"key", "url_key", "content"}


def table(name, rows, seed=0):
    """Random rows in the types of a table."""
    rng = np.random.default_rng(seed)
    return {column: rng.integers(0, 1 << 31, rows).astype(dtype) for column, dtype in TYPES[name].items()}


def at_once(path, columns, row_group=None):
    """The table as one call of pyarrow writes it."""
    pq.write_table(
        pa.table({name: pa.array(column) for name, column in columns.items()}),
        path,
        row_group_size=row_group,
        compression={name: "NONE" if name in HASHES else "ZSTD" for name in columns},
        use_dictionary=False,
        column_encoding={name: "PLAIN" if name in HASHES else "DELTA_BINARY_PACKED" for name in columns},
        write_statistics=False,
    )


def in_parts(folder, name, columns, cuts):
    with TableWriter(folder, name) as writer:
        for begin, end in zip([0, *cuts], [*cuts, None], strict=True):
            writer.add({column: values[begin:end] for column, values in columns.items()})
    assert writer.rows == len(next(iter(columns.values())))


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(ledger, "ROW_GROUP", 50)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("rows, cuts", [(0, []), (1, []), (50, [20]), (100, [50]), (149, [1, 1]), (333, [40, 260])])
def test_portions_leave_no_trace(tmp_path, small_groups, name, rows, cuts):
    columns = table(name, rows)
    at_once(tmp_path / "expected", columns, row_group=50 if rows else None)
    in_parts(tmp_path, name, columns, cuts)
    assert (tmp_path / name).read_bytes() == (tmp_path / "expected").read_bytes()
    for column, values in columns.items():
        parts = list(ledger.read_column(tmp_path, name, column))
        assert all(len(part) <= 50 for part in parts)
        assert np.concatenate(parts).tolist() == values.tolist()


def test_the_row_group_is_pyarrows(tmp_path):
    columns = table(SEGMENTS, 2 * ledger.ROW_GROUP + 5)
    at_once(tmp_path / "expected", columns)
    in_parts(tmp_path, SEGMENTS, columns, range(65_537, 2 * ledger.ROW_GROUP, 65_537))
    assert (tmp_path / SEGMENTS).read_bytes() == (tmp_path / "expected").read_bytes()


def test_an_error_is_not_hidden_by_that_of_closing(tmp_path, monkeypatch):
    def full(self):
        self.is_open = False
        raise OSError("no space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "close", full)
    with pytest.raises(KeyError, match="first"), TableWriter(tmp_path, SAMPLES) as writer:
        raise KeyError("first")
    with pytest.raises(OSError, match="no space"), TableWriter(tmp_path, SAMPLES) as writer:
        writer.add(table(SAMPLES, 3))


@given(st.lists(st.one_of(st.integers(3, 8_000), st.sampled_from([3, 1024, 8_000])), min_size=1, max_size=300))
def test_percentiles_are_numpys(lengths):
    expected = [int(value) for value in np.percentile(np.array(lengths, np.int32), PERCENTILES)]
    assert percentiles(np.bincount(lengths)) == expected


@pytest.mark.parametrize("rows", [0, 1, 700])
def test_statistics_are_those_of_the_lengths(tmp_path, small_groups, rows):
    samples = table(SAMPLES, rows)
    samples["tokens"] = (np.random.default_rng(1).integers(0, 95, rows) ** 2).astype(np.int32)  # 0k to 8k, 6k by few
    Ledger(table(DOCUMENTS, 1), samples).write(tmp_path)
    write_statistics(tmp_path, 17)
    lengths = samples["tokens"]
    assert json.loads((tmp_path / "stats.json").read_text()) == {
        "total_duplicated_tokens": 0,
        "total_tokens_written": lengths.sum(),
        "total_tokens_skipped": 17,
        "percentiles": {f"{p}th": int(np.percentile(lengths, p)) if rows else None for p in PERCENTILES},
    }
    thousands = {f"{k}k": np.flatnonzero(lengths // 1000 == k).tolist() for k in range(9)}
    assert (tmp_path / "token_decile.json").read_text() == json.dumps(thousands)


def batches(count, documents=40):
    """Batches of documents of 1 to 300 tokens."""
    rng = np.random.default_rng(2)
    for number in range(count):
        lengths = rng.integers(1, 300, documents)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        yield TokenRows(
            [f"document {number * documents + i}" for i in range(documents)], np.zeros(documents, np.int32),
            np.arange(documents) + number * documents, np.zeros(documents, np.uint64),
            rng.integers(0, 50_000, offsets[-1]).astype(np.uint16), offsets,
        )  # fmt: skip


def split(folder, strategy, count):
    """Documents packed and written; the step."""
    folder.mkdir(exist_ok=True)
    tally = Tally()
    choice = choose(strategy, {"min_length": 32, "always_skip": 8, "window": 3_000})
    pack = Pack(choice, Framing(128, CLS, SEP), 42, "source", tally)
    write = Write(folder, Layout(cu_seqlens=choice.strategy.several, size_limit=1 << 16), tally)
    list(write.run(pack.run(batches(count))))
    return write


@pytest.mark.parametrize("strategy", strategies())
@pytest.mark.parametrize("count", [0, 1, 12])
def test_root_and_ledger_are_those_of_the_samples(tmp_path, small_groups, strategy, count):
    write = split(tmp_path, strategy, count)
    written, reader = ledger.read_ledger(tmp_path), MdsReader(tmp_path)
    assert write.root == samples_root(written)
    assert (written.segments is not None) == strategies()[strategy].several
    assert len(written.documents["key"]) == 40 * count and len(written.samples["document"]) == len(reader)
    first = written.documents["key"][written.samples["document"]]
    assert first.tolist() == [draws.document_key(reader.id(row)) for row in range(len(reader))]
    tokens = [reader.tokens(row) for row in range(len(reader))]
    offsets = np.cumsum([0, *map(len, tokens)])
    assert written.samples["tokens"].tolist() == np.diff(offsets).tolist()
    if tokens:
        assert written.samples["content"].tolist() == content_hashes(np.concatenate(tokens), offsets).tolist()
    text = written.samples["length"].astype(np.int64)
    if written.segments is not None:
        np.add.at(text, written.segments["sample"], written.segments["length"])
    kept = [np.count_nonzero(~np.isin(sample, [CLS, SEP])) for sample in tokens]
    assert text.tolist() == kept


@pytest.mark.parametrize("strategy", ["backfill", "best_fit"])
def test_memory_does_not_grow_with_documents(tmp_path, small_groups, strategy):
    peaks = []
    for count in (20, 20, 200):  # the first time, modules and caches are filled
        tracemalloc.start()
        split(tmp_path / str(count), strategy, count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 180 * 40 * 15  # a row of the ledger takes 68 bytes, a shard's entry hundreds for many
