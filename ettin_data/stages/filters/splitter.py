"""Split text into words exactly as spaCy's blank English tokenizer does, which is what datatrove's filters count.

The rules, for each run of characters between whitespace (a **chunk**), written anew from their documentation
(https://spacy.io/usage/linguistic-features#how-tokenizer-works) and checked against the original on megabytes of text:

1. a chunk in the table of special strings is split as the table says;
2. else marks are cut off its front and its back, one of each in turn, until nothing can be cut or a special string is left;
3. what is left is a special string, or an address (URL, e-mail), or is cut at infixes (hyphens between letters, ...);
4. last, wherever the words found so far make up a special string, that string's own split takes their place: `f(x):`
   becomes `f` `(` `x` `):`, because `):` is in the table. Of overlapping places the longest counts, even one that reaches
   over a space and therefore is no special string: it still hides the others. So rule 4 looks beyond one chunk.

One departure: spaCy trips over the word `IS_ALPHA` after having seen it once in a process, upon which datatrove deletes the
word from the text. Here it is a word like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ettin_data.stages.filters import english

SPECIALS = english.specials()


def _either(characters: str) -> str:
    """The inside of a character class of just these characters."""
    return "".join(map(re.escape, characters))


_MARK = _either(english.MARKS + english.QUOTES + "—–") + english.SYMBOL
_QUOTE = _either(english.QUOTES)

_PREFIX = re.compile(rf"[{_MARK}{_either(english.CURRENCIES)}§%=]|\+(?![0-9])|\.\.+|US\$|[CA]\$")
_MARK_AT_END = re.compile(rf"[{_MARK}]")
_DOT_IS_CUT_AFTER = re.compile(rf"[0-9{english.LOWER}{_either(english.MARKS + english.QUOTES)}%²+|-]")
_DOT_IS_CUT_AFTER_TWO = re.compile(rf"[{english.UPPER}]{{2}}|°[FCK]")
_INFIX = re.compile(
    "|".join(
        (
            rf"\.\.+|…|[{english.SYMBOL}]",
            r"(?<=[0-9])[+\-*^](?=[0-9-])",
            rf"(?<=[{english.LOWER}{_QUOTE}])\.(?=[{english.UPPER}{_QUOTE}])",
            rf"(?<=[{english.LETTER}]),(?=[{english.LETTER}])",
            rf"(?<=[{english.LETTER}0-9])(?:{'|'.join(english.HYPHENS)})(?=[{english.LETTER}])",
            rf"(?<=[{english.LETTER}0-9])[:<>=/](?=[{english.LETTER}])",
        )
    )
)
_MAY_HAVE_INFIX = re.compile(rf"[.…,+*^:<>=/~–—{english.SYMBOL}-]")
_HOST_LETTER = r"[A-Za-z0-9\u00a1-\uffff]"
_URL = re.compile(
    r"(?:[\w+.-]{2,}://)?"  # scheme
    r"(?:\S+(?::\S*)?@)?"  # user, password
    r"(?:"
    # an IPv4 address, but of no private network, no first or last address of a network
    r"(?!(?:10|127)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})(?!172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})"
    r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4])"
    r"|"
    # or a host, with a top-level domain in lower case
    rf"(?:(?:{_HOST_LETTER}[A-Za-z0-9\u00a1-\uffff_-]{{0,62}})?{_HOST_LETTER}\.)+[{english.LOWER}]{{2,63}}"
    r")"
    r"(?::\d{2,5})?"  # port
    r"(?:[/?#]\S*)?$"  # path
)
_MAY_BE_URL = re.compile(rf"\.[{english.LOWER}]{{2}}|\d\.\d")  # every address has one of the two


def _tails() -> dict[str, list[str]]:
    """Units and currencies by their last character, the longest first."""
    tails: dict[str, list[str]] = {}
    for tail in sorted({*english.UNITS, *english.CURRENCIES, *english.DOLLARS}, key=lambda t: (-len(t), t)):
        tails.setdefault(tail[-1], []).append(tail)
    return tails


_TAILS = _tails()


def _suffix_length(text: str) -> int:
    """How many characters are cut off the end, 0 for none."""
    last = text[-1:]
    if last == ".":
        if text.endswith(".."):
            return len(text) - len(text.rstrip("."))
        cut = _DOT_IS_CUT_AFTER.match(text[-2:-1]) or _DOT_IS_CUT_AFTER_TWO.match(text[-3:-1])
        return 1 if cut else 0
    if last == "…":
        return 2 if text.endswith("……") else 1
    if _MARK_AT_END.match(last):
        return 1
    if last in "sS" and text[-2:-1] in ("'", "’"):
        return 2
    if last == "+" and text[-2:-1] in _DIGITS:
        return 1
    for tail in _TAILS.get(last, ()):
        if text.endswith(tail) and text[-len(tail) - 1 : -len(tail)] in _DIGITS:
            return len(tail)
    return 0


_DIGITS = frozenset("0123456789")


def _cut_affixes(text: str) -> tuple[list[str], str, list[str]]:
    """Rule 2: what is cut off the front, what is left, and what is cut off the back, last first."""
    front: list[str] = []
    back: list[str] = []
    while text and text not in SPECIALS:
        prefix = _PREFIX.match(text)
        start = prefix.end() if prefix else 0
        if start and text[start:] in SPECIALS:
            return [*front, text[:start]], text[start:], back
        length = _suffix_length(text[start:])
        if length and text[:-length] in SPECIALS:
            return front, text[:-length], [*back, text[-length:]]
        if not start and not length:
            break
        if start:
            front.append(text[:start])
        if length:
            back.append(text[-length:])
        text = text[start : len(text) - length]
    return front, text, back


def _cut_infixes(text: str) -> list[str]:
    """Rule 3 for a text that is no special string."""
    if not _MAY_HAVE_INFIX.search(text) or (_MAY_BE_URL.search(text) and _URL.match(text)):
        return [text]
    words = []
    start = 0
    for infix in _INFIX.finditer(text):
        if infix.start() == 0:
            continue  # nothing stands before it
        if infix.start() > start:
            words.append(text[start : infix.start()])
        words.append(infix.group())
        start = infix.end()
    if start < len(text):
        words.append(text[start:])
    return words


def cut(chunk: str) -> list[str]:
    """The words of a chunk by rules 1 to 3."""
    if chunk in SPECIALS:
        return list(SPECIALS[chunk])
    front, rest, back = _cut_affixes(chunk)
    middle = [] if not rest else SPECIALS[rest] if rest in SPECIALS else _cut_infixes(rest)
    return [*front, *middle, *reversed(back)]


def _cut_without_specials(text: str) -> tuple[str, ...]:
    """The words that rules 2 and 3 would make of a special string if it were none."""
    front: list[str] = []
    back: list[str] = []
    while text:
        prefix = _PREFIX.match(text)
        start = prefix.end() if prefix else 0
        length = _suffix_length(text[start:])
        if not start and not length:
            break
        front += [text[:start]] if start else []
        back += [text[-length:]] if length else []
        text = text[start : len(text) - length]
    return (*front, *(_cut_infixes(text) if text else ()), *reversed(back))


def _patterns() -> dict[str, list[tuple[str, ...]]]:
    """Rule 4: the words that make up a special string, by the first of them."""
    patterns: dict[str, list[tuple[str, ...]]] = {}
    for special in sorted(SPECIALS):
        if _PREFIX.match(special) or _suffix_length(special) or _INFIX.search(special):
            words = _cut_without_specials(special)
            patterns.setdefault(words[0], []).append(words)
    return patterns


_PATTERNS = _patterns()
JOINTS = frozenset(pair for group in _PATTERNS.values() for words in group for pair in zip(words, words[1:], strict=False))
"""Pairs of words that follow each other in a special string: only there can rule 4 reach from one chunk to the next."""


def _visible(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of overlapping places the longest, of equally long ones the first; a hidden place hides others all the same."""
    taken: set[int] = set()
    visible = []
    for start, end in sorted(places, key=lambda place: (place[0] - place[1], place[0])):
        if start not in taken and end - 1 not in taken:
            visible.append((start, end))
        taken.update(range(start, end))
    return sorted(visible)


def _apply_specials(words: list[str], spaces: Sequence[int]) -> list[str]:
    """Rule 4; `spaces` are the indices of words with a space before them."""
    places = [
        (i, i + len(pattern))
        for i, word in enumerate(words)
        for pattern in _PATTERNS.get(word, ())
        if tuple(words[i : i + len(pattern)]) == pattern
    ]
    out: list[str] = []
    done = 0
    for start, end in _visible(places):
        out += words[done:start]
        whole = not any(start < space < end for space in spaces)
        special = SPECIALS.get("".join(words[start:end])) if whole else None
        out += special or words[start:end]
        done = end
    return out + words[done:]


def split(run: str) -> tuple[list[str], bool]:
    """The words of one chunk, or of several with one space between each, and whether rule 4 changed any."""
    words: list[str] = []
    spaces = []
    for chunk in run.split(" "):
        spaces.append(len(words))
        words += cut(chunk)
    changed = _apply_specials(words, spaces)
    return changed, changed != words
