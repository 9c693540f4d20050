"""MDS shards as upstreams publish them: read directly, whatever their columns, and never changed."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import source_kit as kit
import zstandard
from tokenizers import Tokenizer

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources import ReadOptions, Record, Reject
from ettin_data.sources.formats.mds.samples import looks_like_mds, read_samples

CLS, SEP = 50281, 50282


def samples_of(data: bytes, columns: set[str], step: int = 1 << 18) -> list[Any]:
    blocks = (data[i : i + step] for i in range(0, len(data), step))
    return list(read_samples(iter(blocks), frozenset(columns), ReadOptions()))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_reads_what_streaming_writes(streaming: ModuleType, compression: str | None, tmp_path: Path) -> None:
    """Every encoding of the upstreams, written by the library itself."""
    writer = streaming.MDSWriter
    columns = {
        "domain": "str", "indices": "ndarray:uint32", "input_ids": "ndarray:uint16", "length": "uint64", "n": "int",
        "any": "ndarray", "fixed": "ndarray:int32:2,3", "half": "float16", "blob": "bytes", "pickled": "pkl",
    }  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [
        {
            "domain": f"döm {n}", "indices": np.array([[0, 2], [2, n + 3]], np.uint32), "length": n, "n": -n,
            "input_ids": rng.integers(0, 60_000, n + 3).astype(np.uint16), "any": rng.random((2, n + 1)),
            "fixed": np.arange(6, dtype=np.int32).reshape(2, 3), "half": np.float16(n / 2), "blob": bytes(n),
            "pickled": {"never": "unpickled"},
        }
        for n in range(300)
    ]  # fmt: skip
    with writer(out=str(tmp_path), columns=columns, compression=compression, size_limit=1 << 14) as out:
        for row in rows:
            out.write(row)
    wanted = set(columns) - {"pickled"}
    read = []
    for path in sorted(tmp_path.glob("shard.*")):
        data = path.read_bytes()
        data = zstandard.ZstdDecompressor().decompress(data) if compression else data
        assert looks_like_mds(data)
        read += samples_of(data, wanted, 777)
    assert len(read) == len(rows)
    for got, row in zip(read, rows, strict=True):
        assert set(got) == wanted
        for name in wanted:
            assert np.array_equal(np.asarray(got[name]), np.asarray(row[name])), name
    (tmp_path / "pickled").mkdir()
    shard = next(iter(sorted(tmp_path.glob("shard.*"))))
    source, file = kit.one_file(tmp_path / "pickled", shard.name, shard.read_bytes(), text_key="pickled")
    _, [reject] = kit.read(source, file)
    assert (reject.reason, reject.whole_file) == ("mds_encoding", True)


# --- ProLong ---------------------------------------------------------------------------------------------------------


def test_bad_spans_and_tokens_are_counted(llama: tuple[str, Tokenizer], tmp_path: Path) -> None:
    path, tokenizer = llama
    ids = tokenizer.encode("the quick brown fox", add_special_tokens=False).ids
    columns = {"input_ids": "ndarray:int32", "indices": "ndarray:uint32"}
    n = len(ids)
    rows: list[dict[str, Any]] = [
        {"input_ids": ids, "indices": [[0, n], [3, 3], [5, 2], [0, n + 9]]},
        {"input_ids": ids * 2, "indices": [[0, n]]},
        {"input_ids": [5, 99_999], "indices": [[0, 2]]},
        {"input_ids": [-1, 5], "indices": [[0, 2]]},
        {"input_ids": ids, "indices": [[0, n]]},
    ]
    records, rejects = kit.read(
        *kit.one_file(tmp_path, "shard.00000.mds", kit.mds_shard(columns, rows), tokenizer=path)
    )
    assert [record.text for record in records] == ["the quick brown fox"] * 3
    counted = ["bad_span"] * 3 + ["tokens_outside_spans"] + ["token_out_of_vocabulary"] * 2
    assert kit.reasons(rejects) == counted and f"{n:,} of {2 * n:,}" in rejects[3].detail


def test_literal_special_tokens_inside_a_document_stay(llama: tuple[str, Tokenizer], tmp_path: Path) -> None:
    path, tokenizer = llama
    bos = tokenizer.token_to_id(kit.BOS)
    ids = tokenizer.encode("a", add_special_tokens=False).ids
    data = kit.mds_shard({"input_ids": "ndarray:uint32"}, [{"input_ids": [bos, *ids, bos, *ids]}])
    [record], _ = kit.read(*kit.one_file(tmp_path, "shard.00000.mds", data, tokenizer=path))
    assert record.text == f"a{kit.BOS}a"


@pytest.mark.parametrize(
    "encodings",
    [
        {"domain": "str", "input_ids": "ndarray:int32", "length": "int32"},
        {"domain": "str", "input_ids": "ndarray:uint32"},
        {"domain": "str", "input_ids": "ndarray:uint32", "length": "int", "mask": "ndarray:uint8"},
        {"domain": "str", "input_ids": "ndarray"},
    ],
)
def test_columns_vary(encodings: dict[str, str], llama: tuple[str, Tokenizer], tmp_path: Path) -> None:
    path, tokenizer = llama
    texts = ["one document\n", "ünïcode \U0001f600 and\ttabs", " spaces in front"]
    ids = [np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32) for text in texts]
    rows = [{"domain": "d", "input_ids": i, "length": len(i), "mask": [1] * len(i)} for i in ids]
    data = kit.mds_shard(encodings, rows)
    for name, body in (("shard.00000.mds", data), ("shard.000000.mds.zstd", zstandard.compress(data))):
        records, rejects = kit.read(*kit.one_file(tmp_path, name, body, tokenizer=path))
        assert [record.text for record in records] == texts and not rejects
        assert [record.id for record in records] == [f"own/{name}#{n}" for n in range(3)]


def test_a_shard_of_texts(tmp_path: Path) -> None:
    data = kit.mds_shard(
        {"text": "str", "id": "str"}, [{"text": t, "id": i} for t, i in (("x", "a"), (" ", "b"), ("y", "a"))]
    )
    records, rejects = kit.read_bytes(tmp_path, "shard.00000.mds", data)
    assert [(r.text, r.id) for r in records] == [("x", "a"), ("y", "own/shard.00000.mds#2")]
    assert kit.reasons(rejects) == ["text_blank"]


def test_a_tokenizer_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = kit.mds_shard({"input_ids": "ndarray:uint32"}, [{"input_ids": [1]}])
    source, file = kit.one_file(tmp_path, "shard.00000.mds", data, tokenizer=str(tmp_path / "no.json"))
    with pytest.raises(SourceError, match=r"no\.json(.|\n)*tokenizer\.json in the recipe"):
        kit.read(source, file)


# --- ModernBERT's own tokens -----------------------------------------------------------------------------------------


def published(folder: Path, rows: list[dict[str, Any]], *, claims_zstd: bool) -> Path:
    """A split as the published data sets have them; their indexes claim zstd beside raw shards."""
    columns = {"id": "str", "input_ids": "ndarray:uint16"}
    data = kit.mds_shard(columns, rows)
    kit.write(folder / "shard.00000.mds", data)
    kit.write(
        folder / "index.json",
        kit.mds_index(columns, {"shard.00000.mds": (len(data), len(rows))}, claims_zstd=claims_zstd),
    )
    kit.write(folder / "stats.json", b'{"percentiles": {"0th": NaN}}')
    return folder


ROWS = [
    {"id": "a", "input_ids": [CLS, 1, 2, 3, SEP]},
    {"id": "a", "input_ids": [CLS, 4, 5, SEP]},
    {"id": "b", "input_ids": [CLS, 6, SEP]},
    {"id": "c", "input_ids": [7, 8]},
    {"id": "a", "input_ids": [CLS, 9, SEP]},
    {"id": "d", "input_ids": [CLS, SEP]},
]


def test_published_shards_are_a_source(tmp_path: Path) -> None:
    published(tmp_path / "train/x/split_0-tokenized-chunked-1024-512-128-backfill-nodups", ROWS, claims_zstd=True)
    source = sources.own_source("again", str(tmp_path))
    [file] = sources.list_files(source)
    records, rejects = kit.read(source, file)
    assert all(
        record.text == "" and record.tokens is not None and record.tokens.dtype == np.uint32 for record in records
    )
    tokens = [record.tokens.tolist() for record in records if record.tokens is not None]
    assert tokens == [[1, 2, 3, 4, 5], [6], [7, 8], [9]], "framing off, pieces of a document joined"
    assert [r.id for r in records] == ["a", "b", "c", f"again/{file.path}#4"]
    assert [r.metadata.get("pieces") for r in records] == [2, None, None, None]
    assert kit.reasons(rejects) == ["text_empty"]
    records, _ = kit.read(source, file, join_chunks=False)
    assert [r.tokens.tolist() for r in records if r.tokens is not None] == [[1, 2, 3], [4, 5], [6], [7, 8], [9]]


def test_opening_published_shards_never_removes_them(streaming: ModuleType, tmp_path: Path) -> None:
    """The trap is real (`streaming` removes the raw shard), and this reader does not fall into it."""
    published(tmp_path / "ours", ROWS, claims_zstd=True)
    shutil.copytree(tmp_path / "ours", tmp_path / "theirs")
    streaming.StreamingDataset(local=str(tmp_path / "theirs"), shuffle=False, batch_size=1)
    assert not (tmp_path / "theirs/shard.00000.mds").exists(), "streaming no longer removes it: simplify the docs"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "ours").iterdir()}
    source = sources.own_source("again", str(tmp_path / "ours"))
    assert len(kit.read_source(source)[0]) == 4
    assert sources.check_source(source, targets={}).problems() == []
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "ours").iterdir()}
    assert before == after


def test_ids_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    """mmBERT's shards have a larger vocabulary; they are not ModernBERT's."""
    rows = [{"id": n, "input_ids": [CLS, i, SEP]} for n, i in (("a", 5), ("b", 250_000), ("c", 6))]
    data = kit.mds_shard({"id": "str", "input_ids": "ndarray:uint32"}, rows)
    records, rejects = kit.read_bytes(tmp_path, "shard.00000.mds", data)
    assert [r.id for r in records] == ["a", "c"] and kit.reasons(rejects) == ["token_out_of_vocabulary"]


def test_packed_rows_of_ones_own_are_split_where_they_say(tmp_path: Path) -> None:
    columns = {"id": "str", "input_ids": "ndarray:uint16", "cu_seqlens": "ndarray:int32"}
    rows = [{"id": "a", "input_ids": [CLS, 1, SEP, CLS, 2, 3, SEP], "cu_seqlens": [0, 3, 7]}]
    records, rejects = kit.read_bytes(tmp_path, "shard.00000.mds", kit.mds_shard(columns, rows))
    assert [r.tokens.tolist() for r in records if r.tokens is not None] == [[1], [2, 3]] and not rejects
    assert len({r.id for r in records}) == 2


# --- listing by index ------------------------------------------------------------------------------------------------


def test_the_index_is_followed(tmp_path: Path) -> None:
    columns = {"id": "str", "input_ids": "ndarray:uint16"}
    data = kit.mds_shard(columns, ROWS)
    for sub in ("proc00-64", "proc01-64"):
        kit.write(tmp_path / sub / "shard.00000.mds", data)
        kit.write(tmp_path / sub / "index.json", kit.mds_index(columns, {"shard.00000.mds": (len(data), 6)}))
    names = {f"{sub}/shard.00000.mds": (len(data), 6) for sub in ("proc00-64", "proc01-64")}
    kit.write(tmp_path / "index.json", kit.mds_index(columns, names))  # merged, beside the others
    kit.write(tmp_path / "index.json.lock", b"")
    kit.write(tmp_path / "index_old.json", b"{}")
    kit.write(tmp_path / "proc00-64/shard.00001.mds", data)  # in no index
    source = sources.own_source("x", str(tmp_path), format="mds")
    assert [file.path for file in sources.list_files(source)] == sorted(names)
    assert sources.check_source(source, targets={}).unlisted == ("proc00-64/shard.00001.mds",)


def test_missing_shards_are_listed_and_rejected(tmp_path: Path) -> None:
    columns = {"id": "str", "input_ids": "ndarray:uint16"}
    data = kit.mds_shard(columns, ROWS)
    kit.write(tmp_path / "shard.00000.mds", data)
    shards = {"shard.00000.mds": (len(data), 6), "shard.00001.mds": (len(data), 6)}
    kit.write(tmp_path / "index.json", kit.mds_index(columns, shards))
    source = sources.own_source("x", str(tmp_path), format="mds")
    records, rejects = kit.read_source(source)
    assert len(records) == 4 and kit.reasons(rejects) == ["text_empty", "file_missing"]
    check = sources.check_source(source, targets={"decay": 100})
    assert check.missing == ("shard.00001.mds",) and not check.ok and check.lost_tokens == 50


def test_compressed_shards_are_found_whichever_file_is_there(tmp_path: Path) -> None:
    columns = {"id": "str", "input_ids": "ndarray:uint16"}
    data = kit.mds_shard(columns, ROWS)
    kit.write(tmp_path / "a/shard.00000.mds.zstd", zstandard.compress(data))
    kit.write(tmp_path / "a/index.json", kit.mds_index(columns, {"shard.00000.mds": (len(data), 6)}, claims_zstd=True))
    source = sources.own_source("x", str(tmp_path), format="mds")
    assert [file.path for file in sources.list_files(source)] == ["a/shard.00000.mds.zstd"]
    assert len(kit.read_source(source)[0]) == 4


def test_an_index_may_not_point_outside(tmp_path: Path) -> None:
    columns = {"id": "str", "input_ids": "ndarray:uint16"}
    kit.write(tmp_path / "a/index.json", kit.mds_index(columns, {"../../secret.mds": (10, 1)}))
    with pytest.raises(SourceError, match="outside of its source"):
        sources.list_files(sources.own_source("x", str(tmp_path), format="mds"))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"shards": 5}', b'{"shards": [5]}', b"\x00\xff"])
def test_a_damaged_index_is_an_error(body: bytes, tmp_path: Path) -> None:
    kit.write(tmp_path / "index.json", body)
    with pytest.raises(SourceError, match="index cannot be read"):
        sources.list_files(sources.own_source("x", str(tmp_path), format="mds"))


# --- damage ----------------------------------------------------------------------------------------------------------


def test_damaged_shards(tmp_path: Path) -> None:
    columns = {"id": "str", "input_ids": "ndarray:uint16"}
    data = bytearray(kit.mds_shard(columns, ROWS))
    first = struct.unpack_from("<I", data, 4)[0]

    def ends(body: bytes) -> tuple[int, str]:
        items = list(sources.read_file(*kit.one_file(tmp_path, "shard.00000.mds", bytes(body))))
        last = items[-1]
        return sum(isinstance(item, Record) for item in items), last.reason if isinstance(last, Reject) else "ok"

    assert ends(data[:-3]) == (4, "truncated")
    assert ends(data[: first - 5]) == (0, "truncated")
    assert ends(data + b"more") == (4, "trailing_garbage")
    broken = data.copy()
    broken[first : first + 4] = struct.pack("<I", 1 << 30)  # the size of the first sample's id
    assert (
        ends(broken) == (4, "text_empty")
        and kit.reasons(kit.read_bytes(tmp_path, "a.mds", bytes(broken))[1])[0] == "bad_sample"
    )
    disordered = data.copy()
    disordered[8:12] = struct.pack("<I", 5)
    assert ends(disordered) == (0, "damaged_mds")
    config = data.replace(b'"column_names"', b'"column_nomes"')
    assert ends(config) == (0, "damaged_mds")


def test_a_sample_over_the_limit_is_passed_over(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "x" * 3_000_000}, {"text": "b"}]
    data = kit.mds_shard({"text": "str"}, rows)
    records, rejects = kit.read_bytes(tmp_path, "shard.00000.mds", data, max_record_bytes=1000)
    assert [r.text for r in records] == ["a", "b"] and kit.reasons(rejects) == ["record_too_long"]


def test_a_shard_that_is_no_shard(tmp_path: Path) -> None:
    kit.write(tmp_path / "shard.00000.mds", b"<html>not found</html>")
    kit.write(tmp_path / "shard.00001.mds", b"this is no shard at all, but it is long enough to look at")
    kit.write(tmp_path / "index.json", kit.mds_index({"text": "str"}, {f"shard.0000{n}.mds": (9, 1) for n in (0, 1)}))
    _, rejects = kit.read_source(sources.own_source("x", str(tmp_path), format="mds"))
    assert kit.reasons(rejects) == ["html_instead_of_data", "not_mds"]
