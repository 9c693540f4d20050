"""From a name or a file and what the command line changes to a `Recipe`, with where each of its values is from."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ettin_data.base import yaml_text
from ettin_data.base.errors import RecipeError, near
from ettin_data.base.options import refusal
from ettin_data.base.units import count, parse_count
from ettin_data.recipe.amounts import apportioned, needs_a_total, settled
from ettin_data.recipe.before import going_on
from ettin_data.recipe.languages import with_languages
from ettin_data.recipe.layers import Layers, Said, leaves, located, read_layers
from ettin_data.recipe.schema import PHASES, Recipe
from ettin_data.sources import registry

DEFAULT = "default"


@dataclass(frozen=True)
class Changes:
    """What a command line changes in a recipe, in this order: add, drop, length, set, keep the total, scale or budget.

    Attributes:
        overrides: `key.path=value`, the value read as YAML; `name=2x` of a source.
        add_sources: `name=path_or_url:tokens`, or `:all` for one pass over all that is there.
        drop_sources: names.
        scale: factor on every target.
        tokens: a budget that all targets together are scaled to, such as `10B`; they add up to it exactly.
        keep_total: the sources that are not changed here are scaled so that the sum stays what it was.
        length: of the sequences.
        after: folder of a finished phase, all samples of which are taken again.
    """

    overrides: Sequence[str] = ()
    add_sources: Sequence[str] = ()
    drop_sources: Sequence[str] = ()
    scale: float = 1.0
    tokens: str | None = None
    keep_total: bool = False
    length: int | None = None
    after: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A recipe, and who said what of it: key path with dots -> a recipe, `--set`, … or `default`.

    Attributes:
        after: the folder of `Changes.after`.
    """

    recipe: Recipe
    said: Mapping[str, str]
    after: str | None = None


def load_changed(name_or_path: str | Path, changes: Changes | None = None) -> Loaded:
    """Read a recipe with all that it extends, apply changes, and make whole numbers of tokens of every amount.

    Raises:
        RecipeError: with the file, key path, value and remedy.
    """
    changes = changes or Changes()
    layers = read_layers(name_or_path)
    sources = layers.data.setdefault("sources", {})
    if not isinstance(sources, dict):
        raise RecipeError(
            f"sources is {sources!r}", where=f"{layers.origin}: sources", remedy="write `name: {tokens: 1B}`"
        )
    budget = _budget(changes)
    layers.next_layer()  # what is said of the total here is younger than the files, and older than the other changes
    if changes.keep_total:
        before = _tokens(_settled(layers)[0], layers.origin, "--keep-total")
        layers.put(("total",), sum(before.values()), "--keep-total")
    layers.next_layer()
    for text in changes.add_sources:
        name, source = added_source(text, sources)
        layers.put(("sources", name), source, "--add-source")
    for name in changes.drop_sources:
        if name not in sources:
            raise RecipeError(
                f"there is no source {name!r} to drop", where=f"{layers.origin}: sources", remedy=near(name, sources)
            )
        layers.put(("sources", name), None, "--drop-source")
    if changes.length is not None:
        layers.put(("length",), changes.length, "--length")
    for text in changes.overrides:
        layers.override(text)
    _let_the_loader_follow(layers)
    if budget is not None and needs_a_total(layers.data):
        layers.data["total"] = budget  # older than all, so that tokens stay what they are beside the parts
    data, notes = _settled(layers)
    recipe = validated(data, layers.origin)
    if budget is not None:
        recipe = _to_budget(recipe, budget, layers.origin)
        notes = dict.fromkeys(recipe.sources, f"--tokens {changes.tokens}")
    elif changes.scale != 1:
        if not 0 < changes.scale < math.inf or any(
            each.tokens * changes.scale > yaml_text.LARGEST for each in recipe.sources.values()
        ):
            raise RecipeError(f"--scale {changes.scale} is no factor for these targets", remedy="give one such as 1e-3")
        recipe = scaled(recipe, changes.scale)
        notes |= dict.fromkeys(recipe.sources, f"--scale {changes.scale:g}")
    if changes.after is None:
        return Loaded(recipe, _said_of(recipe, layers.said, notes))
    recipe, grown = going_on(recipe, changes.after)
    said = _said_of(recipe, layers.said, notes)
    own = tuple(f"sources.{name}.after" for name in grown)
    return Loaded(recipe, {path: "--after" if path.startswith(own) else by for path, by in said.items()}, changes.after)


