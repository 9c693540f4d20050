"""What a run says of its own build: the recipe, and where its sources were; for what is made of them once more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ettin_data import sources
from ettin_data.base.errors import BuildError, EttinError
from ettin_data.recipe import Recipe
from ettin_data.sources import manifest as listings
from ettin_data.sources.base import mirror_path
from ettin_data.storage.phase import Phase


def recipe_of(phase: Phase, described: Mapping[str, Any] | None, vocabulary: Mapping[str, Any] | None) -> Recipe:
    """The recipe that a phase was built with.

    Args:
        described: as the records of the phase have it; None where these are damaged.
        vocabulary: of `run.json`, which names the tokenizer as it is called, where the recipe's path is elsewhere.

    Raises `BuildError` where the run does not say it.
    """
    if described is None or "***" in json.dumps(described):
        why = "run.json and plan.json are damaged" if described is None else "it holds a secret, which is never written"
        raise BuildError(
            "the run does not say with which recipe it was built",
            where=phase.folder,
            why=why,
            remedy="name the recipe and its changes, as for the build (--recipe, --set, --scale)",
        )
    recipe = Recipe.model_validate(described)
    name = recipe.tokenizer.name
    if name is not None and vocabulary and not Path(name).exists():  # a path as seen from where it was built
        recipe = recipe.model_copy(
            update={"tokenizer": recipe.tokenizer.model_copy(update={"name": vocabulary["name"]})}
        )
    return recipe


def sources_root_of(phase: Phase, recipe: Recipe) -> str | None:
    """The mirror that the run was made from, as its frozen listings say; None for the upstreams themselves."""
    for key, choice in recipe.sources.items():
        if not sources.known(key) or choice.root is not None:
            continue
        try:
            root = listings.load_manifest(phase.listing(key)).root
        except EttinError:
            continue
        upstream = sources.get(key).root
        end = f"/{mirror_path(upstream)}/"
        return root.removesuffix(end) if root != upstream and root.endswith(end) else None
    return None
