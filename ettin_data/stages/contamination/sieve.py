"""Which texts may have an n-gram of the index: a look that costs a fifth of hashing their words, and misses none.

A word counts here by its first eight letters as bytes (`base.words.plain_bytes`). Of every few words only the first
starts an n-gram that is looked up, so that each stretch of the least length holds one; where its neighbours are wanted
too, the text is a candidate. Equal words have equal bytes, so a text that is not let pass has no n-gram of the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.ngrams import Needles
from ettin_data.base.words import plain_bytes, word_bounds

_PAIR_BITS = 18  # every pair of words is looked up: a table that stays in the processor's caches
_PAIR_SHIFT = np.uint64(64 - _PAIR_BITS)
_BASE = np.uint64(0x9E37_79B9_7F4A_7C15)
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # of the bytes that a short word fills
_FEW = 4  # words of the n-grams that are looked up first

Keys = NDArray[np.uint64]


def word_keys(texts: Sequence[str]) -> tuple[Keys, NDArray[np.int64]]:
    """A key of each word, shape (words,), uint64, and where the words of each text begin, shape (texts + 1,), int64."""
    data, bounds = plain_bytes(texts)
    starts, ends = word_bounds(data)
    eights = np.lib.stride_tricks.as_strided(data[:8].view(np.uint64), (len(data) - 8,), (1,))
    keys = eights[starts] & _MASKS.take(ends - starts, mode="clip")
    return keys, np.searchsorted(starts, bounds)


def _hashes(columns: Iterable[Keys]) -> NDArray[np.uint64]:
    """Hashes of n words in a row; given are the first words of all, then the second ones …"""
    first, *others = columns
    hashes = first * _BASE
    for column in others:
        hashes += column
        hashes *= _BASE
    return hashes


def _at(keys: Keys, starts: NDArray[np.int64], n: int) -> NDArray[np.uint64]:
    """`_hashes` of the n words from each start on."""
    return _hashes(keys[starts + place] for place in range(n))


def _every(keys: Keys, n: int, step: int) -> NDArray[np.uint64]:
    """`_hashes` of the n words from every `step`-th on."""
    last = max(len(keys) - n + 1, 0)
    return _hashes(keys[place : place + last : step] for place in range(n))


class Sieve:
    """What texts have to have to be candidates.

    Args:
        texts: that are looked for.
        n: words of an n-gram. A text of fewer is found by its first `least`.
        least: words that each text has.
    """

    def __init__(self, texts: Sequence[str], n: int, least: int) -> None:
        self.n, self._least = n, least
        self._first, self._step = min(_FEW, n), n - min(_FEW, n) + 1
        keys, bounds = word_keys(texts)
        lengths = np.diff(bounds)
        left = np.repeat(bounds[1:], lengths) - np.arange(len(keys))  # words from each on to the end of its text
        long = np.repeat(lengths >= n, lengths)
        short = bounds[:-1][(lengths < n) & (lengths >= least)]
        self._some = Needles(_at(keys, np.flatnonzero(long & (left >= self._first)), self._first))
        self._whole = Needles(_at(keys, np.flatnonzero(long & (left >= n)), n))
        self._begins = Needles(_at(keys, short, least))
        self._pairs = np.zeros(1 << _PAIR_BITS, bool)
        self._pairs[_at(keys, short, 2) >> _PAIR_SHIFT] = True

    def candidates(self, texts: Sequence[str]) -> list[int]:
        """The numbers of the texts that may have something of the index, rising."""
        keys, bounds = word_keys(texts)
        places = self._some.find(_every(keys, self._first, self._step))[0] * self._step
        # an n-gram around these words has to be wanted as a whole
        around = (places[:, None] - np.arange(self._step)).ravel()
        around = around[(around >= 0) & (around <= len(keys) - self.n)]
        places = around[self._whole.find(_at(keys, around, self.n))[0]]
        if len(self._begins):
            pairs = np.flatnonzero(self._pairs[_every(keys, 2, 1) >> _PAIR_SHIFT])
            pairs = pairs[pairs <= len(keys) - self._least]
            places = np.concatenate([places, pairs[self._begins.find(_at(keys, pairs, self._least))[0]]])
        found: list[int] = np.unique(np.searchsorted(bounds, places, side="right") - 1).tolist()
        return found
