"""The keys of texts in compiled code, at a quarter of the price, where numba is installed and gives the same keys.

The numpy way (`base.words`, `sketch`) says what keys are; this one is a plain loop over the bytes of a text. Numba
(the extra `numba`) compiles it once for each machine, in some seconds, and keeps the result in its cache. It is used in
a process after it has made the keys of `_proof`, of every kind of character, as the numpy way does; `stages.keys` holds
a batch of each split against that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import draws, words
from ettin_data.base.extras import MissingPackage, need
from ettin_data.dedup import sketch

Kernel = Callable[..., Any]
WordsOf = tuple[NDArray[np.uint64], NDArray[np.int64]]

_ZERO, _ONE, _MIX = np.uint64(0), np.uint64(1), np.uint64(31)
_GAMMA, _SHIFT_1, _FACTOR_1, _SHIFT_2, _FACTOR_2, _LAST = draws.FINALISER
_EMPTY, _DRAWN = ~np.uint64(0), np.uint64((1 << 40) - 1)
_BITS, _REST, _BYTE = np.uint64(40), np.uint64(24), np.uint64(0xFF)


WORTH_BYTES = 1 << 26
"""Of an input, packed as it mostly is, from which on compiled code saves more than its start takes: 1.5 s of a core."""


def ready() -> bool:
    """Whether compiled code makes keys here: numba is there, and its code gives the keys that it should."""
    return _proven()


def started() -> bool:
    """Whether it is known already in this process whether it is ready."""
    return _proven.cache_info().currsize > 0


def word_hashes(texts: Sequence[str]) -> WordsOf:
    """As `base.words.word_hashes`, of texts of less than a portion each. Only where it is `ready`."""
    rows = [text.encode("utf-8", "surrogatepass") for text in texts]
    bounds = np.cumsum([0, *map(len, rows)])
    data = np.frombuffer(b"".join(rows), np.uint8)
    offsets, hashes = np.zeros(len(rows) + 1, np.int64), np.empty(len(data) // 2 + len(rows) + 1, np.uint64)
    rules = words.rules()
    kinds = rules.letter, rules.alone, rules.nothing
    count = _kernels()[0](data, bounds, rules.kinds, rules.numbers, np.uint64(rules.base), kinds, hashes, offsets)
    return hashes[:count], offsets


def sketches(hashes: NDArray[np.uint64], offsets: NDArray[np.int64], n: int, values: int) -> sketch.Sketches:
    """The sketch of each text by the n-grams of its words, as `sketch.sketches` of `base.words.ngrams`."""
    found, base = np.zeros((len(offsets) - 1, values), np.uint8), np.uint64(words.rules().base)
    rounds, last = sketch.rounds(2 * values), np.uint64(draws.key64(*sketch.BYTE))
    _kernels()[1](hashes, offsets, n, base, rounds, np.uint64(sketch.round_bit(values)), last, found)
    return found


def _find_words(
    data: Any, bounds: Any, kinds: Any, numbers: Any, base: Any, of_kinds: Any, hashes: Any, offsets: Any
) -> int:  # pragma: no cover - compiled
    """Write the hash of each word and the number of words up to the end of each text; returns that of all."""
    count = 0
    letter, alone, nothing = of_kinds
    for text in range(len(bounds) - 1):
        at, stop = bounds[text], bounds[text + 1]
        word, power, inside = _ZERO, _ONE, False
        while at < stop:
            code = np.int64(data[at])
            if code < 0x80:
                at += 1
            elif code < 0xE0:
                code = (code & 0x1F) << 6 | (np.int64(data[at + 1]) & 0x3F)
                at += 2
            elif code < 0xF0:
                code = (code & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | (np.int64(data[at + 2]) & 0x3F)
                at += 3
            else:
                code = (code & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12
                code |= (np.int64(data[at + 2]) & 0x3F) << 6 | (np.int64(data[at + 3]) & 0x3F)
                at += 4
            kind = kinds[code]
            if kind == letter:
                word += numbers[code] * power
                power *= base
                inside = True
            elif kind != nothing:
                if inside:
                    hashes[count] = word ^ (word >> _MIX)
                    count += 1
                    word, power, inside = _ZERO, _ONE, False
                if kind == alone:
                    hashes[count] = numbers[code] ^ (numbers[code] >> _MIX)
                    count += 1
        if inside:
            hashes[count] = word ^ (word >> _MIX)
            count += 1
        offsets[text + 1] = count
    return count


def _throw_all(
    hashes: Any, offsets: Any, n: int, base: Any, rounds: Any, bit: Any, last: Any, found: Any
) -> None:  # pragma: no cover - compiled
    """Write the sketch of each text: round after round, until each bin has its least."""
    values = found.shape[1]
    least = np.empty(values, np.uint64)
    grams = np.empty(max(len(hashes), 1), np.uint64)
    for text in range(len(offsets) - 1):
        first = offsets[text]
        count = offsets[text + 1] - first - n + 1
        if count <= 0:
            continue
        for place in range(count):
            gram = hashes[first + place]
            for further in range(1, n):
                gram = gram * base + hashes[first + place + further]
            grams[place] = gram
        least[:] = _EMPTY
        filled = 0
        for number in range(2 * values):
            purpose, above = rounds[number], np.uint64(number) << bit
            for place in range(count):
                drawn = (grams[place] ^ purpose) + _GAMMA
                drawn = (drawn ^ (drawn >> _SHIFT_1)) * _FACTOR_1
                drawn = (drawn ^ (drawn >> _SHIFT_2)) * _FACTOR_2
                drawn ^= drawn >> _LAST
                into = number - values
                if number < values:
                    into = np.int64(((drawn >> _BITS) * np.uint64(values)) >> _REST)
                drawn = (drawn & _DRAWN) | above
                if least[into] == _EMPTY:
                    filled += 1
                if drawn < least[into]:
                    least[into] = drawn
            if filled == values:
                break
        for into in range(values):
            drawn = (least[into] ^ last) + _GAMMA
            drawn = (drawn ^ (drawn >> _SHIFT_1)) * _FACTOR_1
            drawn = (drawn ^ (drawn >> _SHIFT_2)) * _FACTOR_2
            drawn ^= drawn >> _LAST
            found[text, into] = np.uint8(drawn & _BYTE)


@cache
def _kernels() -> tuple[Kernel, Kernel]:
    numba = need("numba", "compiled keys")
    try:
        made = numba.njit(cache=True)
        return made(_find_words), made(_throw_all)
    except RuntimeError:  # it finds no folder that it may write its cache to
        made = numba.njit
        return made(_find_words), made(_throw_all)


@cache
def _proven() -> bool:
    texts = _proof()
    try:
        ours, right = word_hashes(texts), words.word_hashes(texts)
    except (MissingPackage, ImportError):  # not installed, or not for this numpy
        return False
    if not all(np.array_equal(one, other) for one, other in zip(ours, right, strict=True)):
        return False
    for n, values in ((5, 112), (1, 7), (3, 260)):
        expected = sketch.sketches(*words.ngrams(*right, n), values)
        if not np.array_equal(sketches(*right, n, values), expected):
            return False
    return True


def _proof() -> list[str]:
    """Texts of every character but the middle of plain rows of letters, alone and within words."""
    kinds = words.rules().kinds
    border = np.flatnonzero(np.diff(kinds.astype(np.int64), prepend=-1, append=-1))
    codes = np.unique(np.clip(np.concatenate([np.arange(0x500), border, border - 1]), 0, len(kinds) - 1))
    text = "".join(f"{sign}a{sign}{sign} " for sign in map(chr, codes.tolist()))
    return ["", "one", *(text[begin : begin + 5000] for begin in range(0, len(text), 5000))]
