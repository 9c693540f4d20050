"""Code that changes under a run: versions and resolved options make splits stale, other code is said, never silent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import tiny_run

import ettin_data
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions

PACKAGE = Path(ettin_data.__file__).parent
NO_FILTER: dict[str, Any] = {}
LENGTH = {"filters": "[length]"}
PUBLISHED_DRAW = "(seed, choice.name, source)"


def builds(root: Path, changes: dict[str, Any], plans: list[tuple[str, bool]]) -> list[dict[str, Any]]:
    """Build (folder, whether with --rebuild) one after the other: the root of each, its stages, what it said."""
    recipe, results = tiny_run.tiny_recipe(root, splits=2, **changes), []
    for folder, rebuild in plans:
        stages: Counter[str] = Counter()
        said: list[str] = []
        options = BuildOptions(
            Path(folder), None, ExecutorOptions(workers=1), rebuild=rebuild,
            on_stage=lambda name, n, _, stages=stages: stages.update({name: n}), on_message=said.append,
        )  # fmt: skip
        made = run.build(recipe, options)
        results.append({"root": made["root"], "stages": dict(stages), "said": "\n".join(said)})
    return results


def with_code(edits: dict[str, tuple[str, str]], tmp_path: Path, *words: Any) -> list[dict[str, Any]]:
    """`builds` by a copy of the package in which a text was replaced in some modules; "" makes a module."""
    copy = tmp_path / "code"
    shutil.copytree(PACKAGE, copy / "ettin_data", ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in edits.items():
        path = copy / "ettin_data" / name
        text = path.read_text() if old else ""
        assert old in text, f"{name} has changed: the edit of this test no longer fits"
        path.write_text(text.replace(old, new) if old else new)
    environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{Path(__file__).parent}"}
    arguments = [sys.executable, __file__, json.dumps([str(words[0]), *words[1:]])]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_other_code_of_the_same_versions_is_said_and_can_be_built_again(tiny_root: Path, tmp_path: Path) -> None:
    """The counterexample `reuse.yaml`: another draw of `backfill`, and nobody raised a version."""
    here, fresh = str(tmp_path / "run"), str(tmp_path / "fresh")
    [first] = builds(tiny_root, NO_FILTER, [(here, False)])
    assert "--rebuild" not in first["said"]
    edits = {"stages/pack/step.py": (PUBLISHED_DRAW, PUBLISHED_DRAW.replace("name", "name.upper()"))}
    plans = [(here, False), (here, True), (here, True), (fresh, False)]
    reused, again, nothing, new = with_code(edits, tmp_path, tiny_root, NO_FILTER, plans)

    assert reused["root"] == first["root"] and not reused["stages"]
    splits = first["stages"]["tokenize"]
    assert f"{splits} of " in reused["said"] and "splits were made by other code" in reused["said"]
    assert again["root"] == new["root"] != first["root"]
    assert again["stages"]["tokenize"] == splits and "--rebuild" not in again["said"]
    assert nothing["root"] == new["root"] and not nothing["stages"]


def test_a_default_is_part_of_what_a_split_was_made_from(tiny_root: Path, tmp_path: Path) -> None:
    """The counterexample `filt.yaml`: the recipe says `length`, and what that means has changed."""
    here, fresh = str(tmp_path / "run"), str(tmp_path / "fresh")
    [first] = builds(tiny_root, LENGTH, [(here, False)])
    edits = {"stages/filters/length.py": ("min_chars: Count | None = 1,", "min_chars: Count | None = 400,")}
    changed, new = with_code(edits, tmp_path, tiny_root, LENGTH, [(here, False), (fresh, False)])
    assert changed["stages"]["tokenize"] == first["stages"]["tokenize"]
    assert changed["root"] == new["root"] != first["root"] and "--rebuild" not in changed["said"]


if __name__ == "__main__":
    print(json.dumps(builds(Path((words := json.loads(sys.argv[1]))[0]), *words[1:])))
