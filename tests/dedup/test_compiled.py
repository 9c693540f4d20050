"""The compiled way to keys gives what numpy gives: as plain Python here, and compiled where numba is installed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from datatrove.data import Document
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base import words
from ettin_data.base.errors import BuildError
from ettin_data.dedup import compiled
from ettin_data.dedup.keys import KeyChoice, text_keys
from ettin_data.stages.keys import Keys

SIGNS = "abcXYZ 09.,\n\té–’“ñ日本語กᄀЯж\u00ad\u0301ß²ⅷＡ\U0001d400\U00020001\ud800"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The loops themselves, not compiled, as if they were."""
    kernels = compiled._find_words, compiled._throw_all
    monkeypatch.setattr(compiled, "_kernels", lambda: kernels)
    monkeypatch.setattr(compiled, "ready", lambda: True)
    with np.errstate(over="ignore"):
        yield


def texts(count: int, size: int) -> list[str]:
    rng = random.Random(5)
    drawn = ["".join(rng.choice(SIGNS) for _ in range(rng.randrange(size))) for _ in range(count)]
    return ["", "a", "one two three", *drawn, "x" * 300]


@pytest.mark.parametrize("choice", [KeyChoice(min_words=5), KeyChoice(2, 140, 1), KeyChoice(values=0)])
def test_the_loops_make_the_same_keys(plain: None, choice: KeyChoice) -> None:
    given_texts = texts(12, 60)
    assert np.array_equal(text_keys(given_texts, choice, compiled=True), text_keys(given_texts, choice))
    assert [each.shape for each in compiled.word_hashes([])] == [(0,), (1,)]


def test_long_texts_and_ngrams_of_characters_are_left_to_numpy(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "word_hashes", None)
    text_keys(["a" * words.PORTION], KeyChoice(), compiled=True)
    text_keys(["some letters"], KeyChoice(unit="character", ngram=3), compiled=True)


def test_a_split_does_not_take_keys_that_are_others(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [Document("one two three", "a"), Document("four five", "b")]
    made = [document.metadata["keys"] for document in Keys(KeyChoice(), compiled=True).run(documents)]
    assert b"".join(made) == text_keys([document.text for document in documents], KeyChoice()).tobytes()
    right = compiled.word_hashes

    def wrong(some: list[str]) -> compiled.WordsOf:
        hashes, offsets = right(some)
        return np.where(hashes == hashes[-1], hashes ^ np.uint64(1), hashes), offsets

    monkeypatch.setattr(compiled, "word_hashes", wrong)
    assert len(list(Keys(KeyChoice()).run(documents))) == 2, "numpy makes those of a small split"
    with pytest.raises(BuildError, match="other keys than numpy") as error:
        list(Keys(KeyChoice(), compiled=True).run(documents))
    assert error.value.where == "b"


def test_without_numba_numpy_makes_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("Numba needs NumPy 2.9 or less")

    monkeypatch.setattr(compiled, "_kernels", missing)
    compiled._proven.cache_clear()
    assert not compiled.ready()
    compiled._proven.cache_clear()


@given(st.lists(st.text(max_size=200), max_size=8), st.integers(1, 6), st.sampled_from([0, 1, 112, 286]))
@settings(max_examples=60, deadline=None)
def test_compiled_code_makes_the_same_keys(some: list[str], n: int, values: int) -> None:
    pytest.importorskip("numba")
    assert compiled.ready()
    choice = KeyChoice(n, values, 1)
    assert np.array_equal(text_keys(some, choice, compiled=True), text_keys(some, choice))


def test_compiled_code_makes_the_same_keys_of_every_character() -> None:
    pytest.importorskip("numba")
    every = ["".join(map(chr, range(begin, begin + 997))) for begin in range(0, 0x110000 - 997, 997)]
    choice = KeyChoice(2, 24, 1)
    assert np.array_equal(text_keys(every, choice, compiled=True), text_keys(every, choice))
