"""A phase with a name of its own, and passes counted from what the pools hold: built, verified, exported, trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

import ettin_data
from ettin_data.base.errors import RecipeError, SourceError, TokenizerError
from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.order.export import export_order
from ettin_data.order.proof.outcome import Request
from ettin_data.order.proof.verify import verify_order
from ettin_data.storage import digests
from ettin_data.storage.phase import open_phase
from ettin_data.storage.records import RunRecord
from ettin_data.trainer.phases import run_phases
from ettin_data.verify.between import _check_mixture

WORDS = "of all that is gold not everything glitters and who wanders is seldom lost in the old deep roots ".split()


def texts(folder: Path, count: int, salt: str) -> Path:
    rows = [
        {"id": f"{salt}-{n}", "text": " ".join(WORDS[(n * k + k) % len(WORDS)] for k in range(20 + n % 30))}
        for n in range(1, count)
    ]
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.jsonl").write_text("\n".join(map(json.dumps, rows[number::3])))
    return folder


def recipe_in(folder: Path, **sources: object) -> Path:
    written = {
        "phase": "mid",
        "length": 64,
        "pack": {"min_length": 16, "always_skip": 4},
        "order": {"batch": 8, "interval_steps": 4},
        "split_bytes": 1,
        "validation": 0.02,
        "sources": {"two": {"root": str(texts(folder / "two", 120, "b")), "tokens": 900}, **sources},
    }
    (folder / "mid.yaml").write_text(yaml.safe_dump(written))
    return folder / "mid.yaml"


def build(recipe: ettin_data.Recipe, out: Path) -> RunRecord:
    return build_phase(recipe, BuildOptions(out, executor=None))


@pytest.mark.parametrize(("passes", "number"), [("all", 1), (2, 2), (0.5, 0.5), (2.25, 2.25)])
def test_passes_are_counted_from_the_pool(tmp_path: Path, passes: object, number: float) -> None:
    root = str(texts(tmp_path / "one", 90, "a"))
    recipe = ettin_data.load_recipe(recipe_in(tmp_path, one={"root": root, "passes": passes}))
    planned = ettin_data.plan(recipe, tmp_path / "run")
    assert planned.sources["one"].chosen == len(planned.sources["one"].listed) == 3
    assert planned.sources["one"].expected_passes == pytest.approx(number, abs=0.01)
    made = build(recipe, tmp_path / "run")
    row = made.sources["one"]
    left = sum(marker_tokens(tmp_path / "run/mid", "one"))
    assert row.target_tokens == round(number * left)
    assert row.passes == pytest.approx(number, abs=3e-4)  # of some thousand tokens, in whole ones
    assert abs(row.tokens - row.target_tokens) <= 64
    if number == int(number):
        assert row.tokens == row.target_tokens, "whole passes have no remainder to cut"
    plan = json.loads((tmp_path / "run/mid/plan.json").read_text())
    assert plan["sources"]["one"]["target_tokens"] == row.target_tokens, "the plan says what was counted"
    assert made.recipe["sources"]["one"]["passes"] == number and "passes" not in made.recipe["sources"]["two"]
    assert ettin_data.verify(tmp_path / "run", full=True)[0].sound
    again = build(ettin_data.Recipe.model_validate(made.recipe), tmp_path / "again")
    assert again.root == made.root
    in_tokens = recipe.changed(f"one={row.target_tokens}")
    if number >= 1:  # for less a target in tokens takes fewer splits
        assert build(in_tokens, tmp_path / "tokens").root == made.root, "the same as that many tokens"


def marker_tokens(phase: Path, source: str) -> list[int]:
    """Tokens of the pool's splits, less those held out: what a pass is."""
    run = json.loads((phase / "run.json").read_text())["sources"][source]
    return [run["pool_tokens"], -run["validation_tokens"]]


def test_other_passes_than_the_recipe_wants_are_found(tmp_path: Path) -> None:
    root = str(texts(tmp_path / "one", 90, "a"))
    recipe = ettin_data.load_recipe(recipe_in(tmp_path, one={"root": root, "passes": 2}))
    made = build(recipe, tmp_path / "run")
    found = digests.read_digests(open_phase(tmp_path / "run/mid").digests_json)
    assert not list(_check_mixture(found, made))
    other = made.model_copy(update={"recipe": recipe.changed("one.passes=3").model_dump(mode="json")})
    assert [finding.reason for finding in _check_mixture(found, other)] == ["off_target"]


