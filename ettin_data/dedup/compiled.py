"""The keys of texts in compiled code, at a third of the price, where numba is installed and gives the same keys.

The numpy way (`base.words`, `sketch`) says what keys are; this one is a plain loop over the bytes of a text
(`base.compiled`). It is used in a process after it has made the keys of texts of every kind of character as the numpy
way does; `stages.keys` holds the first documents of each split against that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import draws, words
from ettin_data.base.compiled import Kernel, compile_loops, proof_texts
from ettin_data.base.extras import MissingPackage
from ettin_data.dedup import sketch

WordsOf = tuple[NDArray[np.uint64], NDArray[np.int64]]

# Numba makes a float of a signed and an unsigned number, so all are unsigned.
_ZERO, _ONE, _TWO, _THREE, _FOUR, _SIX = (np.uint64(number) for number in (0, 1, 2, 3, 4, 6))
_ALL = ~_ZERO
_TAIL, _LEADS = np.uint64(0x3F), (np.uint64(0x80), np.uint64(0xE0), np.uint64(0xF0))  # of bytes of UTF-8
_MIX = np.uint64(31)
_GAMMA, _SHIFT_1, _FACTOR_1, _SHIFT_2, _FACTOR_2, _LAST = draws.FINALISER
_DRAWN = np.uint64((1 << 40) - 1)
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
    bounds = np.cumsum([0, *map(len, rows)], dtype=np.uint64)
    data = np.frombuffer(b"".join(rows), np.uint8)
    offsets, hashes = np.zeros(len(rows) + 1, np.int64), np.empty(len(data) // 2 + len(rows) + 1, np.uint64)
    rules = words.rules()
    kinds = rules.letter, rules.alone, rules.nothing
    count = _kernels()[0](data, bounds, rules.kinds, rules.numbers, *_tables(), kinds, hashes, offsets)
    return hashes[:count], offsets


def sketches(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], n: int, values: int, least: int = 0
) -> sketch.Sketches:
    """The sketch of each text by the n-grams of its words, as `sketch.sketches` of `base.words.ngrams`."""
    found = np.zeros((len(offsets) - 1, values), np.uint8)
    rounds, last = sketch.rounds(2 * values), np.uint64(draws.key64(*sketch.BYTE))
    base = words.rules().base
    bases = np.uint64(base), np.uint64(pow(base, n, 1 << 64))
    grams = np.empty(max(int(np.diff(offsets).max(initial=0)), 1), np.uint64)
    bit = np.uint64(sketch.round_bit(values))
    sizes = np.uint64(n), np.uint64(max(n, least))
    _kernels()[1](hashes, offsets.view(np.uint64), sizes, bases, rounds, bit, last, grams, found)
    return found


def _find_words(
    data: Any, bounds: Any, kinds: Any, numbers: Any, inside: Any, powers: Any, of_kinds: Any, hashes: Any, offsets: Any
) -> Any:  # pragma: no cover - compiled
    """Write the hash of each word and the number of words up to the end of each text; returns that of all.

    At an ASCII character there is nothing for the processor to guess: the word so far is written down at each, where
    the next one overwrites it unless the word ends here.
    """
    count, (ascii_end, three, four), (letter, alone, nothing) = _ZERO, _LEADS, of_kinds
    for text in range(len(bounds) - 1):
        at, stop = bounds[text], bounds[text + 1]
        word, size = _ZERO, _ZERO  # of the word that has begun, and of how many letters
        while at < stop:
            code = np.uint64(data[at])
            if code < ascii_end:
                while code < ascii_end:
                    at += _ONE
                    mask = inside[code]  # all bits where it is a letter, or none
                    hashes[count] = word
                    count += np.uint64(size & ~mask != _ZERO)
                    word = (word + numbers[code] * powers[size]) & mask
                    size = (size + _ONE) & mask
                    if at == stop:
                        break
                    code = np.uint64(data[at])
                continue
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
            kind = kinds[code]
            if kind == letter:
                word += numbers[code] * powers[size]
                size += _ONE
            elif kind != nothing:
                if size > _ZERO:
                    hashes[count] = word
                    count += _ONE
                    word, size = _ZERO, _ZERO
                if kind == alone:
                    hashes[count] = numbers[code]
                    count += _ONE
        if size > _ZERO:
            hashes[count] = word
            count += _ONE
        offsets[text + 1] = count
    for place in range(count):  # apart, where the processor does several at a time
        hashes[place] ^= hashes[place] >> _MIX
    return count


def _throw_all(
    hashes: Any, offsets: Any, sizes: Any, bases: Any, rounds: Any, bit: Any, last: Any, grams: Any, found: Any
) -> None:  # pragma: no cover - compiled
    """Write the sketch of each text: round after round, until each bin has its least."""
    values, (base, behind), (n, shortest) = np.uint64(found.shape[1]), bases, sizes
    least = np.empty(values, np.uint64)
    for text in range(len(offsets) - 1):
        first, stop = offsets[text], offsets[text + 1]
        if stop - first < shortest:
            continue
        gram, count = _ZERO, stop - first - n + _ONE
        for place in range(n):
            gram = gram * base + hashes[first + np.uint64(place)]
        grams[_ZERO] = gram
        for place in range(count - _ONE):  # what a word that leaves has added is taken off again
            at = first + np.uint64(place)
            gram = gram * base - hashes[at] * behind + hashes[at + n]
            grams[np.uint64(place) + _ONE] = gram
        least[:] = _ALL
        empty = values
        for number in range(_TWO * values):
            purpose, above = rounds[number], np.uint64(number) << bit
            late, into = np.uint64(number) >= values, np.uint64(number) - values
            for place in range(count):
                drawn = (grams[place] ^ purpose) + _GAMMA
                drawn = (drawn ^ (drawn >> _SHIFT_1)) * _FACTOR_1
                drawn = (drawn ^ (drawn >> _SHIFT_2)) * _FACTOR_2
                drawn ^= drawn >> _LAST
                if not late:
                    into = ((drawn >> _BITS) * values) >> _REST
                empty -= np.uint64(least[into] == _ALL)
                least[into] = min(least[into], (drawn & _DRAWN) | above)
            if empty == _ZERO:
                break
        for place in range(values):
            drawn = (least[place] ^ last) + _GAMMA
            drawn = (drawn ^ (drawn >> _SHIFT_1)) * _FACTOR_1
            drawn = (drawn ^ (drawn >> _SHIFT_2)) * _FACTOR_2
            drawn ^= drawn >> _LAST
            found[text, place] = np.uint8(drawn & _BYTE)


@cache
def _tables() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """All bits for each ASCII character that is a letter, none for another; and the powers of the base."""
    rules = words.rules()
    powers = np.full(words.PORTION, rules.base, np.uint64)
    powers[0] = 1
    return np.where(rules.kinds[:128] == rules.letter, _ALL, _ZERO), np.multiply.accumulate(powers)


@cache
def _kernels() -> tuple[Kernel, ...]:
    return compile_loops(_find_words, _throw_all, purpose="compiled keys")


@cache
def _proven() -> bool:
    texts = proof_texts()
    try:
        ours, right = word_hashes(texts), words.word_hashes(texts)
    except (MissingPackage, ImportError):  # not installed, or not for this numpy
        return False
    if not all(np.array_equal(one, other) for one, other in zip(ours, right, strict=True)):
        return False
    for n, values, fewest in ((5, 112, 20), (1, 7, 0), (3, 260, 0)):
        expected = sketch.sketches(*words.ngrams(*right, n, fewest), values)
        if not np.array_equal(sketches(*right, n, values, fewest), expected):
            return False
    return True
