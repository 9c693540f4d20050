"""The loops in C give what numpy gives, whatever they are given, and numpy stands in for one that does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contamination_kit import rng_of, sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base import compiled, word_signs, words
from ettin_data.dedup import sketch
from ettin_data.stages.contamination import index as of_index
from ettin_data.stages.contamination import search as of_search
from ettin_data.stages.contamination import sieve
from ettin_data.stages.contamination.index import MOST_PLACES, Index
from ettin_data.stages.contamination.rules import Rule
from ettin_data.stages.contamination.search import exact, search, search_hashed
from ettin_data.stages.contamination.texts import EvaluationText

SIGNS = "abcXYZ 09.,\n\té–’“ñ日本語กᄀЯж\u00ad\u0301ß²ⅷＡ\U0001d400\U00020001\ud800ÿ\x80"
TEXTS = st.lists(st.text(max_size=200) | st.text(st.sampled_from(SIGNS), max_size=200), max_size=8)

compiled_here = pytest.mark.skipif(not compiled.there(), reason="there was no C compiler when this was installed")


def assert_both_ways_the_same(made: Callable[[], Any]) -> None:
    with compiled.numpy_alone():
        right = made()
    ours = made()
    for one, other in zip(ours, right, strict=True):
        assert np.array_equal(one, other) and np.asarray(one).dtype == np.asarray(other).dtype


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler is here")
@pytest.mark.skipif(not (Path(sys.prefix) / ".ready").exists(), reason="`make setup` did not make this environment")
def test_they_are_compiled_where_there_is_a_compiler() -> None:
    assert compiled.there()


@compiled_here
@given(TEXTS, st.integers(1, 6), st.sampled_from([1, 112, 286]), st.integers(0, 8))
@settings(max_examples=60)
def test_words_signs_and_sketches_are_the_same(texts: list[str], n: int, values: int, least: int) -> None:
    assert_both_ways_the_same(lambda: words.word_hashes(texts))
    assert_both_ways_the_same(lambda: word_signs.word_signs(texts))
    assert_both_ways_the_same(lambda: [sketch.word_sketches(*words.word_hashes(texts), n, values, least)])
    assert_both_ways_the_same(lambda: [sketch.word_sketches(*words.letter_hashes(texts), n, values, least)])


@compiled_here
def test_every_character_is_read_as_numpy_reads_it() -> None:
    every = ["".join(map(chr, range(begin, begin + 997))) for begin in range(0, 0x110000 - 997, 997)]
    every += ["a".join(map(chr, range(begin, begin + 997))) for begin in range(0, 0x30000, 997)]
    assert_both_ways_the_same(lambda: words.word_hashes(every))
    assert_both_ways_the_same(lambda: word_signs.word_signs(every))


@compiled_here
@pytest.mark.parametrize("size", [words.PORTION - 1, words.PORTION, words.PORTION + 1, 3 * words.PORTION + 5])
@pytest.mark.parametrize("text", ["alpha beta, ", "日本 gamma\u00ad; ", "é", "x", "\U00020001y"])
def test_long_texts_are_cut_where_numpy_cuts_them(text: str, size: int) -> None:
    long = (text * (size // len(text) + 1))[:size]
    assert_both_ways_the_same(lambda: words.word_hashes(["before", long, "", long[::-1]]))
    assert_both_ways_the_same(lambda: word_signs.word_signs(["before", long, "", long[::-1]]))


@compiled_here
@given(TEXTS, st.integers(0, 99), st.integers(4, 13))
@settings(max_examples=40)
def test_the_sieve_lets_the_same_places_pass(some: list[str], seed: int, n: int) -> None:
    rng = rng_of("compiled", seed)
    few = ["a", "b", "the", "river", "r", "rivers7", "Élan", "中", "12", "or中"]  # so that many are nearly a text
    questions = [" ".join(rng.choices(few, k=rng.randint(3, 2 * n))) for _ in range(12)]
    texts = [" ".join([*rng.choices(few, k=rng.randint(0, 40)), rng.choice([*questions, ""])]) for _ in range(12)]
    index = Index.of([EvaluationText(f"q:{number}", one) for number, one in enumerate(questions)], Rule("half", n))
    documents = [*texts, *some]
    hashed = words.word_hashes(documents)
    assert_both_ways_the_same(lambda: [index.sieve.places(*word_signs.word_signs(documents))])
    assert_both_ways_the_same(
        lambda: [sieve.look_up(sieve.SignRow(sieve.signs_of(hashed[0])), index.sieve._stretches[0])]
    )
    with compiled.numpy_alone():
        right = search(index, documents)
    assert search(index, documents) == search_hashed(index, documents, *hashed) == right


@compiled_here
@given(st.integers(0, 2**32), st.integers(4, 9), st.sampled_from([1, 2, MOST_PLACES]))
@settings(max_examples=40)
def test_texts_that_share_their_words_are_found_in_the_same_documents(seed: int, n: int, most: int) -> None:
    rng = rng_of("shared", seed)
    words_of = [f"w{number}" for number in range(rng.choice([3, 9, 300]))]
    shared = rng.choices(words_of, k=rng.randint(5, 14))

    def drawn(count: int) -> list[str]:
        return rng.choices(words_of, k=rng.randint(0, count))

    questions = [[*drawn(20), *shared, *drawn(20), *rng.choice([[], shared])] for _ in range(9)]
    documents = [
        [*drawn(9), *rng.choice([shared, *questions])[rng.randint(0, 4) :], "x", *drawn(40)] for _ in range(30)
    ]
    for document in documents:
        document.insert(rng.randint(0, len(document)), "another")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(of_index, "MOST_PLACES", most)
        texts = [EvaluationText(f"q:{number}", " ".join(one)) for number, one in enumerate(questions)]
        index = Index.of(texts, Rule("half", n)).ready()
    some = [" ".join([*one, *other]) for one, other in pairwise(documents)]
    with compiled.numpy_alone():
        right = search(index, some)
    assert search(index, some) == list(exact(index, some, range(len(some)))) == right


@compiled_here
def test_a_run_whose_first_words_a_text_has_too_often_grows_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_index, "MOST_PLACES", 1)
    text = "p q r s x p q r s t 1 aa ab 2 ba bb 3 ca cb 4 da db"
    index = Index.of([EvaluationText("q", text)], Rule("half", 4))
    documents = ["p q r s t I aa ab II ba bb III ca cb IV da db", "p q r s t I aa II"]
    with compiled.numpy_alone():
        right = search(index, documents)
    assert search(index, documents) == right and [hit.document for hit in right] == [0]


@compiled_here
def test_what_thousands_of_texts_share_is_no_pair_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = rng_of("thousands")
    shared = "which of the following statements about it is not correct"
    questions = [f"{sentence(rng, 12)} {shared} {sentence(rng, 12)}" for _ in range(3000)]
    index = Index.of([EvaluationText(f"q:{n}", one) for n, one in enumerate(questions)], Rule("half", 8))
    documents = [f"{sentence(rng, 30)} {shared} {sentence(rng, 30)}" for _ in range(10)] + [questions[77]]
    hashed, bounds = words.word_hashes(documents)
    hashes, firsts = of_search._ngrams(hashed, bounds, 8, None)
    pairs = sum(len(at) for at, _ in index.find(hashes))
    kept = sum(len(at) for at, _ in of_search._worthy(index, hashed, bounds, hashes, firsts))
    assert pairs > 11 * 3 * 3000 and 0 < kept < pairs / 100
    assert [(hit.document, hit.text) for hit in search(index, documents)] == [(10, 77)]
    monkeypatch.setattr(of_index, "_MORE_PORTION", 5000)
    apart = [len(at) for at, _ in of_search._worthy(index, hashed, bounds, hashes, firsts)]
    assert len(apart) > 10 and sum(apart) == kept
    assert [(hit.document, hit.text) for hit in search(index, documents)] == [(10, 77)]


@compiled_here
def test_a_loop_that_gives_something_else_is_not_used() -> None:
    assert compiled.used(lambda: True, "words")
    with pytest.warns(UserWarning, match="other words than numpy here, so numpy makes them"):
        assert not compiled.used(lambda: False, "words")
    with pytest.warns(UserWarning, match="for words is of another version.*install this package once more"):
        assert not compiled.used(lambda: compiled.no_such_loop, "words")
    with compiled.numpy_alone():
        assert not compiled.used(lambda: True, "words")


@compiled_here
@pytest.mark.parametrize(("value", "used"), [("0", False), ("1", True), (None, True)])
def test_the_environment_leaves_all_to_numpy(value: str | None, used: bool) -> None:
    environment = {**os.environ, compiled.SWITCH: value} if value else {**os.environ}
    code = "from ettin_data.base import compiled; print(compiled.used(lambda: True, 'words'))"
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == str(used)


@compiled_here
def test_what_does_not_fit_is_refused() -> None:
    from ettin_data.base import loops
    from ettin_data.dedup import loops as of_sketches
    from ettin_data.stages.contamination import loops as of_texts

    characters, powers = words.characters(), np.ones(8, np.uint64)
    hashes, offsets, signs = np.empty(4, np.uint64), np.empty(2, np.int64), np.empty(4, np.uint16)
    assert loops.word_hashes(["a b"], *characters, powers, hashes, offsets) == 2 and offsets.tolist() == [0, 2]
    for few in ((*characters, powers, hashes[:3], offsets), (*characters, powers, hashes, offsets[:1])):
        with pytest.raises(ValueError, match=r"has (24|8) bytes, not (32|16)"):
            loops.word_hashes(["a b"], *few)
    with pytest.raises(TypeError, match="text 1 is of type bytes, not str"):
        loops.word_hashes(["a", b"b"], *characters, powers, hashes, offsets)
    with pytest.raises(ValueError, match="kinds has 4 bytes"):
        loops.word_hashes(["a"], characters[0][:4], characters[1], powers, hashes, offsets)
    with pytest.raises(ValueError, match="signs has 8 bytes, not 16"):
        loops.word_signs(["abcd"], characters[0], 224, 254, signs, offsets)
    table, found = np.zeros(1 << 9, np.uint8), np.empty(2, np.int64)
    assert of_texts.look_up(signs, 1, 1, 1, 1, table, 52, table, 52, found) == 0
    for count, shift in ((2, 52), (1, 51)):
        with pytest.raises(ValueError, match=r"has (8|512) bytes, not (10|1024)"):
            of_texts.look_up(signs, count, 1, 1, 1, table, shift, table, 52, found)
    with pytest.raises(ValueError, match="out of range"):
        of_texts.look_up(signs, 1, 2, 1, 1, table, 52, table, 52, found)
    ones, zeros = np.ones(1, np.uint64), np.zeros(1, np.int64)
    index = np.zeros(1, np.int32), np.zeros(1, np.int32), ones, np.array([0, 1])
    weights = np.array([0.0, 1.0]), np.array([0.5]), np.zeros((1, 2), np.int64), 2
    one = np.array([0, 1])
    there = zeros, zeros, one[1:]
    assert of_texts.worthy_pairs(1, ones, one, *there, *index, *weights) == bytes(16)
    assert of_texts.worthy_pairs(1, ones, one, *there, *index, weights[0], np.array([1.0]), *weights[2:]) == b""
    for wrong, why in (
        ((one[1:], zeros, one[1:]), "n-gram 0 is in no document"),
        ((zeros, zeros - 1, one[1:]), "there are no begins -1 to 1"),
        ((zeros, zeros, one[1:] + 1), "there are no begins 0 to 2"),
        ((zeros, zeros[:0], one[1:]), "starts has 0 bytes, not 8"),
    ):
        with pytest.raises(ValueError, match=why):
            of_texts.worthy_pairs(1, ones, one, *wrong, *index, *weights)
    with pytest.raises(ValueError, match="sums has 8 bytes, not 16"):
        of_texts.worthy_pairs(1, ones, one, *there, *index, weights[0][:1], *weights[1:])
    draw = 1, 1, 3, np.zeros(2, np.uint64), 56, 0, np.zeros(6, np.uint64), np.zeros((1, 1), np.uint8)
    for wrong in ([0, 5], [2, 1], [-1, 2]):
        with pytest.raises(ValueError, match=r"hashes has 32 bytes, not 40|offsets do not rise"):
            of_sketches.sketches(hashes, np.array(wrong), *draw)
