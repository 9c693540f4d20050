"""A document is its place upstream: ids that repeat lose nobody, and each document is counted in just one place."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ettin_data
from ettin_data.base import sealed_json
from ettin_data.storage.phase import MARKER
from ettin_data.storage.records import BuiltSource

RECIPE = """
phase: pretrain
length: 64
filters: []
split_bytes: SPLIT
validation: 0.1
pack: {strategy: STRATEGY, min_length: 16, always_skip: 4}
order: {batch: 4}
sources:
  code: {root: code, tokens: TOKENS}
"""
IDS = {  # of document n of file f: as StarCoder's, within a file as well, all the same, none that repeat
    "per file": lambda f, n: str(n),
    "within a file": lambda f, n: str(n % 3),
    "one": lambda f, n: "0",
    "own": lambda f, n: f"{f}-{n}",
}


def build(folder: Path, ids: str, strategy: str = "backfill", tokens: int = 900, split: int = 4000) -> BuiltSource:
    (folder / "code").mkdir(exist_ok=True)
    for f, language in enumerate(("ada", "basic", "cobol", "dylan")):
        texts = [f"Document {n} in {language}. " + "A few words, and more of them. " * (1 + n % 7) for n in range(15)]
        rows = [json.dumps({"id": IDS[ids](f, n), "text": text}) for n, text in enumerate(texts)]
        (folder / f"code/{language}.jsonl").write_text("\n".join(rows) + "\n")
    text = RECIPE.replace("SPLIT", str(split)).replace("STRATEGY", strategy).replace("TOKENS", str(tokens))
    (folder / "recipe.yaml").write_text(text.replace("root: code", f"root: {folder}/code"))
    return ettin_data.build(ettin_data.load_recipe(folder / "recipe.yaml"), folder / "run").sources["code"]


def places(folder: Path, part: str) -> list[tuple[str, int]]:
    """(file, record) of every document of a part, and of one that is there twice, twice."""
    found = []
    for ledger in sorted((folder / "run/pretrain" / part).rglob("documents.parquet")):
        inputs = json.loads((ledger.parent / MARKER).read_text())["inputs"]
        found += [(inputs[row["file"]]["path"], row["position"]) for row in pq.read_table(ledger).to_pylist()]
    return found


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.sampled_from(sorted(IDS)),
    strategy=st.sampled_from(["backfill", "best_fit", "concat"]),
    tokens=st.sampled_from([300, 1100, 2600]),
    split=st.sampled_from([1, 4000, 100_000]),
)
def test_each_document_is_in_one_part_or_counted(tokenizer_file, ids: str, strategy: str, tokens: int, split: int):
    with tempfile.TemporaryDirectory() as name:
        made = build(Path(name), ids, strategy, tokens, split)
        pool, train, validation = (places(Path(name), part) for part in ("pools", "train", "validation"))
        assert len(set(pool)) == len(pool) <= 60
        assert len(set(validation)) == len(validation) == made.validation_documents > 0
        assert set(train).isdisjoint(validation) and len(set(train)) == made.documents
        assert set(train) | set(validation) <= set(pool)
        assert made.not_taken is not None and made.left_out == {}
        assert made.documents + made.validation_documents + sum(made.not_taken.values()) == len(pool)
        if strategy == "backfill":
            assert set(made.not_taken) <= {"over_target"}, "nobody is lost because of the company that he keeps"
        if made.passes >= 1:
            assert "over_target" not in made.not_taken
        (report,) = ettin_data.verify(Path(name) / "run", full=True)
        assert report.sound, report.findings


def test_ids_say_nothing_about_who_is_held_out(tmp_path: Path, tokenizer_file) -> None:
    chosen = []
    for ids in IDS:
        (tmp_path / ids).mkdir()
        build(tmp_path / ids, ids)
        chosen.append((places(tmp_path / ids, "train"), places(tmp_path / ids, "validation")))
    assert all(each == chosen[0] for each in chosen)


def test_verify_finds_documents_that_are_in_no_part(tmp_path: Path, tokenizer_file) -> None:
    """A run that counts one document less than its pool has, and one whose held-out documents are elsewhere."""
    build(tmp_path, "per file")
    phase = tmp_path / "run/pretrain"
    run = sealed_json.read(phase / "run.json")
    run["sources"]["code"]["not_taken"]["over_target"] -= 1
    (phase / "run.json").write_bytes(sealed_json.seal(run))
    (report,) = ettin_data.verify(tmp_path / "run")
    assert [finding.reason for finding in report.findings] == ["documents_lost"]
    number = len(places(tmp_path, "pools"))
    assert f"{number - 1} documents" in report.findings[0].detail and f"has {number}" in report.findings[0].detail


def test_verify_finds_held_out_documents_that_validation_does_not_have(tmp_path: Path, tokenizer_file) -> None:
    build(tmp_path, "per file")
    (marker,) = (tmp_path / "run/pretrain/validation").rglob(MARKER)
    body = sealed_json.read(marker)
    body["made_from"]["cut"][1] -= 1
    marker.write_bytes(sealed_json.seal(body))
    (report,) = ettin_data.verify(tmp_path / "run", full=True)
    lost = [finding for finding in report.findings if finding.reason == "held_out_lost"]
    assert [finding.where.replace("train/", "validation/") for finding in lost] == [
        marker.parent.relative_to(tmp_path / "run/pretrain").as_posix()
    ]


def test_a_mix_of_an_older_format_is_named(tmp_path: Path, tokenizer_file) -> None:
    """Such a one drew by ids; it is not compared with what this version takes."""
    build(tmp_path, "own")
    for marker in (tmp_path / "run/pretrain/validation").rglob(MARKER):
        body = sealed_json.read(marker)
        body["made_from"] |= {"format": 1, "held_out": "a digest of ids"}
        marker.write_bytes(sealed_json.seal(body))
    (report,) = ettin_data.verify(tmp_path / "run", full=True)
    assert "other_format" in {finding.reason for finding in report.findings}
