"""What a recipe is written in: files that extend each other, then what the command line changes, as one mapping.

Each layer changes the one below it, key by key, and it is known of every value which layer said it. Nothing here knows
what a key means, but for the amounts of sources: a layer that says one takes away what the layers below said of it in
another word, and `tokens: 2x` doubles it in its own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from ettin_data.base import yaml_text
from ettin_data.base.errors import ExitStatus, RecipeError, near
from ettin_data.base.units import parse_count
from ettin_data.recipe.amounts import AMOUNTS, amount_of, settled
from ettin_data.recipe.schema import PHASES, Recipe
from ettin_data.recipe.written import Written

_DEEPEST = 16
"""Recipes that extend each other in a row."""
_TIMES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*[xX×]\s*")
_FAMILY = "ettin"

Path_ = tuple[str, ...]


class Said(NamedTuple):
    """Which layer said a value: its number from below, and its name."""

    level: int
    by: str


class Layers:
    """A recipe that is put together.

    Attributes:
        data: what all layers so far say.
        origin: name of the recipe, for errors.
        folder: of its file, for the tables that it names.
        level: number of the layer that is being added. Layers have even numbers. What one of them says as a multiple of
            the one below (`2x`) has the odd number before it: a total of the same layer scales that too.
    """

    def __init__(self, origin: str, folder: Path | None = None) -> None:
        self.data: dict[str, Any] = {}
        self.origin = origin
        self.folder = folder or Path()
        self.level = 0
        self.said: dict[Path_, Said] = {}

    def level_of(self, *path: str) -> int:
        """The layer that said the value at a key path; -1 for none."""
        return self.said[path].level if path in self.said else -1

    def next_layer(self) -> None:
        """What is said from now on is younger than all before, and may name multiples of it.

        Tokens that a total scales become what they are scaled to, so that `2x` is twice what the recipe below gives.
        """
        if self.data.get("total") is not None:
            with contextlib.suppress(RecipeError):  # what does not fit together may do so with this layer
                for name, source in settled(self.data, self.level_of)[0]["sources"].items():
                    if self.data["sources"][name].get("tokens") is not None:
                        self.data["sources"][name]["tokens"] = source["tokens"]
        self.level += 2

    def add(self, layer: Mapping[str, Any], by: str) -> None:
        """Merge a layer, key by key at every level. Raises `RecipeError` with the key path."""
        self.next_layer()
        self._merge(self.data, layer, (), by)

    def put(self, path: Path_, value: Any, by: str) -> None:
        """Set one value, which is not merged with what there was. Raises `RecipeError` with the key path."""
        at = self.data
        for part in path[:-1]:
            child = at.get(part)
            at[part] = child = {} if child is None else child
            if not isinstance(child, dict):
                raise RecipeError(f"{part!r} is a value, not a section", where=".".join(path))
            at = child
        if len(path) == 3 and path[0] == "sources" and path[2] in AMOUNTS and value is not None:
            self._amount(at, path[:2], {path[2]: value}, by)
        elif len(path) == 2 and path[0] in ("sources", "groups") and value is None:
            self._take_out(at, path)
        elif len(path) == 2 and path[0] == "sources" and isinstance(value, dict):
            self._replace(at, path, value, by)
        else:
            self._forget(path)
            at[path[-1]] = _copied(value)
            self._note(path, value, by)

    def _replace(self, at: dict[str, Any], path: Path_, value: dict[str, Any], by: str) -> None:
        """Put a source in the place of one of its name, whose amount it may give as `2x`."""
        old = at.get(path[-1])
        new = {word: old[word] for word in AMOUNTS if word in old} if isinstance(old, dict) else {}
        rest = self._amount(new, path, value, by)
        word = amount_of(value) and amount_of(new)
        said = self.said.get((*path, word)) if word else None
        at[path[-1]] = _copied(rest) | (new if word else {})
        self._forget(path)
        self._note(path, at[path[-1]], by)
        if word and said:
            self.said[*path, word] = said

    def _merge(self, at: dict[str, Any], layer: Mapping[str, Any], path: Path_, by: str) -> None:
        for key, value in layer.items():
            here = (*path, key)
            if len(here) == 2 and path[0] in ("sources", "groups"):
                if value is None:
                    self._take_out(at, here)
                    continue
                if path[0] == "groups" and not isinstance(value, Mapping):
                    value = {"share": value}
                if isinstance(value, Mapping):
                    at[key] = at[key] if isinstance(at.get(key), dict) else {}
                    value = self._amount(at[key], here, value, by)
            if isinstance(value, Mapping):
                if here == ("pack",) and isinstance(at.get(key), str):
                    at[key] = {"strategy": at[key]}  # a name alone is the short form of this
                at[key] = at[key] if isinstance(at.get(key), dict) else {}
                self.said[here] = Said(self.level, by)
                self._merge(at[key], value, here, by)
            else:
                self._forget(here)
                at[key] = value
                self._note(here, value, by)

    def _amount(self, at: dict[str, Any], path: Path_, given: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Take over how much there is to be of a source or a group; returns what else is given of it."""
        where = ".".join(path)
        try:
            word, old = amount_of(given), amount_of(at)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error.what}", where=where, remedy=error.remedy) from None
        rest = {key: value for key, value in given.items() if key != word}
        if word is None:
            return rest
        value, times = given[word], _TIMES.fullmatch(str(given[word])) if word == "tokens" else None
        if times is not None:
            if old is None:
                raise RecipeError(
                    f"{where}.tokens = {value!r}, and there is nothing to take {value} of",
                    where=f"{where}.tokens",
                    why="it is the value times that of a recipe that this one extends, or that --set changes",
                    remedy="write tokens: 10B; or passes: 2, for two passes over all that the source holds",
                )
            before = self.said.get((*path, old))
            word, value, by = old, _times(old, at[old], Fraction(times[1]), where), f"{by}, {value} of "
            by += f"{at[old]} in {before.by}" if before else f"{at[old]}"
        for each in AMOUNTS:
            if each in at:
                del at[each]
                self._forget((*path, each))
        at[word] = value
        self.said[*path, word] = Said(self.level - (times is not None), by)
        return {key: each for key, each in rest.items() if key not in AMOUNTS}

    def _take_out(self, at: dict[str, Any], path: Path_) -> None:
        if path[-1] not in at:
            raise RecipeError(
                f"there is no {path[0].removesuffix('s')} {path[-1]!r} to take out",
                where=".".join(path),
                remedy=near(path[-1], at),
            )
        del at[path[-1]]
        self._forget(path)

    def _forget(self, path: Path_) -> None:
        for known in [known for known in self.said if known[: len(path)] == path]:
            del self.said[known]

    def _note(self, path: Path_, value: Any, by: str) -> None:
        self.said[path] = Said(self.level, by)
        if isinstance(value, Mapping):
            for key, each in value.items():
                self._note((*path, key), each, by)

    def override(self, text: str) -> None:
        """Do what `--set key.path=value` says. Raises `RecipeError`."""
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise RecipeError(f"{text!r} sets nothing", remedy="write --set sources.arxiv.tokens=6B")
        sources = self.data["sources"]
        try:
            parsed = yaml_text.parse(value)
        except RecipeError as error:
            raise located(error, f"{self.origin}: --set {key.strip()}") from error
        known = {*Recipe.model_fields, *Written.model_fields}
        if parts[0] not in known and parts[0] in sources:  # the short form, where it can mean nothing else
            parts = ["sources", *parts]
            if len(parts) == 2 and parsed is not None and not isinstance(parsed, dict):
                parts.append("passes" if parsed == "all" else "tokens")
        elif parts[0] not in known:
            raise RecipeError(
                f"unknown key {parts[0]!r}",
                where=f"{self.origin}: {key.strip()}",
                remedy=near(parts[0], [*known, *sources]),
            )
        if parts[0] == "sources" and len(parts) > 2 and parts[1] not in sources:
            raise RecipeError(
                f"the recipe has no source {parts[1]!r}",
                where=f"{self.origin}: --set {text}",
                remedy=f"{near(parts[1], sources)}, or add it with --add-source",
            )
        try:
            self.put(tuple(parts), parsed, "--set")
        except RecipeError as error:
            said = f"{self.origin}: --set {text}" if error.where == ".".join(parts) else self.origin
            raise (
                located(error, said)
                if said == self.origin
                else RecipeError(error.what, where=said, why=error.why, remedy=error.remedy)
            ) from None


