"""A phase with a name of its own, and passes counted from what the pools hold: built, verified, exported, trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

import ettin_data
from ettin_data.base.errors import RecipeError
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
