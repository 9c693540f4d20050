"""numpy's in-place shuffle, bit for bit, without waiting for memory at every swap.

`Generator.shuffle` goes down from i = n - 1 to 1, draws j in [0, i] and swaps elements i and j. On billions of elements
every swap waits for one cache miss. Here some thousands of draws are made at once and their swaps done as one gather
and one scatter, whose misses overlap. Swaps of a block that share an element are found first and done one after the
other, in the order of the draws; a block is so short that there are few of them.

The draws are those of numpy's `random_interval`: 32 (above 2**32: 64) random bits, the lower half of a 64-bit number
before the upper, cut to the bits of i, drawn again while above i. tests/stages/test_order.py compares with numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDE = 1 << 32
"""Limit from which on numpy draws from 64 random bits."""

_LONGEST = 1 << 14  # draws at a time: the cache lines that they touch fit a second-level cache
_SLOTS = 1 << 18  # of a table in which targets that occur twice are looked for
_ONE_BY_ONE = 1 << 10  # elements from which on plain Python is as fast


def shuffle(array: NDArray[np.integer[Any]], bits: np.random.BitGenerator) -> None:
    """Shuffle a one-dimensional array in place as `np.random.Generator(bits).shuffle(array)` does.

    The generator advances further than numpy would: its numbers are taken in blocks.
    """
    draws = _Draws(bits)
    top = len(array) - 1
    while top >= _ONE_BY_ONE:
        # a block stays above the next lower power of two, since all its draws are cut to the same bits
        count = min(_LONGEST, 4 * int(top**0.5), top + 1 - (1 << (top.bit_length() - 1)))
        _swap_block(array, top, draws.take(top, count))
        top -= count
    for i in range(top, 0, -1):
        (j,) = draws.take(i, 1).tolist()
        array[i], array[j] = array[j], array[i]


def last_places(n: int, bits: np.random.BitGenerator, values: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """Where some elements of 0, …, n - 1 stand after the shuffle, as far as its first `last` swaps decide that.

    The shuffle goes down from the end, and no later swap touches what it has left behind: so the last elements of a
    permutation cost as many draws as there are of them, and no memory, while the first ones wait for all the draws.

    Args:
        values: different elements, int64.

    Returns: the index of each that stands among the last `last`, -1 for the others; int64, shape of `values`.
    """
    draws = _Draws(bits)
    found, at = np.full(len(values), -1, np.int64), values.astype(np.int64)
    order, suspect = np.argsort(at), np.zeros(_SLOTS, bool)
    suspect[at & (_SLOTS - 1)] = True
    top, end = n - 1, max(n - 1 - last, 0)
    while top > end:
        count = min(_LONGEST, top - end, top + 1 - (1 << (top.bit_length() - 1)))
        targets = draws.take(top, count).astype(np.int64)
        # draws of the block that name the place of an element, by its low bits at first; there are next to none
        named = targets[suspect[targets & (_SLOTS - 1)]]
        places = at[order]
        low, high = (np.searchsorted(places, named, side) for side in ("left", "right"))
        moving = np.append(order[low[high > low]], order[np.searchsorted(places, top - count, "right") :])
        for number in np.unique(moving[found[moving] < 0]).tolist():
            found[number], at[number] = _follow(top, targets, int(at[number]))
            suspect[at[number] & (_SLOTS - 1)] = True
        if len(moving):
            order = np.argsort(np.where(found < 0, at, -1))[(found >= 0).sum() :]
        top -= count
    if top == 0:  # no swap is left, so what stands first stays there
        found[(found < 0) & (at == 0)] = 0
    return found


def _follow(top: int, targets: NDArray[np.int64], at: int) -> tuple[int, int]:
    """Where an element stands for good after a block of swaps (-1: not decided), and where it stands now."""
    begin = 0
    while True:
        own = top - at  # the number of the swap that begins at its place and takes it further down
        hits = np.flatnonzero(targets[begin:] == at)
        if len(hits) and (k := begin + int(hits[0])) <= own:
            return top - k, top - k
        if own >= len(targets):
            return -1, at
        at, begin = int(targets[own]), own + 1


def _swap_block(array: NDArray[np.integer[Any]], top: int, drawn: NDArray[np.uint32 | np.uint64]) -> None:
    """Swap element top - k with element drawn[k], for k = 0, 1, …, as if one after the other."""
    targets = drawn.astype(np.int64)
    tangled = _tangled(top, targets)
    pairs = top - tangled, targets[tangled]
    before = array[pairs[0]], array[pairs[1]]
    block = array[top - len(targets) + 1 : top + 1][::-1]
    values = array[targets]
    array[targets] = block
    block[:] = values
    # the tangled swaps share elements with each other only, so they can be taken back and done again in their order
    array[pairs[0]], array[pairs[1]] = before
    for i, j in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True):
        array[i], array[j] = array[j], array[i]


def _tangled(top: int, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the swaps that share an element with another one, rising."""
    # whoever finds another number in its slot may have its target in common with it, or only some low bits
    slots, numbers = targets & (_SLOTS - 1), np.arange(len(targets), dtype=np.uint16)
    last = np.empty(_SLOTS, np.uint16)
    last[slots] = numbers
    found = last[slots]
    suspects = np.flatnonzero(found != numbers)
    suspects = np.unique(np.concatenate([suspects, found[suspects]]))
    values, counts = np.unique(targets[suspects], return_counts=True)
    twice = suspects[np.isin(targets[suspects], values[counts > 1])]
    inside = np.flatnonzero(targets > top - len(targets))
    tangled: NDArray[np.int64] = np.unique(np.concatenate([twice, inside, top - targets[inside]]))
    return tangled


