"""A recipe as text: resolved, with who said each value; and a file to start one's own from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ettin_data.base.redact import redact_all
from ettin_data.base.units import count, parse_count
from ettin_data.recipe.keys import recipe_keys
from ettin_data.recipe.load import DEFAULT, Loaded, load_changed

_START = """# A recipe of your own: what differs from {base}. Take the # from a line to say it.
#   ettin-data recipe show FILE    what comes out, and where each value is from
#   ettin-data plan FILE           what would be built of it
#   ettin-data recipe keys         every key there is

extends: {base}
phase: {phase}
"""
_SOURCES = """
# How much of each source: tokens: 10B, tokens: 2x (twice as much as here), passes: 2 (of all that it holds),
# passes: all, or ratio: 3, weight: 0.5, share: 60% of the total. null takes it out.
#sources:
"""
_OWN = """
# One of your own: a file, a folder, a glob, a data set of the hub, an URL.
#  mine: {root: texts, passes: all}
"""


def resolved_text(loaded: Loaded) -> str:
    """The recipe as YAML that can be read again, every value with who said it."""
    data = redact_all(loaded.recipe.model_dump(mode="json"))
    lines = [(" " * 2 * depth + text, note) for depth, text, note in _lines(data, loaded.said, ())]
    width = min(max(len(text) for text, note in lines if note), 60)
    total = sum(source.tokens for source in loaded.recipe.sources.values())
    passes = [name for name, source in loaded.recipe.sources.items() if source.passes is not None]
    beside = f", and what the passes over {', '.join(passes)} give" if passes else ""
    shown = [f"{text:<{width}}  # {note}" if note else text for text, note in lines]
    return "\n".join([f"# {total:,} tokens ({count(total)}){beside}", *shown]) + "\n"


def _lines(data: Mapping[str, Any], said: Mapping[str, str], path: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    for key, value in data.items():
        here = (*path, key)
        if len(path) == 2 and path[0] == "sources" and said.get(".".join(here), DEFAULT) == DEFAULT:
            continue  # twelve nulls for every source would hide what is said of them
        if isinstance(value, Mapping) and value:
            yield len(path), f"{_scalar(key)}:", ""
            yield from _lines(value, said, here)
        else:
            note = said.get(".".join(here), DEFAULT)
            amount = f"{count(value)}, " if key == "tokens" and path[:1] == ("sources",) and value else ""
            yield len(path), f"{_scalar(key)}: {_scalar(value)}", f"{amount}{note}"


def _exact(tokens: int) -> str:
    """A count as people write it, where that says all of it."""
    short = count(tokens).replace(".0", "")
    return short if parse_count(short) == tokens else f"{tokens:_}"


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 20).removesuffix("\n").removesuffix("\n...")


def starting_text(base: str, phase: str | None = None) -> str:
    """A commented file that extends a recipe: it can be planned as it is, and every line of it can be taken.

    Raises `RecipeError` for a recipe that there is not, and for a name that no phase can have.
    """
    loaded = load_changed(base)
    recipe = loaded.recipe if phase is None else loaded.recipe.changed(f"phase={_scalar(phase)}")
    data = recipe.model_dump(mode="json")
    width = max(map(len, recipe.sources))
    lines = [_START.format(base=base, phase=_scalar(recipe.phase)), "#total: 10B  # scales all of it"]
    for key in recipe_keys():
        if key.path in data and key.path not in ("phase", "sources"):
            lines += ["", *textwrap.wrap(key.sentence, 118, initial_indent="# ", subsequent_indent="# ")]
            lines.append(f"#{key.path}: {_scalar(data[key.path])}")
    lines.append(_SOURCES.rstrip("\n"))
    for name, source in recipe.sources.items():
        amount = f"tokens: {_exact(source.tokens)}" if source.passes is None else f"passes: {source.passes!r}"
        lines.append(f"#  {name + ':':<{width + 1}} {{{amount}}}")
    return "\n".join(lines) + _OWN
