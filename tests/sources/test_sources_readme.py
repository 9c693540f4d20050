"""The README's family and format, each put into a copy of the package as the one file that it is, and built from."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import source_kit as kit

import ettin_data

PACKAGE = Path(ettin_data.__file__).parent
WORDS = "river stone letter garden evening bridge winter market captain paper window history number village".split()
RECIPE = """
phase: decay
length: 64
pack: {min_length: 16, always_skip: 4}
order: {batch: 2, interval_steps: 2}
validation: 0.1
sources:
  haiku: {tokens: 600}
  notes: {root: NOTES, format: tsv, tokens: 600}
"""


def text(number: int) -> str:
    return "\n".join(" ".join(WORDS[(number * 7 + i * j) % len(WORDS)] for i in range(12)) for j in range(1, 5))


def test_a_family_and_a_format_are_one_module_each(tmp_path: Path) -> None:
    family, format = re.findall(r"```python\n(.*?)```", (PACKAGE / "sources/README.md").read_text(), re.DOTALL)
    copy = tmp_path / "copy/ettin_data"
    shutil.copytree(PACKAGE, copy)
    kit.write(copy / "sources/families/haiku.py", family.encode())
    kit.write(copy / "sources/formats/tsv.py", format.encode())
    for year in (2001, 2002, 2003):
        rows = [{"id": f"{year}-{n}", "text": text(n + year)} for n in range(20)]
        kit.write(tmp_path / f"mirror/data.example.org/haiku/haiku-{year}.jsonl", kit.jsonl(rows))
    notes = [f"n{n}\t{text(n)}".replace("\n", "\\n") for n in range(40)] + ["empty\t"]
    kit.write(tmp_path / "notes/a.tsv.gz", kit.compress("\n".join(notes[:20]).encode(), "a.gz"))
    kit.write(tmp_path / "notes/b.tsv", "\n".join(notes[20:]).encode())
    kit.write(tmp_path / "toy.yaml", RECIPE.replace("NOTES", str(tmp_path / "notes")).encode())
    command = [sys.executable, "-m", "ettin_data.cli", "build", str(tmp_path / "toy.yaml")]
    options = ["--out", str(tmp_path / "run"), "--sources-root", str(tmp_path / "mirror"), "--workers", "1"]
    done = subprocess.run(
        [*command, *options, "--set", "bad_input.max_rejects=0.1"],
        env={**os.environ, "PYTHONPATH": str(copy.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads((tmp_path / "run/decay/run.json").read_text())["sources"]
    assert made["haiku"]["documents"] and made["notes"]["documents"]
    [rejected] = (tmp_path / "run/decay/rejects/notes").glob("*.jsonl")
    assert json.loads(rejected.read_text())["reason"] == "text_empty"
