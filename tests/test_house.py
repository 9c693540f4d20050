"""What keeps the house as `docs/ARCHITECTURE.md` draws it: rules over the syntax trees of the package's modules."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ettin_data.sources.formats import FORMATS
from ettin_data.stages.pack import strategies
from ettin_data.storage import phase

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ettin_data"
ARCHITECTURE = (ROOT / "docs/ARCHITECTURE.md").read_text()
MODULES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}

MOST_LINES = 400
FIRST_TOKEN_ID, LAST_TOKEN_ID = 50_277, 50_368
"""The ids of ModernBERT's added tokens, and its size: numbers that mean nothing else in this package."""


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name])


def layers() -> dict[str, int]:
    """Package or module -> its height, as section 4 of the architecture page draws it."""
    section = ARCHITECTURE.split("\n## 4.")[1].split("\n## 5.")[0]
    lines = section.split("```")[1].strip().splitlines()
    return {name.strip(): -number for number, line in enumerate(lines) for name in line.split("·")}


def part_of(module: str) -> str:
    """The layer's name of a module, such as `storage` of `storage/mds/reader.py`."""
    return module.partition("/")[0].removesuffix(".py")


def imported(name: str) -> Iterator[tuple[int, str]]:
    """(line, first part of it) of everything of this package that a module imports, at its top or later."""
    for node in ast.walk(tree(name)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "ettin_data" else [f"ettin_data.{a.name}" for a in node.names]
        yield from ((node.lineno, each.split(".")[1]) for each in names if each.startswith("ettin_data."))


def literals(name: str) -> Iterator[tuple[int, object]]:
    """(line, value) of every literal that is not a docstring."""
    strings = {
        id(node.value)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Constant) and id(node) not in strings:
            yield node.lineno, node.value


def test_imports_run_down() -> None:
    heights = layers()
    wrong = []
    for name in MODULES:
        if name == "__init__.py":
            continue
        mine = part_of(name)
        assert mine in heights, f"{name} has no layer: give it a place in section 4 of docs/ARCHITECTURE.md"
        for line, other in imported(name):
            if other != mine and heights[other] >= heights[mine]:
                wrong.append(f"{name}:{line} imports {other}")
    assert not wrong, wrong


def test_no_module_is_long() -> None:
    long = {name: lines for name, text in MODULES.items() if (lines := text.count("\n")) > MOST_LINES}
    assert not long


def test_only_the_tokenizer_knows_ids() -> None:
    wrong = [
        f"{name}:{line} {value}"
        for name in MODULES
        if part_of(name) != "tokenizer"
        for line, value in literals(name)
        if isinstance(value, int) and FIRST_TOKEN_ID <= value <= LAST_TOKEN_ID
    ]
    assert not wrong, wrong


def test_only_storage_phase_knows_the_names_of_a_run() -> None:
    names = {
        value
        for name, value in vars(phase).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[\w.]+\.(json|parquet|md)", value)
    }
    assert {"run.json", "plan.json", "split.json", "order.json"} <= names
    wrong = [
        f"{name}:{line} {value!r}"
        for name in MODULES
        if name != "storage/phase.py" and part_of(name) != "sources"  # which names the files of upstreams
        for line, value in literals(name)
        if isinstance(value, str) and value.rpartition("/")[2] in names
    ]
    assert not wrong, wrong


def test_only_two_modules_rename() -> None:
    renames = {("os", name) for name in ("replace", "rename", "renames")}
    wrong = [
        f"{name}:{node.lineno}"
        for name in MODULES
        if name not in ("base/files.py", "storage/split.py")
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in renames
    ]
    assert not wrong, wrong


def test_one_place_shows_things() -> None:
    """Whatever is shown passes where it becomes visible: one console, one way to print a result, one way into HTML."""
    homes = {
        "bar.py": {"Console", "Text"},  # `Screen` and `styled`, which read nothing as markup
        "cli/shared.py": {"print"},  # `tell` and `tell_json`
        "cli/main.py": {"stdout", "stderr"},  # which become visible streams
        "executor/process.py": {"stdout", "stderr"},  # flushed
        "inspect/markup.py": {"escape"},
    }
    watched = set().union(*homes.values()) | {"echo", "secho", "from_markup", "StreamHandler"}
    wrong, escapes = [], 0
    for name in MODULES:
        for node in ast.walk(tree(name)):
            used = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                used.append(node.func.id)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used += [node.attr] if node.value.id in ("sys", "html", "rich", "typer", "click", "logging") else []
            escapes += "escape" in used
            wrong += [f"{name}:{node.lineno} {word}" for word in set(used) & watched - homes.get(name, set())]
            if isinstance(node, ast.keyword) and node.arg == "markup" and name != "bar.py":
                wrong.append(f"{name}:{node.value.lineno} markup=")
    assert not wrong, f"print with what cli/shared.py offers: {wrong}"
    assert escapes == 1, "HTML has one way in, which makes foreign text visible as well"


def test_nobody_asks_for_a_strategy_or_a_format_by_name() -> None:
    words_of_others = {"rows"}  # the hub's rows are a format, and the rows of a step are what an order has
    formats = set(FORMATS) - words_of_others
    homes = {("stages/pack/",): set(strategies()), ("sources/formats/", "storage/mds/"): formats}
    wrong = []
    for name in MODULES:
        foreign = {word for home, words in homes.items() if not name.startswith(home) for word in words}
        for node in ast.walk(tree(name)):
            parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            values = [part.value for each in parts for part in ast.walk(each) if isinstance(part, ast.Constant)]
            if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
                values.append(node.value.value)
            wrong += [f"{name}:{node.lineno} {value!r}" for value in values if value in foreign]
    assert not wrong, wrong


def test_one_word_one_meaning() -> None:
    """The same public name at the top of at most two modules."""
    names = Counter(
        node.name
        for name in MODULES
        for node in tree(name).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        if not node.name.startswith("_")
    )
    often = {name: number for name, number in names.items() if number > 2}
    assert not often, often


def test_sections_that_are_cited_are_there() -> None:
    there = set(re.findall(r"^#+ (\d+(?:\.\d+)?)[. ]", ARCHITECTURE, re.MULTILINE))
    cited = {
        (name, number)
        for name, text in MODULES.items()
        for number in re.findall(r"ARCHITECTURE\s+(\d+\.\d+)", text)
        + re.findall(r"ARCHITECTURE\s+\d+\.\d+, (\d+\.\d+)", text)
    }
    assert len(cited) > 20
    assert {number for _, number in cited} <= there
    old = [name for name, text in MODULES.items() if re.search(r"\bdesign \d\.\d", text)]
    assert not old, f"cite docs/ARCHITECTURE.md: {old}"


def entry(name: str) -> bool:
    """Whether a folder finds the module by itself (`CONTRIBUTING.md`): one more of its kind needs no other file."""
    targets = [node.targets for node in tree(name).body if isinstance(node, ast.Assign)]
    targets += [[node.target] for node in tree(name).body if isinstance(node, ast.AnnAssign)]
    words = {part.id for each in targets for target in each for part in ast.walk(target) if isinstance(part, ast.Name)}
    return bool(words & {"SOURCES", "FORMAT", "NAME", "STRATEGY", "EXPORT", "COMMANDS", "app"})


def test_each_folder_has_a_page_that_names_its_modules() -> None:
    """A README in every folder with several modules; each public one, but for entries, is a word in backticks there."""
    folders: dict[str, list[str]] = {}
    for name in MODULES:
        folder, _, module = name.rpartition("/")
        if folder and not module.startswith("_") and not entry(name):
            folders.setdefault(folder, []).append(module.removesuffix(".py"))
    wrong = []
    for folder, modules in folders.items():
        page = PACKAGE / folder / "README.md"
        named = set(re.findall(r"`([\w/]+?)(?:\.py)?`", page.read_text() if page.exists() else ""))
        if len(modules) > 1:
            wrong += [f"{folder}/README.md: `{module}`" for module in modules if module not in named]
    assert not wrong, "\n".join(wrong)


def test_each_test_module_has_a_name_of_its_own() -> None:
    """They are imported by their bare names: of two that are called alike only one would run."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
