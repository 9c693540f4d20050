"""The texts of a proof: what a library has to encode as the referee does, made from the tokenizer file itself.

Six kinds, in this order, so that the cheapest and most telling come first. All draws are keyed, so that a proof is the
same wherever it is made.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from ettin_data.base.draws import generator

MARKS = "\u0300\u0301\u0323\u0344\u0327\u3099\u093c\u0e38\u064b\U0001d165\u1160\u11a8"
"""Characters that compose with the one before them, reorder, or are excluded from composition."""

ODD = (
    " ", "  ", "   ", " " * 23, " " * 24, " " * 25, " " * 49, "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ",
    "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\u1680", "\x0b", "\x1c", "\x00", "\x00\x00", "\x7f", "\ufeff",
    "\ufffd", "\u200b", "\u200c", "\u200d", "\ufe0f", "\u2581", "\u2581\u2581", "\u0120", "\u00c2", "<0x0A>", "##",
    "</w>", "'s", "'LL", "'\u017f", "\u2019s", "can't", "0", "12", "345", "6789", "\u0663", "\u00bd", "\u2167",
    "\u2460", "a", "B", "The", "word", "\u01c5", "\u0130", "\u0131", "\u017f", "\u00df", "\ufb01", "\u1e9e",
    "\u03a3", "\u03c2", "e\u0301", "\u0958", "\u212b", "\u1100\u1161\u11a8", "\uac00\u11a8", "q\u0307\u0323",
    "\u65e5\u672c", "\u0e01\u0e47", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\U0001f60a", "\U000110ba", "\U0001d15e", "\U0010ffff",
    "\U0002f800", "\ue000", "_", "-", "...", "=>", "http://", "<", ">", "[", "]", "|", "<|", "|>", "{", "}", "\\",
    "\"", "'", "`", "$1", "#",
)  # fmt: skip
"""What breaks tokenizers: white space of all kinds, controls, composition, contractions, digits, parts of markup."""

_T = TypeVar("_T")
_GROUP = 32
_MOST_ADDED = 2_000
_FUZZ, _FUZZ_PARTS = 6_000, 24
_LONG = 200_000


def texts(entries: Sequence[str], added: Sequence[str], key: str) -> Iterator[str]:
    """All texts of a proof.

    Args:
        entries: the vocabulary as text, each entry decoded.
        added: content of the added tokens.
        key: of the draws; the digest of the tokenizer.
    """
    drawn = generator("tokenizer proof", key)
    some = [added[i] for i in sorted(drawn.permutation(len(added))[:_MOST_ADDED])]
    yield from ("", *ODD, *_around(some), *_runs())
    yield from _fuzz(entries, some, drawn)
    yield from _code_points()
    yield from _compositions()
    yield from _vocabulary(entries, drawn)
    yield "".join(_fuzz(entries, some, drawn, 1 + _LONG // 150))[:_LONG]


def words(entries: Sequence[str], key: str, characters: int = 600_000) -> list[str]:
    """Text to measure speed on: entries in the frequencies of Zipf's law, as words of a language have them."""
    drawn = generator("tokenizer speed", key)
    plain = [entry for entry in entries if entry.strip() and "\ufffd" not in entry] or ["word"]
    share = 1 / (np.arange(len(plain)) + 10.0)
    order, shares = drawn.permutation(len(plain)), share / share.sum()
    result: list[str] = []
    while sum(map(len, result)) < characters:
        ranks = drawn.choice(len(plain), 2_000, p=shares)
        result.append(" ".join(plain[order[rank]].strip() for rank in ranks.tolist()))
    return result


def _around(added: Sequence[str]) -> Iterator[str]:
    """Each added token whole and cut, between letters, blanks, line ends, marks and others."""
    for number, token in enumerate(added):
        other = added[number - 1]
        yield from (
            token, token * 2, f"a{token}b", f" {token} ", f"  {token}  x", f"x \n\t {token}\n y", f"{token}{other}",
            token[:-1], token[1:], f"{token[:-1]} {token[-1:]}", f"1{token[:-1]}{token}", f"{token}\u0301",
            f"\u2581{token}\u2581", token.swapcase(), f".{token}_{token}7", token.replace(" ", "\u2581"),
        )  # fmt: skip


