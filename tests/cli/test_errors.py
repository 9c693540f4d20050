"""Mistakes that people make: what, where, why and what to do, no traceback, and an exit status by kind."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from ettin_data.base.errors import ExitStatus
from ettin_data.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
OK, WRONG, USAGE, UNFINISHED, NOT_FOUND = (
    ExitStatus.OK,
    ExitStatus.WRONG,
    ExitStatus.USAGE,
    ExitStatus.INCOMPLETE,
    ExitStatus.NOT_FOUND,
)

RECIPE = """
phase: pretrain
length: 64
filters: []
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 4}
tokenizer: {name: words.json, sha256: DIGEST}
sources:
  mine: {root: mine.jsonl, tokens: 300}
  yours: {root: yours, tokens: 200}
"""
PLAN = ("plan", "recipe.yaml", "--out", "run")
BUILD = ("build", "recipe.yaml", "--workers", "1", "--out", "run")
TO = BUILD[:-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its sources, and what people give instead of them by mistake."""
    folder = tmp_path_factory.mktemp("home")
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"Some words , and a few more of them .".split()]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in words[:5]])
    tokenizer.save(str(folder / "words.json"))
    digest = hashlib.sha256((folder / "words.json").read_bytes()).hexdigest()
    (folder / "recipe.yaml").write_text(RECIPE.replace("DIGEST", digest))
    lines = [json.dumps({"id": str(n), "text": "Some words, and a few more of them. " * 5}) for n in range(60)]
    (folder / "mine.jsonl").write_text("\n".join(lines))
    (folder / "yours").mkdir()
    for part in range(3):
        (folder / f"yours/{part}.jsonl").write_text("\n".join(lines))
    (folder / "file").write_text("a file")
    (folder / "empty").mkdir()
    (folder / "bad.yaml").write_text("just: [unclosed\nmore: lines\n")
    (folder / "tabs.yaml").write_text("phase: decay\n\tlength: 4\n")
    (folder / "str.yaml").write_text("just a text")
    (folder / "bin.yaml").write_bytes(b"\x00\x01\xff\xfe")
    (folder / "typo.yaml").write_text("phase: decay\nlenght: 64\nseed: many\nsources:\n  arxvi: {token: 5M}\n")
    (folder / "broken.jsonl").write_text('{"id": 1, "text": \n{"id": 2}\n')
    return folder


