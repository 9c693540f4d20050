"""Copies in a build: who stays, what `run.json` counts, what verify proves, and nothing at all where nobody asked."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ettin_data
from ettin_data.base.errors import BuildError, RecipeError
from ettin_data.recipe import Recipe
from ettin_data.storage import records
from ettin_data.storage.attributes import Attribute, read_attribute
from ettin_data.storage.keys import read_keys
from ettin_data.storage.phase import Phase
from ettin_data.tokenizer.encoder import TokenizerFile

RECIPE = """
phase: pretrain
length: 64
split_bytes: 12KB
validation: 0.02
pack: {strategy: STRATEGY, min_length: 16, always_skip: 4}
order: {batch: 4}
dedup: DEDUP
sources:
  novels: {root: novels, tokens: 3000}
  web: {root: web, tokens: 3000}
"""


def text(seed: int, words: int = 160) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(2000)}" for _ in range(words)) + "."


def edited(written: str, every: int) -> str:
    words = written.split()
    words[every // 2 :: every] = ["edited"] * len(words[every // 2 :: every])
    return " ".join(words)


def lines(source: str, texts: list[str]) -> str:
    return "".join(json.dumps({"id": f"{source}-{n}", "text": each}) + "\n" for n, each in enumerate(texts))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Iterator[Path]:
    """Forty texts of each source; of `web`, ten are those of `novels` in another dress, and ten are edited a little."""
    novels = [text(n) for n in range(40)] + ["too short"] * 2
    web = [text(1000 + n) for n in range(20)]
    web += [novels[n].upper().replace(" ", "\n\n") for n in range(10)] + [edited(novels[n], 100) for n in range(10, 20)]
    for source, texts in (("novels", novels), ("web", web)):
        (tmp_path / source).mkdir()
        (tmp_path / source / "a.jsonl").write_text(lines(source, texts[:25]))
        (tmp_path / source / "b.jsonl").write_text(lines(source, texts[25:]))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def recipe(dedup: str = "{priority: [novels]}", strategy: str = "backfill", *changes: str) -> Recipe:
    Path("recipe.yaml").write_text(RECIPE.replace("STRATEGY", strategy).replace("DEDUP", dedup))
    return ettin_data.load_recipe("recipe.yaml").changed(*changes)


def places(part: Path) -> set[tuple[str, int]]:
    """(upstream file, record) of all documents of a part, or of a source of it."""
    found = set()
    for ledger in part.rglob("documents.parquet"):
        inputs = json.loads((ledger.parent / "split.json").read_text())["inputs"]
        table = pq.read_table(ledger, columns=["file", "position"]).to_pylist()
        found |= {(ledger.parent.parent.name + "/" + inputs[row["file"]]["path"], row["position"]) for row in table}
    return found


def test_copies_leave_for_the_better_source(folder: Path) -> None:
    run = ettin_data.build(recipe("{priority: [novels]}", "backfill", "sources.web.tokens=1900"), "run")
    assert run.sources["novels"].left_out == {"same_text": 1}
    assert run.sources["web"].left_out["same_text"] == 10
    assert run.sources["web"].left_out["near_copy"] == 10
    web = places(folder / "run/pretrain/train/web") | places(folder / "run/pretrain/validation/web")
    copies = {("web/a.jsonl", n) for n in range(20, 25)} | {("web/b.jsonl", n) for n in range(15)}
    assert not web & copies
    assert all(report.sound for report in ettin_data.verify("run", full=True))
    table = min((folder / "run/pretrain/attributes/dedup/web").glob("*.parquet"))
    attribute, splits = read_attribute(table), json.loads((folder / "run/pretrain/dedup.json").read_text())["splits"]
    twins = {splits[number] for number in attribute.columns["twin_split"][attribute.codes > 0].tolist()}
    assert twins and all(name.startswith("novels/") for name in twins)
    assert (attribute.columns["likeness"][attribute.codes == 1] == 1).all()


def test_keys_lie_beside_the_ledger_and_cost_nothing_where_nobody_asked(folder: Path) -> None:
    with_keys = ettin_data.build(recipe("{priority: [novels]}", "backfill", "sources.web.tokens=1000"), "run")
    plain = ettin_data.build(recipe("null", "backfill", "sources.web.tokens=1000"), "plain")
    assert not list((folder / "plain").rglob("keys.parquet")) and not (folder / "plain/pretrain/dedup.json").exists()
    assert "keys" not in plain.sources["web"].steps and with_keys.sources["novels"].steps["keys"]["short"]["total"] == 2
    for pool in (folder / "run/pretrain/pools").rglob("keys.parquet"):
        keys = read_keys(pool, 112)
        assert len(keys) == pq.read_metadata(pool.parent / "documents.parquet").num_rows
        other = folder / "plain" / pool.parent.relative_to(folder / "run")
        assert (other / "shard.00000.mds").read_bytes() == (pool.parent / "shard.00000.mds").read_bytes()
    again = ettin_data.build(recipe("null", "backfill", "sources.web.tokens=1000"), "run")
    assert again.root == plain.root, "what was built with keys is built again without them"


def test_the_same_again_takes_the_tables_and_another_option_makes_new_ones(folder: Path) -> None:
    few = "sources.web.tokens=1000"
    first = ettin_data.build(recipe("{priority: [novels]}", "backfill", few), "run")
    table = min((folder / "run/pretrain/attributes/dedup").rglob("*.parquet"))
    made = table.stat().st_mtime_ns
    assert ettin_data.build(recipe("{priority: [novels]}", "backfill", few), "run").root == first.root
    assert table.stat().st_mtime_ns == made
    exact = ettin_data.build(recipe("{priority: [novels], near: null}", "backfill", few), "run")
    assert exact.sources["web"].left_out == {"same_text": 10} and exact.root != first.root
    assert all(report.sound for report in ettin_data.verify("run", full=True))


def test_an_earlier_phase_is_not_taken_again(folder: Path) -> None:
    ettin_data.build(recipe("{exact: true}", "backfill", "sources.web.tokens=1000"), "run")
    trained = places(folder / "run/pretrain/train/novels")
    later = recipe("{earlier: [run/pretrain]}", "backfill", "phase=extension", "sources.web.tokens=500")
    later = later.changed("sources.novels.tokens=300")
    run = ettin_data.build(later, "run")
    assert run.sources["novels"].left_out["same_text"] >= len(trained)
    assert not places(folder / "run/extension/train/novels") & trained
    assert all(report.sound for report in ettin_data.verify("run", full=True))
    with pytest.raises(BuildError, match="without the keys"):
        ettin_data.build(later.changed("dedup.near.ngram=4"), "other")


@pytest.mark.parametrize("damage", ["row", "key", "swapped"])
def test_verify_finds_a_changed_row_a_changed_key_and_a_swapped_table(folder: Path, damage: str) -> None:
    ettin_data.build(recipe("{priority: [novels]}", "backfill", "sources.web.tokens=1000"), "run")
    phase = folder / "run/pretrain"
    tables = sorted((phase / "attributes/dedup/web").glob("*.parquet"))
    if damage == "row":
        attribute = read_attribute(tables[-1])
        codes = attribute.codes.copy()
        codes[np.flatnonzero(codes)[0]] = 0
        tables[-1].write_bytes(Attribute(attribute.reasons, codes, attribute.columns).to_bytes())
    elif damage == "key":
        keys = min((phase / "pools/web").rglob("keys.parquet"))
        data = bytearray(keys.read_bytes())
        data[200] ^= 1
        keys.write_bytes(data)
    else:
        held = tables[0].read_bytes()
        tables[0].write_bytes(tables[-1].read_bytes())
        tables[-1].write_bytes(held)
    for full in (False, True):
        assert not ettin_data.verify("run", full=full)[0].sound


@pytest.mark.parametrize(
    ("dedup", "told"),
    [
        ("{priority: [novls]}", "did you mean novels"),
        ("{exact: false, near: null}", "all off"),
        ("{earlier: [run/pretrain], across: [source]}", "leaves them out"),
        ("finweb", "did you mean fineweb"),
        ("{near: {bands: 0}}", "near.bands"),
        ("{prioriti: [web]}", "did you mean priority"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(folder: Path, dedup: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        ettin_data.build(recipe(dedup), "run")
    assert told in str(error.value)
    assert not Path("run/pretrain/pools").exists()


def test_a_preset_is_written_out_in_the_run(folder: Path) -> None:
    run = ettin_data.build(recipe("fineweb", "backfill", "sources.web.tokens=1000"), "run")
    assert run.recipe["dedup"]["near"]["bands"] == 14 and run.recipe["dedup"]["across"] == []
    assert run.sources["web"].left_out == {"same_text": 0} or "near_copy" not in run.sources["web"].left_out
    read = records.read_run(Phase(folder / "run/pretrain", "pretrain"))
    assert read.recipe == run.recipe
