"""The page of keys says what the code says, and a recipe as text can be read again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ettin_data.base.errors import RecipeError
from ettin_data.cli import main as cli
from ettin_data.demo import demo
from ettin_data.recipe import PHASES, Changes, Recipe, load_changed, load_recipe
from ettin_data.recipe.keys import page, recipe_keys
from ettin_data.recipe.schema import SourceChoice
from ettin_data.recipe.show import resolved_text, starting_text
from ettin_data.recipe.written import Written, WrittenGroup, WrittenSource

PAGE = Path(__file__).parents[2] / "docs/recipe-keys.md"
CHANGES = [
    Changes(),
    Changes(tokens="10M", length=4096),
    Changes(["math_dolmino=2x", "filters=[c4]"], ["mine=/data/x:all"], ["books"]),
    Changes(["arxiv.tokens=1.5x", "total=1B"]),
]


def run(*words: object):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_the_page_in_the_docs_is_the_page() -> None:
    """After a change of a key or its sentence: `ettin-data recipe keys > docs/recipe-keys.md`."""
    assert PAGE.read_text() == page() == run("recipe", "keys").stdout


def test_every_key_has_a_type_a_default_and_a_sentence() -> None:
    keys = {key.path: key for key in recipe_keys()}
    for key in keys.values():
        assert key.type and key.default and len(key.sentence) > 8 and key.sentence[-1] in ".…", key
        assert "\n" not in "".join(key) and "None" not in key.sentence, key
    assert set(Recipe.model_fields) | set(Written.model_fields) <= keys.keys()
    for fields, at in ((SourceChoice, "sources"), (WrittenSource, "sources"), (WrittenGroup, "groups")):
        assert {f"{at}.<name>.{field.alias or name}" for name, field in fields.model_fields.items()} <= keys.keys()
    assert keys["order.batch"][1:3] == ("whole number from 1", "`4608`")
    assert keys["shards.size_limit"].default == "`64MiB`" and keys["order.interval_tokens"].default == "`8.5B`"
    assert keys["pack.min_length"].default == "`512`" and keys["length"].default == "required"
    assert {f"tokenizer.frame.{role}" for role in ("open", "close", "pad", "mask", "unknown")} <= keys.keys()


def test_every_key_of_a_shipped_recipe_is_on_the_page() -> None:
    known = {key.path for key in recipe_keys()}
    for phase in PHASES:
        for path in load_changed(phase).said:
            plain = re.sub(r"^sources\.\w+", "sources.<name>", path)
            assert plain in known or plain in ("pack.strategy",), path


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("changes", CHANGES)
def test_a_resolved_recipe_can_be_read_again(tmp_path: Path, phase: str, changes: Changes) -> None:
    if phase != "decay" and (changes.overrides or changes.drop_sources):
        changes = Changes(["arxiv=2x"])
    loaded = load_changed(phase, changes)
    path = tmp_path / "shown.yaml"
    path.write_text(resolved_text(loaded))
    assert load_recipe(path) == loaded.recipe
    shown = run("recipe", "show", phase, *(word for each in changes.overrides for word in ("--set", each)), "--json")
    if not (changes.tokens or changes.add_sources):
        assert json.loads(shown.stdout)["recipe"] == loaded.recipe.model_dump(mode="json")


def test_it_says_where_a_value_is_from(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: decay\nseed: 7\nsources: {arxiv: {tokens: 2x}}\n")
    words = ("--set", "order.batch=8", "--add-source", "mine=/data:5M", "--drop-source", "books")
    lines = run("recipe", "show", tmp_path / "mine.yaml", *words).stdout.splitlines()
    assert any(re.fullmatch(r"length: 8000 +# ettin/decay", line) for line in lines)
    assert any(re.fullmatch(r"seed: 7 +# mine\.yaml", line) for line in lines)
    assert any(re.fullmatch(r"  batch: 8 +# --set", line) for line in lines)
    assert any(
        re.search(r"tokens: 6000000000 +# 6\.0B, mine\.yaml, 2x of 3\.0B in ettin/decay", line) for line in lines
    )
    assert any(re.fullmatch(r"    root: /data +# --add-source", line) for line in lines)
    assert not any(line.strip() == "books:" for line in lines)


@pytest.mark.parametrize("base", ["ettin/decay", "pretrain"])
def test_a_file_to_start_from_is_the_recipe_that_it_extends(tmp_path: Path, base: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(starting_text(base, "mid"))
    assert load_recipe(path) == load_recipe(base).changed("phase=mid")
    lines = [line[1:] if re.match(r"#(  )?[a-z_]+:", line) else line for line in path.read_text().splitlines()]
    written = yaml.safe_load("\n".join(lines))
    assert set(written) == {*Recipe.model_fields, "extends", "total"}
    del written["total"], written["sources"]["mine"]
    path.write_text(yaml.safe_dump(written))
    assert load_recipe(path) == load_recipe(base).changed("phase=mid"), "every line can be taken"


def test_init_writes_a_file_that_plans(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run("recipe", "init", path).exit_code == 0
    refused = run("recipe", "init", path)
    assert isinstance(refused.exception, RecipeError) and "is there already" in str(refused.exception)
    assert run("recipe", "init").stdout == path.read_text()
    demo.mirror(tmp_path, 2.0)
    words = ("--sources-root", demo.mirror_folder(tmp_path), "--tokens", "100k", "--out", tmp_path / "run", "--json")
    planned = run("plan", path, *words)
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["totals"]["target_tokens"] == 100_000


def test_keys_of_a_word() -> None:
    assert "`order.batch`" in run("recipe", "keys", "order.").stdout
    assert json.loads(run("recipe", "keys", "batch", "--json").stdout)[0]["path"] == "order.batch"
    refused = run("recipe", "keys", "order.bach")
    assert isinstance(refused.exception, RecipeError) and "order.batch" in str(refused.exception)
