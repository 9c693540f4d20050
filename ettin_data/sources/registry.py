"""The registry: the sources of all families, each a module of `families/` with its `SOURCES`."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ettin_data.base.errors import ExitStatus, SourceError, near
from ettin_data.base.modules import found_in
from ettin_data.sources import members
from ettin_data.sources.base import Source

_LISTS = [module.SOURCES for module in found_in("ettin_data.sources.families") if isinstance(module.SOURCES, tuple)]

REGISTRY: dict[str, Source] = {source.key: source for source in heapq.merge(*_LISTS, key=lambda source: source.key)}
"""Key -> source. A family's sources stand in its own order, the families are merged by key: so does the table of the
mixture list them (ARCHITECTURE 5.8)."""

Standing = Literal["allowed", "refused", "unknown"]
_UNKNOWN = ("", "not stated", "your own", "unknown", "other", "none")


def known(key: str) -> bool:
    """Whether a key is that of a source, or of a member of a family of languages (`members`)."""
    return key in REGISTRY or members.source_of(key) is not None


def get(key: str) -> Source:
    """The source of a key. Raises `SourceError` that names near matches."""
    if key in REGISTRY:
        return REGISTRY[key]
    if (source := members.source_of(key)) is not None:
        return source
    raise SourceError(
        f"there is no source {key!r}",
        remedy=f"{near(key, REGISTRY)}; or your own: --add-source {key}=path_or_url:tokens",
        status=ExitStatus.USAGE,
    )


def standing(licence: str, allow: Sequence[str] | None) -> Standing:
    """What a recipe's `allow` says of a stated licence; without a list all are allowed that are known.

    A statement of a licence is compared as a whole, in any letters: what covers a part of a source says nothing of the
    rest of it. One that is not known is not allowed by any list.
    """
    said = licence.strip().casefold()
    if said.partition("(")[0].strip() in _UNKNOWN:
        return "unknown"
    return "allowed" if allow is None or said in {one.strip().casefold() for one in allow} else "refused"


def stated_licence(key: str, choice: Mapping[str, Any]) -> tuple[str, str]:
    """Licence and terms of a source, as its entry in a recipe or else the registry states them."""
    source = get(key) if known(key) else None
    licence = choice.get("licence") or (source.licence if source else "your own")
    return str(licence), str(choice.get("terms") or (source.terms if source else ""))


class Stated(NamedTuple):
    """A source with its licence and terms, as they are stated."""

    name: str
    licence: str
    terms: str


def by_standing(choices: Mapping[str, Mapping[str, Any]], allow: Sequence[str] | None) -> dict[Standing, list[Stated]]:
    """The sources of a recipe, by name, that have a licence that is allowed, refused and not known.

    Args: choices: the entries of the sources in the recipe. allow: of the recipe.
    """
    found: dict[Standing, list[Stated]] = {"allowed": [], "refused": [], "unknown": []}
    for name in sorted(choices):
        stated = Stated(name, *stated_licence(name, choices[name]))
        found[standing(stated.licence, allow)].append(stated)
    return found
