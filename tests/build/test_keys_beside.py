"""`dedup --keys`: a finished phase gets the keys that it was built without, and is otherwise what it was."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ettin_data
from ettin_data.base.errors import BuildError, EttinError, SourceError
from ettin_data.build.copies import added_keys
from ettin_data.build.pool import SplitJob
from ettin_data.cli import main as cli
from ettin_data.tokenizer.encoder import TokenizerFile

RECIPE = """
phase: pretrain
length: 64
split_bytes: 12KB
pack: {strategy: STRATEGY, min_length: 16, always_skip: 4}
order: {batch: 4}
bad_input: {max_rejects: 0.1}
sources:
  novels: {root: novels, tokens: 1500}
  web: {root: web, tokens: 1500}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Path:
    """Two sources, of which `web` has ten texts of `novels` in capitals, and a document without words of its own."""
    rng = random.Random(7)
    novels = [" ".join(f"w{rng.randrange(2000)}" for _ in range(160)) for _ in range(40)]
    web = [" ".join(f"w{rng.randrange(2000)}" for _ in range(160)) for _ in range(20)] + [
        text.upper() for text in novels[:10]
    ]
    for source, texts in (("novels", novels), ("web", [*web, "x"])):
        (tmp_path / source).mkdir()
        lines = [json.dumps({"id": f"{source}-{n}", "text": text}) for n, text in enumerate(texts)]
        (tmp_path / source / "a.jsonl").write_text("\n".join([*lines[:22], "{"]))
        (tmp_path / source / "b.jsonl").write_text("\n".join(lines[22:]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(run: str, *lines: str, strategy: str = "backfill", phase: str = "pretrain") -> Any:
    text = "\n".join([RECIPE.replace("STRATEGY", strategy).replace("phase: pretrain", f"phase: {phase}"), *lines])
    Path("recipe.yaml").write_text(text)
    return ettin_data.build(ettin_data.load_recipe("recipe.yaml"), run)


def dedup(*words: object) -> Any:
    done = CliRunner().invoke(cli.app, ["dedup", *map(str, words), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def contents(phase: Path) -> dict[str, bytes]:
    files = (path for path in phase.rglob("*") if path.is_file() and path.name != ".lock")
    return {name: path.read_bytes() for path in files if not (name := str(path.relative_to(phase))).startswith("keys/")}


@pytest.mark.parametrize("strategy", ["backfill", "best_fit"])
def test_a_finished_phase_gets_keys_and_is_what_it_was(folder: Path, strategy: str) -> None:
    build("plain", strategy=strategy)
    phase = folder / "plain/pretrain"
    before = contents(phase)
    splits = len(list((phase / "pools").glob("*/*-tokenized-*")))
    assert dedup("--keys", "plain") == {"phase": "pretrain", "made": splits, "there": 0}
    shutil.rmtree(min((phase / "keys/web").glob("*-tokenized-*")))  # as a kill would have left it
    assert dedup("plain", "--keys") == {"phase": "pretrain", "made": 1, "there": splits - 1}
    assert contents(phase) == before and ettin_data.verify("plain")[0].sound
    build("keyed", "validation_twins: near", strategy=strategy)
    found, known = dedup("plain", "--measure"), dedup("keyed", "--measure")
    assert found == known and sum(row["documents"] for row in found["matrix"]) == 10
    assert all(row["tokens"] > 0 for row in found["matrix"])


def test_a_later_build_takes_the_keys_and_an_earlier_phase_has_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("plain")
    with pytest.raises(BuildError, match="ettin-data dedup"):
        build("plain", "dedup: {earlier: [plain/pretrain]}", phase="decay")
    dedup("plain/pretrain", "--keys")
    after = build("plain", "dedup: {earlier: [plain/pretrain]}", phase="decay")
    assert sum(row.left_out.get("same_text", 0) for row in after.sources.values()) > 10

    def finished(job: SplitJob) -> Any:
        assert job.problem() is None, "a text was read again"
        return built(job)

    built = added_keys.build_split
    monkeypatch.setattr(added_keys, "build_split", finished)
    again = build("plain", "dedup: {priority: [novels]}")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    fresh = build("fresh", "dedup: {priority: [novels]}")
    assert again.root == fresh.root and again.sources["web"].left_out == {"same_text": 10}
    assert not list((folder / "plain/pretrain/keys").rglob("*.parquet"))
    assert ettin_data.verify("plain/pretrain", full=True)[0].sound


def test_texts_that_are_not_there_any_more_are_not_read(folder: Path) -> None:
    build("plain")
    path = folder / "novels/a.jsonl"
    path.write_text(path.read_text().replace("w1", "w2"))
    with pytest.raises(SourceError, match=r"a\.jsonl"):
        dedup("plain", "--keys")
    (folder / "plain/pretrain/run.json").unlink()
    with pytest.raises(EttinError, match="finished"):
        dedup("plain/pretrain", "--keys")
