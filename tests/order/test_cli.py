"""The commands: what they print, and how they exit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_run import SmallRun
from typer.testing import CliRunner

from ettin_data.base.errors import OrderError
from ettin_data.cli.main import app


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_make_export_verify(published, tmp_path: Path) -> None:
    made = run("order", "make", published.data, "--batch", 16, "--interval-steps", 25, "--out", tmp_path / "o")
    assert made.exit_code == 0, made.output
    assert published.index.info.digest in made.output and "62 steps of 16" in made.output
    phase = tmp_path  # holds train/ and order/
    for _ in range(2):
        done = run("order", "export", phase, "--out", tmp_path / "out2", "--workers", 1, "--steps-per-file", 10)
        assert done.exit_code == 0 and "62 steps, 992 rows" in done.output
    verify = ["order", "verify", "--data", published.data, "--published", tmp_path / "out2", "--workers", 1]
    found = run(*verify, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["verdict"] == "agrees"
    other = run(*verify, "--seed", 20)
    assert other.exit_code == 1 and "another seed: 21" in other.output
    epochs = run(*verify, "--seed", 19, "--epochs", 3, "--json")
    said = json.loads(epochs.stdout)
    assert epochs.exit_code == 1 and said["inference"]["seeds_tried"] == 3
    assert any("epoch 2 of seed 19" in deviation["text"] for deviation in said["deviations"])
    assert run(*verify, "--sample", "10%").exit_code == 3  # agrees as far as it was checked
    published.files()[1].unlink()
    partial = run("order", "verify", "--data", published.data, "--published", published.out, "--workers", 1)
    assert partial.exit_code == 3 and "11-20" in partial.output
    nothing = run("order", "verify", "--data", published.data, "--published", tmp_path / "nowhere", "--workers", 1)
    assert nothing.exit_code == 4 and "no published order" in nothing.output
    explained = run("order", "explain", "--data", published.data, "--published", published.out)
    assert "seed 21" in explained.output


def test_trace_both_ways(small_run: SmallRun, tokenizer_file) -> None:
    step = run("trace", small_run.folder, "--phase", "pretrain", "--step", 2, "--rows", 3)
    assert step.exit_code == 0 and "pretrain step 2 (checkpoint_000001): 16 samples" in step.output
    assert "13 more rows" in step.output and "record" in step.output
    plain = run("trace", small_run.folder, "--phase", "decay", "--step", 1, "--rank", 1, "--world", 2, "--json")
    assert len(json.loads(plain.stdout)["rows"]) == 4
    doc = run("trace", small_run.folder, "--doc", "books-7", "--characters", 0)
    assert doc.exit_code == 0 and "pretrain: read" in doc.output and "decay: read 1.00 times" in doc.output
    url = run("trace", small_run.folder, "--url", "https://example.org/books/7", "--json")
    assert json.loads(url.stdout)[0]["id"] == "books-7"


@pytest.mark.parametrize(
    "words",
    [["--step", 1], ["--step", 1, "--doc", "x"], [], ["--doc", "nobody"], ["--phase", "pretrain", "--step", 10**6]],
)
def test_questions_that_have_no_answer(small_run: SmallRun, words: list[object]) -> None:
    assert isinstance(run("trace", small_run.folder, *words).exception, OrderError)


def test_view_and_exposure(small_run: SmallRun, tokenizer_file, tokenizer, tmp_path: Path) -> None:
    done = run("view", small_run.folder, "--phase", "decay", "--step", 2, "--out", tmp_path / "s.html")
    assert done.exit_code == 0 and (tmp_path / "s.html").read_text().startswith("<!doctype html>")
    found = run("exposure", small_run.folder, "--out", tmp_path / "all.parquet")
    assert found.exit_code == 0 and "pretrain + decay" in found.output and (tmp_path / "all.parquet").exists()
    plain = run("exposure", small_run.folder / "pretrain", small_run.folder / "decay", "--json")
    assert json.loads(plain.stdout)["documents"]["pretrain + decay"] == 10
    (tmp_path / "eval.txt").write_text(
        "a text that is nowhere in these random tokens, of more than thirteen tokens\nshort"
    )
    texts = run("exposure", small_run.folder, "--texts", tmp_path / "eval.txt", "--workers", 1)
    assert texts.exit_code == 0 and "0 of 2 texts stand in the data" in texts.output
    assert "eval.txt:1 question: has 1 words" in texts.output
    texts = run("exposure", small_run.folder, "--texts", tmp_path / "eval.txt", "--workers", 1, "--unit", "tokens")
    assert texts.exit_code == 0 and "0 of 2 texts share a 13-gram with the data (1 have fewer" in texts.output
