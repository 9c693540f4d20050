"""Code that changes under a run: versions and resolved options make splits stale, other code is said, never silent."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import tiny_run
from progress_log import ProgressLog

import ettin_data
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.verify import VerifyOptions, verify_phase

HERE = Path(__file__).parent
PACKAGE = Path(ettin_data.__file__).parent


def builds(root: Path, changes: dict[str, Any], *plans: tuple[Path, bool]) -> list[dict[str, Any]]:
    """Build (folder, whether with --rebuild) one after the other: root, splits tokenized, all stages, what was said."""
    recipe, results = tiny_run.tiny_recipe(root, splits=2, **changes), []
    for folder, rebuild in plans:
        log = ProgressLog()
        made = run.build_phase(recipe, BuildOptions(Path(folder), None, None, rebuild=rebuild, progress=log))
        sound = not verify_phase(folder / recipe.phase, VerifyOptions(full=True)).findings
        tokenized = sum(jobs for title, jobs in log.jobs() if title == "tokenize")
        said = "\n".join(log.said)
        results.append(
            {"root": made.root, "tokenized": tokenized, "idle": not log.stages, "said": said, "sound": sound}
        )
    return results


def with_code(edits: dict[str, tuple[str, str]], tmp_path: Path, *words: Any) -> list[dict[str, Any]]:
    """`builds` by a copy of the package in which one text of a module was replaced; the text "" makes a new module."""
    copy = tmp_path / "code"
    shutil.copytree(PACKAGE, copy / "ettin_data")  # with its bytecode: times are copied too
    for name, (old, new) in edits.items():
        path = copy / "ettin_data" / name
        text = path.read_text() if old else ""
        assert old in text, f"{name} has changed: the edit of this test no longer fits"
        path.write_text(text.replace(old, new) if old else new)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (copy, HERE, HERE.parent)))}
    arguments = [sys.executable, __file__, json.dumps(words, default=str)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert all(result["sound"] for result in results)
    return results


def test_other_code_of_the_same_versions_is_said_and_can_be_built_again(tiny_root: Path, tmp_path: Path) -> None:
    """The counterexample `reuse.yaml`: another draw of `backfill`, and nobody raised a version."""
    here, fresh = tmp_path / "run", tmp_path / "fresh"
    [first] = builds(tiny_root, {}, (here, False))
    assert "--rebuild" not in first["said"]
    edits = {"stages/pack/step.py": ("(seed, choice.name, source)", "(seed, choice.name.upper(), source)")}
    plans = [(here, False), (here, True), (here, True), (fresh, False)]
    reused, again, nothing, new = with_code(edits, tmp_path, tiny_root, {}, *plans)

    assert reused["root"] == first["root"] and reused["idle"]
    assert f"{first['tokenized']} of " in reused["said"]
    assert "splits were made by other code of the same versions; --rebuild makes them again" in reused["said"]
    assert again["root"] == new["root"] != first["root"]
    assert again["tokenized"] == first["tokenized"] and "--rebuild" not in again["said"]
    assert nothing["root"] == new["root"] and nothing["idle"]


def test_a_default_is_part_of_what_a_split_was_made_from(tiny_root: Path, tmp_path: Path) -> None:
    """The counterexample `filt.yaml`: the recipe says `length`, and what that means has changed."""
    here, fresh, filters = tmp_path / "run", tmp_path / "fresh", {"filters": "[length]"}
    [first] = builds(tiny_root, filters, (here, False))
    edits = {"stages/filters/length.py": ("min_chars: Count | None = 1\n", "min_chars: Count | None = 400\n")}
    changed, new = with_code(edits, tmp_path, tiny_root, filters, (here, False), (fresh, False))
    assert changed["tokenized"] >= first["tokenized"] and "--rebuild" not in changed["said"]
    assert changed["root"] == new["root"] != first["root"]


def test_a_strategy_is_one_module(tiny_root: Path, tmp_path: Path) -> None:
    """The one of the README: recipe, build and full verification ask it for options, layout, pieces and losses."""
    [code] = re.findall(r"```python\n(.*?)```", (PACKAGE / "stages/pack/README.md").read_text(), re.DOTALL)
    edits = {"stages/pack/halves.py": ("", code)}
    pack = {"pack.strategy": "halves", "pack.most": 50}
    [made, again] = with_code(edits, tmp_path, tiny_root, pack, (tmp_path / "run", False), (tmp_path / "run", False))
    assert made["root"] == again["root"] and again["idle"]
    assert list((tmp_path / "run").glob("*/pools/alpha/*-halves-128-50"))


if __name__ == "__main__":
    root, changes, *plans = json.loads(sys.argv[1])
    print(json.dumps(builds(Path(root), changes, *((Path(folder), again) for folder, again in plans))))
