"""`filters preview`: what is dropped in order, alone and by one filter only, as a build would drop it."""

import json

import pytest
from contamination_kit import build, rng_of, sentence
from typer.testing import CliRunner

from ettin_data.base.errors import RecipeError
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.build.preview import around, preview, to_plain
from ettin_data.cli.filters import app
from ettin_data.recipe import load_recipe
from ettin_data.storage import records
from ettin_data.storage.phase import Phase

FILTERS = [{"length": {"min_words": 20}}, "exact_duplicate", {"length": {"max_words": 60, "min_chars": None}}]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preview")
    rng = rng_of("preview")
    texts = [sentence(rng, rng.choice([5, 15, 30, 50, 70, 90])) for _ in range(100)]
    texts += texts[:20]
    return build(folder, texts, filters=FILTERS), texts


def test_a_preview_of_all_drops_what_a_build_drops(run, tmp_path):
    folder, texts = run
    resolved = resolve(load_recipe(folder.parent / "recipe.yaml"), BuildOptions(tmp_path / "none"))
    (found,) = preview(resolved, 1.0)
    assert not (tmp_path / "none").exists() and sorted(found.texts) == sorted(texts)
    row = records.read_run(Phase(folder, "pretrain")).sources["mine"]
    assert sum((one.in_order for one in found.filters), start=type(found.filters[0].in_order)()) == row.filtered
    for one in found.filters:
        assert one.seen == row.steps[one.name]["total"]
        assert sum(one.in_order.values()) == row.steps[one.name].get("dropped", 0)
    words = [len(text.split()) for text in found.texts]
    first, second, third = found.filters
    assert set(first.alone) == {n for n, w in enumerate(words) if w < 20}
    assert set(third.alone) == {n for n, w in enumerate(words) if w > 60}
    assert len(second.alone) == 20
    assert found.only(0) == len(first.alone.keys() - second.alone.keys())
    plain = to_plain(found, 3)
    rule = plain["filters"][0]["rules"]["too_few_words"]
    assert rule["threshold"] == 20 and len(rule["texts"]["dropped"]) == len(rule["texts"]["kept"]) == 3
    assert {value for value, _ in rule["texts"]["dropped"]} == {15} and rule["texts"]["kept"][0][0] == 30
    assert again(resolved) == again(resolved)


def again(resolved):
    return [to_plain(one, 2) for one in preview(resolved, 0.5)]


def test_values_around_a_threshold():
    values = {n: float(n) for n in range(200)}
    shown = dict(around(values, 100, dict.fromkeys(range(100), "low")))
    assert shown == {
        "dropped 1%": 98, "dropped 5%": 94, "dropped 50%": 49, "kept 1%": 101, "kept 5%": 105, "kept 50%": 150,
    }  # fmt: skip


def test_the_command_shows_it(run):
    folder, _ = run
    said = CliRunner().invoke(app, ["preview", str(folder.parent / "recipe.yaml"), "--sample", "100%"])
    assert said.exit_code == 0 and "mine: 120 documents looked at" in said.output
    assert "length#2: drops" in said.output and "threshold 20; values next to it: dropped 1% 15" in said.output
    plain = CliRunner().invoke(app, ["preview", str(folder.parent / "recipe.yaml"), "--json", "--texts", "1"])
    assert [one["filter"] for one in json.loads(plain.stdout)[0]["filters"]] == [
        "length",
        "exact_duplicate",
        "length#2",
    ]
    changed = ["--tokens", "100k", "--keep-total", "--length", "128", "--sample", "100%", "--json"]
    plain = CliRunner().invoke(app, ["preview", str(folder.parent / "recipe.yaml"), *changed])
    assert json.loads(plain.stdout)[0]["documents"] == 120, "they change the mix, not what filters do"
    texts = json.loads(plain.stdout)[0]["filters"][0]["rules"]["too_few_words"]["texts"]
    assert {side: len(near) for side, near in texts.items()} == {"dropped": 10, "kept": 10}
    for wrong in ("0", "150%", "many"):
        assert isinstance(CliRunner().invoke(app, ["preview", "decay", "--sample", wrong]).exception, RecipeError)
