"""Packing: token rows become samples (ARCHITECTURE 5.2, 5.3). A strategy is one module here, with its `STRATEGY`.

Where the cuts fall is a pure function from the lengths of documents to pieces of them; `step` puts what they select
into a `Framing`. One law for all: tokens in = tokens in samples + tokens skipped by a counted reason.

What a strategy means for others (folder names, columns, what verification may find missing) they ask of it: nobody
outside this folder compares its name.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ettin_data.base import options
from ettin_data.base.errors import RecipeError, near
from ettin_data.base.modules import found_in
from ettin_data.stages.pack.strategy import Choice, Strategy

__all__ = ["DEFAULT", "Choice", "Strategy", "choose", "from_recipe", "strategies"]

DEFAULT = "backfill"
"""What a recipe means that names no strategy: the published layout."""


@functools.cache
def strategies() -> Mapping[str, Strategy]:
    """Name -> strategy, of every module of this folder that has a `STRATEGY`."""
    found = [module.STRATEGY for module in found_in(__name__) if hasattr(module, "STRATEGY")]
    return MappingProxyType({strategy.name: strategy for strategy in found})


def choose(name: str = DEFAULT, values: Mapping[str, Any] | None = None, *, at: str = "pack") -> Choice:
    """The strategy of this name with these options, its defaults for the others.

    An option that only other strategies have is passed over, so that one word changes the strategy of a recipe
    (`--set pack.strategy=best_fit`); plan and build say which (`Choice.passed_over`).

    Args:
        name: of a strategy.
        values: its options.
        at: key path of the section in the recipe, for errors.

    Raises:
        RecipeError: no such strategy, no such option of any, or a value of the wrong type or out of range.
    """
    if not isinstance(name, str) or name not in strategies():
        raise RecipeError(
            f"{at}.strategy = {name!r}: there is no such packing strategy",
            where=f"{at}.strategy",
            why=f"known are {', '.join(strategies())}",
            remedy=near(str(name), strategies()),
        )
    strategy = strategies()[name]
    elsewhere = {key for other in strategies().values() for key in other.options.model_fields}
    elsewhere -= set(strategy.options.model_fields)
    mine = {key: value for key, value in (values or {}).items() if key not in elsewhere}
    read = options.read_options(strategy.options, mine, at, also=("strategy",))
    return Choice(strategy, read, tuple(key for key in values or {} if key in elsewhere))


def from_recipe(value: object) -> Choice:
    """What a recipe says under `pack`: a name, or `strategy` and its options in one mapping. Raises `RecipeError`."""
    if isinstance(value, Choice):
        return value
    if isinstance(value, str):
        return choose(value)
    if not isinstance(value, Mapping):
        raise RecipeError(f"pack = {value!r}", where="pack", remedy="write `pack: {strategy: backfill}`")
    values = dict(value)
    return choose(values.pop("strategy", DEFAULT), values)
