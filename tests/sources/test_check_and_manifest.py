"""Checks of sources against what is expected, and frozen listings that a build holds its inputs to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import source_kit as kit
from hypothesis import given
from hypothesis import strategies as st

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.recipe import shipped_targets
from ettin_data.sources import Source, SourceFile, manifest
from ettin_data.sources.check import assess
from ettin_data.sources.listing import Survey, survey

LINE = kit.jsonl([{"text": "x"}])


def books(root: Path, *numbers: int) -> Source:
    for number in numbers:
        kit.write(root / f"olmo-data.org/dolma-v1_7/books/books-{number:04d}.json.gz", kit.compress(LINE, ".gz"))
    return sources.with_root(sources.get("books"), str(root))


# --- check -----------------------------------------------------------------------------------------------------------


def test_a_complete_source_is_ok(tmp_path: Path) -> None:
    check = sources.check_source(books(tmp_path, 0, 1, 2), targets=shipped_targets("books"))
    assert check.ok and check.problems() == [] and (check.files, check.expected_files) == (3, 3)
    assert check.lost_tokens == 0 and dict(check.short) == {}


def test_a_missing_file_costs_tokens(tmp_path: Path) -> None:
    check = sources.check_source(books(tmp_path, 0, 2), targets=shipped_targets("books"))
    assert not check.ok and check.missing == ("books/books-0001.json.gz",)
    assert check.lost_share == pytest.approx(1 / 3) and check.lost_tokens == pytest.approx(5.3e9 / 3, rel=1e-6)
    # pretrain takes all of it, extension a part that is still there, decay two passes
    assert dict(check.short) == {
        "pretrain": pytest.approx(5.3e9 / 3, rel=1e-6),
        "decay": pytest.approx(3.5e9, rel=1e-6),
    }
    text = " ".join(check.problems())
    assert "books-0001.json.gz" in text and "costs about 1.8B tokens" in text and "decay lacks 3.5B" in text


def test_a_file_without_bytes_counts_as_lost(tmp_path: Path) -> None:
    source = books(tmp_path, 0, 1, 2)
    kit.write(tmp_path / "olmo-data.org/dolma-v1_7/books/books-0001.json.gz", b"")
    check = sources.check_source(source, targets=shipped_targets("books"))
    assert check.empty == ("books/books-0001.json.gz",) and check.lost_share == pytest.approx(1 / 3)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    check = sources.check_source(
        sources.with_root(sources.get("books"), str(tmp_path)), targets=shipped_targets("books")
    )
    assert not check.ok and check.lost_share == 1 and check.lost_tokens == 5_300_000_000
    assert "nothing matches" in " ".join(check.problems())


def test_whole_folders_that_are_missing_are_named(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    found = survey(sources.with_root(sources.get("dclm"), str(mirror[0])))
    assert len(found.unmatched) == 98, "100 local shards, of which the small mirror has two"
    assert all("global-shard_" in pattern and "*" in pattern for pattern in found.unmatched)


def test_counts_and_bytes_are_compared(tmp_path: Path) -> None:
    source = replace(books(tmp_path, 0, 1, 2), bytes=10_000_000, files=5, globs=("books/*.json.gz",))
    text = " ".join(sources.check_source(source, targets=shipped_targets("books")).problems())
    assert "3 files are there, 5 are expected" in text and "about 9.5 MiB are expected" in text


def test_every_source_of_the_small_mirror_can_be_checked(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    for source in sources.REGISTRY.values():
        check = sources.check_source(sources.with_root(source, str(mirror[0])), targets=shipped_targets("books"))
        assert check.error is None and check.files > 0, source.key
        assert (check.ok, check.lost_share > 0) in ((True, False), (False, True), (False, False)), source.key


@given(st.integers(1, 60), st.data())
def test_what_is_lost_is_never_more_than_there_was(total: int, data: st.DataObject) -> None:
    there = data.draw(st.integers(0, total))
    target, upstream = data.draw(st.integers(1, 10**12)), data.draw(st.integers(1, 10**12) | st.none())
    source = Source("x", "own", "x", "/x/", (f"a-{{0..{total - 1}}}.gz",), "jsonl", files=total)
    source = replace(source, upstream_tokens=upstream)
    found = Survey(
        tuple(SourceFile(f"a-{n}.gz", 10) for n in range(there)), tuple(f"a-{n}.gz" for n in range(there, total))
    )
    check = assess(source, found, {"p": target})
    assert check.ok == (there == total)
    assert 0 <= check.lost_tokens <= (upstream or target)
    assert all(0 < short <= target for short in check.short.values())
    if there == 0:
        assert dict(check.short) == {"p": target}


# --- manifest --------------------------------------------------------------------------------------------------------


def test_a_manifest_is_the_same_bytes_for_the_same_listing(tmp_path: Path) -> None:
    source = books(tmp_path, 0, 1, 2)
    files = sources.list_files(source)
    (tmp_path / "a.json").write_bytes(manifest.text(manifest.freeze(source, files)))
    (tmp_path / "b.json").write_bytes(manifest.text(manifest.freeze(source, files[::-1])))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    loaded = manifest.load_manifest(tmp_path / "a.json")
    assert loaded == manifest.freeze(source, files) and loaded.bytes == sum(file.size for file in files)
    manifest.require_same(loaded, source, files)


def test_a_changed_source_is_refused_with_the_difference(tmp_path: Path) -> None:
    source = books(tmp_path, 0, 1, 2)
    frozen = manifest.freeze(source, sources.list_files(source))
    folder = tmp_path / "olmo-data.org/dolma-v1_7/books"
    (folder / "books-0000.json.gz").unlink()
    with open(folder / "books-0001.json.gz", "ab") as out:
        out.write(b"more")
    with pytest.raises(SourceError) as error:
        manifest.require_same(frozen, source, sources.list_files(source))
    text = str(error.value)
    assert "0 files came, 1 went, 1 changed" in text
    assert "- books/books-0000.json.gz" in text and "~ books/books-0001.json.gz" in text and "bytes then" in text
    check = sources.check_source(source, manifest=frozen, targets=shipped_targets("books"))
    assert check.changed is not None and "2 files differ from the manifest" in " ".join(check.problems())


def test_another_root_is_refused(tmp_path: Path) -> None:
    source = books(tmp_path / "one", 0)
    other = books(tmp_path / "two", 0)
    frozen = manifest.freeze(source, sources.list_files(source))
    with pytest.raises(SourceError, match="points elsewhere"):
        manifest.require_same(frozen, other, sources.list_files(other))


FILES = st.dictionaries(
    st.text("abc/", min_size=1, max_size=6),
    st.tuples(st.integers(-1, 3), st.sampled_from([None, "e1", "e2"])),
    max_size=8,
)


@given(FILES, FILES)
def test_differences(old: dict, new: dict) -> None:
    source = Source("x", "own", "x", "/x/", ("**",), "jsonl")
    before = [SourceFile(path, *rest) for path, rest in old.items()]
    after = [SourceFile(path, *rest) for path, rest in new.items()]
    found = manifest.compare_listings(manifest.freeze(source, before), after)
    assert set(found.added) == new.keys() - old.keys() and set(found.removed) == old.keys() - new.keys()
    for path in old.keys() & new.keys():
        (a, tag_a), (b, tag_b) = old[path], new[path]
        differs = (a != b and a >= 0 and b >= 0) or (tag_a and tag_b and tag_a != tag_b)
        assert (path in dict(found.changed)) == bool(differs)
    assert bool(manifest.compare_listings(manifest.freeze(source, before), before)) is False
    assert len(found.lines()) == len(found.added) + len(found.removed) + len(found.changed)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"version": 99}', b"\xff"])
def test_a_damaged_manifest_is_refused(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="manifest cannot be read"):
        manifest.load_manifest(kit.write(tmp_path / "m.json", body))
    with pytest.raises(SourceError, match="manifest cannot be read"):
        manifest.load_manifest(tmp_path / "none.json")


def test_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    source = books(tmp_path, 0)
    (tmp_path / "m.json").write_bytes(manifest.text(manifest.freeze(source, sources.list_files(source))))
    body = json.loads((tmp_path / "m.json").read_text())
    body["files"][0][1] += 1
    kit.write(tmp_path / "m.json", json.dumps(body).encode())
    with pytest.raises(SourceError, match="do not fit its digest"):
        manifest.load_manifest(tmp_path / "m.json")


def test_secrets_stay_out_of_a_manifest(tmp_path: Path) -> None:
    source = replace(sources.get("books"), root="https://me:hunter2@host.example/a/")
    (tmp_path / "m.json").write_bytes(manifest.text(manifest.freeze(source, [])))
    assert "hunter2" not in (tmp_path / "m.json").read_text()
