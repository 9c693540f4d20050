"""Filters that a recipe names and that are not ours: datatrove's by their class, a user's own; all through a build."""

import importlib.metadata
import importlib.util
import json
import sys
from collections import Counter
from copy import deepcopy

import pytest
from datatrove.data import Document
from filter_kit import build_filters, corpus_recipe, document
from hypothesis import given
from hypothesis import strategies as st
from laws import golden

from ettin_data.base.errors import BuildError, EttinError, RecipeError
from ettin_data.stages.filters.length import Length
from ettin_data.stages.filters.options import Checked
from ettin_data.stages.filters.registry import ChosenFilter, choose_filters
from ettin_data.storage import split as markers
from ettin_data.storage.phase import splits_in

MINE = '''
from datatrove.pipeline.filters.base_filter import BaseFilter
from ettin_data.stages.filters.base import Filter

def has(document, *, word="river"):
    return word in document.text

def long_enough(text: str, least: int = 300):
    return len(text) >= least, "short"

def given_text(text):
    return isinstance(text, str)

def forgets(document):
    document.text.upper()

def breaks(text):
    return 1 / (len(text) - len(text)) > 0

class Every(BaseFilter):
    """Keeps one document of `nth`, four at a time."""
    name = "every"

    def __init__(self, nth: int = None, exclusion_writer=None):
        super().__init__(exclusion_writer, batch_size=4)
        self.nth, self.seen = nth or 2, 0

    def filter(self, doc):
        raise AssertionError("documents come in batches")

    def filter_batch(self, batch):
        self.stat_update("in_batches", value=len(batch))
        self.seen += len(batch)
        return [(self.seen - i) % self.nth == 0 or (False, "not_nth") for i in range(len(batch))]

class Ours(Filter):
    name = "ours"

    def __init__(self, *, end: str = "."):
        super().__init__()
        self.end = end

    def filter(self, document):
        return document.text.endswith(self.end) or (False, "other_end")

class NoFilter:
    pass
'''  # fmt: skip


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module `mine` of a user, and the place of its file."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("mine", None)


def drops(spec, documents):
    """Which documents a step drops, and why; and the step."""
    dropped = []
    (step,) = build_filters([spec], rejects=lambda document, why: dropped.append((document.id, why)))
    kept = [document.id for document in step.run(documents)]
    return kept, dropped, step


# through a build


def test_every_kind_of_filter_in_a_build(mine, tmp_path):
    sources = {
        "shipped": ["gopher_quality"],
        "theirs": [{"RegexFilter": {"regex_exp": "lorem ipsum|river"}}],
        "function": [{"mine:has": {"word": "garden"}}],
        "reasons": [{"mine:long_enough": {"least": 400}}],
        "batches": [{"mine:Every": {"nth": 3}}],
        "ours": ["length", "mine:Ours"],
    }
    phase = golden.build(corpus_recipe(tmp_path, {key: {"filters": specs} for key, specs in sources.items()}), tmp_path)
    run = json.loads((phase / "run.json").read_text())["sources"]
    reasons = {
        "theirs": {"filtered"}, "function": {"filtered"}, "reasons": {"short"}, "batches": {"not_nth"},
        "ours": {"other_end"},
    }  # fmt: skip
    for key, specs in sources.items():
        row, name = run[key], next(iter(specs[-1])) if isinstance(specs[-1], dict) else specs[-1]
        steps = row["steps"]
        assert list(steps) == ["read", *(["length"] if key == "ours" else []), name, "tokenize", "pack", "write"]
        counts, dropped = steps[name], sum(row["filtered"].values())
        assert 0 < dropped == counts["dropped"] == counts["total"] - counts["forwarded"]
        assert set(row["filtered"]) == reasons.get(key, set(row["filtered"]))
        for reason, number in row["filtered"].items():
            assert counts.get(f"dropped_{reason}", number) == number
        assert steps["tokenize"]["tokens"]["total"] == row["tokens_in"]
        assert steps["pack"]["samples"]["total"] == row["pool_samples"]
        listed = Counter(
            json.loads(line)["reason"]
            for path in sorted((phase / "rejects" / key).glob("*.jsonl"))
            for line in path.read_bytes().splitlines()
        )
        assert all(listed[reason] == number for reason, number in row["filtered"].items())
    batches = run["batches"]["steps"]["mine:Every"]["in_batches"]
    assert batches["max"] == 4 and batches["total"] == run["batches"]["steps"]["mine:Every"]["total"]


def test_what_decides_makes_the_pool_anew(mine, tmp_path, monkeypatch):
    """A changed default, and changed code of one's own: both are in the fingerprint."""
    text = corpus_recipe(tmp_path, {"a": {"filters": ["length"]}, "b": {"filters": ["mine:long_enough"]}})

    def built():
        phase = golden.build(text, tmp_path)
        found = {name: markers.read_marker(phase / "pools" / name) for name in splits_in(phase / "pools")}
        return {
            key: [marker for name, marker in found.items() if name.startswith(f"{key}/")] for key in ("a", "b")
        }  # fmt: skip

    first = built()
    assert built() == first
    monkeypatch.setitem(Length.__init__.__kwdefaults__, "min_chars", 500)
    mine.write_text(MINE.replace("least: int = 300", "least: int = 300 + 0"))
    second = built()
    assert all(marker.tally["filtered"]["too_few_chars"] for marker in second["a"])
    assert all(marker.made_from["filters"][0]["options"]["min_chars"] == 500 for marker in second["a"])
    for key in first:
        assert not {m.fingerprint for m in first[key]} & {m.fingerprint for m in second[key]}
    assert [m.root for m in first["b"]] == [m.root for m in second["b"]]


