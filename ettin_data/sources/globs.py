"""Glob patterns of sources: `{a..b}` ranges, `{a,b}` choices, `*`, `?` and `**`.

A range keeps the zero padding of its ends: `{0000..0274}` is 0000, 0001, … 0274. `*` and `?` stay inside one folder,
`**/` spans any number of folders, none included. Anything else stands for itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from itertools import pairwise

from ettin_data.base.errors import SourceError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAGIC = re.compile(r"[*?{]")
_WILD = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
MAX_EXPANSION = 1_000_000
_TOO_MANY = f"use *; a pattern may stand for {MAX_EXPANSION:,} files"
_DIGITS = 18  # of a number in a file's name


def is_glob(pattern: str) -> bool:
    """Whether a pattern has any of `*`, `?`, `{`."""
    return _MAGIC.search(pattern) is not None


def has_wildcard(pattern: str) -> bool:
    """Whether a pattern needs a listing: `*` or `?`; ranges and choices can be written out."""
    return "*" in pattern or "?" in pattern


def _choices(body: str, pattern: str) -> list[str]:
    match = _RANGE.fullmatch(body)
    if match is None:
        return body.split(",")
    first, last = match[1], match[2]
    if len(first) > _DIGITS or len(last) > _DIGITS or int(last) - int(first) >= MAX_EXPANSION:
        raise SourceError(f"range {{{body[:80]}}} stands for too many files", where=pattern, remedy=_TOO_MANY)
    if int(last) < int(first):
        raise SourceError(f"range {{{body}}} runs backwards", where=pattern, remedy="write the smaller end first")
    width = len(first) if first.startswith("0") or len(first) == len(last) else 0
    return [str(n).zfill(width) for n in range(int(first), int(last) + 1)]


def expand(pattern: str, *, ranges_only: bool = False) -> list[str]:
    """The pattern with every `{…}` written out, or the ranges among them only, in order; `*` and `**` stay.

    >>> expand("wiki/wiki-{0000..0001}.json.gz")
    ['wiki/wiki-0000.json.gz', 'wiki/wiki-0001.json.gz']
    """
    pieces = _BRACES.split(pattern)  # text, body, text, body, …, text
    options = [[p] if i % 2 == 0 else _choices(p, pattern) for i, p in enumerate(pieces)]
    if ranges_only:
        options = [[f"{{{p}}}"] if i % 2 and not _RANGE.fullmatch(p) else options[i] for i, p in enumerate(pieces)]
    total = 1
    for option in options:
        total *= len(option)
    if total > MAX_EXPANSION:
        raise SourceError(f"pattern stands for {total:,} files", where=pattern, remedy=_TOO_MANY)
    return ["".join(choice) for choice in itertools.product(*options)]


def to_regex(pattern: str) -> re.Pattern[str]:
    """A regular expression that matches (fullmatch) the paths a pattern stands for."""
    pieces = _BRACES.split(pattern)  # text, body, text, body, …, text
    parts = [
        _wild(p) if i % 2 == 0 else f"(?:{'|'.join(map(_wild, _choices(p, pattern)))})" for i, p in enumerate(pieces)
    ]
    return re.compile("".join(parts), re.DOTALL)


def _wild(text: str) -> str:
    """Without going back: where a later star takes what it passes over, the first place after a star is as good as any.

    Otherwise thirty stars would try all ways to share a name out among them, which ends in no lifetime.
    """
    tokens = re.split(r"(\*\*/|\*\*|\*|\?)", text)
    parts = [_WILD.get(token) or re.escape(token) for token in tokens]
    stars = [n for n, token in enumerate(tokens) if token in ("*", "**", "**/")]
    for one, following in pairwise(stars):
        if tokens[following] != "**/" and (tokens[one] == "*" or tokens[one] == tokens[following]):
            parts[one] = f"(?>{parts[one]}?"  # as few as it can
            parts[following - 1] += ")"
    return "".join(parts)


def fixed_prefix(patterns: Iterable[str]) -> str:
    """The deepest folder ("" or ending in "/") that all the patterns share before their first wildcard or brace."""
    folders = []
    for pattern in patterns:
        match = _MAGIC.search(pattern)
        literal = pattern[: match.start()] if match else pattern
        folders.append(literal.rpartition("/")[0].split("/") if "/" in literal else [])
    if not folders:
        return ""
    shared = list(itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False)))
    return "".join(parts[0] + "/" for parts in shared)
