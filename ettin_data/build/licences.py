"""Licences as a gate: with `allow` in the recipe, a source whose licence is not among them stops the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ettin_data.base.errors import RecipeError
from ettin_data.recipe import Recipe, SourceChoice
from ettin_data.sources import standing
from ettin_data.sources.base import Source


def as_stated(source: Source, choice: SourceChoice) -> Source:
    """The source with the licence and the terms that a recipe states, where it does."""
    return replace(source, licence=choice.licence or source.licence, terms=choice.terms or source.terms)


def licensed(sources: Mapping[str, Source], recipe: Recipe) -> dict[str, Source]:
    """The sources of a recipe as it states them; raises as `check_licences`."""
    stated = {key: as_stated(source, recipe.sources[key]) for key, source in sources.items()}
    check_licences(stated, recipe.allow)
    return stated


def check_licences(sources: Mapping[str, Source], allow: Sequence[str] | None) -> None:
    """Raise `RecipeError`, with each source by name, if a licence is not allowed or not known.

    What is allowed says `sources.standing`. A recipe that knows a licence says so, `sources.x.licence`.

    Args:
        sources: with the licences as the recipe leaves them.
        allow: None allows all.
    """
    if allow is None:
        return
    why = []
    for key, source in sources.items():
        said = source.licence.strip()
        judged = standing(said, allow)
        if judged == "unknown":
            why.append(
                f"{key}: its licence is not known ({said or 'nothing is said'}); terms: {source.terms or 'none'}"
            )
        elif judged == "refused":
            why.append(f"{key}: {said}; terms: {source.terms or 'none'}")
    if not why:
        return
    named = [line.partition(":")[0] for line in why]
    raise RecipeError(
        f"the licence of {', '.join(named)} is not allowed",
        where="allow",
        why="\n       ".join([f"allow is {', '.join(allow) or 'empty'}", *why]),
        remedy="add the licence to allow, as it is written here; or drop the source: "
        f"--drop-source {named[0]}; or, if you know the licence, say it: --set sources.{named[0]}.licence=...",
    )
