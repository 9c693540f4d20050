"""Sources with an axis of languages: one upstream, thousands of members, each a source of its own.

A family says how the files of a member are found; the table of languages says which members there are. A member is
written `fineweb2[deu_Latn]`, and several by a pattern, `fineweb2[*_Cyrl]` or `fineweb2[{deu,fra}_Latn]`; as the name
of a source, which becomes a folder, it is `fineweb2.deu_Latn`. Either is known to the registry like any other key. One
that the table lacks, as a newer FineWeb2 may have it, is a source of one's own with the same root and globs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from ettin_data.base.errors import SourceError, near
from ettin_data.base.modules import found_in
from ettin_data.sources import globs
from ettin_data.sources.base import Source

_MEMBER = "<member>"
_BRACKETS = re.compile(r"(?P<family>[A-Za-z0-9_]+)\[(?P<member>[^\[\]]+)\]")


@dataclass(frozen=True)
class Family:
    """Sources that differ in the language only.

    Attributes:
        source: of all of them, with `<member>` in its globs and its title; its key is the family's.
        names: of the members, rising.
    """

    source: Source
    names: Callable[[], tuple[str, ...]]

    def member(self, name: str) -> Source:
        """The source of one member. Raises `SourceError` for a name that the family does not have."""
        if name not in self.names():
            raise SourceError(
                f"{self.source.key} has no member {name!r}",
                where=self.source.root,
                remedy=near(name, self.names()),
            )
        return replace(
            self.source,
            key=f"{self.source.key}.{name}",
            title=f"{self.source.title}, {name}",
            globs=tuple(pattern.replace(_MEMBER, name) for pattern in self.source.globs),
        )

    def chosen(self, pattern: str) -> list[Source]:
        """The members that a pattern names, in the order of their names. Raises `SourceError` if there are none."""
        fits = globs.to_regex(pattern).fullmatch
        found = [self.member(name) for name in self.names() if fits(name)]
        if not found:
            raise SourceError(
                f"{self.source.key} has no member that is {pattern!r}",
                where=self.source.root,
                remedy=near(pattern, self.names()),
            )
        return found


@cache
def families() -> dict[str, Family]:
    """Key -> family, of the modules of `families/` whose `SOURCES` are one."""
    found = (module.SOURCES for module in found_in("ettin_data.sources.families"))
    return {family.source.key: family for family in found if isinstance(family, Family)}


def select(text: str) -> list[Source]:
    """The sources that `family[pattern]` names, in the order of the members' names.

    Raises `SourceError` for what is no such text, for a family that there is not, and for a pattern without a member.
    """
    match = _BRACKETS.fullmatch(text)
    if match is None or match["family"] not in families():
        raise SourceError(
            f"{text!r} names no members of a source",
            remedy=f"write one of {', '.join(f'{key}[…]' for key in sorted(families()))}, such as fineweb2[deu_Latn]",
        )
    return families()[match["family"]].chosen(match["member"])


def source_of(key: str) -> Source | None:
    """The source of `family.member` or `family[member]`; None for any other key, and for members that there are not."""
    match = _BRACKETS.fullmatch(key)
    family, _, name = (match["family"], "", match["member"]) if match else key.partition(".")
    found = families().get(family)
    return found.member(name) if found is not None and name in found.names() else None
