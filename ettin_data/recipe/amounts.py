"""How much of each source: parts of a total, shares of groups, budgets; everything ends in whole numbers of tokens.

Parts are exact fractions, never floats, and what they leave over is given by largest remainders (Hamilton's method):
each gets its quota rounded down, and the tokens that are then left go one by one to the largest remainders, of equal
ones to the first name. So the numbers always add up to the total, and neither the order in a file nor the machine
changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ettin_data.base.errors import RecipeError, near
from ettin_data.base.options import read_options
from ettin_data.base.units import count, parse_count
from ettin_data.recipe.written import WrittenGroup, WrittenSource

AMOUNTS = ("tokens", "passes", "ratio", "weight", "share")
"""The words that say how much of a source there is to be: a source says one of them."""

Level = Callable[..., int]
"""Which layer of a recipe said what stands at a key path: the recipes that it extends before it, `--set` after it."""


def apportioned(total: int, parts: Mapping[str, Fraction | int]) -> dict[str, int]:
    """Whole numbers in proportion to the parts, by largest remainders; their sum is `total`.

    Args:
        total: at least 0.
        parts: name -> part, at least 0; not all 0, unless `total` is.

    Returns: name -> tokens, in the order of `parts`; each is its quota rounded down, or one more.
    """
    whole = sum(map(Fraction, parts.values()))
    quotas = {name: total * Fraction(part) / whole if whole else Fraction(0) for name, part in parts.items()}
    floors = {name: int(quota) for name, quota in quotas.items()}
    left = total - sum(floors.values())
    first = sorted(parts, key=lambda name: (floors[name] - quotas[name], name))[:left]
    return {name: floor + (name in first) for name, floor in floors.items()}


@dataclass(frozen=True)
class Wish:
    """What one member of a total asks for.

    Attributes:
        key: its key path, for errors.
        word, value: one of `AMOUNTS`, and tokens, or a part.
        older: whether the total was said after this, so that tokens are only a proportion of it.
    """

    key: str
    word: str
    value: int | Fraction
    older: bool = False

    def said(self) -> str:
        """The wish in words: `ratio 3`, `share 60%`, `10.0B tokens`."""
        if self.word == "tokens":
            return f"{count(int(self.value))} tokens"
        return f"{self.word} {float(self.value):.6g}"

    def part_of(self, whole: str) -> str:
        """How the tokens follow from the wish."""
        return f"{self.said()} {'scaled to' if self.word == 'tokens' else 'of'} {whole}"


def divided(total: int, wishes: Mapping[str, Wish], where: str) -> dict[str, int]:
    """The tokens of each member of a total, which they add up to exactly.

    Tokens are given as they are said, shares are of the whole, ratios divide the rest. Where nobody has a ratio, tokens
    that were said before the total was are scaled to fill it.

    Raises:
        RecipeError: the wishes do not fit into the total, or leave some of it to nobody.
    """
    by_ratio = {name: wish.value for name, wish in wishes.items() if wish.word in ("ratio", "weight")}
    scaled = {name: wish.value for name, wish in wishes.items() if wish.word == "tokens" and wish.older}
    dividing = by_ratio or scaled
    fixed = {name: int(wish.value) for name, wish in wishes.items() if wish.word == "tokens" and name not in dividing}
    shares = {name: total * Fraction(wish.value) for name, wish in wishes.items() if wish.word == "share"}
    rest = total - sum(fixed.values()) - sum(shares.values())
    whole = sum(map(Fraction, dividing.values()))
    if rest < 0 or (rest == 0 and whole):
        members = f"; nothing is left for {', '.join(dividing)}" if dividing and rest == 0 else ""
        raise RecipeError(
            f"the amounts in {where} of {count(total)} tokens add up to {count(float(total - rest))}{members}",
            where=where,
            why=_listed(wishes),
            remedy=f"lower them, raise {where}, or give ratios, which divide what is left",
        )
    if rest and not whole:
        raise RecipeError(
            f"the amounts in {where} of {count(total)} tokens add up to {count(float(total - rest))}: "
            f"{count(float(rest))} are for nobody",
            where=where,
            why=_listed(wishes),
            remedy="give one of the sources a ratio, which takes the rest; or leave the total out",
        )
    parts = shares | {name: rest * Fraction(part) / whole for name, part in dividing.items()}
    return fixed | apportioned(total - sum(fixed.values()), parts)


def _listed(wishes: Mapping[str, Wish]) -> str:
    more = f", and {len(wishes) - 12} more" if len(wishes) > 12 else ""
    return ", ".join(f"{name} {wish.said()}" for name, wish in list(wishes.items())[:12]) + more


def needs_a_total(data: Mapping[str, Any]) -> bool:
    """Whether a recipe as it is written divides a total that it does not say."""
    given = [*_mappings(data.get("groups")).values()]
    given += [source for source in _mappings(data.get("sources")).values() if source.get("group") is None]
    parts = any(each.get(word) is not None for each in given for word in ("ratio", "weight", "share"))
    return data.get("total") is None and parts


def settled(data: Mapping[str, Any], level: Level) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe as it is written, with the tokens of each source instead of parts, groups and a total.

    Returns: the data, and for each source whose tokens follow from others how they do, in a few words.

    Raises:
        RecipeError: with the key path; a source has no part of anything, or the amounts do not fit together.
    """
    sources = _mappings(data.get("sources"))
    written = ("ratio", "weight", "share", "group")
    if not ({"total", "groups"} & data.keys() or any(word in each for each in sources.values() for word in written)):
        return dict(data), {}
    words = {name: _wish(name, source) for name, source in sources.items()}
    groups = {
        name: read_options(WrittenGroup, group, f"groups.{name}")
        for name, group in _mappings(data.get("groups")).items()
    }
    total = None if data.get("total") is None else _total(data["total"])
    of_total = level("total") if total is not None else -1
    members: dict[str, dict[str, Wish]] = {name: {} for name in groups}
    top: dict[str, Wish] = {}
    for name, (wish, group) in words.items():
        if group is not None and group not in groups:
            remedy = near(group, groups) if groups else f"add it: groups: {{{group}: 60%}}"
            raise RecipeError(f"there is no group {group!r}", where=f"sources.{name}.group", remedy=remedy)
        if wish is None:
            if group is not None:
                members[group][name] = Wish(f"sources.{name}", "ratio", 1)
            continue
        if wish.word == "passes":
            if total is not None or group is not None:
                raise RecipeError(
                    f"source {name!r} takes passes, so its tokens are known only when it has been read",
                    where=f"sources.{name}.passes",
                    why=f"a {'total' if group is None else 'group'} is divided before",
                    remedy="give it tokens, ratio or share there; or leave the total out",
                )
            continue
        budget = of_total if group is None else max(of_total, level("groups", group))
        older = level("sources", name, wish.word) < budget
        (top if group is None else members[group])[name] = Wish(wish.key, wish.word, wish.value, older)
    asked = {f"groups.{name}": _group_wish(name, group, level, of_total) for name, group in groups.items()}
    for name, inside in members.items():
        if not inside:
            raise RecipeError(
                f"no source is in the group {name!r}",
                where=f"groups.{name}",
                remedy=f"give a source `group: {name}`, or take the group out: --set groups.{name}=null",
            )
    given = _top(total, {**{f"sources.{name}": wish for name, wish in top.items()}, **asked})
    tokens = {name: given[f"sources.{name}"] for name in top}
    notes = {name: wish.part_of("the total") for name, wish in top.items() if wish.word != "tokens" or wish.older}
    for name, inside in members.items():
        tokens |= divided(given[f"groups.{name}"], inside, f"groups.{name}")
        notes |= {
            key: wish.part_of(f"group {name}") for key, wish in inside.items() if wish.word != "tokens" or wish.older
        }
    plain = {key: value for key, value in data.items() if key not in ("total", "groups")}
    if sources:
        plain["sources"] = {
            name: {**_plain(source), "tokens": tokens[name]} if name in tokens else _plain(source)
            for name, source in data["sources"].items()
        }
    return plain, notes


