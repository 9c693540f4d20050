"""The filter stage: what a recipe may say, what is counted, and the light filters."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from filter_kit import build_filters, document
from filter_options import specs
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.registry import choose_filters, numbered, ours, shipped


def test_names_and_options_become_steps():
    steps = build_filters(["length", {"exact_duplicate": None}, {"gopher_quality": {"min_doc_words": 7}}])
    assert [type(step) for step in steps] == [
        shipped()[n].make for n in ("length", "exact_duplicate", "gopher_quality")
    ]
    assert steps[0].min_chars == 1 and steps[2].min_doc_words == 7 and steps[2].max_doc_words == 100_000
    assert build_filters([]) == []


def test_a_filter_is_found_by_its_name_alone():
    for name, kind in shipped().items():
        assert ours(name) == kind and kind.make.__module__.rpartition(".")[2] == name
    assert [ours(name) for name in ("registry", "base", "_kind", "lenght", "pii.NAME", "")] == [None] * 6


def test_a_filter_without_words_loads_no_tables_of_them():
    code = """
import sys
from ettin_data.stages.filters.registry import choose_filters
choose_filters(["length", "exact_duplicate"])
print([name for name in sys.modules if name.startswith("ettin_data.stages.text.")])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_lists_of_a_recipe_are_tuples_of_a_filter():
    (step,) = build_filters([{"gopher_repetition": {"top_n_grams": [[2, 0.5]], "dup_line_frac": None}}])
    assert step.top_n_grams == ((2, 0.5),) and step.dup_line_frac is None


@pytest.mark.parametrize(
    "spec, words",
    [
        ("lenght", ["'lenght'", "did you mean length?", "package.module:name"]),
        ({"length": {"min_char": 2}}, ["unknown key", "did you mean min_chars", "x.filters[0].length.min_char"]),
        ({"length": {"min_chars": "2"}}, ["min_chars = '2'", "valid integer"]),
        ({"length": {"min_chars": True}}, ["min_chars = True", "valid integer"]),
        ({"length": {"min_chars": -1}}, ["min_chars = -1", "greater than or equal to 0"]),
        ({"length": {"min_chars": 5, "max_chars": 2}}, ["min_chars=5", "max_chars=2"]),
        ({"length": 3}, ["'length' are 3"]),
        ({"length": {}, "c4": {}}, ["does not name one filter"]),
        (3, ["3 does not name one filter"]),
        ({"gopher_quality": {"max_bullet_lines_ratio": 2}}, ["max_bullet_lines_ratio = 2", "less than or equal to 1"]),
        ({"gopher_repetition": {"top_n_grams": [[2, "x"]]}}, ["top_n_grams", "valid number"]),
        ({"gopher_repetition": {"top_n_grams": [[0, 0.1]]}}, ["top_n_grams", "greater than or equal to 1"]),
        ({"exact_duplicate": {"by": "text"}}, ["unknown key", "exact_duplicate.by", "there are none"]),
        ({"c4": {"min_num_sentences": -2}}, ["min_num_sentences = -2", "greater than or equal to -1"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(spec, words):
    with pytest.raises(RecipeError) as error:
        build_filters([spec], where="sources.x.filters")
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_a_filter_may_be_named_twice():
    chosen = choose_filters([{"length": {"min_chars": 5}}, "c4", {"length": {"min_chars": None, "max_chars": 9}}])
    assert numbered([one.name for one in chosen]) == ["length", "c4", "length#2"]
    assert [one.options.typed["min_chars"] for one in chosen if one.name == "length"] == [5, None]


def test_steps_travel_to_workers():
    steps = build_filters(specs())
    assert [step.name for step in pickle.loads(pickle.dumps(steps))] == [step.name for step in steps]


# what is counted


@given(st.lists(st.text("ab \n", max_size=6)))
def test_every_document_is_kept_or_handed_over_with_its_reason(contents):
    dropped = []
    specs = [{"length": {"min_chars": 2, "max_words": 2}}, "exact_duplicate"]
    steps = build_filters(specs, rejects=lambda document, why: dropped.append((document.id, why)))
    documents = (Document(text=text, id=str(i)) for i, text in enumerate(contents))
    kept = [int(d.id) for d in steps[1].run(steps[0].run(documents))]
    assert sorted(kept + [int(i) for i, _ in dropped]) == list(range(len(contents)))
    assert kept == sorted(kept)
    assert len({contents[i] for i in kept}) == len(kept)
    for i, why in dropped:
        text = contents[int(i)]
        assert {
            "too_few_chars": len(text) < 2,
            "too_many_words": len(text.split()) > 2,
            "exact_duplicate": text in contents[: int(i)],
        }[why]
    for step in steps:
        total = {key: value.total for key, value in step.stats.stats.items()}
        assert total.get("total", 0) == total.get("forwarded", 0) + total.get("dropped", 0)
        assert total.get("dropped", 0) == sum(n for key, n in total.items() if key.startswith("dropped_"))


def test_a_drop_is_accounted_for_before_the_next_document_is_read():
    events = []
    (step,) = build_filters(["length"], rejects=lambda d, why: events.append(d.id))

    def source():
        for i in range(3):
            events.append(f"read {i}")
            yield Document(text="x" * (i % 2), id=str(i))

    assert [d.id for d in step.run(source())] == ["1"]
    assert events == ["read 0", "0", "read 1", "read 2", "2"]


def test_statistics_are_datatroves():
    class Theirs(BaseFilter):
        name = "📏 Length"

        def filter(self, doc):
            return True if len(doc.text) > 2 else (False, "too_few_chars")

    contents = ["a" * n for n in (1, 5, 2, 9, 9, 3)]
    (ours,), theirs = build_filters([{"length": {"min_chars": 3}}]), Theirs()
    for step in (ours, theirs):
        list(step.run(document(text) for text in contents))
    assert ours.stats.name == theirs.stats.name
    for label, expected in theirs.stats.stats.items():
        got = ours.stats.stats[label]
        assert (got.total, got.n, got.min, got.max) == (expected.total, expected.n, expected.min, expected.max), label
        assert np.isclose(got.mean, expected.mean) and np.isclose(got.variance, expected.variance), label
    assert sorted(ours.stats.stats) == sorted(theirs.stats.stats)


def test_statistics_survive_a_reader_that_fails():
    (step,) = build_filters(["length"])

    def source():
        yield document("a")
        yield document("")
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(step.run(source()))
    assert (step.stats["forwarded"].total, step.stats["dropped_too_few_chars"].total) == (1, 1)


def test_duplicates_are_those_of_one_split():
    (step,) = build_filters(["exact_duplicate"])
    for _ in range(2):
        assert [d.id for d in step.run(Document(text=t, id=t + str(i)) for i, t in enumerate("abaab"))] == ["a0", "b1"]


def test_a_lone_surrogate_is_text():
    for step in build_filters(specs()):
        step.filter(document("\ud800 x. " * 80))
