"""Benchmarks by name, read from a hub through its real client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_server import serve

from ettin_data.base.errors import RecipeError, SourceError
from ettin_data.stages.contamination.benchmarks import BENCHMARKS, HubFiles
from ettin_data.stages.contamination.texts import TextsChoice, read_files

# The endpoint of the hub's client is fixed when it is imported: it is driven in a process of its own.
SCRIPT = """
import json, sys
from ettin_data.base.errors import EttinError
from ettin_data.stages.contamination.texts import TextsChoice, read_files
found = {}
for benchmark in json.loads(sys.argv[1]):
    try:
        read = read_files([TextsChoice.named(benchmark)])
        found[benchmark] = [[file.describe(), [[t.name, t.text, t.answer] for t in file.texts]] for file in read]
    except EttinError as error:
        found[benchmark] = error.full_text()
print(json.dumps(found))
"""


def paths(of: HubFiles) -> list[str]:
    """Files that an address means, as the hub has them."""
    parts = re.split(r"\{([^}]*)\}", of.address.removeprefix("hf://").replace("refs/convert", "refs-convert"))
    parts = [part.replace("convert/parquet", "convert-parquet") for part in parts]
    chosen = product(*(part.split(",") if number % 2 else [part] for number, part in enumerate(parts)))
    return ["".join(each).replace("@refs-convert-parquet", "").replace("*", "-00000-of-00001") for each in chosen]


def write(root: Path, of: HubFiles) -> None:
    for path in paths(of):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        columns = [key for key in of[1:] if key]
        rows = [{key: f"{path} {key} {n}" for key in columns} | {"label": n} for n in range(2)]
        rows = [row | ({"choices": ["one", "two"]} if "choices" in row else {}) for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), root / path)


def test_benchmarks_are_read_from_the_hub_by_name(tmp_path: Path) -> None:
    for of in [of for some in BENCHMARKS.values() for of in some if "scifact" not in of.address]:
        write(tmp_path / "www", of)
    with serve(tmp_path / "www") as running:
        environment = {**os.environ, "HF_ENDPOINT": running.url, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", SCRIPT, json.dumps([*BENCHMARKS])]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    assert "mteb/scifact" in found.pop("mteb"), "one that is not there is named"
    for benchmark, files in found.items():
        expected = [(path, of) for of in BENCHMARKS[benchmark] for path in sorted(paths(of))]
        assert [said["file"] for said, _ in files] == [f"hf://{path}" for path, _ in expected]
        for (said, texts), (path, of) in zip(files, expected, strict=True):
            data = (tmp_path / "www" / path).read_bytes()
            assert said["bytes"] == len(data) and len(said["xxh3_64"]) == 16 and said["tag"] and said["texts"] > 0
            name = path.removeprefix("datasets/")
            assert texts[0][:2] == [f"{name}:0 question", f"{path} {of.question} 0"]
    (_, texts), *_ = found["gsm8k"]
    assert texts[0][2] == "datasets/openai/gsm8k/main/test--00000-of-00001.parquet answer 0"
    (_, texts), *_ = found["mmlu"]
    assert texts[1][1] == "one\ntwo", "choices are one text"


def test_texts_of_other_stores_and_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"text": "where is the one question of this file"}')
    with serve(tmp_path) as running:
        (file,) = read_files([TextsChoice(file=f"{running.url}/q.jsonl")])
        assert [text.name for text in file.texts] == ["q.jsonl:0 question"] and file.content["bytes"] == 50
        with pytest.raises(SourceError, match="no file matches"):
            read_files([TextsChoice(file=f"{running.url}/none.jsonl")])
        with pytest.raises(RecipeError, match="cannot be read"):
            read_files([TextsChoice(file=f"{running.url}/q.jsonl", question="else")])
    for wrong in ({}, {"file": "a", "benchmark": "gsm8k"}, {"benchmark": "none"}):
        with pytest.raises(ValueError):
            TextsChoice.model_validate(wrong)
