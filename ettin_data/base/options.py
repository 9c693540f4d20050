"""Options as a recipe writes them: what recipes and the options of strategies share.

Whoever has options declares them as a class of pydantic fields, usually an `Options`; `read` makes one from the mapping
of a recipe, or says which key is wrong, what its value was, and which key may have been meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from ettin_data.base.errors import RecipeError, near
from ettin_data.base.units import parse_bytes, parse_count
from ettin_data.base.yaml_text import LARGEST

Model = TypeVar("Model", bound=BaseModel)

SHOWN = 20
"""Problems of one recipe that are named in one message."""

_A_MAPPING = re.compile(r"Input should be a valid dictionary( or instance of \w+)?")


def _as_value_error(parse: Callable[[object], int]) -> BeforeValidator:
    def checked(value: object) -> int:
        try:
            return parse(value)
        except RecipeError as error:  # which pydantic would not collect
            raise ValueError(f"{error.what}; {error.remedy}") from None

    return BeforeValidator(checked)


Count = Annotated[int, _as_value_error(parse_count), Field(ge=0)]
"""A number of tokens, written as `16M`, `1.7T` or `5_000_000`."""

Bytes = Annotated[int, _as_value_error(parse_bytes), Field(gt=0)]
"""A size, written as `64MiB`, `1.5GB` or `1048576`."""


class Options(BaseModel):
    """A class of options: an unknown key is an error, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: ValidationInfo) -> Any:  # pydantic takes true for 1
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and not _takes_bool(annotation):
            switch = "; {} takes the defaults, and null switches it off" if _takes_options(annotation) else ""
            raise ValueError(f"true and false are no value here{switch}")
        return value

    @field_validator("*")
    @classmethod
    def _fits(cls, value: Any) -> Any:  # `yaml_text` bounds what stands there as a number, this what is made of "9…"
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError("does not fit into 64 bits")
        return value


def _takes_bool(annotation: Any) -> bool:
    return (
        annotation in (bool, Any, object)
        or any(_takes_bool(each) for each in get_args(annotation))
        or (get_origin(annotation) is Literal and any(isinstance(each, bool) for each in get_args(annotation)))
    )


def _takes_options(annotation: Any) -> bool:
    """Whether a mapping of options is expected, or nothing."""
    parts = get_args(annotation)
    plain = [get_args(part)[0] if get_origin(part) is Annotated else part for part in parts]
    return type(None) in parts and any(isinstance(part, type) and issubclass(part, Options) for part in plain)


def read_options(model: type[Model], values: object, at: str, *, also: Sequence[str] = ()) -> Model:
    """The options that a mapping of a recipe gives; what it leaves out has its default.

    Args:
        model: the class of the options.
        values: what stands in the recipe.
        at: the key path of `values`, for errors.
        also: keys that stand beside the options in the recipe and are read elsewhere, which somebody may have meant.

    Raises:
        RecipeError: `values` is no mapping, has an unknown key, or a value of the wrong type or out of range.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{at} = {values!r}", where=at, why="options are a mapping from name to value")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise refusal(error, model, at, also) from None


def refusal(error: ValidationError, model: type[BaseModel], at: str = "", also: Sequence[str] = ()) -> RecipeError:
    """What is wrong with values for `model`, all of it: each problem with its key path below `at` and a remedy."""
    problems = error.errors()
    what, path, remedy = _problem(problems[0], model, at, also)
    if len(problems) == 1:
        return RecipeError(what, where=path or None, remedy=remedy)
    shown = [f"{what}; {remedy}" for what, _, remedy in (_problem(each, model, at, also) for each in problems[1:SHOWN])]
    more = [f"and {len(problems) - SHOWN:,} more"] if len(problems) > SHOWN else []
    return RecipeError(
        f"{what} (and {len(problems) - 1} more problems)",
        where=path or None,
        why="\n    ".join(["also", *shown, *more]),
        remedy=remedy,
    )


def _problem(first: ErrorDetails, model: type[BaseModel], at: str, also: Sequence[str]) -> tuple[str, str, str]:
    """One problem: what, the key path, and a remedy."""
    path = ".".join([*([at] if at else []), *(str(part) for part in first["loc"] if part != "[key]")])
    if first["type"] == "extra_forbidden":
        what = f"unknown key {path!r}"
        remedy = near(str(first["loc"][-1]), [*_keys(model, first["loc"][:-1]), *also])
    elif first["type"] == "missing":
        what, remedy = f"{path!r} is missing", "add it to the recipe"
    else:
        said = _A_MAPPING.sub("a mapping is wanted, as in {key: value}", first["msg"].removeprefix("Value error, "))
        what = f"{path or 'the recipe'} = {_short(first['input'])}: {said}"
        remedy = "correct the value; `ettin-data plan --help` shows how to override one"
    return what, path, remedy


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at a place inside a model, below lists, mappings and what may be None too."""
    at: Any = model
    for part in location:
        fields = getattr(at, "model_fields", None)
        at = fields[str(part)].annotation if fields else get_args(at)[-1]
        if get_origin(at) in (Union, UnionType):
            at = next((one for one in get_args(at) if hasattr(one, "model_fields")), at)
    return list(getattr(at, "model_fields", ()))
