"""Filters with values, personal data and evaluation texts decide the same whoever builds, and after kills."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from contamination_kit import rng_of, sentence, written

from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions
from ettin_data.recipe import load_recipe
from ettin_data.storage import records
from ettin_data.storage.phase import Phase

FILES, DOCUMENTS = 6, 120
SCRIPT = """
import sys
from pathlib import Path
from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions
from ettin_data.recipe import load_recipe
build_phase(load_recipe(sys.argv[1]), BuildOptions(Path(sys.argv[2]), executor=ExecutorOptions(workers=1)))
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A source of some files, one a split, with texts that each of the steps drops, changes or writes down."""
    folder = tmp_path_factory.mktemp("decisions")
    rng = rng_of("decisions")
    questions = [sentence(rng, rng.choice([6, 12, 30])) for _ in range(60)]
    (folder / "evals.jsonl").write_text("\n".join(json.dumps({"q": question}) for question in questions))
    (folder / "mine").mkdir()
    for file in range(FILES):
        texts = [f"{sentence(rng, rng.choice([8, 30, 70]))} of the and to that" for _ in range(DOCUMENTS)]
        for number in range(0, DOCUMENTS, 9):
            texts[number] += f" {written('upper', rng.choice(questions), rng)} Ask a.b@example.org or 8.8.4.4 today."
        rows = [{"id": f"{file}-{number}", "text": text} for number, text in enumerate(texts)]
        (folder / f"mine/{file}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said: dict[str, Any] = {
        "phase": "pretrain", "length": 64, "pack": {"min_length": 16, "always_skip": 4}, "order": {"batch": 4},
        "split_bytes": 1,
        "filters": ["exact_duplicate", {"length": {"min_words": 15}}, {"gopher_quality": {"min_doc_words": 20}}],
        "pii": {"email": "replace", "ip": "replace", "drop_above": 5},
        "decontaminate": {"texts": [{"file": str(folder / "evals.jsonl"), "question": "q"}], "action": "mask"},
        "sources": {"mine": {"root": str(folder / "mine"), "passes": 1}},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(said))
    return folder / "recipe.yaml"


def decisions(out: Path) -> dict[str, Any]:
    """All that a build says of what it kept, dropped, changed and why."""
    phase = Phase(out / "pretrain", "pretrain")
    run = records.read_run(phase)
    row = run.sources["mine"]
    return {
        "root": run.root,
        "rejects": {path.name: path.read_text() for path in sorted((phase.folder / "rejects/mine").glob("*"))},
        "counts": (row.documents, row.filtered, row.noted, row.steps),
        "record": json.loads(phase.decontamination_json.read_text()),
    }


def built(recipe: Path, out: Path, executor: ExecutorOptions | None) -> dict[str, Any]:
    build_phase(load_recipe(recipe), BuildOptions(out, executor=executor))
    return decisions(out)


@pytest.mark.slow
def test_decisions_are_the_same_for_any_workers_and_after_kills(recipe: Path, tmp_path: Path) -> None:
    alone = built(recipe, tmp_path / "alone", None)
    _, filtered, noted, steps = alone["counts"]
    assert len(alone["rejects"]) == FILES and noted["contaminated"] > 0 and filtered["too_few_words"] > 0
    assert steps["gopher_quality"]["measured"] and steps["pii"]
    assert any('"value"' in lines for lines in alone["rejects"].values())
    for workers in (1, 3):
        assert built(recipe, tmp_path / f"local-{workers}", ExecutorOptions(workers=workers)) == alone
    assert after_kills(recipe, tmp_path / "killed") == alone


def after_kills(recipe: Path, out: Path) -> dict[str, Any]:
    """A build that was killed with its workers, each time when it had finished one more split."""
    kills = 0
    for wanted in (1, 2, 4):
        command = [sys.executable, "-c", SCRIPT, str(recipe), str(out)]
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("pretrain/pools/mine/*/split.json"))) < wanted:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills, "none of the builds was caught at work"
    return built(recipe, out, ExecutorOptions(workers=2))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_decisions_are_the_same_on_ray(recipe: Path, tmp_path: Path) -> None:
    alone = built(recipe, tmp_path / "alone", None)
    assert built(recipe, tmp_path / "ray", ExecutorOptions("ray", workers=2)) == alone
