"""Sources with members: what a name or a pattern means, which files are whose, and one listing for all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources import listing, members
from ettin_data.sources.base import Record, Source


def texts(source: Source) -> list[tuple[str, str]]:
    """(id, text) of every record; a reject fails the test."""
    found = []
    for file in sources.list_files(source):
        for item in sources.read_file(source, file):
            assert isinstance(item, Record), item
            found.append((item.id, item.text))
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def row(number: int, language: str = "deu") -> dict[str, Any]:
    return {
        "text": f"Text {number} in {language}.", "id": f"<urn:uuid:{language}-{number}>", "dump": "CC-MAIN-2024-10",
        "url": f"https://example.org/{number}", "language_score": 0.99, "minhash_cluster_size": 3, "top_langs": "{}",
    }  # fmt: skip


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    web = tmp_path / "datasets/HuggingFaceFW/fineweb-2/data"
    for name in ("deu_Latn", "fra_Latn", "rus_Cyrl"):
        write(web / name / "train" / "000_00000.parquet", [row(0, name)])
        write(web / name / "train" / "001_00000.parquet", [row(1, name)])
        write(web / name / "test" / "000_00000.parquet", [row(2, name)])
        write(web / f"{name}_removed" / "train" / "000_00000.parquet", [row(3, name)])
    return tmp_path


def test_a_member_is_a_source_by_either_name() -> None:
    one = sources.get("fineweb2.deu_Latn")
    assert one == sources.get("fineweb2[deu_Latn]") and one.key == "fineweb2.deu_Latn"
    assert one.globs == ("data/deu_Latn/train/*.parquet",) and one.licence == "ODC-BY"
    assert sources.known("fineweb2_hq.deu_Latn") and sources.known("megawika2.zh") and sources.known("dclm")
    for key in ("fineweb2", "fineweb2.deu_Latn_removed", "fineweb2.xyz_Latn", "fineweb2_hq.swh_Latn", "nothing.deu"):
        assert not sources.known(key)
        with pytest.raises(SourceError, match="there is no source"):
            sources.get(key)


def test_patterns_choose_members() -> None:
    cyrillic = members.select("fineweb2[*_Cyrl]")
    assert len(cyrillic) > 50 and all(source.key.endswith("_Cyrl") for source in cyrillic)
    assert [source.key for source in members.select("fineweb2[{fra,deu}_Latn]")] == [
        "fineweb2.deu_Latn",
        "fineweb2.fra_Latn",
    ]
    assert len(members.select("fineweb2[*]")) == 1913 and len(members.select("fineweb2_hq[*]")) == 20
    for text, said in (
        ("fineweb2[deu_Latin]", "deu_Latn"),
        ("fineweb[deu_Latn]", "fineweb2"),
        ("fineweb2", r"fineweb2\["),
    ):
        with pytest.raises(SourceError, match=said):
            members.select(text)


def test_fineweb2_reads_train_and_nothing_that_was_removed(mirror: Path) -> None:
    for name in ("deu_Latn", "rus_Cyrl"):
        source = sources.with_root(sources.get(f"fineweb2.{name}"), str(mirror))
        assert [text for _, text in texts(source)] == [f"Text 0 in {name}.", f"Text 1 in {name}."]


def test_a_language_that_is_not_there_is_said(mirror: Path) -> None:
    source = sources.with_root(sources.get("fineweb2.spa_Latn"), str(mirror))
    with pytest.raises(SourceError, match=r"no file matches 'data/spa_Latn/train"):
        sources.list_files(source)


def test_the_embeddings_of_hq_are_never_decoded(tmp_path: Path) -> None:
    """Their pages are overwritten: whoever touches them gets an error."""
    folder = tmp_path / "datasets/epfml/FineWeb2-HQ"
    rows = [{**row(number), "embeddings": [float(number)] * 256, "quality_score": 0.9} for number in range(50)]
    path = write(folder / "deu_Latn" / "000_00000.parquet", rows)
    group = pq.read_metadata(path).row_group(0)
    (column,) = (
        group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema.startswith("embeddings")
    )
    data = bytearray(path.read_bytes())
    first = column.dictionary_page_offset or column.data_page_offset
    data[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    with pytest.raises(Exception):  # noqa: B017  # whatever pyarrow says
        pq.read_table(path)
    source = sources.with_root(sources.get("fineweb2_hq.deu_Latn"), str(tmp_path))
    assert [text for _, text in texts(source)] == [f"Text {number} in deu." for number in range(50)]


def test_megawika_keeps_the_text_of_a_large_line(tmp_path: Path) -> None:
    folder = tmp_path / "datasets/jhu-clsp/megawika-2" / "data" / "zh"
    folder.mkdir(parents=True)
    articles = [
        {
            "title": f"t{n}",
            "wikicode": "{{x}}" * 20_000,
            "hash": f"h{n}",
            "text": f"Article {n}.",
            "elements": [{}] * 500,
        }
        for n in range(3)
    ]
    (folder / "chunk_0.jsonl").write_text("".join(json.dumps(article) + "\n" for article in articles))
    (folder.parent / "zh-yue").mkdir()
    (folder.parent / "zh-yue" / "chunk_0.jsonl").write_text('{"text": "another language", "hash": "x"}\n')
    source = sources.with_root(sources.get("megawika2[zh]"), str(tmp_path))
    assert texts(source) == [(f"h{n}", f"Article {n}.") for n in range(3)]


def test_all_members_share_one_listing(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote root, here that of fsspec's memory, is listed once for a whole family."""
    import fsspec

    memory = fsspec.filesystem("memory")
    base = mirror / "datasets/HuggingFaceFW/fineweb-2"
    for path in sorted(base.rglob("*.parquet")):
        memory.pipe_file(f"/members/{path.relative_to(base).as_posix()}", path.read_bytes())
    calls = []
    found = listing._found
    monkeypatch.setattr(listing, "_found", lambda *given: calls.append(given[1]) or found(*given))
    monkeypatch.setattr(listing, "_shared", {})
    for name in ("rus_Cyrl", "deu_Latn", "fra_Latn"):
        source = replace(sources.get(f"fineweb2.{name}"), root="memory://members/")
        assert [file.path for file in sources.list_files(source)] == [
            f"data/{name}/train/000_00000.parquet", f"data/{name}/train/001_00000.parquet",
        ]  # fmt: skip
        assert [text for _, text in texts(source)] == [f"Text 0 in {name}.", f"Text 1 in {name}."]
    assert calls == ["data/"]
    with pytest.raises(SourceError, match="no file matches"):
        sources.list_files(replace(sources.get("fineweb2.spa_Latn"), root="memory://members/"))


def test_thousands_of_members_are_named_in_a_moment() -> None:
    assert len({source.key for source in members.select("fineweb2[*]")}) == 1913
