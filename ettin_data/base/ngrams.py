"""Exact n-gram search in token rows, at some ten million tokens a second on one core.

Every n-gram of a row gets a 64-bit hash in a few vectorised passes, whatever n is: tokens become random 64-bit numbers,
and a polynomial in an odd base modulo 2**64 is summed with prefix sums (the base has an inverse, so a window is a
difference of two prefix sums times a power of it). `Needles` finds wanted hashes with a bitmap before it looks exactly.
A hash hit is not yet a match: callers that promise exactness compare the tokens.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws

_BASE = 0x9E3779B97F4A7C15 | 1
_INVERSE = pow(_BASE, -1, 1 << 64)
_SLOTS_A_HASH, _LEAST_BITS, _MOST_BITS = 16, 16, 24


@cache
def _token_numbers() -> NDArray[np.uint64]:
    """A random uint64 for each token id of a 16-bit type; wider ids are hashed as they come."""
    return draws(np.arange(1 << 16, dtype=np.uint64), "ngram token")


@lru_cache(maxsize=4)
def powers_of_base(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """base**i and base**-i modulo 2**64 for i in [0, count), shape (count,) each, uint64."""

    def table(base: int) -> NDArray[np.uint64]:
        out = np.full(count, base, np.uint64)
        out[0] = 1
        with np.errstate(over="ignore"):
            return np.multiply.accumulate(out)

    return table(_BASE), table(_INVERSE)


def ngram_hashes(tokens: NDArray[np.integer[Any]], n: int) -> NDArray[np.uint64]:
    """Hash of each n-gram: shape (max(len(tokens) - n + 1, 0),), uint64; equal n-grams have equal hashes anywhere."""
    count = len(tokens) - n + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    if tokens.dtype.itemsize <= 2:
        numbers = _token_numbers()[tokens]
    else:
        numbers = draws(tokens.astype(np.uint64), "ngram token")
    return span_hashes(numbers, slice(count), slice(n, None))


def span_hashes(
    numbers: NDArray[np.uint64], begin: NDArray[np.int64] | slice, stop: NDArray[np.int64] | slice
) -> NDArray[np.uint64]:
    """Hash of each span `numbers[begin[i]:stop[i]]`, shape of `begin`, uint64, whatever the spans' lengths.

    Equal spans have equal hashes anywhere, if each of their elements has its own random number, shape (n,), uint64.
    """
    powers, inverses = powers_of_base(1 << max(16, len(numbers).bit_length()))
    with np.errstate(over="ignore"):
        sums = np.zeros(len(numbers) + 1, np.uint64)
        np.multiply(numbers, powers[: len(numbers)], out=sums[1:])
        np.cumsum(sums[1:], out=sums[1:])
        spans: NDArray[np.uint64] = (sums[stop] - sums[begin]) * inverses[begin]
        return spans ^ (spans >> np.uint64(31))  # the low bits of a product depend on low bits only


class Needles:
    """A set of wanted n-gram hashes; a table of what their upper bits may be stands before the look into them."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self.hashes = np.unique(hashes.astype(np.uint64))
        bits = min(max((len(self.hashes) * _SLOTS_A_HASH).bit_length(), _LEAST_BITS), _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        self._slots = np.zeros(1 << bits, bool)
        self._slots[self._slot(self.hashes)] = True

    def __len__(self) -> int:
        return len(self.hashes)

    def __reduce__(self) -> tuple[type[Needles], tuple[NDArray[np.uint64]]]:
        return Needles, (self.hashes,)  # the table is larger than what it is made of

    def _slot(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (hashes >> self._shift).view(np.int64)

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where wanted hashes occur: indices into `hashes` and into `self.hashes`, both int64."""
        at = np.flatnonzero(self._slots[self._slot(hashes)])
        if len(at) == 0 or len(self.hashes) == 0:
            return at[:0], at[:0]
        number = np.minimum(np.searchsorted(self.hashes, hashes[at]), len(self.hashes) - 1)
        hit = self.hashes[number] == hashes[at]
        return at[hit], number[hit]
