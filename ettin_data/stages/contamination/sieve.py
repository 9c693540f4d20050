"""Which texts may have an n-gram of the index: a look that costs less than hashing their words, and misses none.

Of every few words only the first starts an n-gram that is looked up, so that each stretch of the least length holds
one; where its neighbours are wanted too, the text is a candidate. Words are given as keys: their hashes, where these
are there already, or what is cheaper (`base.words.word_keys`). Equal words have equal keys, so a text that is not let
pass has no n-gram of the index.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Places = NDArray[np.int64]

_BASE, _OTHER_BASE = np.uint64(0x9E37_79B9_7F4A_7C15), np.uint64(0xD1B5_4A32_D192_ED03)
_SLOTS_A_HASH, _LEAST_BITS, _MOST_BITS = 10, 12, 30
_FEW = 4  # words of the n-grams that are looked up first


class HashFilter:
    """A set of hashes that refuses nearly all others: two bits for each, found by its upper bits."""

    def __init__(self, hashes: Keys) -> None:
        bits = min(max((len(hashes) * _SLOTS_A_HASH).bit_length(), _LEAST_BITS), _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        slots = np.zeros(1 << bits, bool)
        slots[self._slots(hashes)] = True
        slots[self._slots(_other(hashes))] = True
        self._table = np.packbits(slots, bitorder="little")

    def _slots(self, hashes: Keys) -> Keys:
        return hashes >> self._shift

    def find(self, hashes: Keys) -> Places:
        """Where hashes are that are of the set, and a few others: indices, int64, rising."""
        at = self._set(self._slots(hashes))
        return at[self._set(self._slots(_other(hashes.take(at))))]

    def _set(self, slots: Keys) -> Places:
        found = self._table.take((slots >> np.uint64(3)).view(np.int64))
        found >>= slots.astype(np.uint8) & np.uint8(7)
        found &= np.uint8(1)
        return np.flatnonzero(found.view(bool))


def _other(hashes: Keys) -> Keys:
    return (hashes ^ (hashes >> np.uint64(32))) * _OTHER_BASE


def _hashes(columns: Iterable[Keys]) -> Keys:
    """Hashes of n words in a row; given are the first words of all, then the second ones …"""
    first, *others = columns
    hashes = first * _BASE
    for column in others:
        hashes += column
        hashes *= _BASE
    return hashes


def _at(keys: Keys, starts: Places, n: int) -> Keys:
    """`_hashes` of the n words from each start on."""
    return _hashes(keys.take(starts + place) for place in range(n))


def _every(keys: Keys, n: int, step: int) -> Keys:
    """`_hashes` of the n words from every `step`-th on."""
    last = max(len(keys) - n + 1, 0)
    return _hashes(keys[place : place + last : step] for place in range(n))


class _Stretches:
    """Stretches of a number of words, of which the few that begin at a multiple of a step are looked up first.

    Args:
        keys: of words.
        starts: where stretches begin among them.
        words: of each.
        first: words that are looked up first.
    """

    def __init__(self, keys: Keys, starts: Places, words: int, first: int) -> None:
        self._words, self._first, self._step = words, first, words - first + 1
        inside = np.zeros(len(keys) + words, bool)
        for place in range(self._step):
            inside[starts + place] = True
        self._some = HashFilter(_at(keys, np.flatnonzero(inside), first))
        self._sorted = np.unique(_at(keys, starts, words))
        self._whole = HashFilter(self._sorted)

    def find(self, keys: Keys) -> Places:
        """Where in other words such stretches begin."""
        places = self._some.find(_every(keys, self._first, self._step)) * self._step
        around = (places[:, None] - np.arange(self._step)).ravel()
        around = around[(around >= 0) & (around <= len(keys) - self._words)]
        hashes = _at(keys, around, self._words)
        some = self._whole.find(hashes)
        number = np.minimum(self._sorted.searchsorted(hashes[some]), len(self._sorted) - 1)
        found: Places = around[some[self._sorted[number] == hashes[some]]]
        return found


class Sieve:
    """What texts have to have to be candidates.

    Args:
        keys: of the words of all texts that are looked for.
        bounds: where the words of each text begin, shape (texts + 1,), int64.
        n: words of an n-gram. A text of fewer is found by its first `least`.
        least: words that each text has.
    """

    def __init__(self, keys: Keys, bounds: Places, n: int, least: int) -> None:
        lengths = np.diff(bounds)
        left = np.repeat(bounds[1:], lengths) - np.arange(len(keys))  # words from each on to the end of its text
        long = np.flatnonzero(np.repeat(lengths >= n, lengths) & (left >= n))
        short = bounds[:-1][(lengths < n) & (lengths >= least)]
        self._stretches = [
            _Stretches(keys, starts, words, first)
            for starts, words, first in ((long, n, min(_FEW, n)), (short, least, least - 2))
            if len(starts)
        ]

    def candidates(self, keys: Keys, bounds: Places) -> list[int]:
        """The numbers of the texts that may have something of the index, rising.

        Args:
            keys: of their words, which are of the same kind.
            bounds: where the words of each begin.
        """
        places = np.concatenate([np.zeros(0, np.int64), *(each.find(keys) for each in self._stretches)])
        found: list[int] = np.unique(np.searchsorted(bounds, places, side="right") - 1).tolist()
        return found
