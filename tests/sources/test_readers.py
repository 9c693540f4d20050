"""Each of the 18 sources, in its upstream's schema, compression and names, reads to the right documents."""

from __future__ import annotations

from pathlib import Path

import pytest
import source_kit as kit

from ettin_data import sources
from ettin_data.sources import Record

KEYS = list(sources.REGISTRY)


@pytest.mark.parametrize("key", KEYS)
def test_source_reads_to_its_documents(key: str, mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    root, expected = mirror
    source = sources.with_root(sources.get(key), str(root))
    records, rejects = kit.read_source(source)
    assert rejects == []
    wanted = [(path, text, raw) for path in sorted(expected[key].files) for text, raw in expected[key].files[path]]
    assert [(path, record.text) for path, record in records] == [(path, text) for path, text, _ in wanted]
    for (path, record), (_, _, raw) in zip(records, wanted, strict=True):
        assert record.id == (raw if raw else f"{key}/{path}#{record.position}")
    ids = [record.id for _, record in records]
    if key not in ("starcoder",):  # its small integers repeat from file to file, here as upstream
        per_file = {path: [r.id for p, r in records if p == path] for path, _ in records}
        assert all(len(set(found)) == len(found) for found in per_file.values())
    assert ids


def test_positions_and_urls(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    root, _ = mirror
    for key, prefix in (
        ("cc_head", "http://example.com/"),
        ("wikipedia", "https://en."),
        ("dclm", "https://example.org/"),
    ):
        records, _ = kit.read_source(sources.with_root(sources.get(key), str(root)))
        assert [record.position for _, record in records] == [0, 1, 2] * (len(records) // 3)
        assert all(record.metadata["url"].startswith(prefix) for _, record in records)


def test_reading_is_lazy_and_repeatable(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    source = sources.with_root(sources.get("arxiv"), str(mirror[0]))
    file = sources.list_files(source)[0]
    first = next(iter(sources.read_file(source, file)))
    assert isinstance(first, Record) and first.position == 0
    assert list(sources.read_file(source, file)) == list(sources.read_file(source, file))


def test_names_collide_across_folders_and_nothing_is_lost(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    source = sources.with_root(sources.get("cc_news"), str(mirror[0]))
    files = sources.list_files(source)
    assert len({Path(file.path).name for file in files}) == 1 and len(files) == 3
    records, _ = kit.read_source(source)
    assert len({record.text for _, record in records}) == 9


def test_starcoder_markers_are_text_unless_the_option_strips_them(mirror: tuple[Path, dict[str, kit.Expected]]) -> None:
    source = sources.with_root(sources.get("starcoder"), str(mirror[0]))
    plain = [record.text for _, record in kit.read_source(source)[0]]
    stripped = [record.text for _, record in kit.read_source(source, strip_starcoder_markers=True)[0]]
    assert plain[0] == "<reponame>a/b<filename>c.py<gh_stars>1-10\nimport os\n"
    assert stripped[0] == "import os\n"
    assert plain[1:] == stripped[1:] and "<|endoftext|> [CLS] [MASK]" in plain[1]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<reponame>a/b\ncode", "code"),
        ("<filename>x.py<gh_stars>0\ncode", "code"),
        ("<gh_stars>100-1000\n\ncode", "\ncode"),
        ("a <reponame>b", "a <reponame>b"),
        ("<html><reponame>", "<html><reponame>"),
        (" <reponame>x\n", " <reponame>x\n"),
    ],
)
def test_stripping_takes_only_the_line_in_front(text: str, left: str) -> None:
    from ettin_data.sources.formats.record_text import strip_starcoder

    assert strip_starcoder(text) == left


def test_real_dolma_records(shared: Path) -> None:
    """Real files of the Dolma toolkit's own test data: all records are read, ids are the pages' URLs."""
    for name in ("cc_en_head-0091.json.gz", "cc_en_head-0174.json.gz", "dolma-documents-000.json.gz"):
        source = sources.own_source("real", str(shared / "samples" / name))
        records, rejects = kit.read(source, sources.list_files(source)[0])
        assert (len(records), rejects) == (10, [])
        assert all(record.id.startswith("http") and len(record.text) > 40 for record in records)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "jsonl.zstd", "jsonl.gz.zst", "ndjson", "json"])
def test_own_source_of_any_suffix(suffix: str, tmp_path: Path) -> None:
    data = kit.jsonl({"text": f"document {n}", "id": str(n)} for n in range(5))
    for part in suffix.split(".")[1:]:
        data = kit.compress(data, "x." + part)
    kit.write(tmp_path / "deep/er" / f"a.{suffix}", data)
    for where in (str(tmp_path / "deep/er" / f"a.{suffix}"), str(tmp_path / "**" / f"*.{suffix}")):
        records, rejects = kit.read_source(sources.own_source("mine", where))
        assert [record.text for _, record in records] == [f"document {n}" for n in range(5)] and not rejects
    if suffix == "jsonl.gz":
        assert len(kit.read_source(sources.own_source("mine", str(tmp_path)))[0]) == 5


def test_own_source_with_other_keys(tmp_path: Path) -> None:
    path = kit.write(tmp_path / "a.jsonl", kit.jsonl([{"content": "hello", "doc_id": "x"}]))
    source = sources.own_source("mine", str(path), text_key="content", id_key="doc_id")
    [(_, record)], _ = kit.read_source(source)
    assert (record.text, record.id) == ("hello", "x")


def test_a_folder_of_a_users_own_leaves_tables_alone(tmp_path: Path) -> None:
    kit.write(tmp_path / "a.jsonl", kit.jsonl([{"text": "hello"}]))
    kit.write(tmp_path / "stats.json", b'{"total_tokens": 5}')
    assert [file.path for file in sources.list_files(sources.own_source("mine", str(tmp_path)))] == ["a.jsonl"]


def test_rows_through_datasets(tmp_path: Path) -> None:
    """A data set without usable files is streamed by `datasets` itself (here: its JSON builder on a folder)."""
    for part in range(2):
        rows = [{"text": f"row {part} {n}", "id": f"{part}-{n}"} for n in range(3)] + [{"text": "", "id": "e"}]
        kit.write(tmp_path / "set" / f"train-{part}.jsonl", kit.jsonl(rows))
    source = sources.own_source("mine", f"datasets://{tmp_path}/set?split=train")
    files = sources.list_files(source)
    assert [file.path for file in files] == ["default/train/00000-of-00002", "default/train/00001-of-00002"]
    records, rejects = kit.read_source(source)
    assert sorted(record.text for _, record in records) == [f"row {p} {n}" for p in range(2) for n in range(3)]
    assert kit.reasons(rejects) == ["text_empty"] * 2
