"""The public API: what it is, that it does not change by accident, and ten lines of a notebook."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import ettin_data
from ettin_data.base.errors import EttinError
from ettin_data.tokenizer.encoder import TokenizerFile

FROZEN = Path(__file__).parent / "api.json"
RECIPE = """
phase: pretrain
length: 64
filters: []
pack: {strategy: backfill, min_length: 16, always_skip: 4}
order: {batch: 4}
sources:
  mine: {root: mine.jsonl, tokens: 900}
"""


def offered() -> dict[str, str]:
    """Public name -> its signature; of a class its public members as well."""
    found = {}
    for name in ettin_data.__all__:
        value = getattr(ettin_data, name)
        if inspect.isclass(value):
            found[name] = "class"
            for member, what in sorted(vars(value).items()):
                if not member.startswith("_") and (callable(what) or isinstance(what, property)):
                    signature = str(inspect.signature(what)) if inspect.isfunction(what) else "property"
                    found[f"{name}.{member}"] = signature
        elif callable(value):
            found[name] = str(inspect.signature(value))
        else:
            found[name] = type(value).__name__
    return found


def test_the_api_changes_on_purpose_only() -> None:
    known, now = json.loads(FROZEN.read_text()), offered()
    gone = {name: known[name] for name in known if now.get(name) != known[name]}
    assert not gone, (
        f"public names changed: {gone}; who uses them breaks. If it must be, run {__file__} and say it in CHANGELOG.md"
    )
    assert now == known, f"new public names: run `python {Path(__file__).name}` to freeze them"


def test_everything_public_is_documented() -> None:
    for name in ettin_data.__all__:
        value = getattr(ettin_data, name)
        if callable(value):
            assert inspect.getdoc(value), name
            for line in ("Args:", "Raises:"):
                assert inspect.isclass(value) or line in (value.__doc__ or ""), f"{name} has no {line}"


def test_importing_the_package_is_quick_and_packages_do_not_hide_functions() -> None:
    code = (
        "import sys, ettin_data\n"
        "assert not [m for m in ('numpy', 'pyarrow', 'torch', 'ray', 'datatrove') if m in sys.modules]\n"
        "import ettin_data.build.mix, ettin_data.verify.quick\n"
        "from ettin_data import build, verify\n"
        "assert callable(build) and callable(ettin_data.verify) and ettin_data.build is build\n"
        "try: ettin_data.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "has no attribute 'nothing'" in done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> Path:
    lines = [
        json.dumps({"id": f"d{n}", "text": f"Document {n}. " + "The rain it raineth every day. " * 9})
        for n in range(60)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_ten_lines_of_a_notebook(folder: Path) -> None:
    recipe = ettin_data.load_recipe("recipe.yaml").changed("sources.mine.tokens=1200", "order.batch=5")
    planned = ettin_data.plan(recipe, "run")
    run = ettin_data.build(recipe, "run", progress=True)
    phase = ettin_data.open_run("run")["pretrain"]
    step = phase.step(0)
    (report,) = ettin_data.verify("run", full=True)

    assert planned.sources["mine"].target_tokens == 1200
    assert "pretrain" in str(planned)
    assert abs(run.totals["tokens"] - 1200) < 64
    assert len(phase) == run.totals["samples"] == sum(1 for _ in phase)
    assert len(step) == 5
    assert [sample.position for sample in step] == phase.order.step(0).tolist()
    first = next(iter(phase))
    assert first.id.startswith("d") and first.tokens.dtype == np.uint16
    assert report.sound
    again = ettin_data.build(recipe, "run")
    assert again.root == run.root


def test_the_bar_of_a_build_is_shown_where_it_is_asked_for(folder: Path) -> None:
    from ettin_data.bar import Bar

    text = io.StringIO()
    recipe = ettin_data.load_recipe("recipe.yaml")
    ettin_data.build(recipe, "run", progress=Bar(recipe.phase, Console(file=text, force_terminal=True, width=100)))
    assert "pretrain tokenize" in text.getvalue() and "100%" in text.getvalue()


def test_what_is_wrong_is_an_error_of_ours(folder: Path) -> None:
    recipe = ettin_data.load_recipe("recipe.yaml")
    with pytest.raises(EttinError, match="did you mean tokens"):
        recipe.changed("sources.mine.tokns=5")
    with pytest.raises(EttinError, match="no run here"):
        ettin_data.open_run("run")
    with pytest.raises(EttinError, match="no run here"):
        ettin_data.verify("run")


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(offered(), indent=1) + "\n")