CASES = {
    # usage: what was asked for is wrong
    "nan": ((*PLAN, "--scale", "nan"), USAGE, "--scale nan"),
    "inf": ((*PLAN, "--scale", "inf"), USAGE, "--scale inf"),
    "scale 0": ((*PLAN, "--scale", "0"), USAGE, "--scale 0"),
    "scale -1": ((*PLAN, "--scale", "-1"), USAGE, "--scale -1"),
    "a key": ((*PLAN, "--set", "lenght=4096"), USAGE, "(?s)'lenght'.*did you mean length"),
    "a source's key": ((*PLAN, "--set", "sources.mne.tokens=5"), USAGE, "(?s)'mne'.*did you mean mine"),
    "a count": ((*PLAN, "--set", "sources.mine.tokens=lots"), USAGE, "'lots'"),
    "passes": ((*BUILD, "--set", "sources.mine.tokens=9B"), USAGE, "(?s)'mine' holds about.*max_epochs is 4"),
    "a share": ((*BUILD, "--share", "0/4"), USAGE, "(?s)'0/4'.*counted from 1"),
    "a share's letters": ((*BUILD, "--share", "a/b"), USAGE, "'a/b'"),
    "YAML": (("plan", "bad.yaml"), USAGE, "(?s)bad.yaml.*line 2.*correct line 1"),
    "YAML with tabs": (("plan", "tabs.yaml"), USAGE, "(?s)tabs.yaml.*line 2"),
    "no mapping": (("plan", "str.yaml"), USAGE, "(?s)not a mapping.*recipe init"),
    "no text": (("plan", "bin.yaml"), USAGE, "(?s)no text.*bin.yaml"),
    "a folder": (("plan", "empty"), USAGE, "(?s)is a folder.*empty"),
    "all problems": (("plan", "typo.yaml"), USAGE, "(?s)(?=.*lenght)(?=.*mean length)(?=.*seed)(?=.*many)(?=.*arxvi)"),
    "a filter": ((*PLAN, "--set", "filters=[gopher_qualty]"), USAGE, "did you mean gopher_quality"),
    "a strategy": ((*PLAN, "--set", "pack.strategy=bestfit"), USAGE, "best_fit"),
    "out is a file": ((*TO, "file"), USAGE, "(?s)no folder can be made.*is a file.*--out"),
    "out below a file": ((*TO, "file/x/y"), USAGE, "(?s)is a file.*--out"),
    "out in /proc": ((*TO, "/proc/nope"), USAGE, "(?s)/proc.*takes no folders.*--out"),
    "out in a bucket": ((*TO, "s3://bucket/x"), USAGE, "(?s)s3:.*address.*folder.*ettin-data publish RUN s3://"),
    "a run in a bucket": (("verify", "s3://bucket/x"), USAGE, "(?s)s3:.*address.*ettin-data publish"),
    "a target": (("publish", "made", "ftp://host/x"), USAGE, "(?s)'ftp://host/x'.*hf://ORG/NAME, s3://"),
    "a target on this machine": (("publish", "made", "out"), USAGE, "(?s)'out'.*folder of this machine.*hf://"),
    "a run for a phase": (("order", "export", "made", "--out", "x"), USAGE, "(?s)a run, not one of its.*pretrain"),
    "after what is built": (("build", "recipe.yaml", "--out", "made", "--after", "made/pretrain"), USAGE,
                            "(?s)what the build would change.*cp -al"),
    "a target without a name": (("publish", "made", "hf://me"), USAGE, "(?s)hf://me.*owner and a name"),
    "a command": (("biuld", "decay"), USAGE, "Did you mean 'build'"),
    "no recipe": (("build",), USAGE, "Missing argument"),
    "options first": (("--out", "runs/x", "build", "decay"), USAGE, r"ettin-data build decay --out runs/x"),
    "workers": ((*BUILD, "--workers", "zero"), USAGE, "--workers"),
    "no workers": ((*BUILD, "--workers", "0"), USAGE, "more than 0"),
    "slurm": ((*BUILD, "--executor", "slurm"), USAGE, "(?s)'slurm'.*--share"),
    "memory": ((*BUILD, "--memory", "lots"), USAGE, "(?s)--memory 'lots'.*64MiB"),
    "cache size": ((*BUILD, "--cache-size", "big"), USAGE, "--cache-size 'big'"),
    "two ways to trace": (("trace", "made", "--step", "1", "--doc", "1"), USAGE, "--step"),
    # what was named is not there
    "a recipe's name": (("plan", "decy"), NOT_FOUND, "(?s)'decy'.*did you mean decay"),
    "a recipe's file": (("plan", "nothing.yaml"), NOT_FOUND, "nothing.yaml"),
    "a mirror": (("plan", "decay", "--sources-root", "/no/such/mirror"), NOT_FOUND, "/no/such/mirror"),
    "a source's files": ((*PLAN, "--set", "sources.mine.root=empty"), NOT_FOUND, "(?s)'mine'.*empty"),
    "a source's path": ((*PLAN, "--set", "sources.mine.root=nowhere.txt"), NOT_FOUND, "(?s)correct the path.*nowhere"),
    "a run": (("verify", "nothing"), NOT_FOUND, "(?s)no run here.*no such folder"),
    "a run that is a file": (("verify", "file"), NOT_FOUND, "(?s)no run here.*it is a file"),
    "a status": (("status", "empty"), NOT_FOUND, "(?s)no run here.*no folder in it"),
    "shards": (("inspect", "empty"), NOT_FOUND, "no index.json"),
    "a step": (("trace", "made", "--step", "99999"), NOT_FOUND, "(?s)step 99999.*steps 1 to"),
    "a publication": (("order", "verify", "--data", "made/pretrain/train", "--published", "empty"), NOT_FOUND,
                      "no published order"),
    "a phase": (("trace", "made", "--phase", "decay", "--step", "1"), NOT_FOUND, "(?s)'decay'.*pretrain"),
    # unfinished
    "a run that was stopped": (("verify", "stopped", "--workers", "1"), UNFINISHED, "unfinished"),
    "a trace in it": (("trace", "stopped", "--step", "1"), UNFINISHED, "has not ended"),
    "a share that failed": ((*TO, "cut", "--set", "sources.yours.root=cut.gz", "--share", "1/1"),
                            UNFINISHED, "(?s)1 damaged file.*on_bad_file=skip"),
    # damage
    "a damaged run": (("verify", "damaged", "--workers", "1"), WRONG, "1 wrong"),
    "bad records": ((*TO, "bad", "--set", "sources.mine.root=broken.jsonl", "--set", "sources.mine.tokens=9"), WRONG,
                    "cannot be used"),
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(home: Path) -> None:
    """A run, one that was stopped, and one of which a byte was changed; and a gzip file that ends early."""
    import gzip
    import os
    import shutil

    import ettin_data

    here = Path.cwd()
    os.chdir(home)
    try:
        ettin_data.build(ettin_data.load_recipe("recipe.yaml"), "made")
    finally:
        os.chdir(here)
    shutil.copytree(home / "made", home / "stopped")
    (home / "stopped/pretrain/run.json").unlink()
    shutil.copytree(home / "made", home / "damaged")
    shard = next((home / "damaged").glob("pretrain/pools/mine/*/shard.00000.mds"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (home / "cut.gz").mkdir()
    whole = gzip.compress((home / "mine.jsonl").read_bytes())
    (home / "cut.gz/a.jsonl.gz").write_bytes(whole[: len(whole) // 2])


def said(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["ettin-data", *words])
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    shown = capsys.readouterr()
    return status, shown.out + shown.err


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_said(name: str, home: Path, runs: None, capsys, monkeypatch) -> None:
    words, status, part = CASES[name]
    monkeypatch.chdir(home)
    ended, text = said(words, capsys, monkeypatch)
    assert re.search(part, text), text
    assert ended == status, text
    assert "Traceback" not in text
    error = text[text.index("error ") :] if "error " in text else ""
    assert len(error.splitlines()) <= 9 and max([0, *map(len, error.splitlines())]) < 600, error
    if error and status in (USAGE, NOT_FOUND):
        assert "  do: " in error, error


def test_a_plan_doubts_what_a_build_would_refuse(home: Path, capsys, monkeypatch) -> None:
    """More passes than allowed by what the sizes say, which may be wrong: the build alone can tell."""
    monkeypatch.chdir(home)
    held = sum(path.stat().st_size for path in home.glob("mine.jsonl")) or 1000
    for passes, doubted in ((2, False), (6, True)):
        status, text = said((*PLAN, "--set", f"sources.mine.tokens={held // 4 * passes}"), capsys, monkeypatch)
        assert status == 0 and ("doubtful" in text) is doubted, text
        assert not doubted or "a build refuses more than 4" in " ".join(text.replace("│", " ").split())


def test_the_page_of_exit_codes_has_each_of_them() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    for status in ExitStatus:
        assert re.search(rf"^\| {int(status)} \|", page, re.MULTILINE), status