class _Draws:
    """The numbers of a bit generator, as numpy's bounded draws use them up."""

    def __init__(self, bits: np.random.BitGenerator) -> None:
        self._bits = bits
        self._left: NDArray[np.uint32 | np.uint64] = np.zeros(0, np.uint32)

    def take(self, top: int, count: int) -> NDArray[np.uint32 | np.uint64]:
        """Draws for i = top, top - 1, …, top - count + 1, which all have the same number of bits: shape (count,)."""
        dtype: np.dtype[np.uint32 | np.uint64] = np.dtype(np.uint64 if top >= WIDE else np.uint32)
        if dtype != self._left.dtype:  # nothing is left over but whole 64-bit numbers that were not looked at
            self._left = self._left.astype("<u8").view("<u4").astype(dtype)
        mask = (1 << top.bit_length()) - 1
        taken: list[NDArray[np.uint32 | np.uint64]] = []
        while count:
            size = int(count * ((mask + 1) / (top + 1)) * 1.02) + 16  # as many as it likely takes
            if len(self._left) < size:
                self._left = np.concatenate([self._left, self._more(max(size, _LONGEST), dtype)])
            drawn: NDArray[np.uint32 | np.uint64] = np.bitwise_and(self._left[:size], mask)
            accepted = _accepted(drawn, top)[:count]
            taken.append(drawn[accepted])
            self._left = self._left[int(accepted[-1]) + 1 if len(accepted) == count else size :]
            count, top = count - len(accepted), top - len(accepted)
        return taken[0] if len(taken) == 1 else np.concatenate(taken)

    def _more(self, count: int, dtype: np.dtype[np.uint32 | np.uint64]) -> NDArray[np.uint32 | np.uint64]:
        size = count if dtype == np.uint64 else -(-count // 2)
        raw: NDArray[np.uint64] = np.asarray(self._bits.random_raw(size), "<u8")
        return raw if dtype == np.uint64 else raw.view("<u4").astype(np.uint32, copy=False)


def _accepted(drawn: NDArray[np.uint32 | np.uint64], top: int) -> NDArray[np.int64]:
    """Which of some drawn numbers are not above their limit; it is `top` at first and falls with each accepted one."""
    where = np.flatnonzero(drawn <= top)
    kept = drawn[where]
    refused: list[int] = []
    for k in np.flatnonzero(kept > max(top - len(where), 0)).tolist():
        if int(kept[k]) > top - (k - len(refused)):
            refused.append(k)
    return np.delete(where, refused) if refused else where
