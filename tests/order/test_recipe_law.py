"""A recipe says by which law of packing its phase is read, and every command that means steps goes by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import RecipeError
from ettin_data.build.prepare import find_tokenizer
from ettin_data.cli.main import app
from ettin_data.inspect.lookup import open_as_read
from ettin_data.order.laws import Packed, law_named
from ettin_data.order.packed_order import law_of
from ettin_data.recipe import load_recipe
from ettin_data.storage.phase import open_phase
from ettin_data.storage.records import read_run
from ettin_data.tokenizer.encoder import TokenizerFile

LAW = "modernbert-packed-v1:world=2,micro=2"
RECIPE = f"""
phase: mine
length: 64
filters: []
validation: 0
pack: {{strategy: backfill, min_length: 16, always_skip: 4}}
order: {{batch: 8, law: "{LAW}"}}
sources:
  texts: {{root: texts.jsonl, passes: 1}}
"""


def words(*arguments: object, status: int = 0) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture(scope="module")
def phase(tmp_path_factory: pytest.TempPathFactory, tokenizer_file: TokenizerFile) -> Path:
    root = tmp_path_factory.mktemp("law")
    lines = [json.dumps({"id": f"d{n}", "text": f"Document {n}. " + "Again. " * (n % 13)}) for n in range(120)]
    (root / "texts.jsonl").write_text("\n".join(lines) + "\n")
    (root / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        ettin_data.build(load_recipe("recipe.yaml"), "run")
    return root / "run/mine"


def test_what_looks_into_the_phase_goes_by_it(phase: Path, tmp_path: Path) -> None:
    (packed,) = open_as_read(phase)
    assert packed.packing is not None
    assert packed.packing.law == Packed(length=64, batch=8, world=2, micro=2) and packed.steps > 2
    said, named = words("trace", phase, "--step", 2), words("trace", phase, "--step", 2, "--law", LAW)
    assert said == named and "row 1\n" in said
    assert "row 1\n" not in words("trace", phase, "--step", 2, "--law", "ettin-v1")
    words("view", phase, "--step", 2, "--out", tmp_path / "step.html")
    assert "packed rows" in (tmp_path / "step.html").read_text()
    assert words("exposure", phase) == words("exposure", phase, "--law", LAW)
    assert ettin_data.verify(phase, full=True)[0].sound


def test_what_is_exported_is_verified_by_it(phase: Path, tmp_path: Path) -> None:
    assert "modernbert-packed-v1" in words("order", "export", phase, "--out", tmp_path / "packed")
    said = words("order", "verify", "--data", phase, "--published", tmp_path / "packed")
    assert "AGREES" in said and "modernbert-packed-v1: length 64, batch 8, world 2, micro 2" in said
    assert "steps, " in words("order", "export", phase, "--out", tmp_path / "plain", "--law", "ettin-v1")
    said = words("order", "verify", "--data", phase / "train", "--published", tmp_path / "plain")
    assert "AGREES" in said and "packed" not in said


def test_the_trainer_goes_by_it(phase: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from ettin_data.trainer.config import TrainConfig
    from ettin_data.trainer.prepare import prepare
    from ettin_data.trainer.small import run_phases
    from ettin_data.trainer.world import World

    folder = run_phases(phase.parent)[0]
    for law, packs in ((None, True), ("ettin-v1", False)):
        prepared = prepare(folder, TrainConfig((folder,), tmp_path, law=law), World(0, 1, torch.device("cpu")))
        assert (prepared.packing is not None) is packs


def test_a_law_that_is_none_is_refused_before_anything_is_read() -> None:
    for law, why in ((LAW + ",batch=7", "gives no rows"), ("sequential-v1", "packs no rows"), ("mine", "not known")):
        with pytest.raises(RecipeError, match=why) as caught:
            find_tokenizer(load_recipe("decay", overrides=[f"order.law={law}"]))
        assert str(caught.value.where) == "order.law" and "order.law=null" in caught.value.remedy
    with pytest.raises(RecipeError, match="a batch of 16 over 8 ranks"):
        find_tokenizer(load_recipe("mmbert/extension", overrides=["order.batch=16"]))


def test_recipes_and_records_without_one_are_as_they_were(phase: Path) -> None:
    assert "law" not in load_recipe("decay").model_dump(mode="json")["order"]
    run = read_run(open_phase(phase))
    assert run.recipe["order"]["law"] == LAW and run.order.law == "ettin-v1"
    assert law_of("ettin-v1", run) is None and law_of("x", run) == "x" and law_of(None, None) is None


@pytest.mark.parametrize(
    ("name", "micro", "warmup"),
    [("pretrain", 48, (48, 10**11)), ("extension", 8, (None, None)), ("decay-mid", 8, (None, None))],
)
def test_mmberts_recipes_say_what_its_configurations_do(name: str, micro: int, warmup: tuple[int, int]) -> None:
    recipe = load_recipe(f"mmbert/{name}")
    law = law_named(str(recipe.order.law), recipe.order.batch, length=recipe.length)
    assert isinstance(law, Packed)
    assert (law.batch, law.world, law.micro, law.seed) == (4608, 8, micro, 21)
    assert (law.warmup_batch, law.warmup_tokens) == warmup
