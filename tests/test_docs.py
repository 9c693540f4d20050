"""README and docs, done as written: every command is one, every block of Python too; in the slow part all of it runs.

A block in a fence is run by a reader who copies it. One that cannot be run here has a comment above it that says why,
`<!-- not run: … -->`; its commands are parsed all the same.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import ettin_data
from ettin_data.cli.examples import EXAMPLES, at_work
from ettin_data.cli.main import app
from ettin_data.recipe import load_recipe

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n)?```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("ettin-data", "make", "pip", "uv", "git", "hf", "cp", "mkdir", "for", "ssh", "#SBATCH", "#!/bin/bash", "case")
COMMAND = re.compile(r"(?<![\w/.-])ettin-data (.*)")
RUNS_HERE = ["docs/own-sources.md"]
"""Pages that need nothing but this package, and some seconds."""


@dataclass(frozen=True)
class Block:
    page: str
    number: int
    language: str
    file: str | None
    text: str
    not_run: str | None

    @property
    def kind(self) -> str:
        """`shell`, `python`, `yaml`, or `listing` for what is to be looked at."""
        if self.language in ("python", "yaml"):
            return self.language
        first = re.split(r"[\s=]", self.text.lstrip(), maxsplit=1)[0]
        return "shell" if self.language == "bash" or first in SHELL else "listing"

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


def blocks_of(page: str) -> list[Block]:
    found = FENCE.findall((ROOT / page).read_text())
    return [Block(page, n, lang, file or None, text, why or None) for n, (why, lang, file, text) in enumerate(found, 1)]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands(text: str) -> Iterator[list[str]]:
    """The words behind each `ettin-data`, with something in the place of what a shell puts in."""
    for line in text.replace("\\\n", " ").splitlines():
        while found := COMMAND.search(line):
            line = found[1]
            said = re.sub(r"\$\(\(.*?\)\)|\$\{?\w+\}?", "1", line)
            end = re.search(r" (?:&&|\|\||\||&|>)(?: |$)|;|\)\"|'\]|` ", said)
            said = said[: end.start()] if end else said
            if said.count('"') % 2 or said.count("'") % 2:
                said = said.rstrip("\"'")
            yield shlex.split(said, comments=True)


@cache
def root() -> Any:
    return typer.main.get_command(app)


def parsed(words: list[str], whole: bool = True) -> None:
    """Raise a usage error unless the words are a command with its options and, if `whole`, all of its arguments."""
    command = root()
    words = ["x" if "…" in word else word for word in words]
    while hasattr(command, "commands"):
        if not words:
            return  # a group by itself shows what it has
        if words[0] in ("--help", "--version", "--install-completion"):
            return
        context = command.make_context("ettin-data", list(words))
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    try:
        command.make_context("ettin-data", list(words))
    except Exception as error:
        if whole or "missing" not in str(error).lower():
            raise


def test_the_pages_have_what_they_should() -> None:
    assert len(PAGES) > 12
    kinds = [block.kind for block in BLOCKS]
    assert kinds.count("shell") > 20 and kinds.count("python") > 8 and kinds.count("yaml") > 2


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page: str) -> None:
    text = (ROOT / page).read_text()
    inline = re.findall(r"`(ettin-data [^`\n]+)`", FENCE.sub("", text))
    for each in [*(block.text for block in blocks_of(page) if block.kind in ("shell", "yaml")), *inline]:
        for words in commands(each):
            try:
                parsed(words, whole=each not in inline)  # a sentence may name a command without what it is for
            except Exception as error:
                raise AssertionError(f"{page}: ettin-data {shlex.join(words)}: {error}") from error


def test_a_command_that_is_none_is_found() -> None:
    """That the test above can fail."""
    for wrong in (
        "ettin-data biuld decay",
        "ettin-data build decay --ot x",
        "ettin-data order verify",
        "ettin-data order x",
    ):
        [words] = commands(wrong)
        with pytest.raises(Exception, match=r"(?i)no such|missing"):
            parsed(words)


def test_the_examples_of_help_are_commands() -> None:
    for command, lines in EXAMPLES.items():
        for line in lines:
            assert line.startswith(command)
            [words] = commands(f"ettin-data {line}")
            parsed(words)
    shown = CliRunner().invoke(app, ["order", "append", "--help"]).output
    assert f"  ettin-data {EXAMPLES['order append'][0]}" in shown
    listed = re.findall(r"^  ([a-z]+) ", CliRunner().invoke(app, ["--help"]).output.split("Commands:")[1], re.MULTILINE)
    assert listed == sorted(listed, key=at_work) and listed.index("plan") < listed.index("build") < listed.index(
        "verify"
    )


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "shell"], ids=str)
def test_targets_and_extras_are_there(block: Block) -> None:
    makefile, project = (ROOT / "Makefile").read_text(), (ROOT / "pyproject.toml").read_text()
    for target in re.findall(r"(?:^|&& )make ([\w-]+)", block.text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for extras in re.findall(r"pip install '[\w.-]*\[([\w,]+)\]'", block.text):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    for script in re.findall(r"(?:^| )(pipelines/\w+\.py)", block.text):
        assert (ROOT / script).exists(), script


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "python"], ids=str)
def test_python_is_python_and_names_are_there(block: Block) -> None:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ettin_data":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), node.module
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ettin_data":
            assert node.attr in ettin_data.__all__, node.attr


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "yaml"], ids=str)
def test_yaml_is_yaml_and_recipes_are_recipes(block: Block, tmp_path: Path) -> None:
    said = yaml.safe_load(block.text)
    if isinstance(said, dict) and "sources" in said and ("phase" in said or "extends" in said):
        (tmp_path / "mine.yaml").write_text(block.text)
        assert load_recipe(tmp_path / "mine.yaml").sources


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", (ROOT / page).read_text()):
            if "://" not in link:
                assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"
    for page in PAGES[1:]:
        assert f"({page})" in (ROOT / "README.md").read_text(), f"README.md does not lead to {page}"


# ---------------------------------------------------------------------------------------------------------------------
# run


@pytest.mark.parametrize("page", RUNS_HERE)
def test_a_page_runs_here(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: object) -> None:
    """In this process, so that it costs what its commands cost."""
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page):
        if block.file:
            Path(block.file).write_text(block.text)
        elif block.kind == "python" and not block.not_run:
            exec(block.text, {"__name__": "page"})
        elif block.kind == "shell" and not block.not_run:
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith("ettin-data "):
                    [words] = commands(line)
                    done = CliRunner().invoke(app, words)
                    assert done.exit_code == 0, f"{line}\n{done.output}{done.exception}"
                elif line.strip():
                    subprocess.run(line, shell=True, check=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has been built, and its model trained."""
    folder = tmp_path_factory.mktemp("world")
    run_in(folder, "ettin-data demo --out runs/demo")
    return folder