def test_a_phase_has_the_name_that_its_recipe_says(tmp_path: Path) -> None:
    path = recipe_in(tmp_path)
    for recipe in (ettin_data.load_recipe(path), ettin_data.load_recipe(path).changed("phase=annealing-2")):
        build(recipe, tmp_path / "run")
    assert list(ettin_data.open_run(tmp_path / "run")) == ["annealing-2", "mid"]
    assert all(report.sound for report in ettin_data.verify(tmp_path / "run", full=True))
    phase = ettin_data.open_run(tmp_path / "run")["mid"]
    assert phase.checkpoint(0) == "mid_000001"
    folder = tmp_path / "run/mid"
    export_order(folder / "order", folder / "train", tmp_path / "rows")
    export_order(tmp_path / "run/annealing-2/order", tmp_path / "run/annealing-2/train", tmp_path / "rows")
    assert {path.name.rpartition("_")[0] for path in (tmp_path / "rows").iterdir()} == {"mid", "annealing-2"}
    outcome = verify_order(Request(str(folder / "train"), str(tmp_path / "rows"), phase="mid"))
    assert outcome.verdict == "agrees", outcome
    shutil.copytree(folder, tmp_path / "run/decay")
    rules = [found.phase for found in run_phases(tmp_path / "run")]
    assert [rule.name for rule in rules] == ["decay", "annealing-2", "mid"], "Ettin's first, in their order"
    assert (rules[2].prefix, rules[2].max_seq_len, rules[2].rope_global) == ("mid", 64, 10_000.0)


def test_a_recipe_of_another_phase_is_no_name_of_a_folder_in_a_run(tmp_path: Path) -> None:
    for name in ("pools", "order", "report", "run.json", "a/b", "", "."):
        with pytest.raises(RecipeError, match="phase"):
            ettin_data.load_recipe("decay", overrides=[f"phase={name!r}"])


def test_a_pool_is_a_source_as_it_lies_there(tmp_path: Path) -> None:
    recipe = ettin_data.load_recipe(recipe_in(tmp_path))
    first = build(recipe, tmp_path / "run")
    (tmp_path / "next.yaml").write_text(
        yaml.safe_dump({
            **yaml.safe_load((tmp_path / "mid.yaml").read_text()),
            "filters": [{"length": {"min_chars": 5}}],
            "sources": {"mine": {"root": str(tmp_path / "run/mid/pools/two"), "passes": "all"}},
        })
    )  # fmt: skip
    again = ettin_data.load_recipe(tmp_path / "next.yaml")
    made = build(again, tmp_path / "next")
    row, pool = made.sources["mine"], first.sources["two"]
    assert row.documents + row.validation_documents == pool.records and row.splits == pool.splits
    assert not row.rejected and not row.filtered, "ledgers are no records, and filters see the text of the ids"
    assert row.pool_tokens == pool.pool_tokens
    without = build(again.changed("mine.filters=[]"), tmp_path / "without")
    assert without.sources["mine"].pool_tokens == row.pool_tokens
    for place, part in ((tmp_path / "run/mid", "mid/pools/<source>"), (tmp_path / "run", "mid/train")):
        with pytest.raises(SourceError, match=part):
            ettin_data.plan(again.changed(f"mine.root={place}"), tmp_path / "none")


def test_a_pool_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """Its ids would pass for this one's: they are small numbers between an opening and a closing token as well."""
    words = ["<s>", "</s>", "<pad>", "<unk>", *dict.fromkeys(WORDS)]
    added = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": n, "content": word, **added} for n, word in enumerate(words[:4])],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(words)}, "unk_token": "<unk>"},
    }
    for name, extra in (("one", {}), ("two", {"gold2": len(words)})):
        tokenizer["model"]["vocab"] |= extra  # type: ignore[index]
        (tmp_path / f"{name}.json").write_text(json.dumps(tokenizer))
    frame = {"open": "<s>", "close": "</s>", "pad": "<pad>", "unknown": "<unk>"}
    recipe = ettin_data.load_recipe(recipe_in(tmp_path))

    def with_tokenizer(name: str) -> ettin_data.Recipe:
        path = tmp_path / f"{name}.json"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        choice = {"name": str(path), "sha256": digest, "frame": frame, "backend": "tokenizers"}
        return recipe.changed(f"tokenizer={json.dumps(choice)}")

    build(with_tokenizer("one"), tmp_path / "run")
    pool = f"two.root={tmp_path}/run/mid/pools/two"
    assert ettin_data.plan(with_tokenizer("one").changed(pool), tmp_path / "same")
    with pytest.raises(TokenizerError, match="another tokenizer"):
        ettin_data.plan(with_tokenizer("two").changed(pool), tmp_path / "other")
    decoded = with_tokenizer("two").changed(pool, f"two.tokenizer={tmp_path}/one.json")
    assert build(decoded, tmp_path / "decoded").sources["two"].documents


def test_own_texts_in_samples_of_any_length(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.md").write_text(" ".join(WORDS * (5_000 if number == 0 else 20)) + f" {number}")
    written = {
        "phase": "long",
        "length": 131_072,
        "order": {"batch": 2},
        "sources": {"mine": {"root": str(folder), "passes": 1}},
    }
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(written))
    made = build(ettin_data.load_recipe(tmp_path / "long.yaml"), tmp_path / "run")
    assert made.sources["mine"].records == 4
    longest = max(
        len(sample.tokens) for n in range(1) for sample in ettin_data.open_run(tmp_path / "run")["long"].step(n)
    )
    assert longest > 8192 or made.sources["mine"].validation_documents
    assert made.recipe["loader"]["max_seq_len"] >= 131_071
    assert ettin_data.verify(tmp_path / "run", full=True)[0].sound
