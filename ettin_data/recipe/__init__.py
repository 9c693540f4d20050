"""A recipe: one phase as YAML, typed and validated, with overrides from the command line.

`load_recipe` gives a frozen `Recipe`; everything that a build decides follows from it and from the listing of the
sources. An unknown key, a wrong type or an impossible value raises `RecipeError` with the file, the key path, the value
and what would be right.
"""

from ettin_data.recipe.layers import shipped, shipped_names
from ettin_data.recipe.limits import BadInput
from ettin_data.recipe.load import Changes, Loaded, load_changed, load_recipe, scaled, shipped_targets
from ettin_data.recipe.schema import (
    MAX_LENGTH,
    PHASES,
    AttributeChoice,
    Filter,
    Recipe,
    SourceChoice,
    TokenDtype,
    TokenizerChoice,
)

__all__ = [
    "MAX_LENGTH",
    "PHASES",
    "AttributeChoice",
    "BadInput",
    "Changes",
    "Filter",
    "Loaded",
    "Recipe",
    "SourceChoice",
    "TokenDtype",
    "TokenizerChoice",
    "load_changed",
    "load_recipe",
    "scaled",
    "shipped",
    "shipped_names",
    "shipped_targets",
]
