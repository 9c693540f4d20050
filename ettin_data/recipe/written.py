"""What a file may say besides the keys of a `Recipe`: parts of a total, groups, languages, a recipe that it extends.

The sentence below a field is what `ettin-data recipe keys` says of it.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator

from ettin_data.base.options import Count, Options


def _part(value: object) -> Fraction:
    if isinstance(value, Fraction):
        return value
    text = value.strip() if isinstance(value, str) else repr(value)
    try:
        number = Decimal(text.removesuffix("%"))
        if isinstance(value, bool) or not number > 0 or abs(number.adjusted()) > 18 or len(text) > 40:
            raise ValueError  # before it is written out: 1e999999 has a million digits
    except (ValueError, ArithmeticError):
        raise ValueError("a part is a number above 0, such as 3, 0.25 or 60%") from None
    return Fraction(number) / (100 if text.endswith("%") else 1)


Part = Annotated[Fraction, PlainValidator(_part)]
"""A part of something: `3`, `0.25`, `60%`."""


class WrittenSource(Options):
    """What a file may say of a source instead of `tokens` and `passes`."""

    tokens: str | None = None
    """`2x`, where another recipe or an earlier word gives an amount: twice that, be it tokens, passes or a part."""
    ratio: Part | None = None
    """Its part of what is left of the `total` (or of its group), beside the ratios of the others: `3` beside `1`."""
    weight: Part | None = None
    """The same as `ratio`."""
    share: Part | None = None
    """Its share of the `total` (or of its group): `60%` or `0.6`."""
    group: str | None = None
    """The group of `groups` that it belongs to, whose tokens it shares with the others there; alone, with ratio 1."""


class WrittenGroup(Options):
    """How much the sources of a group get together: one of these, or a share alone (`web: 60%`)."""

    tokens: Count | None = None
    """Together so many tokens."""
    ratio: Part | None = None
    """Its part beside the ratios of other groups and sources."""
    weight: Part | None = None
    """The same as `ratio`."""
    share: Part | None = None
    """Its share of the `total`."""


_Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class Languages(Options):
    """Members of multilingual sources, and how the tokens of each come about."""

    members: _Texts
    """Which: `fineweb2[deu_Latn]`, `fineweb2[*_Cyrl]`, or a list of such."""
    without: _Texts = Field(default_factory=list)
    """Which of those not, written likewise."""
    weights: str = "words"
    """How much of each there is in the world: `words`, `documents` or `bytes` of FineWeb2, or `file.csv:column`."""
    temperature: float | None = Field(None, ge=0, le=8)
    """tau of tokens = min(available * max_passes, C * weight ** tau): 1 keeps proportions, 0 makes all alike."""
    total: Count | None = None
    """Tokens of all members together, met exactly."""
    max_passes: float = Field(1.0, gt=0, le=1e6)
    """How often what there is of a member may be gone through."""
    tokens_per_byte: float = Field(0.25, gt=0, le=4)
    """By which what there is of a member is estimated from its bytes."""
    targets: str | None = None
    """In place of all that: exact tokens, `file.csv:column` by member or code, or `mmbert:pretrain`, `mmbert:ext`, …"""


class Written(Options):
    """What a file may say besides the keys of a `Recipe`."""

    extends: str | None = None
    """Another recipe (`ettin/decay`, or a file beside this one) of which this one says the differences. Keys are merged
    at every level; `null` takes a source out."""
    total: Count | None = None
    """Tokens of all sources together, met exactly. Sources with `tokens` get those; `share`, `ratio` and `weight`
    divide the rest. The tokens of a recipe that it extends are scaled to it, unless others have a ratio."""
    groups: dict[str, WrittenGroup] = Field(default_factory=dict)
    """Name -> how much the sources with that `group` get together."""
    languages: Languages | None = None
    """Members of multilingual sources, by temperature or with given targets."""
