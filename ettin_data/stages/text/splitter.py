"""Split text into words exactly as spaCy's blank English tokenizer does, which is what datatrove's filters count.

The rules, for each run of characters between whitespace (a **chunk**), written anew from their documentation
(https://spacy.io/usage/linguistic-features#how-tokenizer-works) and checked against the original on megabytes of text:

1. a chunk in the table of special strings is split as the table says;
2. else marks are cut off its front and its back, one of each in turn, until nothing can be cut or a special string is
   left;
3. what is left is a special string, or an address (URL, e-mail), or is cut at infixes (hyphens between letters, ...);
4. last, wherever the words found so far make up a special string, that string's own split takes their place: `f(x):`
   becomes `f(x` `):`, because `):` is in the table. Of overlapping places the longest counts, even one that reaches
   over a space and therefore is no special string: it still hides the others. So rule 4 looks beyond one chunk.

One departure: spaCy trips over the word `IS_ALPHA` after having seen it once in a process, upon which datatrove deletes
the word from the text. Here it is a word like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ettin_data.stages.text import english

SPECIALS = english.specials()


_FRONT_MARKS = english.SYMBOLS.union(english.MARKS, english.QUOTES, english.CURRENCIES, "—–§%=")
_FRONT_OTHER = re.compile(r"\+(?![0-9])|\.\.+|US\$|[CA]\$")
_FRONT_OTHERS = frozenset("+.UCA")
_BACK_MARKS = english.SYMBOLS.union(english.MARKS, english.QUOTES, "—–")
_BEFORE_DOT = english.LOWER_LETTERS.union("0123456789%²+-|", english.MARKS, english.QUOTES)
_TWO_BEFORE_DOT = re.compile(rf"[{english.UPPER}]{{2}}|°[FCK]")


def _infix(lower: str, upper: str, letter: str, symbol: str, quote: str) -> re.Pattern[str]:
    """What is cut out of the inside of a word, for the given insides of character classes.

    Every rule looks behind it for its first character, so that the search is for one class, which is fast.
    """
    rules = (
        r"(?<=\.)\.+",
        rf"(?<=[…{symbol}])" if symbol else "(?!)",
        r"(?<=[0-9][+\-*^])(?=[0-9-])",
        rf"(?<=[{lower}{quote}]\.)(?=[{upper}{quote}])",
        rf"(?<=[{letter}],)(?=[{letter}])",
        *(rf"(?<=[{letter}0-9]{hyphen[0]}){hyphen[1:]}(?=[{letter}])" for hyphen in english.HYPHENS),
        rf"(?<=[{letter}0-9][:<>=/])(?=[{letter}])",
    )
    return re.compile(rf"([.…,+*^:<>=/~–—{symbol}-](?:{'|'.join(rules)}))")


_INFIX = _infix(english.LOWER, english.UPPER, english.LETTER, english.SYMBOL, re.escape(english.QUOTES))
_QUOTE_ASCII = re.escape("".join(filter(str.isascii, english.QUOTES)))
_INFIX_ASCII = _infix("a-z", "A-Z", "A-Za-z", "", _QUOTE_ASCII)
_HOST_LETTER = r"[A-Za-z0-9\u00a1-\uffff]"
_SCHEME = r"(?:[\w+.-]{2,}://)?"
_HOST_PORT_PATH = (
    r"(?:"
    # an IPv4 address, but of no private network, no first or last address of a network
    r"(?!(?:10|127)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})(?!172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})"
    r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4])"
    r"|"
    # or a host whose top-level domain is in lower case
    rf"(?:(?:{_HOST_LETTER}[A-Za-z0-9\u00a1-\uffff_-]{{0,62}})?{_HOST_LETTER}\.)+[{english.LOWER}]{{2,63}}"
    r")"
    r"(?::\d{2,5})?(?:[/?#]\S*)?$"
)
_ADDRESS = re.compile(_SCHEME + _HOST_PORT_PATH)
_ADDRESS_WITH_USER = re.compile(_SCHEME + r"(?:\S+(?::\S*)?@)?" + _HOST_PORT_PATH)
_MAY_BE_ADDRESS = re.compile(rf"\.[{english.LOWER}]{{2}}|\d\.\d")  # every address has one of the two
_DIGITS = frozenset("0123456789")
_APOSTROPHES = frozenset("'’")
_LONGEST = max(map(len, SPECIALS))


def _tails() -> dict[str, list[str]]:
    """Units and currencies by their last character, the longest first."""
    tails: dict[str, list[str]] = {}
    for tail in sorted({*english.UNITS, *english.CURRENCIES, *english.DOLLARS}, key=lambda t: (-len(t), t)):
        tails.setdefault(tail[-1], []).append(tail)
    return tails


_TAILS = _tails()


def _prefix_end(text: str, start: int, stop: int) -> int:
    """Where the mark ends that is cut off the front of `text[start:stop]`, which is not empty; `start` for none."""
    first = text[start]
    if first in _FRONT_MARKS:
        return start + 1
    if first in _FRONT_OTHERS and (other := _FRONT_OTHER.match(text, start, stop)):
        return other.end()
    return start


def _suffix_start(text: str, start: int, stop: int) -> int:
    """Where the mark starts that is cut off the back of `text[start:stop]`; `stop` for none."""
    if start == stop:
        return stop
    last, before = text[stop - 1], text[stop - 2] if stop - 2 >= start else ""
    if last in _BACK_MARKS:
        return stop - 1 if last != "…" or before != "…" else stop - 2
    if last == ".":
        if before == ".":
            return start + len(text[start:stop].rstrip("."))
        cut = before in _BEFORE_DOT or _TWO_BEFORE_DOT.match(text[max(start, stop - 3) : stop - 1])
        return stop - 1 if cut else stop
    if last in "sS" and before in _APOSTROPHES:
        return stop - 2
    if last == "+" and before in _DIGITS:
        return stop - 1
    for tail in _TAILS.get(last, ()):
        cut_at = stop - len(tail)
        if cut_at > start and text[cut_at - 1] in _DIGITS and text.startswith(tail, cut_at):
            return cut_at
    return stop


def _cut_affixes(text: str, specials: Mapping[str, tuple[str, ...]]) -> tuple[list[str], str, list[str]]:
    """Rule 2: what is cut off the front, what is left, and what is cut off the back, last first."""
    front: list[str] = []
    back: list[str] = []
    start, stop = 0, len(text)  # what is left; not sliced, as a line of a thousand dashes would be a thousand slices
    while start < stop and not (stop - start <= _LONGEST and text[start:stop] in specials):
        middle = _prefix_end(text, start, stop)
        if start < middle and stop - middle <= _LONGEST and text[middle:stop] in specials:
            return [*front, text[start:middle]], text[middle:stop], back
        end = _suffix_start(text, middle, stop)
        if end < stop and end - start <= _LONGEST and text[start:end] in specials:
            return front, text[start:end], [*back, text[end:stop]]
        if middle == start and end == stop:
            break
        if start < middle:
            front.append(text[start:middle])
        if end < stop:
            back.append(text[end:stop])
        start, stop = middle, end
    return front, text[start:stop], back


def _cut_infixes(text: str) -> list[str]:
    """Rule 3 for a text that is no special string."""
    words = (_INFIX_ASCII if text.isascii() else _INFIX).split(text)
    if len(words) == 1 or _is_address(text):
        return [text]
    if not words[0]:  # an infix at the front, where nothing stands before it, is none
        words[:3] = [words[1] + words[2]]
    return [*filter(None, words)]


def _is_address(text: str) -> bool:
    if not _MAY_BE_ADDRESS.search(text):
        return False
    return bool((_ADDRESS_WITH_USER if "@" in text else _ADDRESS).match(text))


def cut_chunk(chunk: str, specials: Mapping[str, tuple[str, ...]] = SPECIALS) -> list[str]:
    """The words of a chunk by rules 1 to 3."""
    if chunk in specials:
        return list(specials[chunk])
    front, rest, back = _cut_affixes(chunk, specials)
    middle = specials[rest] if rest in specials else _cut_infixes(rest) if rest else ()
    return [*front, *middle, *reversed(back)]


def _patterns() -> dict[tuple[str, str], list[tuple[str, ...]]]:
    """Rule 4: the words that rules 2 and 3 make of the special strings, by the first two of them."""
    patterns: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for special in sorted(SPECIALS):
        words = tuple(cut_chunk(special, specials={}))
        if len(words) > 1:  # one that the rules leave whole is found by rules 1 to 3
            patterns.setdefault((words[0], words[1]), []).append(words)
    return patterns


_PATTERNS = _patterns()
BEGINNINGS = _PATTERNS.keys()
"""The first two words of special strings as rules 2 and 3 cut them: where they are not found, rule 4 does nothing."""
NOT_WHOLE = frozenset(special for special, words in SPECIALS.items() if words != (special,))
"""The special strings of several words."""
JOINTS = frozenset(pair for group in _PATTERNS.values() for words in group for pair in pairwise(words))
"""Pairs of words that follow each other in a special string: only there can rule 4 reach from one chunk to the next."""


def _visible(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of overlapping places the longest, of equally long ones the first; a hidden place hides others all the same."""
    if len(places) == 1:  # as all but always
        return places
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
        for i, pair in enumerate(pairwise(words))
        if pair in _PATTERNS
        for pattern in _PATTERNS[pair]
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


