"""The options of a filter: its own signature says which there are, of what type, and what they are unless given."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Optional, get_type_hints

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Kind

_NOT_GIVEN = Parameter.empty
_OURS = ("exclusion_writer",)  # a parameter of datatrove's filters that is ours to fill


@dataclass(frozen=True)
class Options:
    """The options of one filter of a recipe.

    Attributes:
        typed: what is passed to it, with the types that its signature declares.
        plain: the same as JSON, defaults included: what a fingerprint holds. A default that JSON has no word for is
            left out: the version of the filter stands for it.
    """

    typed: dict[str, Any]
    plain: dict[str, Any]


def defaults_of(kind: Kind) -> dict[str, Any]:
    """Option -> default (`inspect.Parameter.empty` where it has to be given), in the order of the signature."""
    parameters = list(inspect.signature(_function(kind)).parameters.values())[1:]
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {one.name: one.default for one in parameters if one.kind in named and one.name not in _OURS}


def check_options(kind: Kind, given: Mapping[str, Any], place: str) -> Options:
    """The options as the filter's signature types them; strict: "50" is not 50, 1 is not true.

    Args:
        given: from a recipe, by name.
        place: the key path of the filter in the recipe, for errors.

    Raises:
        RecipeError: an option that is unknown, missing, of the wrong type or out of range.
    """
    defaults = defaults_of(kind)
    for option in given:
        if option not in defaults:
            raise RecipeError(
                f"filter {kind.name!r} has no option {option!r}",
                where=f"{place}.{option}",
                remedy=_valid(kind),
            )
    hints, typed, plain = _hints(kind), {}, {}
    for option, default in defaults.items():
        if option in given:
            hint = hints.get(option, Any)  # many a signature says `x: int = None`
            typed[option] = _typed(kind, option, Optional[hint] if default is None else hint, given[option], place)  # noqa: UP045
        elif default is _NOT_GIVEN:
            raise RecipeError(f"filter {kind.name!r} needs the option {option!r}", where=place, remedy=_valid(kind))
        else:
            typed[option] = default
        value = _plain(typed[option], given.get(option, _NOT_GIVEN))
        if value is not _NOT_GIVEN:
            plain[option] = value
    return Options(typed, plain)


def _typed(kind: Kind, option: str, hint: Any, value: Any, place: str) -> Any:
    """A value of a YAML file as the declared type."""
    try:
        # by way of JSON, because only there does strict mode take a list for a tuple
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except PydanticSchemaGenerationError:  # a type that pydantic does not know is the filter's to check
        return value
    except (ValidationError, TypeError, ValueError) as error:
        location: tuple[int | str, ...] = ()
        why: object = error
        if isinstance(error, ValidationError):
            location, why = error.errors()[0]["loc"], error.errors()[0]["msg"]
        parts = [str(part) for part in location if isinstance(part, int) or part.isidentifier()]
        raise RecipeError(
            f"filter {kind.name!r} cannot have {option} = {value!r}",
            where=".".join((place, option, *parts)),
            why=why,
            remedy=_valid(kind),
        ) from None


def _function(kind: Kind) -> Callable[..., Any]:
    # of a class `inspect.signature` would find `PipelineStep.__new__`, which takes anything
    return kind.takes.__init__ if isinstance(kind.takes, type) else kind.takes  # type: ignore[misc]


def _hints(kind: Kind) -> dict[str, Any]:
    """The declared types; none where they cannot be found out, as for names that only a type checker imports."""
    try:
        return get_type_hints(_function(kind), include_extras=True)
    except (NameError, TypeError):
        return {}


def _plain(value: Any, given: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):  # such as a set, which has no order to be the same in
        return given


def _valid(kind: Kind) -> str:
    """The options of a filter, as a recipe would write them."""
    defaults = defaults_of(kind)
    if not defaults:
        return f"{kind.name} has no options"
    shown = [name if default is _NOT_GIVEN else f"{name}: {_shown(default)}" for name, default in defaults.items()]
    return f"options and defaults: {', '.join(shown)}"


def _shown(default: Any) -> str:
    try:
        return json.dumps(default)
    except (TypeError, ValueError):
        return repr(default)
