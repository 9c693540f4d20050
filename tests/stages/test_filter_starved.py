"""Filters that leave too little of a source: the error names the rule, the values, and what to write, which works."""

import json
import re
from dataclasses import replace

import pytest
from filter_kit import corpus_recipe

from ettin_data.base.errors import BuildError
from ettin_data.build import prepare, starved
from ettin_data.build.build import build_phase
from ettin_data.recipe import Recipe, load_recipe
from ettin_data.sources import own_source
from ettin_data.stages.filters.registry import choose_filters

FILTERS = ["length", {"gopher_quality": {"min_doc_words": 5000}}, "gopher_repetition"]


def build(folder, text, *overrides):
    (folder / "recipe.yaml").write_text(text)
    recipe = load_recipe(folder / "recipe.yaml", overrides=overrides)
    return build_phase(recipe, prepare.BuildOptions(folder, executor=None))


def test_what_the_error_says_to_write_works(tmp_path):
    sources = {"a": {}, "b": {"filters": ["length"], "filters+": FILTERS[1:]}, "c": {"filters": []}}
    recipe = corpus_recipe(tmp_path, sources, filters=FILTERS)
    with pytest.raises(BuildError, match="filters leave too little of 2 sources a, b") as caught:
        build(tmp_path, recipe)
    said = str(caught.value)
    assert "rejects/a/" in said
    assert re.search(r"a: gopher_quality dropped (\d+) of \1 documents \(100%\), \1 by its rule gopher_short_doc", said)
    assert re.search(r"their median is about [\d.]+, where min_doc_words = 5000 is the least", said)
    overrides = re.findall(r"--set '([^']*)'", said)
    assert overrides == ["sources.a.filters=[length]", "sources.b.filters=[length]", "sources.b.filters+=[]"]
    assert build(tmp_path, recipe, *overrides).sources["a"].documents > 1
    (looser,) = re.findall(r"in the recipe: gopher_quality: (\{.*?\})", said)
    loose = build(tmp_path, recipe, f"sources.a.filters=[length, {{gopher_quality: {looser}}}]", *overrides[1:])
    assert loose.sources["a"].filtered["gopher_short_doc"] > 1


def test_personal_data_and_evaluation_texts_are_named_too(tmp_path):
    recipe = corpus_recipe(tmp_path, {"a": {"tokens": "300"}}, filters=["length"])
    texts = [
        " ".join(f"{word}{number}" for word in "one two three four five six seven".split()) for number in range(40)
    ]
    (tmp_path / "evals.jsonl").write_text("\n".join(json.dumps({"q": text}) for text in texts))
    lines = [json.dumps({"id": str(number), "text": f"joe@x.org {text}"}) for number, text in enumerate(texts)]
    (tmp_path / "corpus/a.jsonl").write_text("\n".join(lines))
    (tmp_path / "corpus/b.jsonl").unlink()
    looked_for = {"texts": [{"file": str(tmp_path / "evals.jsonl"), "question": "q"}]}
    recipe = json.dumps(json.loads(recipe) | {"decontaminate": looked_for, "pii": {"drop_above": 0}})
    with pytest.raises(BuildError, match="leave too little of source a") as caught:
        build(tmp_path, recipe)
    assert "a: pii dropped" in str(caught.value) and "their median is about 1, where drop_above = 0" in str(
        caught.value
    )
    (spared,) = re.findall(r"--set '([^']*)'", str(caught.value))
    assert spared == "pii.drop_above=null"
    with pytest.raises(BuildError, match="leave too little of source a") as caught:
        build(tmp_path, recipe, spared)
    assert re.search(r"a: decontaminate dropped \d+ of \d+ documents for evaluation texts", str(caught.value))
    (masked,) = re.findall(r"--set '([^']*)'", str(caught.value))
    assert masked == "decontaminate.action=mask"


def test_a_source_that_is_merely_small_is_the_mixs_to_explain(tmp_path):
    recipe = corpus_recipe(tmp_path, {"a": {"filters": [{"length": {"min_chars": 2}}], "tokens": "900M"}})
    with pytest.raises(BuildError, match="would take"):
        build(tmp_path, recipe)


def test_filters_of_a_source_stand_behind_the_recipes(tmp_path):
    twice = [{"length": {"max_chars": 2000}}, "exact_duplicate"]
    recipe = corpus_recipe(tmp_path, {"a": {"filters+": twice}}, filters=["length"])
    run = build(tmp_path, recipe)
    assert [*run.sources["a"].steps] == ["read", "length", "length#2", "exact_duplicate", "tokenize", "pack", "write"]
    assert Recipe.model_validate(run.recipe).sources["a"].more_filters == twice
    line = (tmp_path / "pretrain/rejects/a").glob("*.jsonl").__next__().read_text().splitlines()
    assert any('"filter":"length#2","value":' in one and '"threshold":2000' in one for one in line)


@pytest.mark.parametrize(
    ("category", "filters", "named"),
    [
        ("code", ["length", "c4", "fineweb"], "c4, fineweb"),
        ("math", ["gopher_repetition"], "gopher_repetition"),
        ("crawl", ["fineweb"], None),
        ("code", ["length", "exact_duplicate"], None),
    ],
)
def test_a_plan_warns_of_rules_for_web_text_elsewhere(tmp_path, category, filters, named):
    said = starved.web_rules(replace(own_source("x", str(tmp_path)), category=category), choose_filters(filters))
    assert (said is None) == (named is None)
    if said is not None:
        assert named in said and "--set 'sources.x.filters=[" in said
