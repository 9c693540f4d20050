"""Parts of a total become whole tokens, exactly: for any parts, in any order of the file."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import RecipeError
from ettin_data.recipe import Changes, Recipe, load_changed, load_recipe
from ettin_data.recipe.amounts import apportioned, settled
from ettin_data.recipe.layers import Layers
from ettin_data.recipe.load import validated

NAMES = st.text("abcdef_", min_size=1, max_size=6).filter(lambda name: name[0] != "_")
PARTS = st.dictionaries(NAMES, st.fractions(0, 1000).filter(lambda part: part > 0), min_size=1, max_size=12)
TOTALS = st.integers(1, 10**15)


def written(**keys: Any) -> dict[str, Any]:
    return {"phase": "mine", "length": 128, "pack": {"min_length": 32, "always_skip": 8}, **keys}


def recipe_of(data: dict[str, Any]) -> Recipe:
    layers = Layers("mine.yaml")
    layers.add(data, "mine.yaml")
    return validated(settled(layers.data, layers.level_of)[0], "mine.yaml")


def tokens(recipe: Recipe) -> dict[str, int]:
    return {name: source.tokens for name, source in recipe.sources.items()}


@settings(max_examples=50)
@given(TOTALS, PARTS)
def test_largest_remainders(total: int, parts: dict[str, Fraction]) -> None:
    given_ = apportioned(total, parts)
    whole = sum(parts.values())
    assert sum(given_.values()) == total and list(given_) == list(parts)
    quotas = {name: total * part / whole for name, part in parts.items()}
    assert all(int(quotas[name]) <= given_[name] <= int(quotas[name]) + 1 for name in parts)
    up = {quotas[name] % 1 for name in parts if given_[name] > quotas[name]}
    down = {quotas[name] % 1 for name in parts if given_[name] < quotas[name]}
    assert not up or not down or min(up) >= max(down), "nobody goes before a larger remainder"
    names = list(parts)
    random.Random(total).shuffle(names)
    assert apportioned(total, {name: parts[name] for name in names}) == given_, "the order in the file decides nothing"
    assert apportioned(total, given_) == given_, "numbers that add up stay what they are"


@settings(max_examples=40)
@given(total=TOTALS, parts=PARTS)
def test_ratios_and_weights_divide_a_total(total: int, parts: dict[str, Fraction]) -> None:
    words = ("ratio", "weight")
    sources = {
        name: {"root": "x", words[number % 2]: round(float(part), 6) or 1}
        for number, (name, part) in enumerate(parts.items())
    }
    read = tokens(recipe_of(written(total=total, sources=sources)))
    assert sum(read.values()) == total
    exact = {name: Fraction(repr(source.get("ratio", source.get("weight")))) for name, source in sources.items()}
    assert read == apportioned(total, exact), "no part is a float on the way"


@settings(max_examples=40)
@given(st.integers(10**6, 10**15), st.integers(1, 99), st.integers(1, 10**5), st.integers(1, 9), st.integers(1, 9))
def test_tokens_then_shares_then_ratios(total: int, percent: int, fixed: int, one: int, other: int) -> None:
    sources = {
        "a": {"root": "x", "tokens": fixed},
        "b": {"root": "x", "share": f"{percent / 2}%"},
        "c": {"root": "x", "ratio": one},
        "d": {"root": "x", "weight": other},
    }
    read = tokens(recipe_of(written(total=total, sources=sources)))
    assert sum(read.values()) == total and read["a"] == fixed
    assert abs(read["b"] - total * Fraction(percent, 200)) <= 1
    rest = total - fixed - total * Fraction(percent, 200)
    assert abs(read["c"] - rest * Fraction(one, one + other)) <= 1


@settings(max_examples=40)
@given(TOTALS.filter(lambda total: total >= 1000), st.integers(1, 9), st.integers(1, 9))
def test_groups_share_the_whole_and_their_sources_the_group(total: int, one: int, other: int) -> None:
    data = written(
        total=total,
        groups={"web": "60%", "math": {"ratio": 3}},
        sources={
            "a": {"root": "x", "group": "web", "ratio": one},
            "b": {"root": "x", "group": "web", "ratio": other},
            "c": {"root": "x", "group": "math"},
            "d": {"root": "x", "ratio": 1},
        },
    )
    read = tokens(recipe_of(data))
    assert sum(read.values()) == total
    assert abs(read["a"] + read["b"] - total * Fraction(3, 5)) <= 1
    assert abs(read["c"] - total * Fraction(3, 10)) <= 1
    assert read["a"], read["b"] == apportioned(read["a"] + read["b"], {"a": one, "b": other}).values()


def test_a_group_in_tokens_needs_no_total() -> None:
    sources = {"a": {"root": "x", "group": "web"}, "b": {"root": "x", "group": "web", "tokens": 10}}
    read = tokens(
        recipe_of(written(groups={"web": {"tokens": "1k"}}, sources={**sources, "c": {"root": "x", "tokens": 7}}))
    )
    assert read == {"a": 990, "b": 10, "c": 7}


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"sources": {"a": {"ratio": 3}}}, ["sources.a.ratio", "part of a total", "total: 10B"]),
        ({"total": "1k", "sources": {"a": {"tokens": "2k"}, "b": {"ratio": 1}}}, ["total", "2.0k", "lower them"]),
        ({"total": "1k", "sources": {"a": {"tokens": 1000}, "b": {"ratio": 1}}}, ["nothing is left for sources.b"]),
        ({"total": "1k", "sources": {"a": {"share": "50%"}}}, ["add up to 500", "500 are for nobody", "ratio"]),
        ({"total": "1k", "sources": {"a": {"tokens": 500}}}, ["add up to 500", "ratio"]),
        ({"total": "1k", "sources": {"a": {"passes": 1}, "b": {"ratio": 1}}}, ["sources.a.passes", "has been read"]),
        ({"total": "lots", "sources": {"a": {"ratio": 1}}}, ["total = 'lots'", "837.2B"]),
        ({"total": "1k", "sources": {"a": {"ratio": -1}}}, ["sources.a.ratio", "-1", "above 0"]),
        ({"total": "1k", "sources": {"a": {"ratio": "1e999999999"}}}, ["sources.a.ratio", "above 0"]),
        ({"total": "1k", "sources": {"a": {"share": ".nan"}}}, ["sources.a.share", "above 0"]),
        ({"sources": {"a": {"tokens": 5, "ratio": 1}}}, ["sources.a", "tokens and ratio", "keep one"]),
        ({"sources": {"a": {"tokens": "2x"}}}, ["sources.a.tokens", "2x", "passes: 2"]),
        ({"sources": {"a": {"tokens": 5, "group": "web"}}}, ["no group 'web'"]),
        ({"groups": {"wen": "5%"}, "sources": {"a": {"tokens": 5, "group": "web"}}}, ["did you mean wen"]),
        ({"total": "1k", "groups": {"web": "5%"}, "sources": {"a": {"ratio": 5}}}, ["no source is in the group 'web'"]),
        ({"groups": {"web": {}}, "sources": {"a": {"group": "web"}}}, ["groups.web", "not how much"]),
        ({"groups": {"web": {"shre": 1}}, "sources": {"a": {"group": "web"}}}, ["groups.web.shre", "share"]),
        ({"sources": {"a": {"passes": 9}}}, ["sources.a.passes", "max_epochs is 4"]),
        ({"sources": {"a": {"passes": 0}}}, ["sources.a.passes", "greater than 0"]),
        ({"sources": {"a": {"root": "x"}}}, ["sources.a", "not how much", "passes: 2"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_key(tmp_path: Path, keys: dict[str, Any], parts: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(written(**keys)))
    with pytest.raises(RecipeError) as refused:
        load_recipe(path)
    for part in ["mine.yaml", *parts]:
        assert part in str(refused.value)


@settings(max_examples=25)
@given(st.integers(10**3, 10**13))
def test_a_budget_is_met_to_the_token_in_the_recipes_proportions(budget: int) -> None:
    before, after = tokens(load_recipe("decay")), tokens(load_changed("decay", Changes(tokens=str(budget))).recipe)
    assert sum(after.values()) == budget and after == apportioned(budget, before)


def test_a_budget_makes_a_total_of_ratios(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(written(sources={"a": {"ratio": 3}, "b": {"ratio": 1}})))
    with pytest.raises(RecipeError, match="there is none"):
        load_recipe(path)
    assert tokens(load_changed(path, Changes(tokens="1k")).recipe) == {"a": 750, "b": 250}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (Changes(tokens="lots"), "--tokens"),
        (Changes(tokens="0"), "no budget"),
        (Changes(tokens="1B", scale=0.5), "--scale"),
        (Changes(tokens="1B", add_sources=["mine=/data:all"]), "known only when it has been read"),
        (Changes(tokens="10"), "leaves nothing for arxiv, textbooks, wikipedia"),
        (Changes(tokens="1M", add_sources=["mine=/data:5k"]), r"leaves nothing for mine(.|\n)*--set total=1000000"),
        (Changes(keep_total=True, add_sources=["mine=/data:90B"]), "add up to 90.0B"),
    ],
)
def test_a_budget_that_is_none(changes: Changes, part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        load_changed("decay", changes)


@settings(max_examples=25)
@given(st.integers(1, 10**10), st.sampled_from(["books", "arxiv", "textbooks"]))
def test_the_total_stays_after_a_drop_and_an_addition(added: int, dropped: str) -> None:
    before = tokens(load_recipe("decay"))
    changes = Changes(add_sources=[f"mine=/data:{added}"], drop_sources=[dropped], keep_total=True)
    after = tokens(load_changed("decay", changes).recipe)
    assert sum(after.values()) == sum(before.values()) and after["mine"] == added and dropped not in after
    others = {name: number for name, number in before.items() if name != dropped}
    assert {name: after[name] for name in others} == apportioned(sum(before.values()) - added, others)


def test_twice_the_math_in_the_same_total() -> None:
    before = tokens(load_recipe("decay"))
    after = tokens(load_changed("decay", Changes(["math_dolmino=2x"], keep_total=True)).recipe)
    assert after["math_dolmino"] == 2 * before["math_dolmino"] and sum(after.values()) == sum(before.values())
    plain = tokens(load_changed("decay", Changes(["math_dolmino=2x"])).recipe)
    assert plain == before | {"math_dolmino": 2 * before["math_dolmino"]}
