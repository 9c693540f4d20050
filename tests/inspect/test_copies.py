"""What a search for copies has found, counted by hand: within and across sources, phases, clusters, similarity."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import EttinError, ExitStatus
from ettin_data.cli import main as cli
from ettin_data.dedup.keys import KeyChoice
from ettin_data.inspect import search as looking
from ettin_data.inspect.recall import nearest, recall
from ettin_data.inspect.search import opened
from ettin_data.inspect.similarity import similarity, wilson
from ettin_data.storage.phase import open_phase
from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile

RECIPE = """
phase: pretrain
length: 64
split_bytes: 12KB
pack: {strategy: STRATEGY, min_length: 16, always_skip: 4}
order: {batch: 4}
sources:
  novels: {root: novels, tokens: 1500}
  web: {root: web, tokens: 1500}
"""
EXACT, NEAR = range(3, 7), range(7, 11)
"""Novels that web has in other dress, and edited in two words of 160. Of novel 0 novels has five more, web one."""


def written(seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(2000)}" for _ in range(160)) + "."


def edited(text: str) -> str:
    words = text.split()
    words[50] = words[150] = "edited"
    return " ".join(words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: TokenizerFile) -> Path:
    """Runs with copies left out (`out`), packed after that (`packed`), with keys alone (`keys`), without (`none`)."""
    folder = tmp_path_factory.mktemp("copies")
    novels = [written(n) for n in range(20)]
    web = [written(100 + n) for n in range(20)]
    web += [novels[n].upper().replace(" ", "\n\n") for n in (0, *EXACT)] + [edited(novels[n]) for n in NEAR]
    for source, texts in (("novels", [*novels, *[novels[0]] * 5]), ("web", web)):
        (folder / source).mkdir()
        lines = [json.dumps({"id": f"{source}-{n}", "text": text}) for n, text in enumerate(texts)]
        (folder / source / "a.jsonl").write_text("\n".join(lines[:22]))
        (folder / source / "b.jsonl").write_text("\n".join(lines[22:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for run, added, strategy in (
            ("out", "dedup: {priority: [novels]}", "backfill"),
            ("packed", "dedup: {priority: [novels]}", "best_fit"),
            ("keys", "validation_twins: near\nvalidation: 0.02", "backfill"),
            ("none", "", "backfill"),
            ("out", "dedup: {earlier: [out/pretrain]}\nphase: extension", "backfill"),
        ):
            base = RECIPE.replace("phase: pretrain\n", "" if "phase" in added else "phase: pretrain\n")
            Path("recipe.yaml").write_text(base.replace("STRATEGY", strategy) + added)
            ettin_data.build(ettin_data.load_recipe("recipe.yaml"), run)
    return folder


def dedup(*words: object) -> Any:
    done = CliRunner().invoke(cli.app, ["dedup", *map(str, words), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def counted(found: dict[str, Any]) -> dict[tuple[str, str, str], int]:
    return {
        (row["source"], row["copies_of"], reason): count["documents"]
        for row in found["matrix"]
        for reason, count in row["reasons"].items()
    }


PLANTED = {
    ("novels", "novels", "same_text"): 5,
    ("web", "novels", "same_text"): 1 + len(EXACT),
    ("web", "novels", "near_copy"): len(NEAR),
}


def test_the_matrix_is_what_was_planted(folder: Path, tmp_path: Path) -> None:
    found = dedup(folder / "out/pretrain", "--out", tmp_path / "matrix.json")
    assert counted(found) == PLANTED and not found["measured"]
    assert json.loads((tmp_path / "matrix.json").read_text()) == found
    within, across = dedup(folder / "out/pretrain", "--within"), dedup(folder / "out/pretrain", "--across")
    assert counted(within) | counted(across) == PLANTED and set(counted(within)) == {("novels", "novels", "same_text")}
    web = next(row for row in found["matrix"] if row["source"] == "web")
    assert web["share"] == pytest.approx(9 / 29)
    assert web["tokens"] == sum(count["tokens"] for count in web["reasons"].values()) > 9 * 160
    assert found["clusters"]["copies"] == {"1": len(EXACT) + len(NEAR), "4-7": 1}
    assert found["clusters"]["survivors"] == 9
    largest = found["clusters"]["largest"][0]
    assert largest["copies"] == 6 and largest["source"] == "novels" and written(0).startswith(largest["text"])
    assert len(largest["text"]) == 200
    near = found["precision"]["near_copy"]
    assert near["pairs"] == near["alike"] == len(NEAR) and near["unread"] == 0 and near["interval"][0] < 0.6
    recall = found["recall"]
    assert recall["documents"] == recall["of"] == 25 + 29 and within["recall"] is None
    assert [(one["from"], one["alike"], one["left_out"]) for one in recall["bins"]] == [(0.8, 4, 4), (1.0, 10, 10)]
    assert recall["bins"][1]["expected"] == 1 and 0.9 < recall["bins"][0]["expected"] < 1


def test_what_a_search_has_missed_is_counted_as_missed(folder: Path, tokenizer: Tokenizer) -> None:
    phase = open_phase(folder / "out/pretrain")
    with opened(phase, measure=False) as search:
        blind = [
            dataclasses.replace(
                split,
                table=dataclasses.replace(split.table, codes=np.where(split.table.codes == 2, 0, split.table.codes)),
            )
            for split in search.splits
            if split.table is not None
        ]
        assert all(split.table.reasons[1] == "near_copy" for split in blind if split.table is not None)
        said = recall(phase, dataclasses.replace(search, splits=tuple(blind)), tokenizer, 1000)
        assert said is not None
        assert [(one["alike"], one["left_out"]) for one in said["bins"]] == [(4, 0), (10, 10)]
        some = recall(phase, search, tokenizer, 30)
        assert some is not None and (some["documents"], some["of"]) == (30, 54)


@given(st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=12))
def test_the_most_alike_one_before_is_that_of_all_pairs(sets: list[set[int]]) -> None:
    sets = [each or {99} for each in sets]
    grams = np.array([gram for each in sets for gram in sorted(each)], np.uint64)
    found = nearest(grams, np.array([len(each) for each in sets], np.int64))
    best = [max((len(a & b) / len(a | b) for b in sets[:n]), default=0.0) for n, a in enumerate(sets)]
    assert found.tolist() == pytest.approx(best)


def test_measuring_finds_the_same_and_changes_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "keys").rglob("*")}
    found = dedup(folder / "keys", "--measure", "--pairs", 0)
    assert found["measured"] and found["precision"] is None
    copies: Counter[str] = Counter()
    for (_, _, reason), count in counted(found).items():
        copies[reason] += count
    assert copies == {"same_text": 10, "near_copy": 4}, "whoever stays, where no source is the better one"
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "keys").rglob("*")}


@pytest.mark.parametrize(
    "workers", [("--workers", 2), pytest.param(("--executor", "ray", "--workers", 2), marks=pytest.mark.slow)]
)
def test_workers_measure_where_all_of_them_see_it_and_leave_nothing(
    folder: Path, workers: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "ray" in workers:
        pytest.importorskip("ray")
    seen: list[Path] = []
    find = looking.find_copies
    monkeypatch.setattr(looking, "find_copies", lambda join, *more: seen.append(join.work) or find(join, *more))
    phase, alone = folder / "keys/pretrain", dedup(folder / "keys", "--measure", "--pairs", 0)
    names = sorted(phase.rglob("*"))
    assert dedup(folder / "keys", "--measure", "--pairs", 0, *workers) == alone
    assert sorted(phase.rglob("*")) == names
    assert [work.is_relative_to(phase) for work in seen] == [False, True] and not seen[1].parent.exists()


def test_copies_of_an_earlier_phase_are_of_another_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    earlier = Path("out/pretrain/train")
    trained = sum(pq.read_metadata(path).num_rows for path in earlier.rglob("documents.parquet"))
    found = dedup("out/extension", "--across")
    copies = [row for row in found["matrix"] if row["copies_of"].startswith("out/pretrain:")]
    assert {row["source"] for row in copies} == {"novels", "web"} and trained > 0
    assert sum(row["documents"] for row in copies) >= trained
    theirs = [one["source"].startswith("out/pretrain:") for one in found["clusters"]["largest"]]
    assert any(theirs) and all(one["text"] for one in found["clusters"]["largest"])
    monkeypatch.chdir(folder / "web")  # from where `out/pretrain` is not to be found
    elsewhere = dedup(folder / "out/extension", "--across")
    assert elsewhere["matrix"] == found["matrix"]
    assert [one["text"] is None for one in elsewhere["clusters"]["largest"]] == theirs
    with pytest.raises(EttinError, match="give --phase"):
        dedup(folder / "out")


def test_where_copies_went_before_packing_they_are_counted_and_their_texts_are_gone(folder: Path) -> None:
    found = dedup(folder / "packed")
    assert counted(found) == PLANTED and all(row["tokens"] is None for row in found["matrix"])
    assert found["clusters"]["largest"][0]["text"] == written(0)[:200], "the survivor is in the pool"
    assert found["precision"]["same_text"]["pairs"] == 0 and found["precision"]["same_text"]["unread"] == 10
    (one,) = dedup("explain", folder / "packed", "--document", "web-25")
    assert one["text"] is None and one["similarity"] is None and one["twin"]["text"] == written(7)
    assert found["recall"] is None


def test_explain_shows_the_planted_twin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n, novel in enumerate(NEAR, 25):
        (one,) = dedup("explain", folder / "out/pretrain", "--document", f"web-{n}")
        assert one["reason"] == "near_copy" and (one["file"], one["record"]) == ("web/b.jsonl"[4:], n - 22)
        assert (one["twin"]["source"], one["twin"]["record"]) == ("novels", novel) and one["bands"] >= 1
        assert one["text"] == edited(written(novel)) and one["twin"]["text"] == written(novel)
        assert one["similarity"] == pytest.approx(brute(one["text"], one["twin"]["text"]))
        assert abs(one["likeness"] - one["similarity"]) < 0.2
    (same,) = dedup("explain", folder / "out/pretrain", "--document", "web-21")
    assert same["reason"] == "same_text" and same["similarity"] == 1 and same["twin"]["record"] == EXACT[0]
    (alone,) = dedup("explain", folder / "out/pretrain", "--document", "web-3")
    assert alone["reason"] is None and alone["twin"] is None and alone["text"] == written(103)
    monkeypatch.setenv("COLUMNS", "100")
    said = (
        CliRunner().invoke(cli.app, ["dedup", "explain", str(folder / "out/pretrain"), "--document", "web-25"]).stdout
    )
    assert "near_copy of novels, a.jsonl record 7" in said and said.count("edited") == 2
    assert max(map(len, said.splitlines())) <= 100
    said = CliRunner().invoke(cli.app, ["dedup", "explain", str(folder / "out/pretrain"), "--document", "web-3"]).stdout
    assert "no copy" in said


def test_a_run_without_keys_or_tables_and_an_unknown_id_say_what_to_do(folder: Path) -> None:
    for words, told in (
        ((folder / "none",), "--keys"),
        ((folder / "none", "--measure"), "`dedup` in its recipe"),
        ((folder / "keys",), "--measure"),
        (("explain", folder / "out/pretrain", "--document", "nobody"), "'nobody'"),
    ):
        with pytest.raises(EttinError) as error:
            dedup(*words)
        assert told in str(error.value) and error.value.exit_status == ExitStatus.NOT_FOUND


def test_a_changed_table_is_not_believed(folder: Path) -> None:
    table = min((folder / "out/pretrain/attributes/dedup/web").glob("*.parquet"))
    held = table.read_bytes()
    table.write_bytes(held[:-9] + bytes([held[-9] ^ 1]) + held[-8:])
    try:
        with pytest.raises(EttinError, match="not as it was written"):
            dedup(folder / "out/pretrain")
    finally:
        table.write_bytes(held)


def brute(one: str, other: str) -> float:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.strip(".").split()
        return set(zip(*(words[n:] for n in range(5)), strict=False))

    ours, theirs = grams(one), grams(other)
    if not ours and not theirs:
        return float(one.split() == other.split())
    return len(ours & theirs) / len(ours | theirs)


words_of_three = st.lists(st.sampled_from(["a", "b", "c"]), max_size=30).map(" ".join)


@given(words_of_three, words_of_three)
def test_similarity_is_that_of_sets_of_ngrams(one: str, other: str) -> None:
    assert similarity(one, other, KeyChoice()) == pytest.approx(brute(one, other))


@given(st.integers(0, 500), st.integers(1, 500))
def test_an_interval_holds_its_share(true: int, of: int) -> None:
    true = min(true, of)
    low, high = wilson(true, of)
    assert 0 <= low <= true / of + 1e-12 and true / of <= high + 1e-12 <= 1 + 1e-9
    other = wilson(of - true, of)
    assert (low, high) == pytest.approx((1 - other[1], 1 - other[0]))


def test_an_interval_is_that_of_the_literature() -> None:
    assert wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-4) and wilson(0, 0) == (0, 1)
