"""The digest of the code behind a module: everything that it imports, however, and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ettin_data.base import modules


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `toy` in the place of ours."""
    files = {
        "__init__.py": "from toy import unused",
        "a/__init__.py": "",
        "a/top.py": "import os\nimport toy.b.plain as p\nfrom toy.b import each, NAME\nfrom toy.c.lazily import f",
        "b/__init__.py": "NAME = 1",
        "b/plain.py": "if TYPE_CHECKING:\n    import toy.unused\nelse:\n    import toy.d.other",
        "b/each.py": "",
        "c/__init__.py": "from toy.base import found_in\nALL = found_in(__name__)",
        "c/lazily.py": "def f():\n    from toy.d import late",
        "c/registered.py": "import toy.a.top  # a circle",
        "d/__init__.py": "",
        "d/other.py": "",
        "d/late.py": "",
        "d/nobody.py": "",
        "unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / "toy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "toy" / name).write_text(text)
    monkeypatch.setattr(modules, "_ROOT", tmp_path / "toy")
    return tmp_path / "toy"


def digest() -> str:
    modules._imports.cache_clear()
    modules.code_digest.cache_clear()
    return modules.code_digest("toy.a.top")


def test_what_is_imported_counts_and_nothing_else(package: Path) -> None:
    names = {path.relative_to(package).as_posix() for path in modules.sources_of("toy.a.top").values()}
    assert names == {
        "a/__init__.py", "a/top.py", "b/__init__.py", "b/plain.py", "b/each.py", "c/__init__.py", "c/lazily.py",
        "c/registered.py", "d/__init__.py", "d/other.py", "d/late.py",
    }  # fmt: skip
    before = digest()
    for path in sorted(package.rglob("*.py")):
        text = path.read_text()
        path.write_text(f"{text}\n")
        assert (digest() != before) == (path.relative_to(package).as_posix() in names), path
        path.write_text(text)
    assert digest() == before
    (package / "c/another.py").write_text("")
    assert digest() != before, "a module that is found by lying in its folder"


def _of_the_tree(path: Path) -> set[str]:
    """What a module imports, by its syntax tree."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return {name for name in names if name.startswith("ettin_data.") and modules._file(name)}


def test_the_text_of_each_module_says_what_its_syntax_tree_says() -> None:
    for path in sorted(modules._ROOT.rglob("*.py")):
        parts = ["ettin_data", *path.relative_to(modules._ROOT).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        wanted, found = _of_the_tree(path), set(modules._imports(name, path))
        assert wanted <= found, path
        if "found_in(" not in path.read_text():
            modules_found = {each for each in found if modules._file(each)}
            assert modules_found - wanted <= {name, name.rpartition(".")[0]}, path  # with an example of its use


def test_nothing_that_a_split_is_made_with_is_missed() -> None:
    """What a process imports for it is in what was read off the sources; the outermost package's own aside."""
    code = """if True:
        import sys, ettin_data
        known = set(sys.modules)
        import ettin_data.build.pool
        print(*(name for name in set(sys.modules) - known if name.startswith("ettin_data.")))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    imported = set(done.stdout.split())
    found = set(modules.sources_of("ettin_data.build.pool"))
    assert imported <= found
    assert {"ettin_data.stages.pack.backfill", "ettin_data.stages.filters.length", "ettin_data.base.draws"} <= found
    assert not any(name.startswith(("ettin_data.cli", "ettin_data.trainer", "ettin_data.verify")) for name in found)
