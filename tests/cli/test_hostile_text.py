"""Every command over a run whose ids, texts, files and folders want to steer the terminal: shown, never obeyed."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_command_line import offered

from ettin_data.base.errors import EttinError
from ettin_data.base.visible import visible
from ettin_data.cli import main as cli

STEERS = "\x1b]0;title\x07\x1b[31mred\x1b[2J\x1b[1;1H\r\x7f\x9b2J\u202etxt.exe\u2066[/x][vanish]:smile:\u2028end"
"""What a terminal, a bidi algorithm, rich's markup and its emoji codes would take for orders."""
WORDS = ("title", "red", "txt.exe", "[/x]", "[vanish]", ":smile:", "end")
SHOWN = r"\x1b]0;title"
NAME = STEERS.replace("/", "")
"""The same as a file may be called."""
FALSE_LINE = "\nroot 0000000000000000 (sound)"


def steering(text: str) -> set[str]:
    """Characters of an output that move something or cannot be seen, but for line ends."""
    unseen = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    return unseen - {"\n", "\u200c", "\u200d"}


def run(*words: object, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "argv", ["ettin-data", *map(str, words)])
    with contextlib.suppress(SystemExit):
        cli.main()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder called by `NAME`, with a recipe, its sources, its `run` of the phase `decay`, and one without copies."""
    folder = tmp_path_factory.mktemp("hostile") / STEERS  # two folders, for the sake of "[/x]"
    data = folder / NAME
    data.mkdir(parents=True)
    for part in range(3):
        rows = [
            {
                "id": f"id{part}-{n}{STEERS}{FALSE_LINE}",
                "text": f"text {part} {n} {STEERS}{FALSE_LINE} </script><b>bold</b> " + f"word{n} " * 60,
                "url": f"https://host.example/{part}/{n}?{STEERS}",
            }
            for n in range(40)
        ]
        lines = [*map(json.dumps, rows), '{"id": "broken' + STEERS.replace("\u2028", "") + '", "text": 5}']
        (data / f"{NAME}{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = {
        "phase": "decay", "length": 128, "pack": {"min_length": 32, "always_skip": 8}, "order": {"batch": 8},
        "shards": {"size_limit": 16384}, "bad_input": {"max_rejects": 0.5}, "split_bytes": 1,
        "sources": {"mine": {"root": str(data), "tokens": 15000}},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.MonkeyPatch.context() as patch:
        run("build", folder / "recipe.yaml", "--out", folder / "run", "--workers", 1, patch=patch)
        few = ["--set", "sources.mine.tokens=2000", "--set", "dedup={exact: true}"]
        run("build", folder / "recipe.yaml", "--out", folder / "copied", "--workers", 1, *few, patch=patch)
    yield folder


def commands(folder: Path) -> dict[str, list[list[object]]]:
    """Command -> words to run it with, over everything in the folder; `{word}` is where a value comes from a run."""
    recipe, run, copied = folder / "recipe.yaml", folder / "run", folder / "copied"
    phase = run / "decay"
    rotten, renamed = folder / f"rotten{NAME}", folder / "renamed" / NAME
    order: list[object] = ["--data", phase / "train", "--published", folder / "order"]
    doc = f"id0-1{STEERS}{FALSE_LINE}"
    one = ["--workers", 1]
    texts = folder / NAME / f"{NAME}0.jsonl"
    table = folder / f"{NAME}.csv"
    table.write_text(f'name,"a{NAME}","{NAME}"\n' + "".join(f'"{n}{NAME}",{n}000,{n}50\n' for n in range(1, 9)))
    return {
        "plan diff": [[phase, rotten], [recipe, phase, "--json"], [folder / NAME, recipe]],
        "plan show": [[recipe, "--out", run], [recipe, "--out", run, "--json"], [recipe, "--set", f"seed={STEERS}"]],
        "build": [[recipe, "--out", run, *one, "--set", "seed=7"], [folder / NAME], [recipe, "--set", NAME]],
        "status": [[run], [run, "--json"], [rotten, "--follow"]],
        "verify": [
            [run],
            [run, "--json"],
            [run, "--full", *one],
            [rotten],
            [rotten, "--json"],
            [folder / NAME],
            [renamed],
        ],
        "repair": [[run], [rotten, *one]],
        "diff": [[run, rotten], [run, renamed], [run, rotten, "--json"], [run, folder / NAME]],
        "trace": [
            [run, "--step", 1, "--rows", 0],
            [run, "--step", 1, "--json"],
            [renamed, "--step", 2],
            [run, "--step", STEERS],
            [run, f"--{NAME}"],
            [run, "--doc", doc],
            [run, "--doc", STEERS],
            [run, "--url", f"https://host.example/0/1?{STEERS}"],
            [run, "--text", f"text 0 1 {STEERS}"],
            [run, "--text", f"nowhere {STEERS}"],
        ],
        "view": [[run, "--step", 1, "--out", folder / f"{NAME}.html"]],
        "report": [
            [run, "--out", folder / f"{NAME}report.html", "--pictures", folder / f"pictures{NAME}"],
            [copied, "--phase", NAME],
        ],
        "mirror push": [[run, NAME], [folder / NAME, "s3://mine/x"]],
        "mirror pull": [[NAME, folder / NAME]],
        "publish": [[run, NAME], [run, f"s3://{NAME}", "--phase", NAME], [folder / NAME, "hf://me/mine", "--dry-run"]],
        "exposure": [[run, run], [run, "--json"], [run, "--texts", texts]],
        "inspect": [[phase / "train"], [folder / NAME]],
        "export": [
            [phase, "--to", "parquet", "--out", folder / f"as{NAME}", *one],
            [phase, "--to", NAME, "--out", folder / "no"],
        ],
        "order make": [[phase / "train", "--out", folder / f"order{NAME}", "--batch", 8, "--phase", NAME]],
        "order append": [[phase, "--after", phase], [phase, "--after", folder / NAME]],
        "order export": [
            [phase, folder / "order", *one],
            [phase, folder / "order", "--as", NAME],
            [phase, "--out", folder / "law", "--law", NAME],
        ],
        "order verify": [
            order,
            [*order, "--json"],
            [*order, "--seed", 3],
            [*order, "--sample", NAME],
            [*order, "--law", NAME],
        ],
        "order explain": [order],
        "index": [[phase / "pools", "--dry-run"], [run], [phase / "pools", "--order", NAME], [folder / NAME]],
        "sources": [[]],
        "sources check": [["dclm", "--sources-root", folder / NAME], [NAME]],
        "tokenizer show": [["--text", STEERS], [texts], ["--frame", NAME]],
        "tokenizer check": [[texts, "--text", folder / NAME], [NAME, "--text", texts]],
        "recipe show": [[recipe], [recipe, "--json"], [recipe, "--set", f"mine={STEERS}"], [folder / NAME]],
        "recipe init": [[folder / f"{NAME}.yaml", "--phase", STEERS], [folder / NAME, "--extends", recipe]],
        "recipe keys": [[STEERS], ["--json", STEERS]],
        "filters preview": [
            [recipe, "--sample", "100%", "--set", "filters=[length, {pattern: {expression: text 0, most: 0}}]"],
            [recipe, "--sample", NAME],
            [folder / NAME],
        ],
        "dedup matrix": [[copied], [copied, "--json"], [run, "--measure"], [folder / NAME]],
        "dedup explain": [
            [copied, "--document", doc],
            [copied, "--document", f"id1-1{STEERS}{FALSE_LINE}"],
            [copied, "--document", STEERS],
            [copied, "--document", doc, "--json"],
            [run, "--document", doc],
        ],
        "mix explain": [[table], [table, "--by", NAME], [table, "--json"], [texts], [table, "--column", STEERS]],
        "train": [[run, "--steps", NAME]],  # more would import torch
        "checkpoint": [[f"--{NAME}"]],  # as well
        "chaos": [["--recipe", folder / f"{NAME}.yaml"], ["--executor", NAME]],
        "demo": [["--executor", NAME, "--out", folder / "demo"]],
    }


def test_every_command_shows_and_obeys_nothing(made: Path, monkeypatch, capsys) -> None:
    rotten = made / f"rotten{NAME}"
    shutil.copytree(made / "run", rotten)
    shutil.copytree(made / "run/decay", made / "renamed" / NAME)
    for number, shard in enumerate(sorted(rotten.glob("decay/*/mine/*/shard.00000.mds"))):
        data = bytearray(shard.read_bytes())
        data[-9 - number] ^= 1
        shard.write_bytes(data)
    monkeypatch.setenv("COLUMNS", "4000")
    known, shown = commands(made), {}
    assert set(known) == set(offered()) - {""}, "say here how the new command is run over a hostile run"
    for command, runs in known.items():
        for words in runs:
            run(*command.split(), *words, patch=monkeypatch)
            said = capsys.readouterr()
            output = said.out + said.err
            name = f"{command} {' '.join(map(visible, words))}"
            assert not steering(output), (name, steering(output), output)
            assert "Traceback" not in output, (name, output)
            assert not any(line.startswith("root 0000") for line in output.splitlines()), (name, output)
            assert not output.startswith("b'"), (name, output)
            shown[name] = output
    for name, output in shown.items():
        missing = [word for word in WORDS if SHOWN in output and word not in output.replace("[x]", "[/x]")]
        assert not missing, (name, missing, output)
    assert sum(SHOWN in output for output in shown.values()) > len(shown) * 0.65, [
        name for name, output in shown.items() if SHOWN not in output
    ]


def test_what_is_written_for_people(made: Path) -> None:
    """The page of a step and the card: no character that steers, no markup from a text."""
    pages = [path.read_text(encoding="utf-8") for path in made.glob("*.html")]
    assert len(pages) == 2, "of a step and of the run"
    for page in pages:
        assert not steering(page) and "<b>bold" not in page and "&lt;b&gt;bold" in page
    card = (made / "run/decay/README.md").read_text(encoding="utf-8")
    assert not steering(card)


def test_an_error_of_a_library_begins_no_line_of_its_own() -> None:
    error = EttinError(f"cannot read {STEERS}", why=ValueError(f"it says{FALSE_LINE}"))
    error.add_note(f"in {STEERS}{FALSE_LINE}")
    text = error.full_text()
    assert not steering(text) and all(word in text for word in WORDS)
    assert not any(line.lstrip().startswith("root") and not line.startswith("    ") for line in text.splitlines())


def test_what_others_print_while_a_command_runs_is_shown(monkeypatch, capsys) -> None:
    """`print`, warnings, loggers: all of them write to the streams of the process."""

    def loud(*_: object) -> None:
        print(STEERS)
        print(STEERS, file=sys.stderr)

    monkeypatch.setattr(cli, "app", loud)
    cli.main()
    said = capsys.readouterr()
    for output in (said.out, said.err):
        assert not steering(output) and all(word in output for word in WORDS)
    assert (
        "\x1b" in STEERS
        and visible("caf\udce9") == "caf\\xe9"
        and visible("na\u0308iv\u200d\t\n") == "na\u0308iv\u200d\t\n"
    )
