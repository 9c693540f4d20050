"""Filters that leave too little of a source: which rule did it, by how much, and what to write instead."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ettin_data.base.errors import BuildError, RecipeError
from ettin_data.base.units import count
from ettin_data.build.plan import Plan
from ettin_data.build.pool import Pools
from ettin_data.recipe import Filter, Recipe
from ettin_data.sources.base import Source
from ettin_data.stages.counts import MEASURED, Counts, added
from ettin_data.stages.filters.measured import median_dropped
from ettin_data.stages.filters.options import check_options
from ettin_data.stages.filters.registry import ChosenFilter, find, for_web_text, numbered
from ettin_data.storage.phase import REJECTS

_NO_WEB_TEXT = ("code", "math", "instruction")


def web_rules(source: Source, filters: Sequence[ChosenFilter]) -> str | None:
    """What a person should know who judges code, math or instructions by rules for prose of web pages."""
    names = [chosen.name for chosen in filters if for_web_text(chosen.name)]
    if not names or source.category not in _NO_WEB_TEXT:
        return None
    others = [chosen.name for chosen in filters if not for_web_text(chosen.name)]
    return (
        f"source {source.key!r} is {source.category}, and {', '.join(names)} judge it as prose of web pages, which may "
        f"drop most of it; to spare it: --set 'sources.{source.key}.filters=[{', '.join(others)}]'"
    )


@dataclass(frozen=True)
class _Drops:
    """What the filters of a source did, in their order.

    Attributes:
        specs: as the recipe has them; without `pii`, which may be the last of `filters`.
        counts: what each counted.
        documents: that reached the first of them.
        appended: whether some are the source's `filters+`.
        contaminated: documents that went behind all of them, for evaluation texts.
    """

    specs: Sequence[Filter]
    filters: Sequence[ChosenFilter]
    counts: Sequence[Counts]
    documents: int
    appended: bool
    contaminated: int

    @property
    def worst(self) -> int | None:
        """Which filter dropped the most; None if more were dropped for evaluation texts."""
        dropped = [counts.get("dropped", 0) for counts in self.counts]
        return dropped.index(max(dropped)) if max(dropped, default=0) >= self.contaminated else None

    def harmless(self) -> list[Filter]:
        """The filters that have judged at least half of the documents, and dropped at most half of what they judged."""
        return [
            spec
            for number, (spec, counts) in enumerate(zip(self.specs, self.counts, strict=False))
            if number != self.worst
            and 2 * counts.get("total", 0) >= self.documents
            and 2 * counts.get("dropped", 0) <= counts.get("total", 0)
        ]

    def why(self) -> str:
        """The filter and the rule that dropped the most, with the measured values against the threshold."""
        if self.worst is None:
            return f"decontaminate dropped {self.contaminated:,} of {self.documents:,} documents for evaluation texts"
        chosen, counts = self.filters[self.worst], self.counts[self.worst]
        dropped, total = counts["dropped"], counts["total"]
        said = f"{chosen.name} dropped {dropped:,} of {total:,} documents ({dropped / total:.0%})"
        rule, number = _worst_rule(counts)
        if rule is None:
            return said
        said += f", {number:,} by its rule {rule}"
        measured = counts.get(MEASURED, {}).get(rule)
        if measured and (median := median_dropped(measured)) is not None:
            bound = "the least" if measured["at_least"] else "the most"
            name = chosen.option_of(rule) or rule
            said += f": their median is about {median:.4g}, where {name} = {measured['threshold']:g} is {bound}"
        return said


def refuse(recipe: Recipe, filters: Mapping[str, Sequence[ChosenFilter]], plan: Plan, pools: Pools) -> None:
    """Raise `BuildError` if filters have left too little of some sources; it names all of them at once.

    Too little is no document for train or validation, or more passes than `max_epochs`, where filters have dropped at
    least half of what was read. A source of which nothing is left is refused whatever has taken it. What else makes a
    source too small is said by the mix.
    """
    found: dict[str, _Drops] = {}
    for key, splits in pools.items():
        documents = sum(split.marker.tally["documents"] for split in splits)
        tokens = sum(split.marker.tokens for split in splits)
        enough = documents > (recipe.validation > 0) and plan.sources[key].target_tokens <= recipe.max_epochs * tokens
        if not enough and (drops := _drops(recipe, key, filters[key], pools)) is not None:
            found[key] = drops
    if not found:
        _refuse_empty(pools)
        return
    names, first = ", ".join(found), next(iter(found))
    why = [f"{key}: {drops.why()}; {_left(key, pools)}" for key, drops in found.items()]
    sets = dict.fromkeys(_settings(key, drops) for key, drops in found.items())
    looser = _looser(first, found[first])
    raise BuildError(
        f"filters leave too little of {'source' if len(found) == 1 else f'{len(found)} sources'} {names}",
        where=f"{REJECTS}/{first}/: each document that was dropped, with rule, value and threshold",
        why="\n       ".join(why),
        remedy="judge them by the filters that fit them: add to the same command\n      "
        + " \\\n      ".join(sets)
        + (f"\n    or loosen a rule, in the recipe: {looser}" if looser else ""),
    )


def _refuse_empty(pools: Pools) -> None:
    """Raise `BuildError` for a source of which nothing is left, and say what became of its records."""
    for key, splits in pools.items():
        if sum(split.marker.tokens for split in splits):
            continue
        tallies = [split.marker.tally for split in splits]
        gone = sum((Counter(tally["rejected"]) + Counter(tally["filtered"]) for tally in tallies), Counter[str]())
        read, said = (
            sum(tally["records"] for tally in tallies),
            [f"{gone[reason]:,} {reason}" for reason in sorted(gone)],
        )
        raise BuildError(
            f"source {key!r} has no tokens",
            where=f"{REJECTS}/{key}/",
            why=f"{read:,} records were read{', of them ' * bool(said)}{', '.join(said)}",
            remedy="look at its rejects, or drop it",
        )


def _drops(recipe: Recipe, key: str, filters: Sequence[ChosenFilter], pools: Pools) -> _Drops | None:
    """What the filters of a source did; None if they dropped less than half of what was read."""
    choice = recipe.sources[key]
    specs = [*(recipe.filters if choice.filters is None else choice.filters), *choice.more_filters]
    tallies = [split.marker.tally for split in pools[key]]
    steps = added(tally["steps"] for tally in tallies)
    counts = [steps.get(name, {}) for name in numbered([chosen.name for chosen in filters])]
    documents = sum(tally["records"] - sum(tally["rejected"].values()) for tally in tallies)
    contaminated = steps.get("decontaminate", {}).get("dropped", 0)
    dropped = sum(one.get("dropped", 0) for one in counts) + contaminated
    made = _Drops(specs, filters, counts, documents, bool(choice.more_filters), contaminated)
    return made if dropped and 2 * dropped >= documents else None


def _left(key: str, pools: Pools) -> str:
    documents = sum(split.marker.tally["documents"] for split in pools[key])
    tokens = sum(split.marker.tokens for split in pools[key])
    return f"{documents:,} documents with {count(tokens)} tokens are left" if documents else "no document is left"


def _worst_rule(counts: Counts) -> tuple[str | None, int]:
    """The rule of a filter that dropped the most, and how many."""
    rules = {label.removeprefix("dropped_"): n for label, n in counts.items() if label.startswith("dropped_")}
    return max(rules.items(), key=lambda item: item[1]) if rules else (None, 0)


def _settings(key: str, drops: _Drops) -> str:
    if drops.worst is None:
        return "--set 'decontaminate.action=mask'"
    if drops.worst >= len(drops.specs):
        return "--set 'pii.drop_above=null'"
    kept = ", ".join(spec if isinstance(spec, str) else json.dumps(spec) for spec in drops.harmless())
    appended = f" --set 'sources.{key}.filters+=[]'" if drops.appended else ""
    return f"--set 'sources.{key}.filters=[{kept}]'{appended}"


def _looser(key: str, drops: _Drops) -> str | None:
    """How the rule that dropped the most is loosened, as the recipe would say it; None where no number does that."""
    if drops.worst is None:
        return None
    chosen, counts = drops.filters[drops.worst], drops.counts[drops.worst]
    rule, _ = _worst_rule(counts)
    measured = counts.get(MEASURED, {}).get(rule)
    option = chosen.option_of(rule) if rule else None
    if option is None or measured is None or (median := median_dropped(measured)) is None:
        return None
    whole = math.floor(median) if measured["at_least"] else math.ceil(median)
    value = whole if isinstance(measured["threshold"], int) else median
    for number in (value, whole, None):
        try:
            check_options(find(chosen.name, chosen.where), {option: number}, chosen.where)
        except RecipeError:
            continue
        effect = "switches it off" if number is None else f"keeps about half of what it dropped of {key}"
        return f"{chosen.name}: {{{option}: {json.dumps(number)}}} {effect}"
    return None
