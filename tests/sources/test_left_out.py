"""What lies in a source's folder is read, or it is said why not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pytest
import source_kit as kit
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ettin_data import recipe, sources
from ettin_data.base.errors import SourceError
from ettin_data.base.progress import Silent
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.sources.listing import survey

LINES = kit.jsonl({"text": f"line {n}"} for n in range(3))


class Heard(Silent):
    """What is said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


def put(folder: Path, *names: str, data: bytes = LINES) -> Path:
    for name in names:
        kit.write(folder / name, data)
    return folder


def test_a_folder_gives_what_is_read_by_any_usual_name(tmp_path: Path) -> None:
    packed = {
        "a.jsonl": bytes, "B.JSONL": bytes, "c.ndjson": bytes, "d.jsonlines": bytes, "e.jsonl.gz": gzip.compress,
        "f.jsonl.gzip": gzip.compress, "G.jsonl.GZ": gzip.compress, "h.jsonl.zst": zstandard.compress,
        "i.jsonl.zstd": zstandard.compress, "j.jsonl.bz2": bz2.compress, "k.jsonl.xz": lzma.compress,
    }  # fmt: skip
    for name, pack in packed.items():
        kit.write(tmp_path / name, pack(LINES))
    source = sources.own_source("own", str(tmp_path))
    assert [file.path for file in sources.list_files(source)] == sorted(packed)
    records, rejects = kit.read_source(source)
    assert len(records) == 3 * len(packed) and not rejects
    assert survey(source).said() is None


HIDDEN = (
    "._a.jsonl", ".ipynb_checkpoints/a-checkpoint.jsonl", "_temporary/0/part-0.jsonl", ".Trash-1000/files/old.jsonl",
    "__MACOSX/._a.jsonl", "deep/er/.b.jsonl", "_metadata.parquet",
)  # fmt: skip


@pytest.mark.parametrize("glob", ["", "/*.jsonl", "/**/*.jsonl"])
def test_hidden_and_unfinished_files_are_no_data(glob: str, tmp_path: Path) -> None:
    folder = put(tmp_path / "_mine/.data", "a.jsonl", *HIDDEN)  # above the source's root everything goes
    source = sources.own_source("own", f"{folder}{glob}")
    assert [file.path for file in sources.list_files(source)] == ["a.jsonl"]
    if not glob:
        assert {file.path for why, file in survey(source).left_out if "hidden" in why} == set(HIDDEN)


def test_a_glob_that_asks_for_them_gets_them(tmp_path: Path) -> None:
    put(tmp_path, "_part-0.jsonl", "_part-1.jsonl", ".hidden.jsonl")
    for glob, count in (("_part-*.jsonl", 2), (".*.jsonl", 1), ("_part-{0..1}.jsonl", 2)):
        assert len(sources.list_files(sources.own_source("own", f"{tmp_path}/{glob}"))) == count


names = st.sampled_from(["a", "b.c", "_x", ".y"])
ends = st.sampled_from(["jsonl", "JSONL.gz", "json", "txt", "parquet", "mds", "tar", "jsonl.lz4", ""])


@given(st.sets(st.tuples(st.lists(names, max_size=2), names, ends).map(lambda p: ("/".join([*p[0], p[1]]), p[2]))))
def test_every_file_is_read_or_said_to_be_left_out(tmp_path_factory: pytest.TempPathFactory, found: set) -> None:
    folder = tmp_path_factory.mktemp("folder")
    paths = {f"{path}.{end}" if end else f"{path}.f" for path, end in found}
    put(folder, *paths)
    seen = survey(sources.own_source("own", str(folder)))
    read, left = [file.path for file in seen.files], [file.path for _, file in seen.left_out]
    assert sorted(read + left) == sorted(paths)
    assert (seen.said() is None) == (not left)


@given(
    st.binary(min_size=1, max_size=8).filter(
        lambda name: not {0, 10, 47} & set(name) and name[:1] not in b"._" and name != b"a"
    )
)
def test_names_that_are_not_utf8_are_refused_by_name(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    """Where such a file would be read; where it is left out, it is said so that any terminal shows it."""
    folder = tmp_path_factory.mktemp("folder")
    put(folder, "a.jsonl")
    for end, read in ((b".jsonl", True), (b".txt", False)):
        path = os.path.join(os.fsencode(folder), name + end)
        Path(os.fsdecode(path)).write_bytes(LINES)
        source = sources.own_source("own", str(folder))
        try:
            shown, text = name.decode(), True
        except UnicodeDecodeError:
            shown, text = name.decode("utf-8", "backslashreplace"), False
        if read and not text:
            with pytest.raises(SourceError) as error:
                sources.list_files(source)
            assert shown + ".jsonl" in error.value.what and "convmv" in str(error.value)
            error.value.what.encode()
            with pytest.raises(SourceError, match="not UTF-8"):
                sources.own_source("own", os.fsdecode(path))
        else:
            assert len(sources.list_files(source)) == 1 + read
            str(survey(source).said()).encode()
        os.unlink(path)


def test_plan_and_build_say_what_they_do_not_read(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.jsonl", "b.json", "c.txt", "._a.jsonl")
    loaded = recipe.load_recipe("decay", add_sources=[f"mine={tmp_path}/in:1k"])
    heard = Heard()
    loaded = loaded.model_copy(update={"sources": {"mine": loaded.sources["mine"]}})
    for _ in range(2):  # the second time with a frozen listing
        resolve(loaded, BuildOptions(tmp_path / "run", progress=heard))
    assert len(heard.messages) == 2 and heard.messages[0] == heard.messages[1]
    for word in ("'mine'", "3 files", "b.json", "c.txt", "1 hidden", "._a.jsonl"):
        assert word in heard.messages[0]
    put(tmp_path / "none", "c.html", "d.pdf")
    with pytest.raises(SourceError, match=r"2 files.*c\.html"):
        sources.list_files(sources.own_source("own", str(tmp_path / "none")))


def test_a_hole_in_a_range_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "0.jsonl", "1.jsonl", "3.jsonl.gz", "x-0-a.jsonl", "x-2-a.jsonl")
    for glob, hole in (
        ("{0..2}.jsonl", "2.jsonl"),
        ("x-{0..2}-*.jsonl", "x-1"),
        ("{0..3}.{jsonl,jsonl.gz}", "2.{jsonl"),
    ):
        with pytest.raises(SourceError) as error:
            sources.list_files(sources.own_source("own", f"{tmp_path}/{glob}"))
        assert hole in str(error.value) and "missing" in str(error.value)
    for glob, count in (("{0..1}.jsonl", 2), ("{0,3}.{jsonl,jsonl.gz}", 2), ("x-{0,2}-*.jsonl", 2)):
        assert len(sources.list_files(sources.own_source("own", f"{tmp_path}/{glob}"))) == count


def test_an_index_of_something_else_leaves_a_folder_readable(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl")
    for body in (b'{"title": "listing", "files": ["a.jsonl"]}', b"[1]", b"no json"):
        kit.write(tmp_path / "index.json", body)
        source = sources.own_source("own", str(tmp_path))
        assert [file.path for file in sources.list_files(source)] == ["a.jsonl"]
        assert "index.json" in str(survey(source).said())
        with pytest.raises(SourceError, match="index cannot be read"):  # where it has to be one
            sources.list_files(sources.own_source("own", str(tmp_path), format="mds"))
    put(tmp_path, "shard.00000.mds", data=kit.mds_shard({"text": "str"}, [{"text": "x"}]))
    with pytest.raises(SourceError, match="index cannot be read"):  # it names shards that lie beside it
        sources.list_files(sources.own_source("own", str(tmp_path)))
