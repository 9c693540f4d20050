"""A damaged file is everybody's news: it fails its source when all else is built, or it is skipped and counted."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from progress_log import ProgressLog

from ettin_data import recipe
from ettin_data.base.errors import BuildError, SourceError
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.storage.phase import Phase
from ettin_data.storage.records import RunRecord
from ettin_data.verify.phase import verify_phase


def lines(tag: str, count: int) -> bytes:
    rows = ({"id": f"{tag}-{i}", "text": f"Text {i} of {tag} about the sea and the shore."} for i in range(count))
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def columns(**named: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(named), buffer)
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 0xFF]) + data[len(data) // 3 + 1 :]


WHOLE = gzip.compress(lines("b", 300), mtime=0)
DAMAGES: dict[str, tuple[bytes, str]] = {
    "html": (b"<!DOCTYPE html><html><body>please log in</body></html>", "html_instead_of_data"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 6000\n", "lfs_pointer"),
    "empty": (b"", "empty_file"),
    "crc": (flipped(WHOLE), "damaged_gzip"),
    "cut": (WHOLE[: len(WHOLE) // 2], "truncated"),
    "columns": (columns(content=["x"] * 700), "no_text_column"),
}


def sources(folder: Path, **files: dict[str, bytes]) -> dict[str, dict[str, str]]:
    for source, named in files.items():
        (folder / source).mkdir(parents=True, exist_ok=True)
        for name, data in named.items():
            (folder / source / name).write_bytes(data)
    return {source: {"root": str(folder / source), "tokens": "200"} for source in files}


def build(
    folder: Path, chosen: dict[str, dict[str, str]], *changes: str, out: str = "run"
) -> tuple[RunRecord, ProgressLog]:
    body = {
        "phase": "decay", "length": 64, "pack": {"min_length": 8, "always_skip": 4}, "order": {"batch": 2},
        "split_bytes": 1, "sources": chosen,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(body))
    log = ProgressLog()
    loaded = recipe.load_recipe(folder / "recipe.yaml", overrides=changes)
    return run.build_phase(loaded, BuildOptions(folder / out, executor=None, progress=log)), log


def test_every_damaged_file_is_named_when_all_else_is_built(tmp_path: Path) -> None:
    files = {name: {"a.jsonl": lines(name, 40), "b.jsonl.gz": data} for name, (data, _) in DAMAGES.items()}
    chosen = sources(tmp_path / "in", sound={"a.jsonl": lines("s", 40)}, **files)
    with pytest.raises(SourceError) as failed:
        build(tmp_path, chosen)
    for name, (_, reason) in DAMAGES.items():
        assert f"{name}/b.jsonl.gz: {reason}" in str(failed.value)
    assert "it says that it holds 700 records more" in str(failed.value)
    phase = Phase(tmp_path / "run/decay", "decay")
    built = {name.split("/")[1] for name in phase.splits("pools") if name.split("/")[2].startswith("a-")}
    assert built == set(chosen) and not phase.finished
    assert not any(name.split("/")[2].startswith("b-") for name in phase.splits("pools"))


@pytest.mark.parametrize("mend", ["mended", "mended, same size"])
def test_a_mended_file_goes_on_from_there(mend: str, tmp_path: Path) -> None:
    bad = flipped(WHOLE) if "same" in mend else WHOLE[:100]
    chosen = sources(tmp_path / "in", own={"a.jsonl": lines("a", 40), "b.jsonl.gz": bad})
    with pytest.raises(SourceError, match="1 damaged file in own"):
        build(tmp_path, chosen)
    sources(tmp_path / "in", own={"b.jsonl.gz": WHOLE})
    record, log = build(tmp_path, chosen)
    assert log.jobs()[0] == ("tokenize", 1), "only what was damaged is built again"
    assert record.root == build(tmp_path, chosen, out="fresh")[0].root
    assert not record.sources["own"].damaged_files


def test_what_is_skipped_is_said_everywhere_and_is_not_finished_under_fail(tmp_path: Path) -> None:
    chosen = sources(tmp_path / "in", own={"a.jsonl": lines("a", 40), "b.jsonl.gz": flipped(WHOLE)})
    skip = ("bad_input.on_bad_file=skip", "bad_input.max_rejects=0.95")
    with pytest.raises(SourceError):
        build(tmp_path, chosen)
    record, log = build(tmp_path, chosen, *skip)
    assert log.jobs()[0] == ("tokenize", 1), "skip goes on from there"
    own = record.sources["own"]
    assert own.damaged_files == {"damaged_gzip": 1} and 20 < own.lost_records < 400
    notes = verify_phase(tmp_path / "run/decay").notes
    card = (tmp_path / "run/decay/README.md").read_text()
    for said in ("\n".join(log.said), "\n".join(notes), card):
        assert "b.jsonl.gz: damaged_gzip" in said and f"{own.lost_records:,}" in said
    with pytest.raises(SourceError, match=r"b\.jsonl\.gz: damaged_gzip"):
        build(tmp_path, chosen)
    sources(tmp_path / "in", own={"b.jsonl.gz": WHOLE})
    assert build(tmp_path, chosen)[0].root == build(tmp_path, chosen, *skip, out="fresh")[0].root


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_lost_counts_against_max_rejects(name: str, tmp_path: Path) -> None:
    sound = {f"a-{i}.jsonl": lines(f"a{i}", 40) for i in range(3)}
    chosen = sources(tmp_path / "in", own={**sound, "b.jsonl.gz": DAMAGES[name][0]})
    with pytest.raises(BuildError, match=r"(?s)records of source 'own' cannot be used.*b.jsonl.gz"):
        build(tmp_path, chosen, "bad_input.on_bad_file=skip", "bad_input.max_rejects=0.05")


FRENCH = "Le café est fermé, voilà la vérité de l'été."
OTHERS = {
    "latin-1": FRENCH, "cp1252": f"“{FRENCH}” – oui…",
    "gb18030": "我们今天去海边看日落，风很大，天气很好。", "shift_jis": "今日は海へ行って、夕日を見ました。",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_text_of_another_encoding_is_refused_by_its_name_and_read_by_it(name: str, tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": f"{i}: {OTHERS[name]}"} for i in range(40)]
    texts = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    chosen = sources(tmp_path / "in", own={"a.jsonl.gz": gzip.compress(texts.encode(name))})
    with pytest.raises(BuildError, match=rf"(?s)own.*look like {name}: set sources.own.encoding={name}"):
        build(tmp_path, chosen)
    named = {"own": {**chosen["own"], "encoding": name}}
    root = build(tmp_path, named)[0].roots
    (tmp_path / "in/own/a.jsonl.gz").write_bytes(gzip.compress(texts.encode()))
    assert build(tmp_path, chosen, out="utf8")[0].roots["train"] == root["train"]


def test_a_few_repaired_characters_are_said(tmp_path: Path) -> None:
    chosen = sources(
        tmp_path / "in", own={"a.jsonl": lines("a", 40) + '{"text": "caf\xe9 noir et blanc"}\n'.encode("latin-1")}
    )
    with pytest.raises(BuildError, match=r"1 of 41 documents of source 'own' had characters replaced"):
        build(tmp_path, chosen)
    record, log = build(tmp_path, chosen, "bad_input.max_repaired=0.05")
    assert record.sources["own"].repaired == 1 and log.jobs()[:1] != [("tokenize", 1)]
    card = (tmp_path / "run/decay/README.md").read_text()
    for said in ("\n".join(log.said), "\n".join(verify_phase(tmp_path / "run/decay").notes), card):
        assert "characters replaced" in said
