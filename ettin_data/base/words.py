"""The words of texts as 64-bit hashes, many texts at a time: what duplicates and contamination compare.

A text is read as a person reads it aloud: lower case, letters and digits only. Accents of Latin, Greek and Cyrillic are
left off, full-width and other compatible forms are their plain ones, soft hyphens and the like are not there, and every
other character ends a word. Scripts that put no spaces between words (Han, kana, Thai, Lao, Khmer, Burmese) have one
word for each character. So a copy that was re-wrapped, shouted, re-quoted or stripped of its punctuation has the same
words, which its token ids have not.

What a character is follows from Unicode 3.2, which every Python carries beside its own version: words are the same on
all of them. A script that came later is letters without upper case.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import compiled
from ettin_data.base.draws import draws
from ettin_data.base.ngrams import powers_of_base, span_hashes

VERSION = 1
"""Raised when some text gets other words: what was made of the old ones does not compare with the new."""

PORTION = 1 << 18
"""Characters that are worked on at a time: the arrays stay in the processor's caches, whatever a text's size."""

BASE = 0x9E3779B97F4A7C15
"""Of the polynomial that the hash of a word is in its letters, and that of an n-gram in its words."""

_BLANK = np.uint64(0xD1B54A32D192ED03)
BREAK, LETTER, ALONE, NOTHING = range(4)  # what a character does to words; the first two are a truth value
_MARKS = range(0x300, 0x370)
_SOFT_HYPHEN = 0xAD  # a dash of its own in Unicode 3.2
_SYMBOLS = ((0x2000, 0x2C00), (0x2E00, 0x2E80), (0x3000, 0x3005), (0x1F000, 0x1FC00))  # also those of later versions
_UNSPACED = (
    (0xE00, 0xF00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x3005, 0x3008), (0x3021, 0x3030), (0x3040, 0x3100),
    (0x31F0, 0x3200), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0xFF66, 0xFFA0), (0x1B000, 0x1B300),
    (0x20000, 0x40000),
)  # fmt: skip
_LOOKED_AT = ((0, 0x3400), (0x4DC0, 0x4E00), (0xA000, 0xAC00), (0xD7A4, 0x10500), (0x1D000, 0x1D800))
"""Where Unicode 3.2 has more than letters that are what they are; behind each, and in `_SYMBOLS`, it says nothing."""


Hashed = tuple[NDArray[np.uint64], NDArray[np.int64]]
"""Hashes of what is in some texts, end to end; and where those of each text begin, or how many it has."""


@cache
def code_points() -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """For each code point what it does to words, and the code point that it counts as."""
    unicode = unicodedata.ucd_3_2_0
    kinds = np.full(0x110000, LETTER, np.uint8)
    plain = np.arange(0x110000, dtype=np.uint64)
    for begin, end in _SYMBOLS:
        kinds[begin:end] = BREAK
    for code in (code for begin, end in _LOOKED_AT for code in range(begin, end)):
        category = unicode.category(chr(code))
        if category == "Cf" or code in _MARKS or code == _SOFT_HYPHEN or 0xFE00 <= code < 0xFE10:
            kinds[code] = NOTHING
        elif category != "Cn" and category[0] in "PSZC":
            kinds[code] = BREAK
        elif category != "Cn":
            kinds[code] = LETTER
            small = chr(code).lower()
            if small == chr(code) and not unicode.decomposition(small):
                continue  # as most are, which need no look at their forms
            forms = unicode.normalize("NFKD", small)
            bare = [form for form in forms if ord(form) not in _MARKS]
            if len(bare) == 1:
                plain[code] = ord(bare[0])
    plain[ord("ς")] = ord("σ")
    for begin, end in _UNSPACED:
        part = kinds[begin:end]
        part[part == LETTER] = ALONE
    kinds[0xE0000:0xE1000] = NOTHING
    return kinds, plain


@cache
def characters() -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """What makes words: for each code point, shape (0x110000,), what it does to words, uint8, and its number, uint64.

    The number is random, and what a letter adds to the polynomial in `BASE`; 0 of one that is in no word.
    """
    kinds, plain = code_points()
    numbers = np.zeros(len(plain), np.uint64)
    for begin in range(0, len(plain), PORTION // 8):
        part = slice(begin, begin + PORTION // 8)
        numbers[part] = draws(plain[part], "character of a word")
    numbers[kinds == BREAK] = 0
    return kinds, numbers


def word_hashes(texts: Sequence[str]) -> Hashed:
    """The words of each text, in order.

    A word of more than `PORTION` characters counts as several.

    Returns:
        hashes of all words end to end, shape (words,), uint64: equal words have equal hashes in any text; and where
        the words of each text begin, shape (len(texts) + 1,), int64, the last being their number.
    """
    return _looped(texts) if compiled.used(_same, "words") else _of_numpy(texts)


def _looped(texts: Sequence[str]) -> Hashed:
    """`word_hashes` by the compiled loop."""
    from ettin_data.base import loops

    hashes, offsets = np.empty(sum(map(len, texts)) + 1, np.uint64), np.empty(len(texts) + 1, np.int64)
    count = loops.word_hashes(list(texts), *characters(), powers_of_base(PORTION)[0], hashes, offsets)
    return hashes[:count], offsets


def _same() -> bool:
    """Whether the compiled loop makes the words that numpy makes."""
    texts = compiled.proof_texts(code_points()[0])
    return all(np.array_equal(ours, right) for ours, right in zip(_looped(texts), _of_numpy(texts), strict=True))


def _of_numpy(texts: Sequence[str]) -> Hashed:
    """`word_hashes` by numpy."""
    plain = [text.isascii() for text in texts]
    if len(set(plain)) < 2:
        return _of_all(texts, _plain_words if all(plain) else _words)
    ways, counts, rows = ((True, _plain_words), (False, _words)), np.zeros(len(texts) + 1, np.int64), {}
    for way, of_pieces in ways:
        hashes, offsets = _of_all([text for text, of in zip(texts, plain, strict=True) if of is way], of_pieces)
        counts[1:][np.array(plain) == way] = np.diff(offsets)
        rows[way] = iter([hashes[begin:end] for begin, end in pairwise(offsets.tolist())])
    return np.concatenate([next(rows[way]) for way in plain]), np.cumsum(counts)


def letter_hashes(texts: Sequence[str]) -> Hashed:
    """The letters of the words of each text, in order, with one blank behind every word that is not beside the next.

    For n-grams of characters. Returns hashes of all letters and blanks, and where those of each text begin, as
    `word_hashes` does.
    """
    return _of_all(texts, _letters)


def _of_all(texts: Sequence[str], of_pieces: Callable[[Sequence[str]], Hashed]) -> Hashed:
    hashes, counts = [np.zeros(0, np.uint64)], np.zeros(len(texts) + 1, np.int64)
    for numbers, pieces in _portions(texts):
        found, of_piece = of_pieces(pieces)
        hashes.append(found)
        np.add.at(counts, np.array(numbers) + 1, of_piece)
    return np.concatenate(hashes), np.cumsum(counts)


def ascii_letters(data: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The small letter or digit that each byte of ASCII is, or 0, and where words begin; the first byte is in none.

    By what a processor does to many bytes at a time, in as few arrays as it takes: new memory costs as much again.
    """
    letters = data | np.uint8(0x20)
    inside, other = letters - np.uint8(ord("a")), data - np.uint8(ord("0"))
    np.less(inside, np.uint8(26), out=inside.view(bool))
    np.less(other, np.uint8(10), out=other.view(bool))
    inside |= other
    np.negative(inside.view(np.int8), out=other.view(np.int8))
    letters &= other
    begins = other[1:].view(bool)
    np.greater(inside[1:], inside[:-1], out=begins)
    starts = np.flatnonzero(begins)
    starts += 1
    return letters, starts


