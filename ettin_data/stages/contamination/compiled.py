"""The sieve in compiled code, at two fifths of the price, where numba is installed and finds the same places.

The numpy way (`base.word_signs`, `sieve`) says which they are; this one is loops over the bytes of texts and over
the signs of their words (`base.compiled`). It is used in a process after it has given what the numpy way does for texts
of every kind of character; `step` holds the first documents of each split against that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ettin_data.base import word_signs as of_numpy
from ettin_data.base.compiled import Kernel, compile_loops, proof_texts
from ettin_data.base.extras import MissingPackage
from ettin_data.dedup.compiled import ready as keys_ready
from ettin_data.dedup.compiled import started as keys_started
from ettin_data.stages.contamination import sieve as numpy_sieve
from ettin_data.stages.contamination.sieve import BASE, MASKS, OTHER_BASE, Look, Places, Sieve, SignRow, Signs

WORTH_BYTES = 1 << 28
"""Of an input, packed as it mostly is, from which on compiled code saves more than its start takes: 1 s of a core."""

# Numba makes a float of a signed and an unsigned number, so all are unsigned.
_ZERO, _ONE, _TWO, _THREE, _FOUR, _SIX, _SEVEN = (np.uint64(number) for number in (0, 1, 2, 3, 4, 6, 7))
_SIGN, _TWO_SIGNS, _THREE_SIGNS, _HALF, _BYTE = (np.uint64(bits) for bits in (16, 32, 48, 32, 8))
_TAIL, _LEADS = np.uint64(0x3F), (np.uint64(0x80), np.uint64(0xE0), np.uint64(0xF0))  # of bytes of UTF-8
_OUT, _SMALL, _A, _LETTERS, _NOUGHT, _DIGITS = (np.uint8(number) for number in (0, 0x20, ord("a"), 26, ord("0"), 10))


def ready() -> bool:
    """Whether compiled code looks here: numba is there, and its code finds the places and words that it should."""
    return _proven() and keys_ready()


def worth(size: int) -> bool:
    """Whether compiled code pays for an input of so many bytes, or has been started in this process already."""
    return size >= WORTH_BYTES or _proven.cache_info().currsize > 0 or keys_started()


def differing(sieve: Sieve, texts: Sequence[str]) -> list[int]:
    """The numbers of the texts of which compiled code finds other signs or places. Only where it is `ready`."""

    def each(signs: Signs, bounds: Places, look: Look) -> list[tuple[list[int], list[int]]]:
        apart, found = pairwise(bounds.tolist()), sieve.places(signs, bounds, look)
        return [(signs[a:b].tolist(), (found[(found >= a) & (found < b)] - a).tolist()) for a, b in apart]

    pairs = zip(each(*of_numpy.word_signs(texts), numpy_sieve.look_up), each(*word_signs(texts), look_up), strict=True)
    return [number for number, (right, ours) in enumerate(pairs) if right != ours]


def word_signs(texts: Sequence[str]) -> tuple[Signs, Places]:
    """As `base.word_signs`. Only where it is `ready`."""
    return of_numpy.word_signs(texts, _signs)


def _signs(texts: Sequence[str]) -> tuple[Signs, Places]:
    """The signs of all words of texts end to end, and how many each text has."""
    find_letters, find_begins, take_signs, _ = _kernels()
    plain = np.fromiter(map(str.isascii, texts), bool, len(texts))
    rows = [text.encode("utf-8", "surrogatepass") for text in texts]
    bounds = np.cumsum([0, *map(len, rows)], dtype=np.uint64)
    data = np.frombuffer(b"".join(rows), np.uint8)
    table, alone, nothing = of_numpy.sign_letters()
    ends, counts = np.full(len(rows) + 1, 2, np.uint64), np.zeros(len(rows), np.int64)
    room = np.empty(2 * len(data) + 2 * len(rows) + 4, np.uint8)  # of two bytes or more become three at most
    room[: int(ends[0])] = 0
    size = find_letters(data, bounds, plain, table, (np.uint8(alone), np.uint8(nothing)), room, ends)
    letters = room[: size + 2]
    begins = np.empty_like(letters)
    find_begins(letters, begins)
    signs = np.empty(size // 2 + 1, np.uint16)
    return signs[: take_signs(letters.view("<u2"), begins.view("<u2"), ends, signs, counts)], counts


def look_up(texts: SignRow, stretches: numpy_sieve.Stretches) -> Places:
    """As `sieve.look_up`. Only where it is `ready`."""
    filters = stretches.some.table, stretches.some.shift, stretches.whole.table, stretches.whole.shift
    sizes = tuple(np.uint64(size) for size in (stretches.first, stretches.step, stretches.words))
    found = np.empty(texts.count + 1, np.int64)
    return found[: _kernels()[-1](texts.room, np.uint64(texts.count), sizes, MASKS, filters, found)]


# Three loops one after the other: then the first two are done for many bytes at a time.


def _find_letters(
    data: Any, bounds: Any, plain: Any, table: Any, kinds: Any, letters: Any, ends: Any
) -> Any:  # pragma: no cover - compiled
    """Write the letters of texts, one byte each and 0 for what ends words, from an even place on; and where texts end.

    A letter that is a word of its own has a 0 on both sides.
    """
    to, (ascii_end, three, four), (alone, nothing) = ends[0], _LEADS, kinds
    for text in range(len(bounds) - 1):
        at, stop = bounds[text], bounds[text + 1]
        if plain[text]:
            for place in range(stop - at):
                byte = data[at + place]
                small = np.uint8(byte | _SMALL)
                inside = (np.uint8(small - _A) < _LETTERS) | (np.uint8(byte - _NOUGHT) < _DIGITS)
                letters[to + place] = small if inside else _OUT
            to += stop - at
            at = stop
        while at < stop:
            code = np.uint64(data[at])
            if code < ascii_end:
                at += _ONE
            else:
                behind = np.uint64(data[at + _ONE]) & _TAIL
                if code < three:
                    code = (code & np.uint64(0x1F)) << _SIX | behind
                    at += _TWO
                elif code < four:
                    code = ((code & np.uint64(0x0F)) << _SIX | behind) << _SIX | (np.uint64(data[at + _TWO]) & _TAIL)
                    at += _THREE
                else:
                    code = ((code & np.uint64(0x07)) << _SIX | behind) << _SIX | (np.uint64(data[at + _TWO]) & _TAIL)
                    code = code << _SIX | (np.uint64(data[at + _THREE]) & _TAIL)
                    at += _FOUR
            letter = table[code]
            if letter < alone:
                letters[to] = letter
                to += _ONE
            elif letter != nothing:
                letters[to], letters[to + _ONE], letters[to + _TWO] = _OUT, letter, _OUT
                to += _THREE
        letters[to], letters[to + _ONE] = _OUT, _OUT
        to += _TWO - (to & _ONE)
        ends[text + 1] = to
    return to


def _find_begins(letters: Any, begins: Any) -> None:  # pragma: no cover - compiled
    """Write whether a word begins at each byte but the first."""
    for place in range(1, len(letters)):
        begins[place] = np.uint8((letters[place] != _OUT) & (letters[place - 1] == _OUT))


def _take_signs(pairs: Any, begins: Any, ends: Any, signs: Any, counts: Any) -> Any:  # pragma: no cover - compiled
    """Write the sign of each word and the number of words of each text; returns that of all.

    In each pair of bytes one word begins at most. Its sign is written for every pair, where the next one overwrites it
    unless there is one: so there is nothing for the processor to guess.
    """
    count = before = _ZERO
    for text in range(len(counts)):
        for place in range(ends[text] >> _ONE, ends[text + 1] >> _ONE):
            even, where = np.uint64(pairs[place]), np.uint64(begins[place])
            odd = (even | np.uint64(pairs[place + _ONE]) << _SIGN) >> _BYTE
            signs[count] = odd if where > _ONE else even
            count += np.uint64(where != _ZERO)
        counts[text], before = count - before, count
    return count


def _look_up(
    signs: Any, count: Any, sizes: Any, masks: Any, filters: Any, found: Any
) -> Any:  # pragma: no cover - compiled
    """Write where stretches may begin; returns how many. `HashFilter` and `sieve` say what is looked up."""
    number, place = _ZERO, _ZERO
    (first, step, size), (some, some_shift, whole, whole_shift) = sizes, filters
    first_mask, mask = masks[min(first, _FOUR)], masks[min(size, _FOUR)]
    while place + first <= count:
        read = np.uint64(signs[place]) | np.uint64(signs[place + _ONE]) << _SIGN
        read |= np.uint64(signs[place + _TWO]) << _TWO_SIGNS | np.uint64(signs[place + _THREE]) << _THREE_SIGNS
        drawn = (read & first_mask) * BASE
        slot = drawn >> some_shift
        there = np.uint64(some[slot >> _THREE]) >> (slot & _SEVEN) & _ONE
        if there != _ZERO:
            slot = ((drawn ^ (drawn >> _HALF)) * OTHER_BASE) >> some_shift
            there = np.uint64(some[slot >> _THREE]) >> (slot & _SEVEN) & _ONE
        if there != _ZERO:
            for begin in range(place - min(place, step - _ONE), min(place + _ONE, count - min(count, size - _ONE))):
                drawn, ahead = _ZERO, _ZERO
                while True:
                    at = begin + ahead
                    read = np.uint64(signs[at]) | np.uint64(signs[at + _ONE]) << _SIGN
                    read |= np.uint64(signs[at + _TWO]) << _TWO_SIGNS | np.uint64(signs[at + _THREE]) << _THREE_SIGNS
                    drawn = (drawn + (read & mask)) * BASE
                    if ahead + _FOUR >= size:
                        break
                    ahead = min(ahead + _FOUR, size - _FOUR)
                slot = drawn >> whole_shift
                there = np.uint64(whole[slot >> _THREE]) >> (slot & _SEVEN) & _ONE
                if there != _ZERO:
                    slot = ((drawn ^ (drawn >> _HALF)) * OTHER_BASE) >> whole_shift
                    found[number] = begin
                    number += np.uint64(whole[slot >> _THREE]) >> (slot & _SEVEN) & _ONE
        place += step
    return number


@cache
def _kernels() -> tuple[Kernel, ...]:
    return compile_loops(_find_letters, _find_begins, _take_signs, _look_up, purpose="the compiled sieve")


@cache
def _proven() -> bool:
    texts = proof_texts()
    signs, bounds = of_numpy.word_signs(texts)
    half = len(bounds) // 2
    sieves = [Sieve(signs[: bounds[half]], bounds[: half + 1], n, least) for n, least in ((4, 4), (8, 5), (10**6, 5))]
    try:
        return not any(differing(sieve, texts) for sieve in sieves)
    except (MissingPackage, ImportError):  # not installed, or not for this numpy
        return False
