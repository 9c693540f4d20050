"""ettin-data: builds the Ettin pre-training mixture from its public sources, and proves what it built.

The public names are those of `ettin_data.api`. They are imported when they are first asked for, so that a command that
needs none of them starts at once.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ettin_data.base.version import VERSION as __version__

if TYPE_CHECKING:
    from ettin_data.api import (
        Phase,
        Recipe,
        build,
        load_recipe,
        open_run,
        plan,
        to_datasets,
        torch_dataset,
        torch_loader,
        verify,
    )

__all__ = [
    "Phase",
    "Recipe",
    "__version__",
    "build",
    "load_recipe",
    "open_run",
    "plan",
    "to_datasets",
    "torch_dataset",
    "torch_loader",
    "verify",
]


class _Package(ModuleType):
    """`ettin_data.build` and `ettin_data.verify` are functions, and packages hold what they do.

    Python would make the packages attributes of this one when they are imported, in place of the functions. Modules in
    them are had by `from ettin_data.build import mix`; `import ettin_data.build.mix as mix` would ask the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in __all__:
            from ettin_data import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return __all__


sys.modules[__name__].__class__ = _Package