def ngrams(words: NDArray[np.uint64], offsets: NDArray[np.int64], n: int, least: int = 0) -> Hashed:
    """Hashes of each n words in a row, of texts whose words are given as `word_hashes` returns them.

    Returns: as `word_hashes`; a text of fewer than n words, or than `least`, has none.
    """
    count = max(len(words) - n + 1, 0)
    hashes = words[:count].copy()
    for place in range(1, n):  # Horner's rule, in place: a text may have millions of words
        hashes *= np.uint64(BASE)
        hashes += words[place : place + count]
    # An n-gram that begins in the last n - 1 words of a text runs into the next one.
    last, whole = offsets[1:, None] - np.arange(1, n), np.ones(count, bool)
    whole[last[(last >= offsets[:-1, None]) & (last < count)]] = False
    counts = np.diff(offsets)
    if (short := counts < least).any():
        whole &= ~np.repeat(short, counts)[:count]
        counts[short] = 0
    return hashes[whole], np.concatenate([[0], np.cumsum(np.maximum(counts - n + 1, 0))])


def ngrams_at(words: NDArray[np.uint64], starts: NDArray[np.int64], n: int) -> NDArray[np.uint64]:
    """The hashes that `ngrams` gives for the n words from each start on."""
    hashes: NDArray[np.uint64] = words.take(starts)
    for place in range(1, n):
        hashes *= np.uint64(BASE)
        hashes += words.take(starts + place)
    return hashes


