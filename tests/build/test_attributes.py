"""Steps over whole sources: what they leave out is in no part, counted by reason, proved by verify, and reused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import ettin_data
from ettin_data.base.errors import BuildError, RecipeError, ShardError
from ettin_data.recipe import Recipe
from ettin_data.storage.attributes import Attribute, read_attribute
from ettin_data.storage.phase import Phase
from ettin_data.tokenizer.encoder import TokenizerFile

STEP = '''
import numpy as np
from pathlib import Path
from ettin_data.storage.attributes import Attribute

VERSION = 1

def every(splits, nth=3, reason="counted_out"):
    """Leaves out each nth document of all sources."""
    Path("calls").open("a").write("x")
    seen = 0
    for split in splits:
        count = len(split.documents("key")["key"])
        yield split, Attribute((reason,), ((np.arange(count) + seen) % nth == 0).astype(np.uint8))
        seen += count

def forgetful(splits):
    return iter(())

def short(splits):
    for split in splits:
        yield split, Attribute((), np.zeros(1, np.uint8))
'''
RECIPE = """
phase: pretrain
length: 64
filters: []
split_bytes: 2KB
validation: 0.05
pack: {strategy: STRATEGY, min_length: 16, always_skip: 4}
order: {batch: 4}
attributes: [{step: "toy_step:every", options: {nth: 3}}]
sources:
  mine: {root: mine, tokens: 900}
  other: {root: other, tokens: 1200}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Path:
    for source in ("mine", "other"):
        (tmp_path / source).mkdir()
        for name in "ab":
            texts = [f"Document {n} of {source}. " + f"Words of {name}, and more of them. " * 6 for n in range(24)]
            rows = [json.dumps({"id": f"{source}-{name}-{n}", "text": text}) for n, text in enumerate(texts)]
            (tmp_path / source / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "toy_step.py").write_text(STEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("toy_step", None)


def recipe(strategy: str = "backfill", *changes: str) -> Recipe:
    Path("recipe.yaml").write_text(RECIPE.replace("STRATEGY", strategy))
    return ettin_data.load_recipe("recipe.yaml").changed(*changes)


def kept_out(phase: Phase) -> set[tuple[str, str, int]]:
    """(source, file, record) of every document that the step leaves out, from the attribute's own files."""
    found = set()
    for path in (phase.folder / "attributes/every").rglob("*.parquet"):
        split = phase.folder / "pools" / path.parent.name / path.stem
        rows = pq.read_table(split / "documents.parquet").to_pylist()
        inputs = json.loads((split / "split.json").read_text())["inputs"]
        codes = read_attribute(path).codes
        found |= {
            (path.parent.name, inputs[row["file"]]["path"], row["position"]) for row, code in zip(rows, codes) if code
        }
    return found


@pytest.mark.parametrize("strategy", ["backfill", "best_fit"])
def test_what_a_step_leaves_out_is_in_no_part(folder: Path, strategy: str) -> None:
    run = ettin_data.build(recipe(strategy), "run")
    phase = Phase(folder / "run/pretrain", "pretrain")
    gone = kept_out(phase)
    assert len(gone) == 32
    for part in ("train", "validation"):
        for ledger in (phase.folder / part).rglob("documents.parquet"):
            source = ledger.parent.parent.name
            inputs = json.loads((ledger.parent / "split.json").read_text())["inputs"]
            rows = pq.read_table(ledger).to_pylist()
            assert not gone & {(source, inputs[row["file"]]["path"], row["position"]) for row in rows}
    assert run.sources["mine"].left_out == run.sources["other"].left_out == {"counted_out": 16}
    assert abs(run.sources["mine"].tokens - 900) <= 64
    assert all(report.sound for report in ettin_data.verify("run", full=True))


def test_a_finished_attribute_is_taken_as_it_is_and_made_again_when_something_changed(folder: Path) -> None:
    first = ettin_data.build(recipe(), "run")
    again = ettin_data.build(recipe(), "run")
    assert again.root == first.root and Path("calls").read_text() == "x"
    other = ettin_data.build(recipe("backfill", "attributes=[{step: 'toy_step:every', options: {nth: 4}}]"), "run")
    assert Path("calls").read_text() == "xx" and other.root != first.root
    plain = ettin_data.build(recipe("backfill", "attributes=[]"), "run")
    assert plain.sources["mine"].left_out == {}
    assert ettin_data.verify("run", full=True)[0].sound, "an attribute that no recipe names any more says nothing"
    assert ettin_data.build(recipe(), "run").root == first.root


def test_verify_finds_a_changed_attribute(folder: Path) -> None:
    ettin_data.build(recipe(), "run")
    path = min((folder / "run/pretrain/attributes/every/mine").glob("*.parquet"))
    attribute = read_attribute(path)
    path.write_bytes(Attribute(attribute.reasons, np.zeros_like(attribute.codes)).to_bytes())
    (report,) = ettin_data.verify("run")
    assert [finding.where for finding in report.findings] == [path.relative_to(folder / "run/pretrain").as_posix()]
    assert ettin_data.build(recipe(), "run").sources["mine"].left_out == {"counted_out": 16}
    assert ettin_data.verify("run", full=True)[0].sound


@pytest.mark.parametrize(
    ("step", "error", "told"),
    [
        ("toy_step:forgetful", BuildError, "said nothing of 4 splits"),
        ("toy_step:short", BuildError, "1 values for"),
        ("toy_step:evry", RecipeError, "did you mean every"),
        ("no_such_module:step", RecipeError, "cannot be imported"),
    ],
)
def test_a_step_that_is_none_is_refused(folder: Path, step: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        ettin_data.build(recipe("backfill", f"attributes=[{{step: '{step}'}}]"), "run")


def test_an_option_that_a_step_does_not_have_is_refused_before_anything_is_built(folder: Path) -> None:
    with pytest.raises(RecipeError, match="does not take these options"):
        ettin_data.build(recipe("backfill", "attributes=[{step: 'toy_step:every', options: {nht: 2}}]"), "run")
    assert not Path("run/pretrain/pools").exists()


def test_an_attribute_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="up to 2, with 1 reasons"):
        Attribute(("twin",), np.array([0, 2], np.uint8))
    (tmp_path / "a.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(ShardError, match="cannot be read"):
        read_attribute(tmp_path / "a.parquet")