def _runs() -> Iterator[str]:
    """Runs of one character: of lengths around those of entries, and long ones."""
    for character in (" ", "\n", "\t", "a", "-", "=", "0", "\u2581", "\u3042", "\U0001f600", "\r\n", "ab"):
        yield from (character * n for n in (*range(2, 36), 63, 64, 65, 128, 129, 1000))
        yield f"x{character * 50}y{character * 3}"
        yield character * (1 + 20_000 // len(character)) if not character.isalnum() else character * 3_000


def _fuzz(entries: Sequence[str], added: Sequence[str], drawn: np.random.Generator, n: int = _FUZZ) -> Iterator[str]:
    """Strings of odd parts, entries, added tokens whole and cut, and characters of all planes."""
    for _ in range(n):
        kinds = drawn.integers(0, 8, int(drawn.integers(1, _FUZZ_PARTS))).tolist()
        yield "".join(_part(kind, entries, added, drawn) for kind in kinds)


def _part(kind: int, entries: Sequence[str], added: Sequence[str], drawn: np.random.Generator) -> str:
    if kind == 0 and added:
        token = added[int(drawn.integers(len(added)))]
        cut = int(drawn.integers(0, 2 * len(token) + 1))  # half of the time whole
        return token[:cut] if drawn.integers(2) else token[-cut:]
    if kind == 1:
        return _character(int(drawn.integers(0x110000 - 0x800)))
    if kind == 2:
        return "".join(_character(code) for code in drawn.integers(0x20, 0x3100, 3).tolist())
    if kind == 3:
        return MARKS[int(drawn.integers(len(MARKS)))]
    if kind == 4 and entries:
        return entries[int(drawn.integers(len(entries)))]
    if kind == 5 and entries:
        return f" {entries[int(drawn.integers(len(entries)))].strip()}"
    return ODD[int(drawn.integers(len(ODD)))]


def _character(code: int) -> str:
    """The character of a number from 0, surrogates left out of the count."""
    return chr(code if code < 0xD800 else code + 0x800)


def _code_points() -> Iterator[str]:
    """Every character, where classes of characters show.

    Whether a library takes one for a letter, a digit or anything else decides what `'s` and a run of digits behind it
    are; whether it takes it for white space, what two spaces before it are. Planes 0 to 3 and 14 whole, for a newer
    version of Unicode puts letters where an older one has nothing; of the large blocks of Han, Hangul and private use
    every 64th.
    """
    large = ((0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x17000, 0x18CFF), (0x20000, 0x3FFFF))
    codes = np.concatenate([np.arange(0xD800), np.arange(0xE000, 0x40000), np.arange(0xE0000, 0xE1000)])
    inside = np.zeros(len(codes), bool)
    for first, last in large:
        inside |= (codes >= first) & (codes <= last)
    # The ends of a block are where a table may stop early: taken whole, the last 4,096 of Han at full.
    edge = np.isin(codes % 0x1000, (0, 1, 0xFFE, 0xFFF)) | ((codes >= 0x2A6D0) & (codes < 0x2A700))
    kept = codes[~inside | (codes % 64 == 0) | edge]
    for group in _groups(kept.tolist(), 48):
        yield "".join(f"{chr(code)}'s {chr(code)}12345" for code in group)
    for group in _groups([*range(0x3100), *range(0xFE00, 0x10000)], 48):
        yield "".join(f"x  {chr(code)}b" for code in group)


def _compositions() -> Iterator[str]:
    """Characters beside their decompositions, and marks in both orders behind letters."""
    composed = (chr(code) for code in range(0xC0, 0x30000) if unicodedata.decomposition(chr(code)))
    for group in _groups(composed, _GROUP):
        yield " ".join(f"{c}{unicodedata.normalize('NFD', c)}\u0301" for c in group)
    for first in MARKS:
        yield "".join(f"a{first}{other} {other}e{first}\u0105{other}" for other in MARKS)


def _vocabulary(entries: Sequence[str], drawn: np.random.Generator) -> Iterator[str]:
    """Every entry once, end to end with blanks, line ends, letters or nothing between."""
    between = (" ", " ", "", "\n", "  ", "x", "1", ".")
    for group in _groups(entries, _GROUP):
        chosen = drawn.integers(0, len(between), len(group)).tolist()
        yield "".join(entry + between[n] for entry, n in zip(group, chosen, strict=True))


def _groups(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(items)
    while group := list(islice(left, size)):
        yield group