def split(run: str) -> tuple[list[str], list[str]]:
    """The words of one chunk, or of several with one space between each; and what they were before rule 4.

    The two are the same list where rule 4 changed nothing.
    """
    words: list[str] = []
    spaces: list[int] = []
    for chunk in run.split(" "):
        spaces.append(len(words))
        words += cut_chunk(chunk)
    if BEGINNINGS.isdisjoint(pairwise(words)):
        return words, words
    changed = _apply_specials(words, spaces)
    return (words if changed == words else changed), words


_MARK = re.escape((english.MARKS + english.QUOTES).replace("…", ""))
_LEAD = r"(?:[-/\\|]+|\.(?=[a-z_]))"  # what neither is a mark nor can be cut where a word begins
_NO_INFIX = r'!"#%&();?[\]_`{|}\\'  # what does not begin an infix, and
_INSIDE = rf"{_NO_INFIX}'.,+*^:<>=/~-"  # all that stands between letters and digits in a plain chunk
_HOST = r"(?:[A-Za-z0-9_+.-]+://)?(?:[A-Za-z0-9_-]+\.)+(?:[a-z]{2,}|[0-9]+)"
_UNIT = "".join(rf"(?<![0-9][A-Za-z/]{{{n}}})" for n in sorted({len(unit) for unit in english.UNITS if unit.isascii()}))
_PLAIN = re.compile(
    rf"(?!.{{129}})[{_MARK}$%=]*{_LEAD}?"
    # one word,
    rf"(?:[A-Za-z0-9]++(?:(?:[{_NO_INFIX}]++|'(?![Ss](?![A-Za-z0-9]))|\.(?![A-Z.{_QUOTE_ASCII}]))++[A-Za-z0-9]++)*+"
    # or what is no address, and only cut at the infixes below
    rf"(?![{_INSIDE}]*[A-Za-z0-9])"
    rf"|(?!{_HOST}(?:[:/?#]|(?:['’][Ss])?[^A-Za-z0-9]*$))[A-Za-z0-9]++"
    rf"(?:(?!(?<=[0-9])[+*^-]-|[{_INSIDE}]*(?:\.[.{_QUOTE_ASCII}]|'[Ss](?![A-Za-z0-9])))[{_INSIDE}]++[A-Za-z0-9]++)*+)"
    rf"(?<!['’][Ss]){_UNIT}(?:['’][Ss])?"
    rf"[{_MARK}]*(?:(?:(?<=[a-z0-9{_MARK}])|(?<=[A-Z][A-Z]))\.(?!\.)[{_MARK}]*)*"
)
"""Marks; then what is one word, or is no address and only cut at the infixes below; then marks, which rule 2 takes off
one by one. Not long, as of marks inside a chunk each is looked at with all that follow it."""

