"""The compiled sieve lets the documents pass that numpy's does: as plain Python here, and compiled where numba is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from contamination_kit import rng_of, sentence
from datatrove.data import Document
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base import word_signs, words
from ettin_data.base.errors import BuildError
from ettin_data.stages.contamination import compiled
from ettin_data.stages.contamination.index import Index
from ettin_data.stages.contamination.options import Decontamination
from ettin_data.stages.contamination.rules import Rule
from ettin_data.stages.contamination.search import search, search_hashed
from ettin_data.stages.contamination.sieve import SignRow, look_up
from ettin_data.stages.contamination.step import Decontaminate
from ettin_data.stages.contamination.texts import EvaluationText

SIGNS = "abcXYZ 09.,\n\té–’“ñ日本語กᄀЯж\u00ad\u0301ß²ⅷＡ\U0001d400\U00020001\ud800"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The loops themselves, not compiled, as if they were."""
    loops = compiled._find_letters, compiled._find_begins, compiled._take_signs, compiled._look_up
    monkeypatch.setattr(compiled, "_kernels", lambda: loops)
    monkeypatch.setattr(compiled, "ready", lambda: True)
    with np.errstate(over="ignore"):
        yield


def index_and_documents(seed: int, n: int, documents: int = 12) -> tuple[Index, list[str]]:
    """An index of few words, so that many stretches are nearly those of texts, and documents with some of the texts."""
    rng = rng_of("compiled", seed)
    few = ["a", "b", "the", "river", "r", "rivers7", "Élan", "中", "12", "or中"]
    questions = [" ".join(rng.choices(few, k=rng.randint(3, 2 * n))) for _ in range(12)]
    found = [
        " ".join([*rng.choices(few, k=rng.randint(0, 40)), rng.choice([*questions, ""])]) for _ in range(documents)
    ]
    index = Index.of([EvaluationText(f"q:{number}", one) for number, one in enumerate(questions)], Rule("half", n))
    return index, found


def assert_the_same(index: Index, documents: list[str]) -> None:
    signs, bounds = word_signs.word_signs(documents)
    ours, limits = compiled.word_signs(documents)
    assert ours.tolist() == signs.tolist() and limits.tolist() == bounds.tolist()
    assert index.sieve is not None and not compiled.differing(index.sieve, documents)
    for stretches in index.sieve._stretches:
        row = SignRow(signs)
        assert compiled.look_up(row, stretches).tolist() == look_up(row, stretches).tolist()
    assert search(index, documents, compiled=True) == search(index, documents)
    hashed = words.word_hashes(documents)
    assert search_hashed(index, documents, *hashed, compiled=True) == search_hashed(index, documents, *hashed)


@pytest.mark.parametrize("n", [4, 5, 8, 13])
def test_the_loops_find_the_same_candidates(plain: None, n: int) -> None:
    assert_the_same(*index_and_documents(n, n, 6))


def test_the_loops_read_every_kind_of_character(plain: None) -> None:
    rng = rng_of("signs")
    drawn = ["".join(rng.choices(SIGNS, k=rng.randrange(60))) for _ in range(12)]
    texts = ["", "a", "one two three", "日", "x日", *drawn]
    for some in ([], [""], texts, texts[::-1]):
        for right, ours in zip(word_signs.word_signs(some), compiled.word_signs(some), strict=True):
            assert ours.tolist() == right.tolist() and ours.dtype == right.dtype


@pytest.mark.parametrize("keep_words", [False, True])
def test_a_split_does_not_take_candidates_that_are_others(
    plain: None, monkeypatch: pytest.MonkeyPatch, keep_words: bool
) -> None:
    rng = rng_of("split")
    question = sentence(rng, 12)
    index = Index.of([EvaluationText("q", question)], Rule("half", 8))
    monkeypatch.setattr(Decontamination, "index", lambda self: index)
    chosen = Decontamination((), index.rule, "report", index.digest)

    def run(compiled_is_asked: bool) -> list[str]:
        noted: list[str] = []
        step = Decontaminate(chosen, print, lambda one, *_: noted.append(one.id), keep_words, compiled_is_asked)
        documents = [Document(sentence(rng, 20), "a"), Document(f"so {question}", "b")]
        assert len(list(step.run(documents))) == 2
        return noted

    assert run(True) == run(False) == ["b"]
    monkeypatch.setattr(compiled, "look_up", lambda row, stretches: look_up(row, stretches)[:0])
    assert run(False) == ["b"], "numpy looks through a small split"
    with pytest.raises(BuildError, match="other documents than numpy") as error:
        run(True)
    assert error.value.where == "b"


def test_without_numba_numpy_is_the_sieve(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("Numba needs NumPy 2.9 or less")

    monkeypatch.setattr(compiled, "_kernels", missing)
    compiled._proven.cache_clear()
    assert not compiled.ready()
    index, documents = index_and_documents(1, 8)
    assert search(index, documents, compiled=True) == search(index, documents)
    compiled._proven.cache_clear()
    assert not compiled.worth(1000) and compiled.worth(1 << 40)


@given(st.lists(st.text() | st.text(st.sampled_from(SIGNS), max_size=60), max_size=8), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_compiled_code_finds_the_same_candidates(some: list[str], seed: int) -> None:
    pytest.importorskip("numba")
    assert compiled.ready()
    index, documents = index_and_documents(seed, 4 + seed % 9)
    assert_the_same(index, [*documents, *some])


def test_compiled_code_reads_every_character() -> None:
    pytest.importorskip("numba")
    every = ["".join(map(chr, range(begin, begin + 997))) for begin in range(0, 0x110000 - 997, 997)]
    every += ["a".join(map(chr, range(begin, begin + 997))) for begin in range(0, 0x30000, 997)]
    for right, ours in zip(word_signs.word_signs(every), compiled.word_signs(every), strict=True):
        assert np.array_equal(ours, right)
