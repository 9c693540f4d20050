"""Repeated paragraphs in a build: which stay, what is counted, what verify proves, and nothing where nobody asked."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import EttinError, RecipeError
from ettin_data.base.progress import SILENT
from ettin_data.build.copies.paragraphs_measured import count_repeated
from ettin_data.build.prepare import BuildOptions
from ettin_data.cli import main as cli
from ettin_data.dedup.paragraphs import ParagraphChoice, paragraph_keys
from ettin_data.executor import ExecutorOptions
from ettin_data.recipe import Recipe
from ettin_data.storage import digests, records
from ettin_data.storage.attributes import Attribute, read_attribute
from ettin_data.storage.ledger import read_ledger
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import Phase
from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile
from ettin_data.verify import VerifyOptions
from ettin_data.verify.copies import check_paragraphs
from ettin_data.verify.repair import repair

RECIPE = """
phase: pretrain
length: 64
split_bytes: 8KB
validation: 0.02
filters: []
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 4}
paragraphs: {min_words: 8}
sources:
  mine: {root: mine, passes: all}
  other: {root: other, passes: all}
"""
LICENCE = "Copyright by nobody at all. You may do with this text whatever you like, and nobody will ask."
FOOT = "Home | About | Contact"


def page(seed: int, *more: str) -> str:
    rng = random.Random(seed)
    own = [" ".join(f"w{rng.randrange(9000)}" for _ in range(60)) + "." for _ in range(3)]
    return "\n".join([own[0], *more[:1], *own[1:], *more[1:]])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Iterator[Path]:
    """Thirty pages with the same licence, shouted in every second, and a short foot; two of them copies of others."""
    pages = [page(n, LICENCE.upper() if n % 2 else LICENCE, FOOT) for n in range(30)]
    pages += [pages[3], page(4, FOOT)]
    for name, texts in (("mine", pages), ("other", [page(100 + n, LICENCE) for n in range(5)])):
        (tmp_path / name).mkdir()
        for part in range(2):
            rows = [json.dumps({"id": f"{name}-{n}", "text": text}) for n, text in enumerate(texts[part::2])]
            (tmp_path / name / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def recipe(*changes: str) -> Recipe:
    Path("recipe.yaml").write_text(RECIPE)
    return ettin_data.load_recipe("recipe.yaml").changed(*changes)


def lines_in(folder: Path, source: str, file: TokenizerFile) -> Counter[str]:
    """How often each line stands in the pools of a source, in lower case. A tail may be lost, a line be cut in two."""
    decode, found = Tokenizer(file).decode, Counter[str]()
    for pool in sorted((folder / "run/pretrain/pools" / source).iterdir()):
        ledger, reader = read_ledger(pool), MdsReader(pool)
        for document in range(len(ledger.documents["key"])):
            rows = np.flatnonzero(ledger.samples["document"] == document).tolist()
            text = decode(np.concatenate([reader.tokens(row)[1:-1] for row in rows]))
            found.update(text.lower().split("\n"))
    return found


@pytest.mark.parametrize("strategy", ["backfill", "best_fit"])
def test_of_equal_paragraphs_one_stays_in_each_source(
    folder: Path, strategy: str, tokenizer_file: TokenizerFile
) -> None:
    also = ("pack.strategy=best_fit", "dedup={near: null}") if strategy == "best_fit" else ()
    run = ettin_data.build(recipe(*also), "run")
    mine, other = run.sources["mine"], run.sources["other"]
    assert mine.filtered == {"repeated_paragraphs": 2}, "what is nothing but repeated goes as a whole"
    counted = mine.steps["paragraphs"]
    assert (counted["documents"], counted["dropped"]) == (29, 2)
    assert counted["paragraphs"] == 29 and counted["characters"]["total"] == 29 * len(LICENCE)
    assert other.steps["paragraphs"]["documents"] == 4
    for source, pages in (("mine", 30), ("other", 5)):
        if strategy == "backfill":
            found = lines_in(folder, source, tokenizer_file)
            assert found[LICENCE.lower()] == 1
            assert source == "other" or found[FOOT.lower()] == pages, "a short line stays wherever it is"
    assert all(report.sound for report in ettin_data.verify("run", full=True))
    made = {path: path.stat().st_mtime_ns for path in (folder / "run/pretrain").rglob("split.json")}
    assert ettin_data.build(recipe(*also), "run").root == run.root
    assert made == {path: path.stat().st_mtime_ns for path in made}, "nothing is made again"


@pytest.mark.parametrize("built", ["paragraphs=null", "paragraphs.min_words=8"])
def test_they_are_counted_without_being_taken(folder: Path, built: str) -> None:
    root = ettin_data.build(recipe(built), "run").root
    files = {path: path.stat().st_mtime_ns for path in (folder / "run/pretrain").rglob("[!.]*") if path.is_file()}
    shown = CliRunner().invoke(cli.app, ["dedup", "run", "--paragraphs", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)["sources"]
    assert found["mine"] == {"paragraphs": 127, "repeated": 30 + 3 + 3, "documents": 31, "share": 36 / 127}
    assert found["other"] == {"paragraphs": 20, "repeated": 4, "documents": 4, "share": 0.2}
    left = {path: path.stat().st_mtime_ns for path in (folder / "run/pretrain").rglob("[!.]*") if path.is_file()}
    assert files == left
    plain = CliRunner().invoke(cli.app, ["dedup", "run", "--paragraphs"]).stdout
    assert "other: 4 of 20 that are long enough (20.00%), in 4 documents" in plain
    assert ettin_data.build(recipe(built), "run").root == root
    (folder / "other/0.jsonl").write_text(json.dumps({"id": "new", "text": page(7)}) + "\n")
    with pytest.raises(EttinError):
        count_repeated(Phase(folder / "run/pretrain", "pretrain"), BuildOptions(folder / "run", executor=None))


@pytest.mark.slow
def test_paragraphs_are_the_same_with_any_workers(folder: Path) -> None:
    one = ettin_data.build(recipe(), "run")
    for workers in (2, 3):
        other = ettin_data.build(recipe(), f"with{workers}", workers=ExecutorOptions(workers=workers))
        assert one.root == other.root


def test_nobody_asked_and_another_option(folder: Path) -> None:
    one = ettin_data.build(recipe(), "run")
    plain = ettin_data.build(recipe("paragraphs=null"), "plain")
    assert "paragraphs" not in plain.sources["mine"].steps and plain.root != one.root
    assert not (folder / "plain/pretrain/paragraphs").exists()
    kept = ettin_data.build(recipe("paragraphs.drop_above=1"), "run")
    assert kept.sources["mine"].filtered == {}, "of each a short line is left"
    assert ettin_data.build(recipe("paragraphs=null"), "run").root == plain.root


@pytest.mark.parametrize("damage", ["row", "swapped", "key"])
def test_verify_finds_a_changed_row_a_swapped_table_and_a_changed_key(folder: Path, damage: str) -> None:
    ettin_data.build(recipe(), "run")
    phase = Phase(folder / "run/pretrain", "pretrain")
    tables = sorted((phase.folder / "attributes/paragraphs/mine").glob("*.parquet"))
    if damage == "row":
        table = read_attribute(tables[0])
        codes = table.codes.copy()
        codes[np.flatnonzero(codes)[0]] = 0
        tables[0].write_bytes(Attribute(table.reasons, codes, table.columns).to_bytes())
    elif damage == "swapped":
        held = tables[0].read_bytes()
        tables[0].write_bytes(tables[-1].read_bytes())
        tables[-1].write_bytes(held)
    else:
        path = min((phase.folder / "paragraphs/mine").rglob("keys.parquet"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    record, contents = records.read_run(phase), digests.read_digests(phase.digests_json)
    reason = "unproven_paragraphs" if damage == "key" else "wrong_copies"
    assert {found.reason for found in check_paragraphs(phase, record, contents, None, SILENT)} == {reason}
    assert not ettin_data.verify("run", full=True)[0].sound


@pytest.mark.parametrize("lost", ["pools/mine/*/shard*", "attributes/paragraphs/attribute.json"])
def test_repair_makes_what_was_lost_again_as_it_was(folder: Path, lost: str) -> None:
    choice = recipe()
    root = ettin_data.build(choice, "run").root
    path = min((folder / "run/pretrain").glob(lost))
    path.write_bytes(path.read_bytes()[:-9])
    building = BuildOptions(out=folder / "run", executor=None)
    assert repair(folder / "run/pretrain", VerifyOptions(), building, choice).root == root
    assert ettin_data.verify("run", full=True)[0].sound


def test_what_cannot_be_meant_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match="drop_above"):
        recipe("paragraphs.drop_above=2")


@given(st.lists(st.lists(st.sampled_from(["a b c", "a  B,c", "a b", "日本語", "", "é x ß"]), max_size=5), max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_paragraph_is_known_by_its_words(documents: list[list[str]]) -> None:
    of_text, number, keys = paragraph_keys(["\n".join(lines) for lines in documents], ParagraphChoice(min_words=3))
    long = {"a b c": 0, "a  B,c": 0, "日本語": 1, "é x ß": 2}
    wanted = [
        (text, at, long[line]) for text, lines in enumerate(documents) for at, line in enumerate(lines) if line in long
    ]
    assert list(zip(of_text.tolist(), number.tolist(), strict=True)) == [each[:2] for each in wanted]
    same = {(key.tobytes(), kind) for key, (_, _, kind) in zip(keys, wanted, strict=True)}
    assert len(same) == len({key for key, _ in same}) == len({kind for _, kind in same})