def _portions(texts: Iterable[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Texts, or pieces of long ones, until they fill a portion, and the number of the text that each is of."""
    numbers, pieces, held = list[int](), list[str](), 0
    for number, text in enumerate(texts):
        for piece in (text,) if len(text) < PORTION else _cut(text):
            size = len(piece)
            if held + size > PORTION and pieces:
                yield numbers, pieces
                numbers, pieces, held = [], [], 0
            numbers.append(number)
            pieces.append(piece)
            held += size + 1
    if pieces:
        yield numbers, pieces


def _cut(text: str) -> Iterator[str]:
    """A long text in pieces, cut between words: where depends on the text alone."""
    begin = 0
    while begin < len(text):
        piece = text[begin : begin + PORTION - 1]
        if begin + len(piece) < len(text):
            kinds = characters()[0][_codes(piece)]
            between = np.flatnonzero((kinds == BREAK) | (kinds == ALONE))
            piece = piece[: int(between[-1]) + 1] if len(between) else piece
        yield piece
        begin += len(piece)


def _codes(text: str) -> NDArray[np.uint32] | NDArray[np.uint8]:
    if text.isascii():  # the same tables, a fourth of the bytes
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _characters_of(pieces: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.int64]]:
    """What each character of all pieces does and its number, a break behind each piece, and where each ends."""
    all_kinds, all_numbers = characters()
    codes = _codes("\n".join([*pieces, ""])).astype(np.intp)  # a break behind each: no word runs into the next piece
    ends = np.cumsum([len(piece) + 1 for piece in pieces])
    kinds = all_kinds.take(codes)
    there = kinds != NOTHING
    if not there.all():
        ends = np.cumsum(there)[ends - 1]
        kinds, codes = kinds[there], codes[there]
    return kinds, all_numbers.take(codes), ends


def _letters(pieces: Sequence[str]) -> Hashed:
    """Hashes of letters and blanks of all pieces end to end, and how many each piece has."""
    kinds, numbers, ends = _characters_of(pieces)
    inside = kinds != BREAK
    blank = ~inside & np.roll(inside, 1)
    numbers[blank] = _BLANK
    kept = np.flatnonzero(inside | blank)
    return numbers[kept], np.diff(np.searchsorted(kept, ends), prepend=0)


def _plain_words(pieces: Sequence[str]) -> Hashed:
    """As `_words`, of ASCII alone, at two thirds of the price: two characters at a time."""
    data = np.frombuffer("\n".join(["", *pieces, ""]).encode("ascii"), np.uint8)
    data = data if len(data) % 2 == 0 else np.append(data, np.uint8(ord("\n")))
    letters, starts = ascii_letters(data)
    counts = np.diff(np.searchsorted(starts, np.cumsum([len(piece) + 1 for piece in pieces]) + 1), prepend=0)
    numbers, factors, inverses = _pairs()
    sums = np.zeros(len(data) // 2 + 1, np.uint64)
    numbers.take(letters.view("<u2").astype(np.intp), out=sums[1:], mode="clip")
    sums[1:] *= factors[: len(sums) - 1]
    np.cumsum(sums[1:], out=sums[1:])
    # What stands between words counts as 0: a word's sum reaches to the next word, and where it begins within a pair,
    # the other one of the pair adds nothing.
    found = np.diff(sums.take(starts >> 1), append=sums[-1])
    found *= inverses.take(starts)
    found ^= found >> np.uint64(31)
    return found, counts


@cache
def _pairs() -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """The numbers of two characters of ASCII, the first in the lower byte; every second power; the inverses of all."""
    numbers, (of_base, inverses) = characters()[1][:256], powers_of_base(2 * PORTION)
    return (numbers + numbers[:128, None] * np.uint64(BASE)).reshape(-1), of_base[::2].copy(), inverses


def _words(pieces: Sequence[str]) -> Hashed:
    """Hashes of the words of all pieces end to end, and the number of words of each piece."""
    kinds, numbers, ends = _characters_of(pieces)
    begin, stop = _bounds(kinds)
    counts = np.diff(np.searchsorted(begin, ends), prepend=0)
    return span_hashes(numbers, begin, stop), counts


def _bounds(kinds: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First character and the one behind the last of each word, of characters none of which is `NOTHING`.

    The last one is a break.
    """
    if kinds.max(initial=0) <= LETTER:  # then words begin and end by turns, and one pass finds both
        inside = kinds.view(bool)
        edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        edges = np.concatenate([[0], edges]) if inside[:1].any() else edges
        return edges[::2], edges[1::2]
    return around_ones(kinds != BREAK, kinds == ALONE)


def around_ones(inside: NDArray[np.bool_], alone: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bounds of words of which some are one character, whatever stands beside it."""
    # A word begins where the character before is in none, or where it or the one before stands alone; the break at
    # the very end is before the first character too, as index -1.
    begins = inside & (~np.roll(inside, 1) | alone | np.roll(alone, 1))
    stops = inside & (~np.roll(inside, -1) | alone | np.roll(alone, -1))
    return np.flatnonzero(begins), np.flatnonzero(stops) + 1


def word_places(text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the words of a text stand in it, as `word_hashes` counts them: characters [begin, end), int64 each."""
    begins, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    first = 0
    for piece in [text] if len(text) < PORTION else _cut(text):
        kinds = np.append(characters()[0][_codes(piece)], np.uint8(BREAK))
        there = np.flatnonzero(kinds != NOTHING)
        begin, stop = _bounds(kinds[there])
        begins.append(there[begin] + first)
        ends.append(there[stop - 1] + 1 + first)
        first += len(piece)
    return np.concatenate(begins), np.concatenate(ends)
