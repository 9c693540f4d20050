"""The filter stage: from what a recipe says to steps that drop documents, each drop counted by its reason.

A recipe names filters for each source, in the order in which they run, by name alone or with options:

    filters:
      - length: {min_chars: 1}
      - exact_duplicate
      - gopher_quality: {min_doc_words: 50}

`length` and `exact_duplicate` are light. The heuristics, `gopher_quality`, `gopher_repetition`, `c4` and `fineweb`,
give the decisions and the reasons of datatrove's filters at a small part of their cost (`benchmarks/filters.py`).
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Filter, Rejects
from ettin_data.stages.filters.c4 import C4Quality
from ettin_data.stages.filters.fineweb import FineWebQuality
from ettin_data.stages.filters.gopher import GopherQuality
from ettin_data.stages.filters.light import ExactDuplicate, Length
from ettin_data.stages.filters.repetition import GopherRepetition

Spec = str | Mapping[str, Any]

FILTERS: dict[str, type[Filter]] = {
    "length": Length,
    "exact_duplicate": ExactDuplicate,
    "gopher_quality": GopherQuality,
    "gopher_repetition": GopherRepetition,
    "c4": C4Quality,
    "fineweb": FineWebQuality,
}


def build_filters(specs: Sequence[Spec], *, rejects: Rejects | None = None, where: str | None = None) -> list[Filter]:
    """The steps for a recipe's list of filters, in its order.

    Args:
        specs: each a filter's name, or a mapping of one name to its options (`None` for no options).
        rejects: called with every dropped document and the reason (snake case, see each filter).
        where: the key path of the list in the recipe, for errors.

    Raises:
        RecipeError: an unknown filter or option, a value of the wrong type or out of range, or a filter named twice.
    """
    steps: list[Filter] = []
    named: set[str] = set()
    for position, spec in enumerate(specs):
        place = f"{where or 'filters'}[{position}]"
        name, options = _read(spec, place)
        if name in named:
            raise RecipeError(f"filter {name!r} is named twice", where=place, remedy="name each filter once")
        named.add(name)
        steps.append(FILTERS[name](**_checked(name, options, place), rejects=rejects))
    return steps


def options_of(name: str) -> dict[str, Any]:
    """The options of a filter and their defaults, in the order of its signature."""
    parameters = inspect.signature(FILTERS[name]).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key != "rejects"}


def _read(spec: Spec, place: str) -> tuple[str, Mapping[str, Any]]:
    """Name and options of one entry of the list."""
    options: Any = None
    if isinstance(spec, str):
        name = spec
    elif isinstance(spec, Mapping) and len(spec) == 1:
        name, options = next(iter(spec.items()))
    else:
        raise RecipeError(
            f"{spec!r} does not name one filter",
            where=place,
            remedy="write a name, or one name with its options, as in {length: {min_chars: 1}}",
        )
    if name not in FILTERS:
        raise RecipeError(
            f"there is no filter {name!r}{_near(str(name), FILTERS)}",
            where=place,
            remedy=f"use one of {', '.join(FILTERS)}",
        )
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise RecipeError(
            f"the options of filter {name!r} are {options!r}",
            where=f"{place}.{name}",
            why="options are a mapping from option to value",
            remedy=_valid(name),
        )
    return name, options


def _checked(name: str, options: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The options as the filter's own signature types them; strict: "50" is not 50, 1 is not true."""
    defaults = options_of(name)
    for option in options:
        if option not in defaults:
            raise RecipeError(
                f"filter {name!r} has no option {option!r}{_near(str(option), defaults)}",
                where=f"{place}.{name}.{option}",
                remedy=_valid(name),
            )
    hints = get_type_hints(FILTERS[name].__init__, include_extras=True)
    fields: dict[str, Any] = {key: (hints[key], default) for key, default in defaults.items()}
    model = create_model(name, __config__=ConfigDict(strict=True), **fields)
    try:
        # by way of JSON, because only there does strict mode take a list of a YAML file for a tuple
        typed = model.model_validate_json(json.dumps(dict(options)))
    except (ValidationError, TypeError, ValueError) as error:
        key, why = _first(error)
        raise RecipeError(
            f"filter {name!r} cannot have {key} = {options.get(key.split('.')[0])!r}",
            where=f"{place}.{name}.{key}",
            why=why,
            remedy=_valid(name),
        ) from None
    return {key: getattr(typed, key) for key in defaults}


def _first(error: Exception) -> tuple[str, str]:
    """Where a value is wrong, and why."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        path = [str(part) for part in first["loc"] if isinstance(part, int) or str(part).isidentifier()]
        return ".".join(path), first["msg"]
    return "options", str(error)


def _near(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _valid(name: str) -> str:
    """The options of a filter, as a recipe would write them."""
    defaults = options_of(name)
    if not defaults:
        return f"{name} has no options"
    return "options and defaults: " + ", ".join(f"{key}: {json.dumps(value)}" for key, value in defaults.items())
