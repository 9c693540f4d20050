"""Code found by where it lies, or by what a recipe calls it.

A module registers by lying in its folder: a filter, a format, a family, a strategy, a command is one of its own, and
nothing lists them. What a user has written outside of this package is named `package.module:name`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

from ettin_data.base.errors import RecipeError, near


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
