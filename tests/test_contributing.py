"""CONTRIBUTING.md, done as written: each section in a copy of the package, and the files that it touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ettin_data.tokenizer.encoder import TokenizerFile

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^```(?:python|yaml)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE = dict(re.findall(r"^\| (an? [^|]+|another [^|]+) \| (.+) \|$", PAGE, re.MULTILINE))


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("wish", TABLE)
def test_a_wish_costs_what_the_table_says(wish: str, tmp_path: Path, tokenizer_file: TokenizerFile) -> None:
    package = tmp_path / "here/ettin_data"
    # With what is compiled already, which saves most of the time; not with what another process is just writing.
    shutil.copytree(ROOT / "ettin_data", package, ignore=shutil.ignore_patterns("*.pyc.*"))
    before = {path for path in package.rglob("*") if path.is_file()}
    work = tmp_path / "work"
    work.mkdir()
    scripts = []
    for name, text in BLOCK.findall(section(wish[0].upper() + wish[1:])):
        if not name:
            scripts.append(text)
            continue
        path = (package.parent if name.startswith("ettin_data/") else work) / name
        assert not path.exists(), f"{name} is there already: a wish adds, it does not change"
        path.write_text(text)
    touched = sorted(p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file() and p not in before)
    assert touched == re.findall(r"`([^`]+)`", TABLE[wish])
    path = os.pathsep.join([str(package.parent), str(work)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    assert scripts
    for script in scripts:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=work, env=environment, capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stderr[-3000:]


def test_the_table_has_a_section_for_each_wish() -> None:
    assert len(TABLE) == 8
    for wish in TABLE:
        assert BLOCK.search(section(wish[0].upper() + wish[1:])), wish
