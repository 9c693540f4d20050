"""The code in `stages/README.md` runs, and does what the page says."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from filter_kit import corpus_recipe, document

import ettin_data
from ettin_data.stages import filters
from ettin_data.stages.filters import registry
from ettin_data.storage import split as markers

README = (Path(ettin_data.__file__).parent / "stages/README.md").read_text()


def blocks(kind):
    return re.findall(rf"```{re.escape(kind)}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the page's module, and a recipe with the page's filters."""
    (mine,) = blocks("python file=mine.py")
    (tmp_path / "mine.py").write_text(mine)
    (filters,) = blocks("yaml")
    (tmp_path / "recipe.yaml").write_text(corpus_recipe(tmp_path, {"web": {}}, **yaml.safe_load(filters)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_code_of_the_page_runs(folder):
    known = {"__name__": "readme"}
    for code in blocks("python"):
        exec(compile(code, "stages/README.md", "exec"), known)
    finished = [job.folder for job in known["jobs"]]
    assert len(finished) == 2
    for split in finished:
        assert markers.read_marker(split).samples
    built = files(finished[0])
    assert built.pop("split.json")
    rejected = {"rejects.jsonl": known["jobs"][0].rejects.read_bytes()}
    assert files(folder / "split") == {**built, **rejected}
    tally = markers.read_marker(finished[0]).tally
    kept = [json.loads(line) for line in (folder / "kept/00000.jsonl").read_bytes().splitlines()]
    assert len(kept) == tally["documents"]
    assert set(tally["filtered"]) >= {"few_letters"}
    good = (folder / "good/00000.jsonl").read_bytes().splitlines()
    assert 0 < len(good) < len(kept)


def test_a_module_in_the_folder_is_a_filter(tmp_path, monkeypatch):
    (calm,) = blocks("python file=ettin_data/stages/filters/calm.py")
    (tmp_path / "calm.py").write_text(calm)
    monkeypatch.setattr(filters, "__path__", [*filters.__path__, str(tmp_path)])
    registry.ours.cache_clear()
    try:
        (chosen,) = registry.choose_filters([{"calm": {"most": 0.2}}])
        assert chosen.describe() == {"name": "calm", "version": 1, "options": {"most": 0.2}}
        assert [d.text for d in chosen.step().run(map(document, ("No!", "No more!")))] == ["No more!"]
    finally:
        registry.ours.cache_clear()
        sys.modules.pop("ettin_data.stages.filters.calm", None)
