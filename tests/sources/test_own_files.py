"""A user's own files: plain text, CSV and Arrow beside what was read before, keys with dots, notes beside data."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ettin_data import recipe
from ettin_data.base.errors import SourceError
from ettin_data.sources import Record, Reject, own_source, read_file
from ettin_data.sources.base import NAME
from ettin_data.sources.listing import listed
from ettin_data.sources.user_source import _place

ROWS = [{"id": f"n{i}", "text": f"Text number {i}", "meta": {"body": f"Inside {i}", "key": f"k{i}"}} for i in range(5)]
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("\n\t\"',;|"),
    min_size=1,
    max_size=40,
)


def read(place: Path, **options: Any) -> dict[str, list[Record | Reject]]:
    source = own_source("mine", str(place), **options)
    return {file.path: list(read_file(source, file)) for file in listed(source).files}


def table(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data, path = pa.Table.from_pylist(ROWS), folder / name
    if name.endswith(".parquet"):
        pq.write_table(data, path)
    elif name.endswith(".jsonl"):
        path.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        make = pa.ipc.new_stream if "stream" in name else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as sink, make(sink, data.schema) as writer:
            writer.write_table(data, max_chunksize=2)


def test_a_file_of_text_is_a_document(tmp_path: Path) -> None:
    files = {
        "a.txt": b"Plain text.\nTwo lines.\n",
        "sub/b.md": b"# Markdown\n",
        "page.md": b"<html><p>of a page</p>",
        "list.txt": b'[{"not": "records"}]',
        "brace.txt": b"{ this is no JSON",
        "mark.txt": b"\xef\xbb\xbfwith a mark",
        "latin.txt": "café".encode("latin-1"),
        "empty.txt": b"",
        "blank.txt": b" \n ",
        "packed.txt.gz": gzip.compress(b"was packed"),
        "lines.txt": b'{"id": "one", "text": "a record"}\n{"id": "two", "text": "another"}\n',
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = read(tmp_path)
    assert set(found) == set(files)
    [one] = found["a.txt"]
    assert isinstance(one, Record) and (one.text, one.id, one.position) == (
        "Plain text.\nTwo lines.\n",
        "mine/a.txt",
        0,
    )
    texts = {
        name: [item.text if isinstance(item, Record) else item.reason for item in items]
        for name, items in found.items()
    }
    assert texts["sub/b.md"] == ["# Markdown\n"] and texts["page.md"] == ["<html><p>of a page</p>"]
    assert texts["list.txt"] == ['[{"not": "records"}]'] and texts["brace.txt"] == ["{ this is no JSON"]
    assert texts["mark.txt"] == ["with a mark"] and texts["packed.txt.gz"] == ["was packed"]
    assert texts["latin.txt"] == ["caf\ufffd"] and found["latin.txt"][0].metadata["repaired"] == "utf8"  # type: ignore[union-attr]
    assert texts["empty.txt"] == ["text_empty"] and texts["blank.txt"] == ["text_blank"]
    assert texts["lines.txt"] == ["a record", "another"], "lines of objects are records, whatever the file is called"
    assert not any(item.whole_file for items in found.values() for item in items if isinstance(item, Reject))


def test_a_text_that_is_too_long_is_a_reject(tmp_path: Path) -> None:
    from ettin_data.sources import ReadOptions

    (tmp_path / "a.txt").write_text("x" * 1000)
    source = own_source("mine", str(tmp_path / "a.txt"))
    [item] = read_file(source, listed(source).files[0], options=ReadOptions(max_record_bytes=999))
    assert isinstance(item, Reject) and item.reason == "record_too_long"


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6), st.sampled_from(",\t;|"), st.booleans())
def test_csv_gives_back_what_was_written(
    tmp_path_factory: Any, rows: list[tuple[str, ...]], separator: str, end: bool
) -> None:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["id", "text", "more"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_text(sink.getvalue() if end else sink.getvalue().rstrip("\n"), newline="")
    [items] = read(path).values()
    assert [item.position for item in items] == list(range(len(rows)))
    for item, (name, text, _) in zip(items, rows, strict=True):
        if isinstance(item, Record):
            assert item.text == text and item.id in (name, f"mine/a.csv#{item.position}")
        else:
            assert item.reason in ("text_blank", "text_empty") and not text.strip()


def test_rows_of_csv_with_other_numbers_of_values_are_rejects(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text,n\n1,"a\nb",3\n2,short\n\n3,c,4\n4,d,5,6\n5,"e ""q"" f",6\n6\n')
    [items] = read(path).values()
    said = [(item.position, item.text if isinstance(item, Record) else item.reason) for item in items]
    wrong = "wrong_number_of_values"
    assert said == [(0, "a\nb"), (1, wrong), (2, "c"), (3, wrong), (4, 'e "q" f'), (5, wrong)]


def test_csv_without_the_text_column_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,body\nx,y\n")
    [[item]] = read(tmp_path / "a.csv").values()
    assert isinstance(item, Reject) and item.whole_file and "title, body" in item.detail
    [[item]] = read(tmp_path / "a.csv", text_key="body").values()
    assert isinstance(item, Record) and item.text == "y"


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.arrow", "a.stream.arrow", "a.feather"])
def test_keys_with_dots_lead_inside(tmp_path: Path, name: str) -> None:
    table(tmp_path, name)
    [items] = read(tmp_path / name).values()
    assert [(item.text, item.id) for item in items] == [(row["text"], row["id"]) for row in ROWS]  # type: ignore[union-attr]
    [items] = read(tmp_path / name, text_key="meta.body", id_key="meta.key").values()
    assert [(item.text, item.id) for item in items] == [(f"Inside {i}", f"k{i}") for i in range(5)]  # type: ignore[union-attr]
    for key in ("meta.nothing", "text.x", "nothing.x"):
        [items] = read(tmp_path / name, text_key=key).values()
        assert items and all(isinstance(item, Reject) for item in items)


def test_a_key_that_has_a_dot_itself_goes_before_one_that_leads_inside(tmp_path: Path) -> None:
    row = {"a.b": "itself", "a": {"b": "inside"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "b.parquet")
    assert [items[0].text for items in read(tmp_path, text_key="a.b").values()] == ["itself", "itself"]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["a.arrow", "a.stream.arrow"])
def test_a_damaged_arrow_file_ends_in_a_reject_and_not_in_the_process(tmp_path: Path, name: str) -> None:
    table(tmp_path, name)
    whole = (tmp_path / name).read_bytes()
    texts = {row["text"] for row in ROWS}
    for at in range(0, len(whole), 7):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            (tmp_path / name).write_bytes(content)
            try:
                [items] = read(tmp_path / name).values()
            except SourceError:
                continue
            if content == whole[:at] and "stream" not in name:
                assert not items or any(isinstance(item, Reject) for item in items)
            if content == whole[:at]:
                assert {item.text for item in items if isinstance(item, Record)} <= texts


def test_a_data_set_that_was_saved_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    [items] = read(tmp_path / "saved").values()
    assert [item.text for item in items] == [row["text"] for row in ROWS]  # type: ignore[union-attr]


def test_notes_and_tables_beside_data_are_not_it(tmp_path: Path) -> None:
    for name in ("README.md", "LICENSE.txt", "statistics.csv"):
        (tmp_path / name).write_text("id,text\n1,not data\n")
    assert set(read(tmp_path)) == {"statistics.csv"}, "of notes and a table the table"
    table(tmp_path, "a.jsonl")
    assert set(read(tmp_path)) == {"a.jsonl"}
    said = listed(own_source("mine", str(tmp_path))).said()
    assert said and "3 files" in said and "README.md" in said and "beside files of another format" in said
    assert set(read(tmp_path, format="txt")) == {"README.md", "LICENSE.txt"}, "a format that is named takes its own"
    assert set(read(tmp_path / "*.md")) == {"README.md"}


def test_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HuggingFaceFW/fineweb", "org/name@main", "org/name?config=a-b&split=train"):
        assert own_source("mine", name).root == f"datasets://{name}"
    (tmp_path / "org").mkdir()
    assert own_source("mine", "org/name").root.startswith(str(tmp_path)), "a folder here goes before, also one to come"
    for name in ("data/a.jsonl", "data/*.txt", "plain", "/a/b", "../a", "a/b/c"):
        assert own_source("mine", name).root.startswith("/")


@given(st.one_of(st.from_regex(r"[\w.\-]{1,12}", fullmatch=True), st.text(max_size=5), st.just("my-docs")))
@settings(max_examples=200, deadline=None)
def test_a_name_is_one_for_recipes_and_for_own_sources_alike(name: str) -> None:
    good = bool(NAME.fullmatch(name)) and name.isascii() and not name.endswith(".")
    written = {"phase": "mine", "length": 1024, "sources": {name: {"root": "/data", "tokens": 5}}}
    for make in (lambda: own_source(name, "/data"), lambda: recipe.Recipe.model_validate(written)):
        if good:
            assert make() is not None
            continue
        with pytest.raises((SourceError, ValidationError), match="becomes a folder"):
            make()


def test_places_of_every_kind() -> None:
    for url in ("hf://datasets/org/name", "s3://bucket/folder", "gs://bucket/folder"):
        assert _place(url)[0] == f"{url}/" and _place(f"{url}/**/*.parquet")[0].startswith(url)
    assert _place("https://host/a-{0..3}.jsonl.gz")[:2] == ("https://host/", ("a-{0..3}.jsonl.gz",))


@pytest.mark.parametrize("name", ["web[1]", "web{a,b}", "web{00..07}", "web*x", "web?x", "web%20#x"])
def test_a_folder_that_is_there_is_meant_and_no_pattern(tmp_path: Path, name: str) -> None:
    table(tmp_path / name, "a.jsonl")
    [items] = read(tmp_path / name).values()
    assert [item.text for item in items if isinstance(item, Record)] == [row["text"] for row in ROWS]


@pytest.mark.parametrize("format", ["parket", "jsn", "makdown"])
def test_a_format_that_is_none_is_refused_with_a_near_name(tmp_path: Path, format: str) -> None:
    with pytest.raises(SourceError, match=r"there is no format.*\n.*sources\.mine\.format"):
        own_source("mine", str(tmp_path), format=format)
