"""Which texts may have an n-gram of the index: a look that costs less than hashing their words, and misses none.

Of every few words only the first starts an n-gram that is looked up, so that each stretch of the least length holds
one; where its neighbours are wanted too, the text is a candidate. Words are given as signs of 16 bits: of their hashes,
where these are there already, or what is cheaper (`base.words.word_signs`). Equal words have equal signs, so a text
that is not let pass has no n-gram of the index.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import compiled

Signs = NDArray[np.uint16]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_BASE = np.uint64(0x9E37_79B9_7F4A_7C15)
_SLOTS_A_HASH, _LEAST_BITS, _MOST_BITS = 10, 12, 30
_TOGETHER = 4  # signs that are one number
_MASKS = np.array([(1 << 16 * signs) - 1 for signs in range(_TOGETHER + 1)], np.uint64)


class HashFilter:
    """A set of hashes that refuses nearly all others: two bits for each in the same 64, found by its upper bits.

    Attributes:
        shift: what is left of a hash is the slot of its first bit.
        table: the bits, eight slots a byte, the lowest first.
    """

    def __init__(self, hashes: Hashes) -> None:
        bits = min(max((len(hashes) * _SLOTS_A_HASH).bit_length(), _LEAST_BITS), _MOST_BITS)
        self.shift = np.uint64(64 - bits)
        fill = _filled if compiled.used(_same_filters, "filters") else _filled_by_numpy
        self.table = fill(hashes, self.shift)

    def find(self, hashes: Hashes) -> Places:
        """Where hashes are that are of the set, and a few others: indices, int64, rising."""
        at = self._set(hashes >> self.shift)
        return at[self._set(_second_slots(hashes.take(at), self.shift))]

    def _set(self, slots: Hashes) -> Places:
        found = self.table.take((slots >> np.uint64(3)).view(np.int64))
        found >>= slots.astype(np.uint8) & np.uint8(7)
        found &= np.uint8(1)
        return np.flatnonzero(found.view(bool))


def _filled(hashes: Hashes, shift: np.uint64) -> NDArray[np.uint8]:
    """The table of a filter, by the compiled loop."""
    from ettin_data.stages.contamination import loops

    table = np.zeros(1 << (61 - int(shift)), np.uint8)
    loops.fill_filter(hashes, int(shift), table)
    return table


def _filled_by_numpy(hashes: Hashes, shift: np.uint64) -> NDArray[np.uint8]:
    """The same by numpy."""
    slots = np.zeros(1 << (64 - int(shift)), bool)
    slots[hashes >> shift] = True
    slots[_second_slots(hashes, shift)] = True
    return np.packbits(slots, bitorder="little")


def _same_filters() -> bool:
    """Whether the compiled loop fills filters as numpy does."""
    hashes, shift = np.arange(1, 2000, dtype=np.uint64) * _BASE, np.uint64(50)
    return np.array_equal(_filled(hashes, shift), _filled_by_numpy(hashes, shift))


def _second_slots(hashes: Hashes, shift: np.uint64) -> Hashes:
    """The slots of second bits: by the six bits of a hash below those that say the first, among the same 64."""
    slots: Hashes = hashes >> shift
    slots |= np.uint64(63)
    slots ^= ~(hashes >> (shift - np.uint64(6))) & np.uint64(63)
    return slots


def signs_of(hashes: Hashes) -> Signs:
    """The signs of words that are hashed."""
    return hashes.astype(np.uint16)


def _behind(n: int) -> Iterator[int]:
    """From where on `_TOGETHER` words each are read, behind the first, until all n are; the last ones may overlap."""
    yield from range(_TOGETHER, n - _TOGETHER, _TOGETHER)
    if n > _TOGETHER:
        yield n - _TOGETHER


class SignRow:
    """Signs of words, of which up to `_TOGETHER` in a row are read at once, from any of them on.

    Attributes:
        room: the signs, and some behind them that are read with the last ones.
        count: of the words.
    """

    def __init__(self, signs: Signs) -> None:
        self.room = np.concatenate([signs, np.zeros(_TOGETHER - 1, np.uint16)])
        self.count = len(signs)

    def every(self, n: int, step: int) -> Hashes:
        """Hashes of the n words from every `step`-th on."""
        count = max(self.count - n, -1) // step + 1

        def read(place: int) -> Hashes:
            fours: Hashes = np.ndarray(count, "<u8", self.room[place:].data, 0, 2 * step)
            return fours

        hashes: Hashes = (read(0) if n >= _TOGETHER else read(0) & _MASKS[n]) * _BASE
        for place in _behind(n):
            hashes += read(place)
            hashes *= _BASE
        return hashes

    def at(self, starts: Places, n: int) -> Hashes:
        """The same from each start on."""
        return self.around(starts, n, 1)[:, 0]

    def around(self, starts: Places, n: int, many: int) -> Hashes:
        """The same from so many words on, each start and those behind it, shape (starts, many).

        Outside of the words there are others.
        """
        width = max(n, _TOGETHER) + many - 1
        rows = self.room.take(starts[:, None] + np.arange(width), mode="clip")
        fours: Hashes = np.ndarray((len(starts), width - _TOGETHER + 1), "<u8", rows.data, 0, (2 * width, 2))
        hashes = (fours[:, :many] if n >= _TOGETHER else fours[:, :many] & _MASKS[n]) * _BASE
        for place in _behind(n):
            hashes += fours[:, place : place + many]
            hashes *= _BASE
        return hashes


class Stretches:
    """Stretches of a number of words, of which the few that begin at a multiple of a step are looked up first.

    Attributes:
        words: of each.
        first: words that are looked up first.
        step: from one place that is looked up to the next.
        some: the hashes of `first` words in stretches.
        whole: the hashes of stretches.
    """

    def __init__(self, texts: SignRow, starts: Places, words: int, first: int) -> None:
        """Given are all words, where stretches begin among them, and how many words each has."""
        self.words, self.first, self.step = words, first, words - first + 1
        inside = np.zeros(texts.count + words, bool)
        for place in range(self.step):
            inside[starts + place] = True
        some, whole = texts.every(first, 1), texts.every(words, 1)  # in a row: nearly all begin something
        self.some = HashFilter(some[inside[: len(some)]])
        self._sorted = np.unique(whole.take(starts))
        self.whole = HashFilter(self._sorted)

    def find(self, texts: SignRow, bounds: Places) -> Places:
        """Where such a stretch begins within a text; `bounds` are where the words of each text begin."""
        places = look_up(texts, self)
        hashes = texts.at(places, self.words)
        number = np.minimum(self._sorted.searchsorted(hashes), len(self._sorted) - 1)
        places = places[self._sorted[number] == hashes]
        text = np.searchsorted(bounds, places, side="right") - 1
        inside: Places = places[places + self.words <= bounds[text + 1]]
        return inside


def look_up(texts: SignRow, stretches: Stretches) -> Places:
    """Where stretches begin among words, and a few other places."""
    return (_looped if compiled.used(_same, "candidates") else _of_numpy)(texts, stretches)


def _looped(texts: SignRow, stretches: Stretches) -> Places:
    """`look_up` by the compiled loop."""
    from ettin_data.stages.contamination import loops

    some, whole, found = stretches.some, stretches.whole, np.empty(texts.count + 1, np.int64)
    sizes = texts.count, stretches.first, stretches.step, stretches.words
    filters = some.table, int(some.shift), whole.table, int(whole.shift)
    return found[: loops.look_up(texts.room, *sizes, *filters, found)]


def _same() -> bool:
    """Whether the compiled loop finds the places that numpy finds."""
    signs = (np.arange(4000) ** 3 % 7919 % 5).astype(np.uint16)  # of few kinds, so that many stretches are nearly there
    known = Sieve(signs[:1000], np.arange(0, 1001, 50), 8, 5), Sieve(signs[:60], np.arange(0, 61, 6), 13, 5)
    words = SignRow(signs)
    each = [stretches for sieve in known for stretches in sieve._stretches]
    return all(np.array_equal(_looped(words, one), _of_numpy(words, one)) for one in each)


def _of_numpy(texts: SignRow, stretches: Stretches) -> Places:
    """`look_up` by numpy."""
    before = stretches.some.find(texts.every(stretches.first, stretches.step)) * stretches.step - (stretches.step - 1)
    some = stretches.whole.find(texts.around(before, stretches.words, stretches.step).ravel())
    places: Places = before[some // stretches.step] + some % stretches.step
    return places[(places >= 0) & (places + stretches.words <= texts.count)]


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
        words = SignRow(signs)
        self._stretches = [
            Stretches(words, starts, size, first)
            for starts, size, first in ((long, n, min(_TOGETHER, n)), (short, least, least - 2))
            if len(starts)
        ]

    def places(self, signs: Signs, bounds: Places) -> Places:
        """The words with which something of the index may begin in texts, int64, rising. Where none is, nothing is.

        Args:
            signs: of the words of the texts, which are of the same kind.
            bounds: where the words of each begin.
        """
        words = SignRow(signs)
        found = [np.zeros(0, np.int64), *(each.find(words, bounds) for each in self._stretches)]
        places: Places = np.unique(np.concatenate(found))
        return places
