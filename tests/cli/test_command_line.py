"""The command line: what it offers (a change breaks the list on purpose), and how it says that something is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ettin_data.base.errors import EttinError
from ettin_data.cli import main as cli
from ettin_data.demo import demo

ROOT = Path(__file__).resolve().parents[2]
FROZEN = Path(__file__).with_name("command_line.json")


def offered() -> dict[str, list[str]]:
    """Command -> its arguments and options."""
    result = {}

    def walk(command, name):
        for key, child in getattr(command, "commands", {}).items():
            walk(child, f"{name} {key}".strip())
        if not getattr(command, "commands", None) or name == "sources":
            result[name] = sorted(
                option for parameter in command.params for option in (parameter.opts + parameter.secondary_opts)
            )

    walk(typer.main.get_command(cli.app), "")
    return dict(sorted(result.items()))


def test_the_command_line_is_what_people_wrote_scripts_for():
    """After a change on purpose: `python tests/cli/test_command_line.py` writes the new list; say so in the change."""
    assert offered() == json.loads(FROZEN.read_text())


@pytest.fixture(scope="module")
def mirror(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    demo.mirror(root, 2.0)
    return demo.mirror_folder(root)


def run(*words: object):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


SMALL = ("--scale", "8e-7", "--set", "order.batch=8", "--set", "split_bytes=1")
ONLY = ("arxiv", "books", "dclm_dolmino", "code_repos", "math_dolmino", "textbooks", "tulu_flan")
DROPS = tuple(word for name in ONLY for word in ("--drop-source", name))


def test_plan_build_inspect(tmp_path, mirror):
    common = ("--out", tmp_path, "--sources-root", mirror, *SMALL, *DROPS)
    planned = run("plan", "decay", *common, "--json")
    assert planned.exit_code == 0, planned.output
    assert set(json.loads(planned.stdout)["sources"]) == {"stackexchange_dolmino", "wikipedia"}
    assert json.loads((tmp_path / "decay/plan.json").read_text())["totals"]["splits"] == 4
    assert not (tmp_path / "decay/pools").exists(), "a plan builds nothing"
    tree = run("plan", "decay", *common)
    assert "wikipedia" in tree.output and "passes" in tree.output
    built = run("build", "decay", *common, "--workers", 1)
    assert built.exit_code == 0, built.output
    assert "stackexchange_dolmino" in built.output and "root " in built.output
    shown = run("inspect", tmp_path / "decay/train", "--number", 2)
    assert shown.exit_code == 0 and shown.output.count(" tokens\n") == 2 and "[CLS]" in shown.output
    card = (tmp_path / "decay/README.md").read_text()
    assert "wikipedia" in card and json.loads((tmp_path / "decay/run.json").read_text())["root"] in card


def test_the_code_on_the_card_runs(tmp_path, mirror, monkeypatch, streaming):
    """Also where torchvision does not fit torch, and `import streaming` fails."""
    built = run("build", "decay", "--out", tmp_path, "--sources-root", mirror, *SMALL, *DROPS, "--workers", 1)
    assert built.exit_code == 0, built.output
    monkeypatch.chdir(tmp_path / "decay")
    known: dict[str, Any] = {}
    exec(Path("README.md").read_text().split("```python\n")[1].split("```")[0], known)
    samples, dataset = known["samples"], known["dataset"]
    assert len(samples) == len(dataset) > 0
    assert samples[0]["id"] == dataset[0]["id"]
    assert samples[0]["input_ids"].tolist() == dataset[0]["input_ids"].tolist()


def test_errors_are_shown_without_a_traceback(tmp_path):
    words = ["plan", "decay", "--set", "sources.arxv.tokens=6B", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "ettin_data.cli", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "arxv" in done.stderr and "did you mean arxiv" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("build", "decay", "--executor", "slurm"), "'slurm'"),
        (("plan", "nothing.yaml"), "there is no recipe"),
        (("inspect", "nowhere"), "no index.json"),
        (("sources", "check", "arxv"), "arxv"),
        (("train", "nowhere", "--steps", "many"), "many"),
    ],
)
def test_errors(words, part):
    result = run(*words)
    assert isinstance(result.exception, EttinError) and part in str(result.exception)


def test_sources_and_tokenizer(tokenizer_file):
    listed = json.loads(run("sources", "--json").stdout)
    assert len(listed) == 18 and listed["dclm"]["files"] == 27_938
    found = run("tokenizer", "--text", "a  b")
    assert '"vocab_size": 50368' in found.output and "[66, 50276, 67]" in found.output


def test_scripts_are_the_command_line(tmp_path):
    for name in ("pretrain", "extension", "decay"):
        done = subprocess.run(
            [sys.executable, ROOT / "pipelines" / f"{name}.py", "--drop-source", "nothing", "--out", tmp_path],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2 and "'nothing'" in done.stderr and f"{name}.yaml" in done.stderr


def test_import_is_quick():
    """No torch, ray or streaming until they are needed."""
    code = "import sys, ettin_data.cli.main; print([m for m in ('torch', 'ray', 'streaming') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(offered(), indent=1) + "\n")
