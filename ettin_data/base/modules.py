"""The modules of a folder that registers by lying there: a filter, a format, a family, a strategy, a command."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


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
