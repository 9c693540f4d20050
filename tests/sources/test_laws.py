"""The counting law: for each file, records seen = records used + records rejected, whatever its framing and faults."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import source_kit as kit
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources import Record, Reject

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=60)  # lone surrogates included
ROWS = st.fixed_dictionaries({}, optional={"text": TEXT | ANY_JSON, "id": TEXT | ANY_JSON, "metadata": ANY_JSON})
RAW_LINES = st.one_of(
    ROWS.map(lambda row: json.dumps(row).encode()),
    ROWS.map(lambda row: json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    ANY_JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=50).map(lambda raw: raw.replace(b"\n", b" ")),
    st.just(b""),
    st.just(b'{"text": "twice", "id": "same"}'),
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes, list[bytes]]:
    """(name, bytes, the lines that they hold) in a random compression, cut into random members or frames."""
    lines = [b'{"text": "first"}', *draw(st.lists(RAW_LINES, max_size=25))]
    ending = draw(st.sampled_from([b"\n", b"\r\n"]))
    data = b"".join(line + ending for line in lines)
    if draw(st.booleans()):
        data = data[: -len(ending)]
        if not lines[-1]:
            lines.pop()  # nothing at all behind the last newline is no line
        elif ending == b"\r\n" and not lines:
            lines = []
    if draw(st.booleans()):
        data = b"\xef\xbb\xbf" + data
    kind = draw(st.sampled_from(["", ".gz", ".zst"]))
    if not kind:
        return "a.jsonl", data, lines
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    pack = gzip.compress if kind == ".gz" else zstandard.ZstdCompressor(write_checksum=draw(st.booleans())).compress
    return "a.jsonl" + kind, b"".join(pack(part) for part in parts), lines


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(files(), st.integers(1, 4096))
def test_every_line_is_seen_once(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[str, bytes, list[bytes]], keep: int
) -> None:
    name, data, lines = made
    source, file = kit.one_file(tmp_path_factory.mktemp("law"), name, data)
    records, rejects = kit.read(source, file, raw_bytes=keep)
    assert not any(reject.whole_file for reject in rejects)
    assert len(records) + len(rejects) == len(lines)
    assert sorted([r.position for r in records] + [r.position for r in rejects]) == list(range(len(lines)))
    for record in records:
        assert record.text and not record.text.isspace() and record.id
        record.text.encode()
        record.id.encode()
        json.dumps(record.metadata, ensure_ascii=False).encode()
    assert len({record.id for record in records}) == len(records), "ids are unique in a file"
    for reject in rejects:
        assert reject.reason and len(reject.raw) <= keep

    # Cut anywhere, what is left obeys the law too: whole lines are still read, the rest is one reject that says so.
    cut = max(1, len(data) // 2)
    source, file = kit.one_file(tmp_path_factory.mktemp("cut"), name, data[:cut])
    some, ended = kit.read(source, file)
    assert [r.text for r in some][: len(some) - 1] == [r.text for r in records][: max(len(some) - 1, 0)]
    if name != "a.jsonl":
        assert [reject.reason for reject in ended if reject.whole_file] in (
            ["truncated"],
            ["empty_file"],
            [],
            ["damaged_gzip"],
        )

    # The other way to end: an error with the words of the first reject.
    source, file = kit.one_file(tmp_path_factory.mktemp("stop"), name, data)
    if rejects:
        with pytest.raises(SourceError) as stopped:
            kit.read(source, file, on_bad="stop")
        assert stopped.value.what == f"{rejects[0].reason}: {rejects[0].detail}"
    else:
        assert kit.read(source, file, on_bad="stop") == (records, [])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.none() | st.text(max_size=30), min_size=1, max_size=60), st.integers(1, 20), st.data())
def test_every_row_of_a_parquet_file_is_seen_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], group: int, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.none() | st.sampled_from("abc"), min_size=len(texts), max_size=len(texts)))
    codec = data.draw(st.sampled_from(["none", "snappy", "gzip", "zstd", "lz4"]))
    import pyarrow as pa

    table = kit.parquet(
        {"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())},
        row_group_size=group,
        compression=codec,
    )
    records, rejects = kit.read_bytes(tmp_path_factory.mktemp("law"), "a.parquet", table)
    assert [record.text for record in records] == [text for text in texts if text and not text.isspace()]
    assert sorted(item.position for item in (*records, *rejects)) == list(range(len(texts)))
    assert len({record.id for record in records}) == len(records)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_lines_longer_than_blocks(name: str, tmp_path: Path) -> None:
    """Lines of many sizes, around the sizes of the blocks that a file is read in."""
    sizes = [1, 100, (1 << 18) - 30, 1 << 18, (1 << 20) - 1, 1 << 20, 3 << 20, 5, 1, (1 << 20) + 1]
    rows: list[dict[str, Any]] = [{"text": "é" + "x" * size, "id": str(size)} for size in sizes]
    records, rejects = kit.read_bytes(tmp_path, name, kit.compress(kit.jsonl(rows), name))
    assert [len(record.text) - 1 for record in records] == sizes and not rejects


def test_stopping_names_the_record(tmp_path: Path) -> None:
    data = kit.jsonl([{"text": "x"}] * 3) + b"{}\n"
    source, file = kit.one_file(tmp_path, "a.jsonl", data)
    with pytest.raises(SourceError, match=r"text_missing: keys: (.|\n)*own: a.jsonl, record 3"):
        kit.read(source, file, on_bad="stop")


def test_rejects_and_records_come_in_order(tmp_path: Path) -> None:
    data = b"".join(b'{"text": "x"}\n' if n % 3 else b"bad\n" for n in range(1000))
    items = list(sources.read_file(*kit.one_file(tmp_path, "a.jsonl", data)))
    assert [item.position for item in items] == list(range(1000))
    assert [isinstance(item, Reject) for item in items] == [n % 3 == 0 for n in range(1000)]
    assert all(isinstance(item, Record | Reject) for item in items)