@pytest.mark.parametrize(
    "spec, words",
    [
        ("mine:forgets", ["'mine:forgets' answered None", "document 'a-0'", "return True"]),
        ("mine:breaks", ["'mine:breaks' failed", "document 'a-0'", "mine.py, line", "ZeroDivisionError"]),
    ],
)
def test_a_filter_that_fails_says_so(mine, tmp_path, spec, words):
    with pytest.raises(EttinError) as error:
        golden.build(corpus_recipe(tmp_path, {"a": {"filters": [spec]}}), tmp_path)
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_a_wrong_filter_stops_before_anything_is_written(tmp_path):
    with pytest.raises(RecipeError, match="'nowhere' cannot be imported"):
        golden.build(corpus_recipe(tmp_path, {"a": {"filters": ["nowhere:filter"]}}), tmp_path)
    assert not (tmp_path / "pretrain/pools").exists() and not (tmp_path / "pretrain/manifests").exists()


# what a recipe may say


@pytest.mark.parametrize(
    "spec, words",
    [
        ("nowhere.at:all", ["'nowhere.at' cannot be imported", "No module named 'nowhere'", "PYTHONPATH"]),
        ("mine:hass", ["'mine' has no 'hass'", "did you mean has"]),
        ("mine:NoFilter", ["'mine:NoFilter' is no filter", "BaseFilter"]),
        ("os:sep", ["'os:sep' is no filter", "'/'"]),
        ({"mine:has": {"world": "x"}}, ["unknown key 'filters[0].mine:has.world'", "did you mean word?"]),
        ({"mine:long_enough": {"least": "5"}}, ["least = '5'", "valid integer"]),
        ("mine:Every2", ["no 'Every2'", "Every"]),
        ("RegexFilter", ["'filters[0].RegexFilter.regex_exp' is missing"]),
        ({"RegexFilter": {"regex_exp": "["}}, ["cannot be made of its options", "unterminated character set"]),
        ({"RegexFilter": {"regex_exp": "x", "exclusion_writer": None}}, ["unknown key", "exclusion_writer"]),
        ({"LambdaFilter": {"filter_function": "len"}}, ["should be callable"]),
        ("SamplerFilter", ["'SamplerFilter' has no seed", "seed: 1"]),
        ("GopherQualityFiltr", ["no filter 'GopherQualityFiltr'", "GopherQualityFilter"]),
        ("BaseFilter", ["no filter 'BaseFilter'"]),
        ("datatrove.pipeline.filters.base_filter:BaseFilter", ["cannot be made of its options", "abstract"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(mine, spec, words):
    with pytest.raises(RecipeError) as error:
        choose_filters([spec])
    assert not [word for word in words if word not in str(error.value)], str(error.value)


@pytest.mark.skipif(importlib.util.find_spec("spacy") is not None, reason="spaCy is installed")
def test_what_is_not_installed_is_named_before_a_build():
    with pytest.raises(RecipeError, match=r"(?s)'GopherQualityFilter' needs what is not installed.*spacy"):
        choose_filters(["GopherQualityFilter"])


def test_a_description_has_all_that_decides(mine):
    (theirs,) = choose_filters([{"SamplerFilter": {"seed": 3}}])
    version = importlib.metadata.version("datatrove")
    assert theirs.describe() == {"name": "SamplerFilter", "version": version, "options": {"rate": 0.5, "seed": 3}}
    (own,) = choose_filters(["mine:has"])
    assert own.describe()["options"] == {"word": "river"}
    assert choose_filters([{"mine:has": {"word": "river"}}]) == [own]
    mine.write_text(f"{MINE}\n# changed")
    (changed,) = choose_filters(["mine:has"])
    assert changed.version != own.version
    mine.write_text(f"{MINE}\nVERSION = 7")
    sys.modules.pop("mine")
    (numbered,) = choose_filters(["mine:has"])
    assert numbered.version == "7"


def test_another_version_than_planned_is_no_filter():
    with pytest.raises(BuildError, match=r"(?s)filter 'length' has version 1 here.*planned with 2"):
        ChosenFilter("length", 2, Checked({}, {})).step()


# what they do


@given(st.lists(st.text("ab ", max_size=4)))
def test_datatroves_filters_account_for_every_document(contents):
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(contents)]
    kept, dropped, step = drops({"RegexFilter": {"regex_exp": "b"}}, documents)
    assert kept == [str(i) for i, text in enumerate(contents) if "b" not in text]
    assert dropped == [(str(i), "filtered") for i, text in enumerate(contents) if "b" in text]
    assert step.stats["total"].total == len(contents)
    assert not any("filter_reason" in document.metadata for document in documents)


def test_a_sample_that_datatrove_draws_is_the_same_again():
    spec = {"SamplerFilter": {"rate": 0.4, "seed": 5}}
    first, again = (drops(spec, [document(str(i)) for i in range(200)]) for _ in range(2))
    assert first[:2] == again[:2] and 40 < len(first[0]) < 120


def test_a_function_gets_the_document_or_its_text(mine):
    assert drops("mine:given_text", [document("x")])[1] == []
    assert drops("mine:has", [document("a river"), document("none")])[1] == [("", "filtered")]


def test_a_copied_step_counts_for_itself(mine):
    """As datatrove's executors copy a pipeline before they run it."""
    (step,) = build_filters([{"mine:Every": {"nth": 2}}])
    copy = deepcopy(step)
    assert len(list(copy.run([document(str(i)) for i in range(8)]))) == 4
    assert copy.stats["in_batches"].total == 8 and step.stats["in_batches"].total == 0