def load_recipe(
    name_or_path: str | Path,
    *,
    overrides: Sequence[str] = (),
    scale: float = 1.0,
    add_sources: Sequence[str] = (),
    drop_sources: Sequence[str] = (),
    after: str | None = None,
) -> Recipe:
    """Read a recipe and apply what the command line changes, in this order: add, drop, set, scale.

    Args:
        name_or_path: a shipped recipe (`decay` or `ettin/decay`) or a YAML file.
        overrides: `key.path=value`, the value read as YAML: `sources.arxiv.tokens=6B`, `arxiv=2x`, `total=10B`.
        scale: factor on every target.
        add_sources: `name=path_or_url:tokens`, or `:all` for one pass over all that is there.
        drop_sources: names.
        after: folder of a finished phase, all samples of which are taken again where a target has changed.

    Raises:
        RecipeError: with the file, key path, value and remedy.
    """
    return load_changed(name_or_path, Changes(overrides, add_sources, drop_sources, scale, after=after)).recipe


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with some values set. Raises `RecipeError`."""
    layers = Layers(recipe.phase)
    layers.add(recipe.model_dump(mode="json"), recipe.phase)
    layers.next_layer()
    for text in overrides:
        layers.override(text)
    _let_the_loader_follow(layers)
    return validated(_settled(layers)[0], recipe.phase)


def added_source(text: str, there: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and keys of a source as `--add-source` says it. Raises `RecipeError`."""
    name, _, rest = text.partition("=")
    place, _, amount = rest.rpartition(":")
    if not (name and place and amount):
        shown = name or "name"
        meant = f"; {shown!r} is there already, and --set {shown}=5M changes its tokens" if shown in there else ""
        raise RecipeError(
            f"--add-source {text!r} does not name a source",
            remedy=f"write --add-source {shown}=path_or_url:5M, or :all for one pass over all that is there{meant}",
        )
    if name in there or registry.known(name):
        known = "the recipe has it" if name in there else "the registry has it, with file names of its own"
        raise RecipeError(
            f"--add-source {name}: there is a source of that name",
            why=known,
            remedy=f"call yours otherwise: --add-source my_{name}={rest}; or --set {name}={amount} changes how much, "
            f"--set sources.{name}.root=… where its files are",
        )
    return name, {"root": place, "passes": "all"} if amount == "all" else {"root": place, "tokens": amount}


def _budget(changes: Changes) -> int | None:
    if changes.tokens is None:
        return None
    try:
        budget = parse_count(changes.tokens)
    except RecipeError as error:
        raise RecipeError(f"--tokens {error.what}", remedy=error.remedy) from None
    if budget == 0 or changes.scale != 1:
        why = "it is nothing" if budget == 0 else "--scale says how much as well"
        raise RecipeError(f"--tokens {changes.tokens} is no budget", why=why, remedy="give one, such as 10B")
    return budget


def _settled(layers: Layers) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        data, made = with_languages(layers.data, layers.folder)

        def level(*path: str) -> int:
            """Tokens of languages are never older than a total: they have one of their own."""
            return layers.level if path[:1] == ("sources",) and path[1] in made else layers.level_of(*path)

        found, notes = settled(data, level)
        return found, {**made, **notes}
    except RecipeError as error:
        raise located(error, layers.origin) from None


