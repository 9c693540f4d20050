"""What holds for every format alike, and what a recipe may say of one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import source_kit as kit
from tokenizers import Tokenizer

from ettin_data import recipe, sources
from ettin_data.base.errors import SourceError
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.sources import Record, SourceFile, formats
from ettin_data.sources.access import inflate
from ettin_data.sources.formats.format import Format

MARKED = "<reponame>a/b<filename>c.py<gh_stars>10-100\n"
TEXTS = [MARKED + "print(1)\n", "print(2)\n", MARKED, "a <reponame>b"]


def source_of(name: str, folder: Path) -> sources.Source:
    """A source with `TEXTS` in one of the forms that a text comes in."""
    rows = [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]
    if name == "jsonl":
        kit.write(folder / "a.jsonl.gz", kit.compress(kit.jsonl(rows), "a.gz"))
    elif name == "parquet":
        kit.write(folder / "a.parquet", kit.parquet({key: [row[key] for row in rows] for key in ("id", "text")}))
    elif name == "rows":
        kit.write(folder / "set/a.jsonl", kit.jsonl(rows))
        return sources.own_source("own", f"datasets://{folder}/set?split=train")
    elif name == "mds":
        shard(folder, {"id": "str", "text": "str"}, rows)
    else:
        kit.train_llama_like(folder / "tokenizer.json")
        encode = Tokenizer.from_file(str(folder / "tokenizer.json")).encode
        ids = [{"input_ids": encode(text, add_special_tokens=False).ids} for text in TEXTS]
        shard(folder, {"input_ids": "ndarray:int32"}, ids)
        return sources.own_source("own", str(folder), tokenizer=str(folder / "tokenizer.json"))
    return sources.own_source("own", str(folder))


def shard(folder: Path, columns: dict[str, str], samples: list[dict[str, Any]]) -> None:
    data = kit.mds_shard(columns, samples)
    kit.write(folder / "shard.00000.mds", data)
    kit.write(folder / "index.json", kit.mds_index(columns, {"shard.00000.mds": (len(data), len(samples))}))


@pytest.mark.parametrize("name", [*formats.FORMATS, "mds of foreign ids"])
def test_markers_are_text_until_the_option_strips_them_in_every_format(name: str, tmp_path: Path) -> None:
    source = source_of(name, tmp_path)
    records, rejects = kit.read_source(source)
    assert [record.text for _, record in records] == TEXTS and not rejects
    records, rejects = kit.read_source(source, strip_starcoder_markers=True)
    assert [record.text for _, record in records] == ["print(1)\n", "print(2)\n", "a <reponame>b"]
    assert [(reject.position, reject.reason) for reject in rejects] == [(2, "text_empty")]


def test_ids_of_modernbert_have_no_markers_to_strip(tmp_path: Path) -> None:
    shard(tmp_path, {"input_ids": "ndarray:uint16"}, [{"input_ids": [50281, 1, 2, 3, 50282]}])
    records, rejects = kit.read_source(sources.own_source("own", str(tmp_path)), strip_starcoder_markers=True)
    assert [record.tokens.tolist() for _, record in records if record.tokens is not None] == [[1, 2, 3]] and not rejects


def test_a_name_says_one_format() -> None:
    for format in formats.FORMATS.values():
        for suffix, end in itertools.product(format.suffixes, ("", *inflate.SUFFIXES)):
            name = f"some.folder/a.b.{suffix}" + (f".{end}" if end else "")
            assert formats.by_name(name) is format
            assert [other for other in formats.FORMATS.values() if other.names(name)] == [format]
    assert formats.by_name("a/index.json") is formats.FORMATS["mds"] and formats.by_name("x.gz") is None
    for key, source in sources.REGISTRY.items():
        assert source.format in formats.FORMATS, key


@pytest.mark.parametrize(
    ("override", "near"),
    [("sources.mine.format=parket", "parquet"), ("sources.books.format=json", "jsonl"), ("sources.mine.format=x", "")],
)
def test_a_format_that_there_is_not_is_refused_before_anything_is_looked_at(
    override: str, near: str, tmp_path: Path
) -> None:
    add = [f"mine={tmp_path}/nowhere/:5k"]
    loaded = recipe.load_recipe("decay", overrides=[override], add_sources=add)
    with pytest.raises(SourceError) as error:
        resolve(loaded, BuildOptions(tmp_path / "run", str(tmp_path)))
    text = str(error.value)
    assert repr(override.partition("format=")[2]) in text and override.partition("=")[0] in text
    assert (", ".join(formats.FORMATS) in text and f"did you mean {near}" in text) or not near
    assert not (tmp_path / "run").exists()


def test_a_named_format_takes_its_own_files_of_a_folder(tmp_path: Path) -> None:
    kit.write(tmp_path / "a.jsonl", kit.jsonl([{"text": "a"}]))
    kit.write(tmp_path / "b.parquet", kit.parquet({"text": ["b"]}))
    shard(tmp_path, {"text": "str"}, [{"text": "c"}])
    found = {
        name: [file.path for file in sources.list_files(sources.own_source("x", str(tmp_path), format=name))]
        for name in (None, "jsonl", "parquet", "mds")
    }
    each = {"jsonl": ["a.jsonl"], "parquet": ["b.parquet"], "mds": ["shard.00000.mds"]}
    assert found == {None: ["a.jsonl", "b.parquet", "shard.00000.mds"], **each}


def test_content_decides_and_what_has_no_signature_is_not_read_as_lines(tmp_path: Path) -> None:
    lines = kit.jsonl([{"text": "hello"}])
    for name in ("a.parquet", "shard.00000.mds", "a.jsonl", "a"):
        [record], rejects = kit.read_bytes(tmp_path, name, lines)
        assert record.text == "hello" and not rejects
    for name, reason in (("a.parquet", "not_parquet"), ("shard.00000.mds", "not_mds")):
        _, [reject] = kit.read_bytes(tmp_path, name, b"what was once data of this kind\n{}\n")
        assert (reject.reason, reject.whole_file, reject.position) == (reason, True, 0)


def test_versions_are_of_the_formats_that_a_split_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.own_source("x", "/nowhere/")
    mixed = [SourceFile("a.jsonl.gz", 1), SourceFile("b.parquet", 1)]
    before = formats.versions(source, mixed)
    assert before.keys() == {"jsonl", "parquet"}
    assert formats.versions(sources.get("dclm"), [SourceFile("x", 1)]).keys() == {"parquet"}
    raised: Format = replace(formats.FORMATS["parquet"], version=99)
    monkeypatch.setitem(formats.FORMATS, "parquet", raised)
    assert formats.versions(source, mixed) == {**before, "parquet": 99}
    assert formats.versions(source, mixed[:1]) == {"jsonl": before["jsonl"]}


def test_every_record_has_its_position(tmp_path: Path) -> None:
    for number, name in enumerate(formats.FORMATS):
        records, _ = kit.read_source(source_of(name, tmp_path / str(number)))
        assert [r.position for _, r in records if isinstance(r, Record)] == list(range(len(TEXTS))), name
