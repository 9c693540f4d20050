"""The options of a filter: its own signature says which there are, of what type, and what they are unless given."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Optional, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ettin_data.base.options import refusal
from ettin_data.stages.filters.base import Kind

_NOT_GIVEN = Parameter.empty
_OURS = ("exclusion_writer",)  # a parameter of datatrove's filters that is ours to fill


@dataclass(frozen=True)
class Checked:
    """The options of one filter of a recipe.

    Attributes:
        typed: what is passed to it, with the types that its signature declares.
        plain: the same as JSON, defaults included: what a fingerprint holds. A default that JSON has no word for is
            left out: the version of the filter stands for it.
    """

    typed: dict[str, Any]
    plain: dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
    )


def defaults_of(kind: Kind) -> dict[str, Any]:
    """Option -> default (`inspect.Parameter.empty` where it has to be given), in the order of the signature."""
    parameters = list(inspect.signature(_function(kind)).parameters.values())[1:]
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    options = [one for one in parameters if one.kind in named and one.name not in _OURS]
    return {one.name: one.default for one in options if not one.name.startswith("_")}


def check_options(kind: Kind, given: Mapping[str, Any], place: str) -> Checked:
    """The options as the filter's signature types them; strict: "50" is not 50, 1 is not true.

    Args:
        given: from a recipe, by name.
        place: the key path of the filter in the recipe, for errors.

    Raises:
        RecipeError: an option that is unknown, missing, of the wrong type or out of range.
    """
    defaults, hints = defaults_of(kind), _hints(kind)
    fields: dict[str, Any] = {}
    for name, default in defaults.items():
        hint = hints.get(name, Any)
        if default is None:  # many a signature says `x: int = None`
            hint = Optional[hint]  # noqa: UP045 - a hint need not be a type
        fields[name] = (hint, ... if default is _NOT_GIVEN else default)
    model = create_model("Options", __base__=_Strict, **fields)
    try:
        # by way of JSON, because only there does strict mode take a list of a YAML file for a tuple
        read = model.model_validate_json(json.dumps(dict(given), default=str))
    except ValidationError as error:
        raise refusal(error, model, place) from None
    typed = {name: getattr(read, name) for name in defaults}
    plain = {name: _plain(value, given.get(name, _NOT_GIVEN)) for name, value in typed.items()}
    return Checked(typed, {name: value for name, value in plain.items() if value is not _NOT_GIVEN})


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
