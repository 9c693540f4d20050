"""Which texts may have an n-gram of the index: a look that costs less than hashing their words, and misses none.

Of every few words only the first starts an n-gram that is looked up, so that each stretch of the least length holds
one; where its neighbours are wanted too, the text is a candidate. Words are given as signs of 16 bits: of their hashes,
where these are there already, or what is cheaper (`base.words.word_signs`). Equal words have equal signs, so a text
that is not let pass has no n-gram of the index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Signs = NDArray[np.uint16]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_BASE, _OTHER_BASE = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xD1B5_4A32_D192_ED03)
_SLOTS_A_HASH, _LEAST_BITS, _MOST_BITS = 10, 12, 30
_TOGETHER = 4  # signs that are one number
_MASKS = np.array([(1 << 16 * signs) - 1 for signs in range(_TOGETHER + 1)], np.uint64)


class HashFilter:
    """A set of hashes that refuses nearly all others: two bits for each, found by its upper bits."""

    def __init__(self, hashes: Hashes) -> None:
        bits = min(max((len(hashes) * _SLOTS_A_HASH).bit_length(), _LEAST_BITS), _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        slots = np.zeros(1 << bits, bool)
        slots[self._slots(hashes)] = True
        slots[self._slots(_other(hashes))] = True
        self._table = np.packbits(slots, bitorder="little")

    def _slots(self, hashes: Hashes) -> Hashes:
        return hashes >> self._shift

    def find(self, hashes: Hashes) -> Places:
        """Where hashes are that are of the set, and a few others: indices, int64, rising."""
        at = self._set(self._slots(hashes))
        return at[self._set(self._slots(_other(hashes.take(at))))]

    def _set(self, slots: Hashes) -> Places:
        found = self._table.take((slots >> np.uint64(3)).view(np.int64))
        found >>= slots.astype(np.uint8) & np.uint8(7)
        found &= np.uint8(1)
        return np.flatnonzero(found.view(bool))


def _other(hashes: Hashes) -> Hashes:
    return (hashes ^ (hashes >> np.uint64(32))) * _OTHER_BASE


def signs_of(hashes: Hashes) -> Signs:
    """The signs of words that are hashed."""
    return hashes.astype(np.uint16)


class _Words:
    """Signs of words, of which up to `_TOGETHER` in a row are read at once, from any of them on."""

    def __init__(self, signs: Signs) -> None:
        self._room = np.concatenate([signs, np.zeros(_TOGETHER - 1, np.uint16)])  # to read behind the last one
        self.count = len(signs)

    def every(self, n: int, step: int) -> Hashes:
        """Hashes of the n words, `_TOGETHER` at most, from every `step`-th on."""
        count = max(self.count - n, -1) // step + 1
        read: Hashes = np.ndarray(count, "<u8", self._room.data, 0, 2 * step)
        hashes: Hashes = (read if n == _TOGETHER else read & _MASKS[n]) * _BASE
        return hashes

    def at(self, starts: Places, n: int) -> Hashes:
        """Hashes of the n words from each start on; of few words the same as `every`."""
        return self.around(starts, n, 1)[:, 0]

    def around(self, starts: Places, n: int, many: int) -> Hashes:
        """The same from so many words on, each start and those behind it, shape (starts, many).

        Outside of the words there are others.
        """
        width = max(n, _TOGETHER) + many - 1
        rows = self._room.take(starts[:, None] + np.arange(width), mode="clip")
        fours: Hashes = np.ndarray((len(starts), width - _TOGETHER + 1), "<u8", rows.data, 0, (2 * width, 2))
        hashes = (fours[:, :many] if n >= _TOGETHER else fours[:, :many] & _MASKS[n]) * _BASE
        for place in [*range(_TOGETHER, n - _TOGETHER, _TOGETHER), *([n - _TOGETHER] if n > _TOGETHER else [])]:
            hashes += fours[:, place : place + many]
            hashes *= _BASE
        return hashes


class _Stretches:
    """Stretches of a number of words, of which the few that begin at a multiple of a step are looked up first.

    Args:
        texts: all words.
        starts: where stretches begin among them.
        words: of each.
        first: words that are looked up first.
    """

    def __init__(self, texts: _Words, starts: Places, words: int, first: int) -> None:
        self._words, self._first, self._step = words, first, words - first + 1
        inside = np.zeros(texts.count + words, bool)
        for place in range(self._step):
            inside[starts + place] = True
        self._some = HashFilter(texts.at(np.flatnonzero(inside), first))
        self._sorted = np.unique(texts.at(starts, words))
        self._whole = HashFilter(self._sorted)

    def find(self, texts: _Words) -> Places:
        """Where in other words such stretches begin."""
        places = self._some.find(texts.every(self._first, self._step)) * self._step
        before = places - (self._step - 1)
        hashes = texts.around(before, self._words, self._step).ravel()
        some = self._whole.find(hashes)
        number = np.minimum(self._sorted.searchsorted(hashes[some]), len(self._sorted) - 1)
        some = some[self._sorted[number] == hashes[some]]
        found: Places = before[some // self._step] + some % self._step
        return found[(found >= 0) & (found <= texts.count - self._words)]


class Sieve:
    """What texts have to have to be candidates.

    Args:
        signs: of the words of all texts that are looked for.
        bounds: where the words of each text begin, shape (texts + 1,), int64.
        n: words of an n-gram. A text of fewer is found by its first `least`.
        least: words that each text has.
    """

    def __init__(self, signs: Signs, bounds: Places, n: int, least: int) -> None:
        lengths = np.diff(bounds)
        left = np.repeat(bounds[1:], lengths) - np.arange(len(signs))  # words from each on to the end of its text
        long = np.flatnonzero(np.repeat(lengths >= n, lengths) & (left >= n))
        short = bounds[:-1][(lengths < n) & (lengths >= least)]
        words = _Words(signs)
        self._stretches = [
            _Stretches(words, starts, size, first)
            for starts, size, first in ((long, n, min(_TOGETHER, n)), (short, least, least - 2))
            if len(starts)
        ]

    def candidates(self, signs: Signs, bounds: Places) -> list[int]:
        """The numbers of the texts that may have something of the index, rising.

        Args:
            signs: of their words, which are of the same kind.
            bounds: where the words of each begin.
        """
        words = _Words(signs)
        places = np.concatenate([np.zeros(0, np.int64), *(each.find(words) for each in self._stretches)])
        found: list[int] = np.unique(np.searchsorted(bounds, places, side="right") - 1).tolist()
        return found
