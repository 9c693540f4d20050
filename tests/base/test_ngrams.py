"""n-gram hashes against a plain loop, and the search against a plain set."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.ngrams import Needles, ngram_hashes

TOKENS = st.lists(st.integers(0, 6), max_size=60)


@given(tokens=TOKENS, n=st.integers(1, 14), wide=st.booleans())
@settings(max_examples=80, deadline=None)
def test_equal_ngrams_have_equal_hashes_and_others_do_not(tokens: list[int], n: int, wide: bool) -> None:
    array = np.array(tokens, np.uint32 if wide else np.uint16)
    hashes = ngram_hashes(array, n)
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    assert len(hashes) == len(grams)
    by_gram: dict[tuple[int, ...], int] = {}
    for gram, value in zip(grams, hashes.tolist(), strict=True):
        assert by_gram.setdefault(gram, value) == value
    assert len(set(by_gram.values())) == len(by_gram)


def test_a_gram_hashes_the_same_wherever_it_stands() -> None:
    rng = np.random.default_rng(0)
    gram = rng.integers(0, 50_000, 13).astype(np.uint16)
    wanted = ngram_hashes(gram, 13)[0]
    for before in (0, 1, 1000, 70_000, 140_000):
        row = np.concatenate([rng.integers(0, 50_000, before).astype(np.uint16), gram, gram[:5]])
        assert ngram_hashes(row, 13)[before] == wanted
    assert ngram_hashes(gram.astype(np.int64), 13)[0] == ngram_hashes(gram.astype(np.uint32), 13)[0]


@given(hay=st.lists(st.integers(0, 2**64 - 1), max_size=50), some=st.lists(st.integers(0, 2**64 - 1), max_size=20))
@settings(max_examples=60, deadline=None)
def test_needles_find_what_a_set_finds(hay: list[int], some: list[int]) -> None:
    wanted = some + hay[::3]
    needles = Needles(np.array(wanted, np.uint64))
    at, number = needles.find(np.array(hay, np.uint64))
    assert at.tolist() == [i for i, value in enumerate(hay) if value in set(wanted)]
    assert [int(needles.hashes[n]) for n in number] == [hay[i] for i in at]
