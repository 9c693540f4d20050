"""A recipe: one phase as YAML, typed and validated, with overrides from the command line."""

from ettin_data.recipe.schema import (
    MAX_LENGTH,
    PHASES,
    AttributeChoice,
    BadInput,
    Filter,
    Recipe,
    SourceChoice,
    TokenDtype,
    TokenizerChoice,
    load_recipe,
    scaled,
    shipped,
    shipped_targets,
)

__all__ = [
    "MAX_LENGTH",
    "PHASES",
    "AttributeChoice",
    "BadInput",
    "Filter",
    "Recipe",
    "SourceChoice",
    "TokenDtype",
    "TokenizerChoice",
    "load_recipe",
    "scaled",
    "shipped",
    "shipped_targets",
]
