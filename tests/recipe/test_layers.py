"""A recipe says its differences from another one, and `--set` says them in short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ettin_data import recipe
from ettin_data.base.errors import RecipeError
from ettin_data.recipe import PHASES, Changes, load_changed, load_recipe


def write(folder: Path, name: str, **keys: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(keys))
    return path


@pytest.mark.parametrize("phase", PHASES)
def test_a_recipe_that_changes_nothing_is_the_one_that_it_extends(tmp_path: Path, phase: str) -> None:
    plain = load_recipe(phase)
    for name in (phase, f"ettin/{phase}"):
        assert load_recipe(name) == plain
        assert load_recipe(write(tmp_path, "mine", extends=name)) == plain
    assert plain == recipe.Recipe.model_validate(yaml.safe_load(recipe.shipped(phase).read_text()))
    said = plain.model_dump(mode="json")
    assert recipe.Recipe.model_validate(said) == plain
    assert not any("passes" in source for source in said["sources"].values()), "records are as they were before"


def test_differences_at_every_level(tmp_path: Path) -> None:
    write(tmp_path, "base/decayed", extends="ettin/decay", seed=7, order={"batch": 32}, filters=["c4"])
    path = write(
        tmp_path, "mine",
        extends="base/decayed.yaml", phase="mid", order={"seed": 5},
        sources={"books": None, "arxiv": {"tokens": "2x", "filters": []}, "mine": {"root": "texts", "passes": "all"}},
    )  # fmt: skip
    found = load_changed(path, Changes(["order.epoch=3"]))
    made, base = found.recipe, load_recipe("decay")
    assert (made.phase, made.seed, made.filters, made.length) == ("mid", 7, ["c4"], base.length)
    assert (made.order.batch, made.order.seed, made.order.epoch) == (32, 5, 3)
    assert "books" not in made.sources and made.sources["mine"].passes == 1
    assert made.sources["arxiv"].tokens == 2 * base.sources["arxiv"].tokens and made.sources["arxiv"].filters == []
    assert made.sources["wikipedia"] == base.sources["wikipedia"]
    said = found.said
    assert said["phase"] == "mine.yaml" and said["seed"] == "decayed.yaml" and said["order.epoch"] == "--set"
    assert said["sources.wikipedia.tokens"] == "ettin/decay" and said["max_epochs"] == "ettin/decay"
    assert said["sources.arxiv.tokens"] == "mine.yaml, 2x of 3.0B in ettin/decay"
    assert said["attributes"] == said["sources.wikipedia.text_key"] == "default"


def test_a_multiple_is_of_whatever_word_the_amount_has(tmp_path: Path) -> None:
    below = write(
        tmp_path, "below", extends="decay", total="1k",
        sources={name: None for name in load_recipe("decay").sources if name not in ("arxiv", "books", "wikipedia")}
        | {"arxiv": {"ratio": 1}, "books": {"ratio": 1}, "wikipedia": {"share": "20%"}},
    )  # fmt: skip
    amounts = {name: source.tokens for name, source in load_recipe(below).sources.items()}
    assert amounts == {"arxiv": 400, "books": 400, "wikipedia": 200}
    mine = write(
        tmp_path, "mine", extends="below.yaml", sources={"arxiv": {"tokens": "3x"}, "wikipedia": {"tokens": "2x"}}
    )
    amounts = {name: source.tokens for name, source in load_recipe(mine).sources.items()}
    assert amounts == {"arxiv": 450, "books": 150, "wikipedia": 400}, "a total stays met"
    passes = write(tmp_path, "passes", extends="decay", sources={"mine": {"root": "x", "passes": 1}})
    assert load_recipe(passes, overrides=["mine=1.5x"]).sources["mine"].passes == 1.5


def test_a_total_scales_what_was_said_before_it(tmp_path: Path) -> None:
    base = load_recipe("decay")
    path = write(tmp_path, "mine", extends="decay", total="10M", sources={"mine": {"root": "x", "tokens": "1M"}})
    made = load_recipe(path)
    assert sum(source.tokens for source in made.sources.values()) == 10_000_000
    assert made.sources["mine"].tokens == 1_000_000
    scale = 9_000_000 / 76.3e9
    assert all(abs(made.sources[name].tokens - source.tokens * scale) <= 1 for name, source in base.sources.items())
    twice = load_recipe(path, overrides=["arxiv=2x"])
    assert twice.sources["arxiv"].tokens == 2 * made.sources["arxiv"].tokens, (
        "of what the recipe gives, scaled as it is"
    )
    assert sum(source.tokens for source in twice.sources.values()) == 10_000_000
    in_proportion = load_recipe(
        write(tmp_path, "two", extends="decay", total="10M", sources={"arxiv": {"tokens": "2x"}})
    )
    ratio = in_proportion.sources["arxiv"].tokens / in_proportion.sources["textbooks"].tokens
    assert abs(ratio - 12) < 0.001
    assert base.changed("total=10M") == load_recipe("decay", overrides=["total=10M"])


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("math_dolmino=6B", "sources.math_dolmino.tokens=6B"),
        ("math_dolmino=2x", "sources.math_dolmino.tokens=10B"),
        ("math_dolmino={tokens: 1k, text_key: body}", "sources.math_dolmino={tokens: 1k, text_key: body}"),
        ("math_dolmino.text_key=body", "sources.math_dolmino.text_key=body"),
        ("math_dolmino=all", "sources.math_dolmino.passes=all"),
    ],
)
def test_the_short_form(short: str, long: str) -> None:
    assert load_recipe("decay", overrides=[short]) == load_recipe("decay", overrides=[long]) != load_recipe("decay")


def test_a_source_that_is_called_as_a_key_has_no_short_form(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", extends="decay", sources={"seed": {"root": "x", "tokens": 5}})
    made = load_recipe(path, overrides=["seed=9"])
    assert made.seed == 9 and made.sources["seed"].tokens == 5


def test_set_to_null_takes_a_source_out() -> None:
    assert "books" not in load_recipe("decay", overrides=["books=null"]).sources
    with pytest.raises(RecipeError, match="no source 'bookz'"):
        load_recipe("decay", overrides=["sources.bookz=null"])


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"a": {"extends": "a.yaml"}}, ["extends itself", "a.yaml extends a.yaml"]),
        ({"a": {"extends": "b.yaml"}, "b": {"extends": "./a.yaml"}}, ["extends itself", "b.yaml"]),
        ({"a": {"extends": "nothing.yaml"}}, ["there is no recipe 'nothing.yaml'"]),
        ({"a": {"extends": "ettin/decy"}}, ["there is no recipe 'ettin/decy'", "a.yaml: extends"]),
        ({"a": {"extends": ["decay"]}}, ["extends = ['decay']"]),
        ({"a": {"extends": "decay", "sources": {"bookz": None}}}, ["no source 'bookz'", "did you mean books"]),
        ({"a": {"extends": "decay", "sources": {"mine": {"root": "x", "tokens": "2x"}}}}, ["nothing to take 2x of"]),
        ({"a": {"extends": "decay", "lenght": 5}}, ["unknown key 'lenght'", "did you mean length"]),
        ({"a": {"extends": "decay", "phase": "pools"}}, ["phase = 'pools'", "of that name"]),
        ({"a": {"extends": "decay", "phase": "../up"}}, ["phase = '../up'", "folder"]),
        ({f"a{n}": {"extends": f"a{n + 1}.yaml"} for n in range(40)}, ["more than 16"]),
    ],
)
def test_what_cannot_be_extended(tmp_path: Path, files: dict[str, Any], parts: list[str]) -> None:
    paths = [write(tmp_path, name, **keys) for name, keys in files.items()]
    with pytest.raises(RecipeError) as refused:
        load_recipe(paths[0])
    for part in parts:
        assert part in str(refused.value)


def test_a_length_takes_the_loader_with_it() -> None:
    assert load_changed("decay", Changes(length=32768)).recipe.loader.max_seq_len is None
    assert load_changed("decay", Changes(length=131_072)).recipe.length == 131_072
    assert load_changed("decay", Changes(length=4096)).recipe.loader.max_seq_len == 7999, "which cuts nothing of it"
    said = Changes(["loader.max_seq_len=1000"], length=32768)
    assert load_changed("decay", said).recipe.loader.max_seq_len == 1000, "said after the length"
    with pytest.raises(RecipeError, match="131072"):
        load_changed("decay", Changes(length=131_073))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("arxiv=", ["'arxiv='", "arxiv=path_or_url:5M", "--set arxiv=5M"]),
        ("mine", ["'mine'", "mine=path_or_url:5M"]),
        ("mine=/data", ["mine=path_or_url:5M", ":all"]),
        ("arxiv=/data:1B", ["the recipe has it", "my_arxiv=/data:1B", "sources.arxiv.root"]),
        ("starcoder=/data:1B", ["the registry has it", "my_starcoder"]),
    ],
)
def test_an_addition_that_is_none(text: str, parts: list[str]) -> None:
    with pytest.raises(RecipeError) as refused:
        load_recipe("decay", add_sources=[text])
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize("page", ["docs/changing-a-mix.md", "ettin_data/recipe/README.md"])
def test_the_recipes_of_the_pages_are_recipes(tmp_path: Path, page: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    assert blocks
    for block in blocks:
        path = tmp_path / "mine.yaml"
        path.write_text(block)
        made = load_recipe(path)
        assert sum(source.tokens for source in made.sources.values()) == 10_000_000_000 and made.phase == "mid"