_PLAIN_INFIX = (
    r"(?<=[A-Za-z0-9])(?:-{1,3}|[:<>=/~])(?=[A-Za-z])|(?<=[A-Za-z]),(?=[A-Za-z])|(?<=[0-9])[+*^-](?=[0-9])"
    rf"|(?<=[a-z{_QUOTE_ASCII}])\.(?=[A-Z])"
)
_PLAIN_END = r"(?:['’][Ss])?[^A-Za-z0-9\n]*\n"
_PLAIN_WORD = re.compile(
    rf"(?:[A-Za-z0-9]|(?<![A-Za-z0-9]){_LEAD}[A-Za-z0-9])[A-Za-z0-9]*+"
    rf"(?:[{_NO_INFIX}]++[A-Za-z0-9]++|(?!{_PLAIN_INFIX}|{_PLAIN_END})[^A-Za-z0-9\n][A-Za-z0-9]*+)*+"
    rf"|(?<=[A-Za-z0-9])(?:-{{2,3}}(?=[A-Za-z])|['’][Ss](?={_PLAIN_END}))|.|\n"
)


def cut_plain(chunks: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which of the chunks are of the usual kinds, and their words by rules 2 and 3 alone, a line break after each's.

    At a third of what `split` costs. Without special strings, so the words are those of `split` unless one of them is
    in `NOT_WHOLE`, or two that follow each other are in `BEGINNINGS`.
    """
    plain = [*filter(_PLAIN.fullmatch, chunks)]
    return plain, _PLAIN_WORD.findall("\n".join([*plain, ""]))
