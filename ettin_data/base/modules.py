"""Code found by where it lies, or by what a recipe calls it.

A module registers by lying in its folder: a filter, a format, a family, a strategy, a command is one of its own, and
nothing lists them. What a user has written outside of this package is named `package.module:name`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from ettin_data.base.errors import RecipeError, near

_ROOT = Path(__file__).parents[1]


def found_in(package: str) -> list[ModuleType]:
    """The public modules and packages directly inside `package`, imported, in the order of their names.

    Args:
        package: a dotted name, usually the caller's `__name__` or `__package__`.

    A module whose name begins with an underscore is no entry of its folder and is left out. Whoever calls decides by an
    attribute which of the others are entries: helpers may stand beside them.
    """
    folder = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_"))
    return [importlib.import_module(f"{package}.{name}") for name in names]


def entry_in(package: str, name: str) -> ModuleType | None:
    """The public module of this name directly inside `package`, imported, and no other; None if there is none."""
    folder = importlib.import_module(package)
    names = (module.name for module in pkgutil.iter_modules(folder.__path__))
    return importlib.import_module(f"{package}.{name}") if name in names and not name.startswith("_") else None


def named(reference: str, *, where: object) -> Any:
    """What a recipe names as `package.module:name`, imported.

    Raises:
        RecipeError: it is not such a name, the module cannot be imported, or has nothing of that name.
    """
    module_name, _, name = reference.partition(":")
    if not (module_name and name):
        raise RecipeError(f"{reference!r} names no code", where=where, remedy="write package.module:name")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise RecipeError(
            f"{module_name!r} cannot be imported",
            where=where,
            why=f"{type(error).__name__}: {error}",
            remedy="install it, or put its folder on PYTHONPATH, also where the workers run",
        ) from error
    if not hasattr(module, name):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise RecipeError(f"{module_name!r} has no {name!r}", where=where, remedy=near(name, public))
    return getattr(module, name)


def version_of(code: Any) -> str:
    """The version of a user's function or class: its `VERSION`, or else its module's, or else a digest of its source.

    It stands in the fingerprint of what the code decides, so that changed code never passes for the old.
    """
    module = inspect.getmodule(code)
    version = getattr(code, "VERSION", getattr(module, "VERSION", None))
    if version is not None:
        return str(version)
    return hashlib.sha256(inspect.getsource(module or code).encode()).hexdigest()[:16]


@functools.cache
def code_digest(module: str) -> str:
    """SHA-256 over the source of `module` and everything of this package that it imports, directly or not.

    It tells with exactly which code something was made, and follows a move by itself. The sources are read and nothing
    is imported, so that an import inside a function counts too, and one for type checkers only does not.

    Args:
        module: a dotted name inside this package, such as `ettin_data.build.pool`.
    """
    digest = hashlib.sha256()
    for name, path in sorted(sources_of(module).items()):
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def sources_of(module: str) -> dict[str, Path]:
    """Dotted name -> file of `module` and of all of this package that it imports, directly or not."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and (path := _file(name)) is not None:
            found[name] = path
            waiting += _imports(name, path)
    return found


def _file(name: str) -> Path | None:
    """The file of a module of this package; None where there is none of that name."""
    stem = _ROOT.joinpath(*name.split(".")[1:])
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


_IMPORT = re.compile(r"^[ \t]*(?:import +(.+)|from +([\w.]+) +import +(\([^)]*\)|.+))", re.MULTILINE)
_FOR_TYPES = re.compile(r"^( *)if TYPE_CHECKING:\n(?:\1 +.*\n|\n)+", re.MULTILINE)
_FOUND_IN = re.compile(r"(?<!def )\bfound_in\((?:\"([\w.]+)\")?")


@functools.cache
def _imports(name: str, path: Path) -> list[str]:
    """Names of this package that a module imports, or has imported by `found_in`, and others: functions, classes, and
    words that stand where names might.

    The text is looked at and no syntax tree made, which would take every process that builds half a second.
    """
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    names = [name.rpartition(".")[0]]  # a module's package is imported before it
    text = _FOR_TYPES.sub("", path.read_text())
    for plain, module, members in _IMPORT.findall(text):
        names += re.findall(r"[\w.]+", plain) + [module] + [f"{module}.{word}" for word in re.findall(r"\w+", members)]
    for where in _FOUND_IN.findall(text):
        names += _inside(where or package)
    # The outermost package is left out: it only says what there is.
    return [name for name in names if name.startswith(f"{_ROOT.name}.")]


def _inside(package: str) -> list[str]:
    folder = _ROOT.joinpath(*package.split(".")[1:])
    return [f"{package}.{found.name}" for found in pkgutil.iter_modules([str(folder)])]