def _tokens(data: Mapping[str, Any], origin: str, option: str) -> dict[str, int]:
    """The tokens of every source. Raises `RecipeError` for one whose tokens nobody knows before it is read."""
    sources = validated(data, origin).sources
    if unknown := [name for name, source in sources.items() if source.passes is not None]:
        raise RecipeError(
            f"{option}: the tokens of {', '.join(unknown)} are known only when it has been read",
            where=f"{origin}: sources.{unknown[0]}.passes",
            remedy=f"give it tokens: --set {unknown[0]}=1B",
        )
    return {name: source.tokens for name, source in sources.items()}


def _to_budget(recipe: Recipe, budget: int, origin: str) -> Recipe:
    """The recipe with its targets in their proportions and with this sum, exactly."""
    before = _tokens(recipe.model_dump(mode="json"), origin, "--tokens")
    tokens = apportioned(budget, before)
    if lost := [name for name, number in before.items() if number and not tokens[name]]:
        raise RecipeError(
            f"--tokens {budget:,} in the proportions of the recipe leaves nothing for {', '.join(lost)}",
            where=f"{origin}: sources.{lost[0]}",
            why=f"it has {count(before[lost[0]])} of {count(sum(before.values()))} tokens",
            remedy=f"--set total={budget} scales the tokens of the recipe and keeps those that the command line says; "
            "or give a larger budget",
        )
    sources = {name: each.model_copy(update={"tokens": tokens[name]}) for name, each in recipe.sources.items()}
    return recipe.model_copy(update={"sources": sources})


def _let_the_loader_follow(layers: Layers) -> None:
    """Forget a `loader.max_seq_len` that was said for a shorter length, since it would cut every longer sample."""
    loader, length = layers.data.get("loader"), layers.data.get("length")
    limit = loader.get("max_seq_len") if isinstance(loader, dict) else None
    younger = layers.level_of("length") > layers.level_of("loader", "max_seq_len")
    if younger and isinstance(limit, int) and isinstance(length, int) and limit < length - 1:
        layers.put(("loader", "max_seq_len"), None, layers.said["length",].by)


def _said_of(recipe: Recipe, said: Mapping[tuple[str, ...], Said], notes: Mapping[str, str]) -> dict[str, str]:
    found = {}
    above = {known[:n] for known in said for n in range(len(known) + 1)}
    for path, _ in leaves(recipe.model_dump(mode="json")):
        by = next((said[path[:n]].by for n in range(len(path), 0, -1) if path[:n] in said), None)
        exact = path in above
        found[".".join(path)] = by if exact and by is not None else DEFAULT
    for name, note in notes.items():
        words = [
            word
            for word in ("ratio", "weight", "share", "group", "tokens", "passes")
            if ("sources", name, word) in said
        ]
        whose = ("sources", name, words[0]) if words else ("languages", "members")
        by = said[whose].by if words or (whose in said and note.startswith(whose[0])) else DEFAULT
        key = f"sources.{name}.{'tokens' if recipe.sources[name].passes is None else 'passes'}"
        found[key] = f"{note}, {by}"
    return found


@functools.cache
def _shipped_recipes() -> list[Recipe]:
    return [load_recipe(phase) for phase in PHASES]


def shipped_targets(key: str) -> dict[str, int]:
    """Phase -> the tokens that its shipped recipe wants of a source, of those that want any."""
    wanted = {each.phase: each.sources[key].tokens for each in _shipped_recipes() if key in each.sources}
    return {phase: tokens for phase, tokens in wanted.items() if tokens}


def scaled(recipe: Recipe, scale: float) -> Recipe:
    """The recipe with every target multiplied, rounded to whole tokens."""
    sources = {
        name: source.model_copy(
            update={"tokens": max(round(source.tokens * scale), 1 if source.tokens else 0)}
            if source.passes is None
            else {"passes": source.passes * scale}
        )
        for name, source in recipe.sources.items()
    }
    return recipe.model_copy(update={"sources": sources})


def validated(data: Mapping[str, Any], origin: str) -> Recipe:
    """The recipe of a mapping. Raises `RecipeError` with the key path below `origin`."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as invalid:
        error = refusal(invalid, Recipe)
    except RecipeError as refused:
        error = refused
    raise located(error, origin)