def run_in(folder: Path, script: str, language: str = "bash") -> None:
    """A block as a reader runs it: in a shell of its own, whose `ettin-data` is this package."""
    words = folder / ".bin"
    words.mkdir(exist_ok=True)
    (words / "ettin-data").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ettin_data.cli "$@"\n')
    (words / "ettin-data").chmod(0o755)
    paths = {"PATH": f"{words}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script] if language == "python" else ["bash", "-euc", script]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **paths}, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_is_written(page: str, world: Path, tmp_path: Path) -> None:
    """In one folder, block after block, beside the demo."""
    blocks = [block for block in blocks_of(page) if not block.not_run and (block.kind != "yaml" or block.file)]
    if not any(block.kind in ("shell", "python") for block in blocks):
        return
    folder = tmp_path / "here"
    shutil.copytree(world, folder, copy_function=os.link)
    for block in blocks:
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.kind in ("shell", "python"):
            run_in(folder, block.text, "python" if block.kind == "python" else "bash")


@pytest.mark.slow
def test_the_notebook_runs(world: Path, tmp_path: Path) -> None:
    """Its cells one after the other in one process, as a kernel does."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder, copy_function=os.link)
    run_in(folder, "\n\n".join("".join(cell["source"]) for cell in code_cells()), "python")


def code_cells() -> list[dict[str, Any]]:
    notebook = json.loads((ROOT / "docs/notebook.ipynb").read_text())
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_python_and_has_no_output() -> None:
    assert code_cells()
    for cell in code_cells():
        ast.parse("".join(cell["source"]))
        assert cell["outputs"] == [] and cell["execution_count"] is None