def _times(word: str, value: Any, factor: Fraction, where: str) -> Any:
    """An amount of a layer below, times a factor."""
    if word == "tokens":
        try:
            return round(parse_count(value) * factor)
        except RecipeError as error:
            raise RecipeError(f"{where}.tokens = {value!r}: {error.what}", where=where, remedy=error.remedy) from None
    try:
        if word == "passes":
            return float(factor * (1 if value == "all" else Fraction(str(value))))
        text = str(value).strip()
        return Fraction(text.removesuffix("%")) * factor / (100 if text.endswith("%") else 1)
    except (ValueError, ArithmeticError):
        return value  # which is refused where it is read


def _copied(value: Any) -> Any:
    """A value that can be changed without changing what an alias of YAML gave to others as well."""
    return {key: _copied(each) for key, each in value.items()} if isinstance(value, dict) else value


# ---------------------------------------------------------------------------------------------------------------------
# files


def shipped(name: str) -> Path:
    """The recipe file that comes with the package under a name: `pretrain`, or `ettin/pretrain`."""
    family, _, phase = name.rpartition("/")
    return Path(str(resources.files("ettin_data") / "recipes" / (family or _FAMILY) / f"{phase}.yaml"))


def shipped_names() -> list[str]:
    """The names of all recipes that come with the package: `ettin/decay`, …, sorted."""
    root = Path(str(resources.files("ettin_data") / "recipes"))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.glob("*/*.yaml"))


