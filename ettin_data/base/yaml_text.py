"""YAML as people write it, read within bounds: what is too deep, too large or no number is refused before it is built.

PyYAML builds what a text says. Five thousand brackets end in its recursion, ten lines of aliases that name each other
stand for a billion values to whoever walks them, `1:1:1:…` becomes one number of a million digits, `.inf` is a float.
The events of the text are counted first, which takes no recursion and holds nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from ettin_data.base.errors import RecipeError

MOST_CHARACTERS = 1 << 20
MOST_VALUES = 50_000
"""Keys and values in all, aliases counted as if they were written out."""
DEEPEST = 32
LONGEST = 4096
"""Characters of one scalar."""
LARGEST = (1 << 63) - 1
"""Of whole numbers, on either side of zero."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, and not everywhere
_TAG = "tag:yaml.org,2002:"
_REMEDY = "a recipe is a few nested mappings of short values; look for a bracket, an alias or a number too many"


class _Loader(_LOADER):  # type: ignore[misc, valid-type]
    """Plain words mean what they say: PyYAML follows YAML 1.1, where `no`, a language, is false and `1:30` is 90.

    Booleans and whole numbers are those of YAML 1.2's core schema (chapter 10.3), with `_` between digits.
    """

    yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag not in (f"{_TAG}bool", f"{_TAG}int", f"{_TAG}float")]
        for first, rules in _LOADER.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^([-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9_]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)


@dataclass
class _Open:
    """A mapping or list of which the end has not come: where reading is in it, and how much it holds so far."""

    anchor: str | None
    mapping: bool
    at: str = ""
    entries: int = 0
    values: int = 1
    depth: int = 1
    keys: set[str] = field(default_factory=set)


def parse(text: str) -> Any:
    """The value of a YAML document, of plain types only.

    Raises `RecipeError`, with the key path as its place, for what is no YAML, is larger or deeper than the limits of
    this module, holds a number that is not finite or above `LARGEST`, or a key twice, of which PyYAML forgets one.
    """
    if len(text) > MOST_CHARACTERS:
        raise RecipeError(f"{len(text):,} characters of YAML, of at most {MOST_CHARACTERS:,}", remedy=_REMEDY)
    try:
        _count(text)
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # the second is a date or a number that Python cannot hold
        raise _told(error) from error
    for path, number in _numbers(value, ""):
        if not math.isfinite(number) if isinstance(number, float) else abs(number) > LARGEST:
            shown = number if isinstance(number, float) else f"a number of {len(f'{abs(number):x}') * 4} bits"
            raise RecipeError(f"{path or 'the value'} = {shown}", where=path or None, remedy="give a number of 64 bits")
    return value


def _told(error: Exception) -> RecipeError:
    """What is wrong, why and what to do, in a line each: the parser's own words go over six and name no file."""
    what, mark = "this is not YAML that can be read", getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return RecipeError(what, why=" ".join(str(error).split()), remedy="look at the dates and numbers in it")
    begun = error.context_mark
    since = f", {error.context} that begins in line {begun.line + 1}" if error.context and begun else ""
    return RecipeError(
        what,
        why=f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{since}",
        remedy=f"correct line {(begun or mark).line + 1}; `name: value`, lists in [], texts with : or # in quotes",
    )


def _count(text: str) -> None:
    """Refuse what is too much, while nothing is built: one pass over the events, with a stack of its own."""
    known: dict[str, tuple[int, int] | None] = {}  # anchor -> values and depth below it; None until it has ended
    stack: list[_Open] = []

    def refuse(what: str, remedy: str = _REMEDY) -> None:
        path = ".".join(each.at for each in stack if each.at)
        raise RecipeError(f"{path or 'the text'}: {what}", where=path or None, remedy=remedy)

    def ended(anchor: str | None, values: int, depth: int) -> None:
        if anchor:
            known[anchor] = values, depth
        if stack:
            stack[-1].values += values
            stack[-1].depth = max(stack[-1].depth, depth + 1)
            if stack[-1].values > MOST_VALUES:
                refuse(f"more than {MOST_VALUES:,} values, with aliases written out")
        if len(stack) + depth > DEEPEST:
            refuse(f"nested deeper than {DEEPEST} levels")

    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            ended(done.anchor, done.values, done.depth)
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        scalar = event.value if isinstance(event, yaml.ScalarEvent) else None
        if stack:
            around = stack[-1]
            if not around.mapping:
                around.at = str(around.entries)
            elif around.entries % 2 == 0:  # a key
                around.at = "?" if scalar is None else scalar[:80]
                if scalar in around.keys:
                    refuse(
                        "stands here twice, and only one of them would count", "take one out, or give it another name"
                    )
                if scalar is not None:
                    around.keys.add(scalar)
            around.entries += 1
        if scalar is not None:
            if len(scalar) > LONGEST:
                refuse(f"a value of {len(scalar):,} characters, of at most {LONGEST:,}")
            ended(event.anchor, 1, 0)
        elif isinstance(event, yaml.AliasEvent):
            size = known.get(str(event.anchor), (1, 0))  # one that there is not is for the parser to say
            if size is None:
                refuse(f"*{event.anchor} stands inside of what it names")
            else:
                ended(None, *size)
        else:
            if len(stack) >= DEEPEST:
                refuse(f"nested deeper than {DEEPEST} levels")
            if event.anchor:
                known[event.anchor] = None
            stack.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))


def _numbers(value: Any, path: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _numbers(item, f"{path}.{number}" if path else str(number))
    elif isinstance(value, int | float):
        yield path, value
