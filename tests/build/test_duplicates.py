"""Copies in a build: who stays, what `run.json` counts, what verify proves, and nothing at all where nobody asked."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from progress_log import ProgressLog
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import BuildError, OrderError, RecipeError
from ettin_data.base.progress import SILENT
from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.cli import main as cli
from ettin_data.dedup.join import disk_bytes
from ettin_data.dedup.options import DedupChoice
from ettin_data.recipe import Recipe
from ettin_data.storage import digests, records
from ettin_data.storage.attributes import Attribute, read_attribute
from ettin_data.storage.keys import KeysWriter, read_keys
from ettin_data.storage.phase import Phase
from ettin_data.tokenizer.encoder import TokenizerFile
from ettin_data.verify import VerifyOptions
from ettin_data.verify.copies import check_copies, check_twins
from ettin_data.verify.repair import repair

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


@pytest.mark.parametrize(
    ("dedup", "strategy", "said"),
    [
        ("{}", "backfill", ["written anew and not linked: at most", "passes are of all documents"]),
        ("{}", "best_fit", ["the text is read twice", "passes are of all documents"]),
        ("{weight: {3: 4}}", "backfill", ["not linked: at most", "up to 4 times in a pass"]),
        ("null", "backfill", []),
    ],
)
def test_a_plan_says_what_copies_will_take(folder: Path, dedup: str, strategy: str, said: list[str]) -> None:
    recipe(dedup, strategy)
    shown = CliRunner().invoke(cli.app, ["plan", "recipe.yaml", "--out", "run", "--no-look"], env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    assert all(each in shown.stdout for each in said) and bool(said) == ("copies" in shown.stdout)
    assert ("in a pass" in shown.stdout) == ("weight" in dedup)


def test_the_disk_of_a_search_is_that_of_its_keys() -> None:
    assert disk_bytes(DedupChoice(), 1e6) == 1e6 * (16 + 112 + 8 + 12 * 15)
    assert disk_bytes(DedupChoice(near=None, url=True), 10) == 10 * (16 + 8 + 12 * 2)


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


@pytest.mark.parametrize("damage", ["row", "key", "value", "swapped"])
def test_verify_finds_a_changed_row_changed_keys_and_a_swapped_table(folder: Path, damage: str) -> None:
    ettin_data.build(recipe("{priority: [novels]}", "backfill", "sources.web.tokens=1000"), "run")
    phase = folder / "run/pretrain"
    tables = sorted((phase / "attributes/dedup/web").glob("*.parquet"))
    if damage == "row":
        attribute = read_attribute(tables[-1])
        codes = attribute.codes.copy()
        codes[np.flatnonzero(codes)[0]] = 0
        tables[-1].write_bytes(Attribute(attribute.reasons, codes, attribute.columns).to_bytes())
    elif damage in ("key", "value"):
        keys = max((phase / "pools/web").rglob("keys.parquet"))
        values = read_keys(keys, 112)
        if damage == "key":
            values[:, :] = np.roll(values, 1, axis=0)
        else:  # one byte of the words' hash of one copy
            copies = read_attribute(phase / "attributes/dedup/web" / f"{keys.parent.name}.parquet")
            values[np.flatnonzero(copies.codes == 1)[0], 0] ^= 1
        with KeysWriter(keys, 112) as file:
            file.add(values)
    else:
        held = tables[0].read_bytes()
        tables[0].write_bytes(tables[-1].read_bytes())
        tables[-1].write_bytes(held)
    for full in (False, True):
        assert not ettin_data.verify("run", full=full)[0].sound
    again = Phase(phase, "pretrain")
    contents = digests.read_digests(again.digests_json)
    found = list(check_copies(again, records.read_run(again), contents, None, SILENT))
    assert {finding.reason for finding in found} == {"wrong_copies"}, "found by the keys, whatever the digests say"


@pytest.mark.parametrize(
    ("dedup", "told"),
    [
        ("{priority: [novls]}", "did you mean novels"),
        ("{exact: false, near: null}", "all off"),
        ("{earlier: [run/pretrain], across: [source]}", "leaves them out"),
        ("finweb", "did you mean fineweb"),
        ("{near: {bands: 0}}", "near.bands"),
        ("true", "{} takes the defaults, and null switches it off"),
        ("{near: false}", "{} takes the defaults, and null switches it off"),
        ("{prioriti: [web]}", "did you mean priority"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(folder: Path, dedup: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        ettin_data.build(recipe(dedup), "run")
    assert told in str(error.value)
    assert not Path("run/pretrain/pools").exists()


def test_an_earlier_phase_is_another_one_and_named_once(folder: Path) -> None:
    few = ("sources.web.tokens=500", "sources.novels.tokens=300")
    root = ettin_data.build(recipe("{}", "backfill", *few), "run").root
    for earlier, told in (("run/pretrain", "is the phase that is built"), ("nowhere", "dedup.earlier: nowhere")):
        with pytest.raises((RecipeError, BuildError), match=told):
            ettin_data.build(recipe(f"{{earlier: [{earlier}]}}", "backfill", *few), "run")
    assert ettin_data.verify("run")[0].sound, "what is refused leaves the phase as it is"
    for twice in ("[run/pretrain, run/pretrain]", "[run/pretrain, ./run/pretrain/]"):
        with pytest.raises(RecipeError, match="both called run/pretrain"):
            ettin_data.build(recipe(f"{{earlier: {twice}}}", "backfill", "phase=extension", *few), "run")
    assert ettin_data.build(recipe("{}", "backfill", *few), "run").root == root


@pytest.mark.parametrize(("strategy", "told"), [("backfill", "`dedup` or attributes"), ("best_fit", "40 same_text")])
def test_a_source_of_which_every_document_is_a_copy_is_named(folder: Path, strategy: str, told: str) -> None:
    (folder / "same").mkdir()
    (folder / "same/a.jsonl").write_text(lines("same", [text(n) for n in range(40)]))
    recipe("{priority: [novels], near: null}", strategy)
    Path("recipe.yaml").write_text(f"{Path('recipe.yaml').read_text()}  same: {{root: same, tokens: 500}}\n")
    with pytest.raises(BuildError, match="source 'same' has no tokens") as error:
        ettin_data.build(ettin_data.load_recipe("recipe.yaml"), "run")
    assert told in str(error.value)


def test_where_no_document_has_a_url_nobody_waits_for_copies_by_it(folder: Path) -> None:
    (folder / "web/a.jsonl").write_text(json.dumps({"id": "u", "text": text(1), "url": "https://example.org/"}) + "\n")
    log, few = ProgressLog(), ("sources.web.tokens=300", "sources.novels.tokens=300")
    build_phase(recipe("{url: true}", "backfill", *few), BuildOptions(folder / "run", executor=None, progress=log))
    assert [said for said in log.said if "dedup.url" in said] == [
        "dedup.url: the first split of novels has no URL in any document"
    ]


def test_a_build_without_dedup_does_not_say_what_an_earlier_one_left_out(folder: Path) -> None:
    few = ("sources.web.tokens=500", "sources.novels.tokens=300")
    ettin_data.build(recipe("{}", "backfill", *few), "run")
    assert (folder / "run/pretrain/dedup.json").exists()
    ettin_data.build(recipe("null", "backfill", *few), "run")
    shown = CliRunner().invoke(cli.app, ["dedup", "run"])
    assert not (folder / "run/pretrain/dedup.json").exists() and isinstance(shown.exception, OrderError)


def test_a_preset_is_written_out_in_the_run(folder: Path) -> None:
    run = ettin_data.build(recipe("fineweb", "backfill", "sources.web.tokens=1000"), "run")
    assert run.recipe["dedup"]["near"]["bands"] == 14 and run.recipe["dedup"]["across"] == []
    assert "near_copy" not in run.sources["web"].left_out
    read = records.read_run(Phase(folder / "run/pretrain", "pretrain"))
    assert read.recipe == run.recipe


@pytest.mark.parametrize("preset", ["curator", "zyda2", "dolma3"])
def test_presets_of_other_widths_and_units_find_copies(folder: Path, preset: str) -> None:
    run = ettin_data.build(recipe(preset, "backfill", "sources.web.tokens=500", "sources.novels.tokens=500"), "run")
    gone = sum(row.left_out.get("same_text", 0) for row in run.sources.values())
    near = sum(row.left_out.get("near_copy", 0) for row in run.sources.values())
    assert gone == 11 and 3 <= near <= 10  # of ten texts with two words of 160 edited


@pytest.mark.parametrize("strategy", ["best_fit", "concat"])
def test_where_samples_hold_several_documents_copies_go_before_packing(folder: Path, strategy: str) -> None:
    few = ("sources.web.tokens=1500",)
    run = ettin_data.build(recipe("{priority: [novels]}", strategy, *few), "run")
    phase = folder / "run/pretrain"
    assert run.sources["web"].filtered == {"same_text": 10, "near_copy": 10}
    assert run.sources["novels"].filtered == {"same_text": 1}
    assert run.sources["web"].left_out == {} and "beside_left_out" not in (run.sources["web"].not_taken or {})
    copies = {("web/a.jsonl", n) for n in range(20, 25)} | {("web/b.jsonl", n) for n in range(15)}
    pool = places(phase / "pools/web")
    assert not pool & copies and len(pool) == 20
    assert len(list((phase / "pools").rglob("keys.parquet"))) == len(list((phase / "pools").rglob("split.json")))
    assert all(report.sound for report in ettin_data.verify("run", full=True))
    marked = {path: path.stat().st_mtime_ns for path in (phase / "pools").rglob("split.json")}
    assert ettin_data.build(recipe("{priority: [novels]}", strategy, *few), "run").root == run.root
    assert marked == {path: path.stat().st_mtime_ns for path in marked}, "nothing is made again"


def test_a_pool_without_keys_gets_them_and_is_then_as_if_it_always_had_them(folder: Path) -> None:
    few, dedup = "sources.web.tokens=1000", "{priority: [novels]}"
    ettin_data.build(recipe(dedup, "backfill", few), "direct")
    ettin_data.build(recipe("null", "backfill", few), "later")
    shards = {path: path.stat().st_ino for path in (folder / "later/pretrain/pools").rglob("shard*")}
    later = ettin_data.build(recipe(dedup, "backfill", few), "later")
    assert shards == {path: path.stat().st_ino for path in shards}, "the shards are the same files"
    for path in (folder / "direct/pretrain/pools").rglob("*"):
        if path.is_file():
            assert (folder / "later" / path.relative_to(folder / "direct")).read_bytes() == path.read_bytes()
    assert later.sources["web"].left_out == {"same_text": 10, "near_copy": 10}
    assert all(report.sound for report in ettin_data.verify("later", full=True))


@pytest.mark.parametrize(("strategy", "kind"), [("backfill", "exact"), ("backfill", "near"), ("best_fit", "near")])
def test_no_copy_of_a_held_out_document_is_in_train(folder: Path, strategy: str, kind: str) -> None:
    few = ("validation=0.3", "sources.novels.tokens=13000", "sources.web.tokens=11000")
    plain = ettin_data.build(recipe("null", strategy, *few), "plain")
    assert "Nobody looked" in (folder / "plain/pretrain/README.md").read_text()
    run = ettin_data.build(recipe("null", strategy, *few, f"validation_twins={kind}"), "run")
    held = places(folder / "run/pretrain/validation")
    assert held == places(folder / "plain/pretrain/validation"), "who is held out does not depend on copies"
    twin = {("novels/a.jsonl", n): ("web/a.jsonl", n + 20) for n in range(5)}
    twin |= {("novels/a.jsonl", n): ("web/b.jsonl", n - 5) for n in range(5, 10 if kind == "exact" else 20)}
    pairs = [*twin.items(), *((other, one) for one, other in twin.items())]
    gone = {other for one, other in pairs if one in held and other not in held}
    assert gone and gone & places(folder / "plain/pretrain/train")
    train = places(folder / "run/pretrain/train")
    assert not gone & train
    counted = sum(row.left_out.get("twin_of_validation", 0) for row in run.sources.values())
    assert len(gone) <= counted <= len(gone) + 1 and plain.root != run.root  # one of two equal short ones
    assert f"{counted} were left out" in (folder / "run/pretrain/README.md").read_text()
    assert all(report.sound for report in ettin_data.verify("run", full=True))
    assert ettin_data.build(recipe("null", strategy, *few, f"validation_twins={kind}"), "run").root == run.root
    phase = Phase(folder / "plain/pretrain", "pretrain")
    record = records.read_run(phase)
    assert not list(check_twins(phase, record, digests.read_digests(phase.digests_json)))
    with_twins = ettin_data.build(recipe("{exact: true, near: null}", strategy, *few), "exact")
    assert with_twins.recipe["validation_twins"] == "exact"


def test_verify_finds_a_twin_that_is_in_train(folder: Path) -> None:
    few = ("validation=0.3", "sources.novels.tokens=13000", "sources.web.tokens=11000")
    ettin_data.build(recipe("{exact: false, across: []}", "backfill", *few), "run")
    phase = Phase(folder / "run/pretrain", "pretrain")
    record, contents = records.read_run(phase), digests.read_digests(phase.digests_json)
    assert record.recipe["validation_twins"] == "exact", "where keys are written, exact copies are looked for"
    assert not list(check_twins(phase, record, contents))
    near = record.model_copy(update={"recipe": {**record.recipe, "validation_twins": "near"}})
    assert {finding.reason for finding in check_twins(phase, near, contents)} == {"twin_in_train"}


@pytest.mark.parametrize("name", ["attributes/dedup/web", "dedup.json", "attributes/validation_twins/web"])
def test_repair_writes_tables_again(folder: Path, name: str) -> None:
    choice = recipe("{priority: [novels]}", "backfill", "sources.web.tokens=1000")
    root = ettin_data.build(choice, "run").root
    path = folder / "run/pretrain" / name
    path = path if path.is_file() else min(path.iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    assert not ettin_data.verify("run")[0].sound
    building = BuildOptions(out=folder / "run", executor=None)
    assert repair(folder / "run/pretrain", VerifyOptions(), building, choice).root == root
    assert ettin_data.verify("run", full=True)[0].sound


@pytest.mark.parametrize("strategy", ["best_fit", "concat"])
@pytest.mark.parametrize(
    "lost",
    ["pools/web", "pools/novels", "train/web", "attributes/dedup/web", "attributes/dedup/attribute.json", "dedup.json"],
)
def test_repair_of_samples_that_hold_several_documents(folder: Path, strategy: str, lost: str) -> None:
    choice = recipe("{priority: [novels]}", strategy, "sources.web.tokens=1000")
    root = ettin_data.build(choice, "run").root
    place = folder / "run/pretrain" / lost
    path = place if place.is_file() else min([*place.rglob("shard*"), *place.rglob("*.parquet")])
    path.write_bytes(path.read_bytes()[:-9])
    building = BuildOptions(out=folder / "run", executor=None)
    assert repair(folder / "run/pretrain", VerifyOptions(), building, choice).root == root
    assert ettin_data.verify("run", full=True)[0].sound


def test_verify_finds_a_changed_key_of_the_pass_before_packing(folder: Path) -> None:
    ettin_data.build(recipe("{priority: [novels]}", "best_fit", "sources.web.tokens=1000"), "run")
    path = min((folder / "run/pretrain/keys/web").rglob("keys.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert {each.reason for each in ettin_data.verify("run", full=True)[0].findings} == {"unproven_copies"}