def read_layers(name_or_path: str | Path) -> Layers:
    """A recipe and all that it extends, the lowest first. Raises `RecipeError`."""
    found: list[tuple[Path, str, dict[str, Any]]] = []
    asked, above = str(name_or_path), ""
    path, by = _place(asked, None)
    origin = path.name
    while True:
        if path in (seen for seen, _, _ in found):
            chain = " extends ".join([*(name for _, name, _ in found), by])
            raise RecipeError(f"recipe {by!r} extends itself", where=f"{origin}: extends", why=chain)
        if len(found) >= _DEEPEST:
            raise RecipeError(f"more than {_DEEPEST} recipes extend each other", where=f"{origin}: extends")
        data = _read(path, asked, above)
        below = data.pop("extends", None)
        found.append((path, by, data))
        if below is None:
            break
        if not isinstance(below, str) or not below:
            raise RecipeError(
                f"extends = {below!r}", where=f"{path.name}: extends", remedy="name a recipe: `extends: ettin/decay`"
            )
        asked, above = below, f"{path.name}: extends"
        path, by = _place(below, path)
    layers = Layers(origin, found[0][0].parent)
    for path, by, data in reversed(found):
        try:
            layers.add(data, by)
        except RecipeError as error:
            raise located(error, path.name) from None
    return layers


def _place(name: str, beside: Path | None) -> tuple[Path, str]:
    """The file that a name or a path means, below the folder of the recipe that names it; and what it is called."""
    for known in shipped_names():
        if name == known or (known == f"{_FAMILY}/{name}" and name in PHASES):
            return shipped(known), known
    path = Path(name) if beside is None else beside.parent / name
    return path.resolve() if beside is not None else path, path.name


def _read(path: Path, name: str, above: str) -> dict[str, Any]:
    """The mapping in a file that is called `name` where it is asked for, the key path `above` of another recipe."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(yaml_text.MOST_CHARACTERS + 1)
        data = yaml_text.parse(text)
    except FileNotFoundError:
        names = [*PHASES, *(each for each in shipped_names() if not each.startswith(f"{_FAMILY}/"))]
        close = near(name, names)
        raise RecipeError(
            f"there is no recipe {name!r}",
            where=above or None,
            remedy=f"{f'{close} ' if close.startswith('did') else ''}name one of {', '.join(names)}, or a YAML file",
            status=ExitStatus.NOT_FOUND,
        ) from None
    except IsADirectoryError:
        raise RecipeError("the recipe is a folder", where=path, remedy="name the YAML file in it") from None
    except UnicodeDecodeError as error:
        raise RecipeError("the recipe is no text", where=path, why=error, remedy="name a YAML file in UTF-8") from error
    except OSError as error:
        raise RecipeError("the recipe cannot be read", where=path, why=error) from error
    except RecipeError as error:
        raise located(error, str(path)) from error
    if not isinstance(data, dict):
        raise RecipeError(
            f"the recipe is not a mapping but {type(data).__name__}",
            where=path,
            remedy="write `key: value` lines; `ettin-data recipe init` writes a file to start from",
        )
    return data


def located(error: RecipeError, origin: str) -> RecipeError:
    """The error with where the recipe came from before its key path."""
    where = f"{origin}: {error.where}" if error.where else origin
    return RecipeError(error.what, where=where, why=error.why, remedy=error.remedy)


def leaves(data: Any, path: Path_ = ()) -> Iterable[tuple[Path_, Any]]:
    """(key path, value) of everything in a recipe that is no mapping with keys of its own."""
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from leaves(value, (*path, str(key)))
    else:
        yield path, data
