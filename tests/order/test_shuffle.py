"""The shuffle of large orders is numpy's, draw for draw, also where numpy takes 64 random bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.order import law, shuffle


def numpys(n: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64DXSM(seed)).permutation(n)


def ours(n: int, seed: int) -> np.ndarray:
    array = np.arange(n, dtype=np.uint32)
    shuffle.shuffle(array, np.random.PCG64DXSM(seed))
    return array


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 2**40))
def test_any_length_and_seed(n: int, seed: int) -> None:
    assert np.array_equal(ours(n, seed), numpys(n, seed))


@pytest.mark.parametrize("n", [2**16 - 1, 2**16, 2**16 + 1, 300_000])
def test_lengths_around_a_power_of_two_and_of_many_blocks(n: int) -> None:
    assert np.array_equal(ours(n, 21), numpys(n, 21))


def test_a_large_order_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "_LARGE", 1000)
    large = law.permutation(50_000, 21, 2)
    assert large.dtype == np.uint32 and np.array_equal(large, numpys(50_000, 23))


def one_by_one(n: int, seed: int, wide: int) -> list[int]:
    """The shuffle as numpy's source has it: 32 bits below `wide`, the lower half first, else 64."""
    bits, halves, order = np.random.PCG64DXSM(seed), list[int](), list(range(n))
    for i in range(n - 1, 0, -1):
        mask = (1 << i.bit_length()) - 1
        while True:
            if i >= wide:
                value = int(bits.random_raw()) & mask
            else:
                if not halves:
                    raw = int(bits.random_raw())
                    halves = [raw >> 32, raw & 0xFFFFFFFF]
                value = halves.pop() & mask
            if value <= i:
                break
        order[i], order[value] = order[value], order[i]
    return order


def test_the_switch_from_64_to_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numpy switches at 2**32 samples, which a test has no room for: the same source, switched lower."""
    assert one_by_one(3000, 21, 1 << 32) == numpys(3000, 21).tolist()
    for wide in (1 << 10, 1 << 11, 1 << 13):
        monkeypatch.setattr(shuffle, "WIDE", wide)
        assert ours(9000, 21).tolist() == one_by_one(9000, 21, wide)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60_000), st.integers(0, 2**40), st.floats(0, 1.1), st.data())
def test_the_last_places_need_as_many_draws_only(n: int, seed: int, share: float, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=40)), np.int64)
    last = int(n * share)
    where = np.argsort(numpys(n, seed))[values]
    found = shuffle.last_places(n, np.random.PCG64DXSM(seed), values, last)
    decided = (where >= n - last) | (last >= n - 1)
    assert np.array_equal(found, np.where(decided, where, -1))


def test_all_last_places_of_many_blocks() -> None:
    n, last = 200_000, 70_000
    where = np.argsort(numpys(n, 5))
    found = shuffle.last_places(n, np.random.PCG64DXSM(5), np.arange(n), last)
    assert np.array_equal(found, np.where(where >= n - last, where, -1))


@pytest.mark.slow
def test_a_hundred_million() -> None:
    assert np.array_equal(law.permutation(100_000_000, 21), numpys(100_000_000, 21))
