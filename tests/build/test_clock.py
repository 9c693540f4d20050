"""How long each stage of a build took: all of the time is of a stage, workers count, and no digest knows of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ettin_data
from ettin_data.build.build import build_phase
from ettin_data.build.clock import Clock
from ettin_data.build.prepare import BuildOptions
from ettin_data.cli.main import app
from ettin_data.executor import ExecutorOptions
from ettin_data.inspect.metrics import exposition
from ettin_data.inspect.status import watchers, where_time_went
from ettin_data.recipe import load_recipe
from ettin_data.storage.worklog import Beat, read_beat
from ettin_data.tokenizer.encoder import TokenizerFile

STAGES = ["start", "plan", "tokenize", "copies", "mix", "train", "validation", "order", "records"]
RECIPE = """
phase: mine
length: 64
filters: []
split_bytes: 1
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 8}
sources:
  texts: {root: texts, passes: 1}
"""


def test_stages_follow_each_other() -> None:
    clock = Clock()
    clock.beat = Beat.of_this_process("")
    time.sleep(0.02)
    clock.ended("one")
    sum(range(400_000))
    clock.ended("two")
    time.sleep(0.02)
    clock.ended("one")
    assert list(clock.stages) == ["one", "two"] == list(clock.beat.stages)
    assert clock.stages["one"].seconds >= 0.04 and clock.stages["one"].cpu_s < 0.02 < 0.04
    assert clock.stages["two"].cpu_s > 0 and abs(sum(s.seconds for s in clock.stages.values()) - clock.seconds) < 0.06


def test_a_beat_carries_them(tmp_path: Path) -> None:
    clock = Clock()
    clock.beat = Beat.of_this_process("")
    clock.ended("plan")
    clock.beat.write(tmp_path / "beat")
    assert read_beat(tmp_path / "beat") == clock.beat
    older = json.loads((tmp_path / "beat").read_text())
    del older["stages"]
    (tmp_path / "beat").write_text(json.dumps(older))
    found = read_beat(tmp_path / "beat")
    assert found is not None and found.stages == {}


def test_a_run_says_where_its_time_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    for name in "ab":
        lines = [json.dumps({"id": f"{name}{n}", "text": f"Document {n} of {name}. " * 4}) for n in range(40)]
        Path("texts", f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    Path("recipe.yaml").write_text(RECIPE)
    recipe = load_recipe("recipe.yaml")
    plain = build_phase(recipe, BuildOptions(Path("plain"), executor=None))
    run = build_phase(recipe, BuildOptions(Path("run"), executor=ExecutorOptions(workers=1)))
    for made in (plain, run):
        assert list(made.stages) == STAGES
        assert sum(spent.seconds for spent in made.stages.values()) == pytest.approx(made.seconds, abs=0.06)
    assert run.root == plain.root and run.digests == plain.digests
    assert run.stages["tokenize"].cpu_s > 0.3  # its worker's start and work, which this process waited for
    assert "tokenize " in where_time_went({name: spent.model_dump() for name, spent in run.stages.items()})
    (watcher,) = watchers(Path("run"))
    status = watcher.look()
    assert status.stages["tokenize"] == run.stages["tokenize"].model_dump()
    assert f'ettin_data_stage_seconds{{phase="mine",stage="plan"}} {run.stages["plan"].seconds:.15g}' in exposition(
        [status]
    )
    assert "took: " in CliRunner().invoke(app, ["status", "run"]).output
    (report,) = ettin_data.verify("run", full=True)
    assert report.sound, [str(finding) for finding in report.findings]
