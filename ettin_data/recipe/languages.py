"""`languages` of a recipe: members of multilingual sources, and the tokens of each, by temperature or as given.

    languages:
      members: ["fineweb2[*]"]
      weights: words
      temperature: 0.7
      total: 1196.6B
      max_passes: 1

How much there is of a member is estimated from the table of languages, before anything is listed: the bytes of
FineWeb2's text times `tokens_per_byte`. A build that finds less than that takes further passes, as of any source.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ettin_data.base.errors import BuildError, RecipeError, SourceError
from ettin_data.base.options import read_options
from ettin_data.recipe.amounts import apportioned
from ettin_data.recipe.temperature import Member, Share, allot
from ettin_data.recipe.temperature_fit import read_table
from ettin_data.recipe.written import Languages
from ettin_data.sources.languages import code_of, published, sizes, subsets
from ettin_data.sources.members import select

_SIZES = ("words", "documents", "bytes")


def with_languages(data: Mapping[str, Any], beside: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe as it is written, with a source for each member that gets tokens, in place of `languages`.

    What `sources` says of a member besides stays; a member that it gives an amount of its own is left to it.

    Args:
        data: the recipe.
        beside: the folder that files which it names may lie in.

    Returns: the data, and for each of these sources how its tokens came about.

    Raises:
        RecipeError: with the key path; a member, a table or a column that there is not, or a total that cannot be met.
    """
    if data.get("languages") is None:
        return dict(data), {}
    choice = read_options(Languages, data["languages"], "languages")
    given = data.get("sources") or {}
    amounts = ("tokens", "passes", "ratio", "weight", "share")
    own = {name for name, source in given.items() if isinstance(source, Mapping) and amounts & source.keys()}
    try:
        names = sorted(_keys(choice.members) - _keys(choice.without) - own)
        tokens, notes = _exact(choice, names, beside) if choice.targets else _by_temperature(choice, names, beside)
    except (SourceError, BuildError) as error:
        raise RecipeError(error.what, where="languages", why=error.why, remedy=error.remedy) from None
    made = {name: {**(given.get(name) or {}), "tokens": number} for name, number in tokens.items() if number}
    plain = {key: value for key, value in data.items() if key != "languages"}
    return {**plain, "sources": {**given, **made}}, {name: notes[name] for name in made}


def _keys(patterns: list[str]) -> set[str]:
    return {source.key for text in patterns for source in select(text)}


def _by_temperature(choice: Languages, names: list[str], beside: Path) -> tuple[dict[str, int], dict[str, str]]:
    if choice.temperature is None or choice.total is None:
        raise RecipeError(
            "languages says not how much there is to be of each",
            where="languages",
            remedy="write temperature and total, such as temperature: 0.7 and total: 100B; or targets: a file",
        )
    weights = _sizes(names, choice.weights) if choice.weights in _SIZES else _named(names, choice.weights, beside)
    held = _sizes(names, "bytes")
    members = [Member(name, weights[name], int(held[name] * choice.tokens_per_byte)) for name in names]
    done = allot(members, choice.total, choice.temperature, choice.max_passes)
    return done.targets, {share.name: _note(share, choice) for share in done.shares if share.target}


def _note(share: Share, choice: Languages) -> str:
    why = f": {share.why}" if share.why else ""
    held = f"{share.passes:.3g} passes of about {share.available:,}"
    return f"languages: weight {share.weight:,} at temperature {choice.temperature:g}, {held}{why}"


def _exact(choice: Languages, names: list[str], beside: Path) -> tuple[dict[str, int], dict[str, str]]:
    """The targets that a table gives; of a language in several scripts, divided by their words."""
    targets, words = _column(str(choice.targets), beside), _sizes(names, "words")
    tokens: dict[str, int] = {}
    by_code: dict[str, list[str]] = {}
    for name in names:
        member = name.partition(".")[2]
        if member in targets:
            tokens[name] = targets[member]
        else:
            by_code.setdefault(code_of(member), []).append(name)
    for code, several in by_code.items():
        tokens |= apportioned(targets.get(code, 0), {name: max(words[name], 1) for name in several})
    return tokens, dict.fromkeys(tokens, f"languages: targets {choice.targets}")


def _named(names: list[str], where: str, beside: Path) -> dict[str, int]:
    table = _column(where, beside)
    members = {name: name.partition(".")[2] for name in names}
    return {name: table.get(member, table.get(code_of(member), 0)) for name, member in members.items()}


def _column(where: str, beside: Path) -> dict[str, int]:
    """A column of numbers: `mmbert:ext` of the package, `file.csv:column`, or the only column of `file.csv`."""
    file, _, column = where.partition(":")
    if file == "mmbert" and column in published():
        return published()[column]
    table = read_table(beside / file)
    if not column and len(table.columns) == 1:
        return next(iter(table.columns.values()))
    return table.column(column)


def _sizes(names: list[str], by: str) -> dict[str, int]:
    """Name -> size of a member: of its subset of FineWeb2, else of its language in all scripts."""
    known = {subset.name: int(getattr(subset, by)) for subset in subsets() if subset.name}
    of_code = sizes(by)  # type: ignore[arg-type]  # one of `_SIZES`
    members = {name: name.partition(".")[2] for name in names}
    return {name: known.get(member, of_code.get(code_of(member), 0)) for name, member in members.items()}
