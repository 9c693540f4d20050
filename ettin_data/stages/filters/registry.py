"""The filter stage: from what a recipe says to steps that drop documents, each drop counted by its reason.

A recipe names filters for each source, in the order in which they run, by name alone or with options:

    filters:
      - length: {min_chars: 1}
      - exact_duplicate
      - gopher_quality: {min_doc_words: 50}
      - RegexFilter: {regex_exp: "lorem ipsum"}     # any of datatrove's, by the name of its class
      - mine.filters:is_prose: {threshold: 0.3}     # your own: a function or a class

A filter that we ship is a module of this folder: `NAME`, by which the module is called as well, `VERSION`, and one
subclass of `Filter`. `VERSION` is raised when the filter decides differently, also when that is because of
`stages/text`. `length` and `exact_duplicate` are light. The heuristics, `gopher_quality`, `gopher_repetition`, `c4` and
`fineweb`, give the decisions and the reasons of datatrove's filters at a small part of their cost
(`benchmarks/filters.py`).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any

from datatrove.pipeline.base import PipelineStep

from ettin_data.base.errors import BuildError, EttinError, RecipeError, near
from ettin_data.base.modules import entry_in, found_in
from ettin_data.stages.filters import foreign
from ettin_data.stages.filters.base import Filter, Kind, Rejects
from ettin_data.stages.filters.options import Checked, check_options

Spec = str | Mapping[str, Any]


@functools.cache
def shipped() -> Mapping[str, Kind]:
    """The filters of this folder, by name."""
    kinds = [kind for module in found_in(__package__) if (kind := _kind(module))]
    return MappingProxyType({kind.name: kind for kind in kinds})


@functools.cache
def ours(name: str) -> Kind | None:
    """The filter of this folder with this name, if there is one. Others are not imported: some have large tables."""
    module = entry_in(__package__, name)
    return _kind(module) if module else None


def _kind(module: ModuleType) -> Kind | None:
    if not hasattr(module, "NAME"):
        return None
    (cls,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Filter) and value.__module__ == module.__name__
    )
    return Kind(module.NAME, module.VERSION, cls, cls)


@dataclass(frozen=True)
class ChosenFilter:
    """A filter of a recipe. Small and picklable: the steps are made where a split is built.

    Attributes:
        name: as the recipe says it.
        version: of the code that decides, where the build was planned.
        options: all of them, defaults included.
        where: its key path in the recipe, for errors.
    """

    name: str
    version: int | str
    options: Checked
    where: str = field(default="filters", compare=False)

    def describe(self) -> dict[str, Any]:
        """What the fingerprint of a split holds of the filter: everything that decides which documents it keeps."""
        later = getattr(find(self.name, self.where).takes, "later_options", {})
        options = {key: value for key, value in self.options.plain.items() if key not in later or value != later[key]}
        return {"name": self.name, "version": self.version, "options": options}

    def option_of(self, rule: str) -> str | None:
        """The option that is the threshold of a rule, which is the reason that the filter gives; None if none is."""
        try:
            return str(getattr(find(self.name, self.where).takes, "options_of", {})[rule])
        except KeyError:
            return None

    def step(self, rejects: Rejects | None = None) -> PipelineStep:
        """The datatrove step, for one split.

        Args:
            rejects: called with each dropped document and the reason (snake case, see each filter).

        Raises:
            BuildError: the filter has another version here than where the build was planned.
            RecipeError: it cannot be made.
        """
        kind = find(self.name, self.where)
        if kind.version != self.version:
            raise BuildError(
                f"filter {self.name!r} has version {kind.version} here",
                where=self.where,
                why=f"the build was planned with {self.version}",
                remedy="start the build again, with the same code on every machine",
            )
        try:
            step = kind.make(**self.options.typed)
        except EttinError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            what = f"filter {self.name!r} cannot be made of its options"
            raise RecipeError(what, where=self.where, why=why) from error
        if isinstance(step, Filter):
            step.rejects = rejects
        elif rejects is not None:
            step.exclusion_writer = foreign.HandOver(rejects)
        return step


def find(name: str, place: str) -> Kind:
    """The filter of this name; raises `RecipeError` with its key path in the recipe, `place`, if there is none."""
    if kind := ours(name):
        return kind
    if ":" in name:
        return foreign.own(name, place)
    theirs = foreign.datatroves()
    if name in theirs:
        return theirs[name]
    raise RecipeError(
        f"there is no filter {name!r}",
        where=place,
        remedy=f"{near(name, [*shipped(), *theirs])}; your own is `package.module:name`",
    )


def choose_filters(specs: Sequence[Spec], where: str = "filters") -> list[ChosenFilter]:
    """The filters of a recipe's list, in its order, found, checked and tried out: each can be made.

    Args:
        specs: each a filter's name, or a mapping of one name to its options (`None` for no options).
        where: the key path of the list in the recipe, for errors.

    Raises:
        RecipeError: an unknown filter or option, a value of the wrong type or out of range, a filter that needs what is
            not installed.
    """
    chosen: list[ChosenFilter] = []
    for position, spec in enumerate(specs):
        place = f"{where}[{position}]"
        name, given = _read(spec, place)
        chosen.append(choose_filter(name, given, place, f"{place}.{name}"))
    return chosen


def choose_filter(name: str, given: Mapping[str, Any], place: str, options_at: str) -> ChosenFilter:
    """One filter with its options, whose key paths in the recipe these are. Raises as `choose_filters`."""
    kind = find(name, place)
    options = check_options(kind, given, options_at)
    if options.typed.get("seed", 0) is None:
        raise RecipeError(
            f"filter {name!r} has no seed",
            where=f"{options_at}.seed",
            why="the same recipe makes the same samples, so whatever draws needs one",
            remedy="give it one, as in seed: 1",
        )
    chosen = ChosenFilter(name, kind.version, options, place)
    foreign.try_out(name, chosen.step(), place)
    return chosen


def numbered(names: Sequence[str]) -> list[str]:
    """Names in their order, each once: the second of a name is `name#2`."""
    seen: Counter[str] = Counter()
    made = []
    for name in names:
        seen[name] += 1
        made.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return made


def for_web_text(name: str) -> bool:
    """Whether a filter's rules were made for prose of web pages: the four heuristics, and datatrove's own of them."""
    if kind := ours(name):
        return bool(kind.takes.web_text)  # type: ignore[attr-defined]
    return name in ("GopherQualityFilter", "GopherRepetitionFilter", "C4QualityFilter", "FineWebQualityFilter")


def _read(spec: Spec, place: str) -> tuple[str, Mapping[str, Any]]:
    """Name and options of one entry of the list."""
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, options = next(iter(spec.items()))
        if options is None or isinstance(options, Mapping):
            return str(name), options or {}
        what, why = f"the options of filter {name!r} are {options!r}", "options are a mapping from option to value"
    else:
        what, why = f"{spec!r} does not name one filter", None
    remedy = "write a name, or one name with its options, as in {length: {min_chars: 1}}"
    raise RecipeError(what, where=place, why=why, remedy=remedy)