def _mappings(value: object) -> dict[str, Mapping[str, Any]]:
    """The mappings of a mapping by name; anything else is for the validation of the recipe to refuse."""
    found = value.items() if isinstance(value, Mapping) else ()
    return {name: each for name, each in found if isinstance(name, str) and isinstance(each, Mapping)}


def _plain(source: object) -> Any:
    if not isinstance(source, Mapping):
        return source
    return {key: value for key, value in source.items() if key not in ("ratio", "weight", "share", "group")}


def _total(value: object) -> int:
    try:
        return parse_count(value)
    except RecipeError as error:
        raise RecipeError(f"total = {error.what}", where="total", remedy=error.remedy) from None


def amount_of(source: Mapping[str, Any]) -> str | None:
    """The word with which a source says how much, or None. Raises `RecipeError` where there are several."""
    said = [word for word in AMOUNTS if source.get(word) is not None]
    if len(said) == 2 and said == ["tokens", "passes"] and source["tokens"] == 0:
        return "passes"  # as a record of a run has it
    if len(said) > 1:
        raise RecipeError(f"{' and '.join(said)} both say how much", remedy="keep one of them")
    return said[0] if said else None


def _wish(name: str, source: Mapping[str, Any]) -> tuple[Wish | None, str | None]:
    """What a source asks for, if it says it, and the group that it is in."""
    at = f"sources.{name}"
    try:
        word = amount_of(source)
    except RecipeError as error:
        raise RecipeError(f"{at}: {error.what}", where=at, remedy=error.remedy) from None
    written = {key: source[key] for key in ("ratio", "weight", "share", "group") if key in source}
    parts = read_options(WrittenSource, written, at)
    if word is None:
        return None, parts.group
    if word == "passes":
        return Wish(f"{at}.{word}", word, 0), parts.group
    if word == "tokens":
        try:
            return Wish(f"{at}.tokens", word, parse_count(source["tokens"])), parts.group
        except RecipeError as error:
            raise RecipeError(
                f"{at}.tokens = {source['tokens']!r}: {error.what}; {error.remedy}",
                where=f"{at}.tokens",
                remedy="correct the value; `ettin-data plan --help` shows how to override one",
            ) from None
    return Wish(f"{at}.{word}", word, getattr(parts, word)), parts.group


def _group_wish(name: str, group: WrittenGroup, level: Level, of_total: int) -> Wish:
    said = [word for word in WrittenGroup.model_fields if getattr(group, word) is not None]
    if len(said) != 1:
        what = f"{' and '.join(said)} both say how much" if said else "it says not how much"
        raise RecipeError(
            f"groups.{name}: {what}",
            where=f"groups.{name}",
            remedy="write one of them: share: 60%, ratio: 3 or tokens: 10B",
        )
    older = level("groups", name, said[0]) < of_total
    return Wish(f"groups.{name}.{said[0]}", said[0], getattr(group, said[0]), older)


def _top(total: int | None, wishes: Mapping[str, Wish]) -> dict[str, int]:
    """The tokens of groups, and of sources in none. Raises `RecipeError` for a part of no total."""
    if total is not None:
        return divided(total, wishes, "total") if wishes else {}
    for wish in wishes.values():
        if wish.word != "tokens":
            raise RecipeError(
                f"{wish.key} = {wish.said().partition(' ')[2]} is a part of a total, and there is none",
                where=wish.key,
                remedy="set `total: 10B` (--tokens 10B on the command line), or give tokens",
            )
    return {name: int(wish.value) for name, wish in wishes.items()}
