"""Sketches against exact similarity: their error, and how often a band is shared, of texts that were changed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.draws import draws
from ettin_data.base.words import ngrams, word_hashes
from ettin_data.dedup import sketch
from ettin_data.dedup.keys import KeyChoice, text_keys
from ettin_data.dedup.sketch import band_keys, has_sketch, likeness, shared_bands, sketches
from ettin_data.storage.keys import TEXT_BYTES

BANDS, ROWS = 14, 8
BASES = 400
HEX = [
    "64ed98bd088507d061b891876434d79346e000228bf7b1b0199e2837d613fe206d2969e9ba11fdfe8f8c4793"
    "817f923a1afbb95196da05c4679d170252167b4329794fae84f7b6c3ea95bb41092deaf3e168b4fb505f48cd"
    "3e2a86d80fcf75be634b021a611d786cb79e9754894d6305ec3945b2b1a22513481964b220029a56",
    "b641df80714f0117c26852590ffdec401aed40c4ef5bf4213d9918780faf5188b0bb9b9745694a40a8e1f435"
    "74966365b3fb0d3332a2a174a0cb91d77c8042975e0b866e3ff6efd90951fe5bc3994181304d15db091e4003"
    "c38f510a9f941c3f28ba330c9606e0bec5fff1b322c6d89bc8697a191b515476c90130449f9ef916",
]


def texts(seed: int) -> list[str]:
    """Texts of 60 to 700 words in sentences, of a vocabulary in which few words are frequent, as in a language."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("aeioulnrstm", k=rng.randint(2, 9))) for _ in range(3000)]
    weights = [1 / (n + 10) for n in range(3000)]
    made = []
    for _ in range(BASES):
        said = rng.choices(words, weights, k=rng.randint(60, 700))
        made.append(" ".join(w.capitalize() + "," if n % 11 == 0 else w for n, w in enumerate(said)) + ".")
    return made


def edited(text: str, share: float, rng: random.Random) -> str:
    return " ".join(f"x{rng.randrange(10**6)}" if rng.random() < share else word for word in text.split())


def boilerplate(text: str, rng: random.Random) -> str:
    """A navigation and a footer, of another site for each text: the errors of texts with one of them go together."""
    words = [f"menu{rng.randrange(10**6)}" for _ in range(45)]
    return " ".join([*words[:20], text, *words[20:]])


CHANGES = {
    "edit 0%": lambda text, rng: text,
    "edit 1%": lambda text, rng: edited(text, 0.01, rng),
    "edit 2%": lambda text, rng: edited(text, 0.02, rng),
    "edit 5%": lambda text, rng: edited(text, 0.05, rng),
    "edit 10%": lambda text, rng: edited(text, 0.10, rng),
    "edit 20%": lambda text, rng: edited(text, 0.20, rng),
    "boilerplate": boilerplate,
    "cut 90%": lambda text, rng: text[: len(text) * 9 // 10],
    "cut 70%": lambda text, rng: text[: len(text) * 7 // 10],
    "case": lambda text, rng: text.upper(),
    "white space": lambda text, rng: text.replace(" ", "\n\t "),
    "punctuation": lambda text, rng: text.replace(",", " —").replace(".", " !?"),
}


def jaccard(one: str, other: str, n: int = 5) -> float:
    grams, offsets = ngrams(*word_hashes([one, other]), n)
    mine, theirs = set(grams[: offsets[1]].tolist()), set(grams[offsets[1] :].tolist())
    return len(mine & theirs) / max(len(mine | theirs), 1)


@pytest.mark.parametrize("change", CHANGES)
def test_bands_are_shared_as_often_as_theory_says_and_the_estimate_is_as_near(change: str) -> None:
    rng = random.Random(change)
    bases = texts(7)
    others = [CHANGES[change](text, rng) for text in bases]
    choice = KeyChoice()
    ones, twins = (text_keys(each, choice)[:, TEXT_BYTES:] for each in (bases, others))
    true = np.array([jaccard(*pair) for pair in zip(bases, others, strict=True)])
    expected = 1 - (1 - true**ROWS) ** BANDS
    found = (shared_bands(ones, twins, BANDS, ROWS) > 0).mean()
    error = math.sqrt((expected * (1 - expected)).sum()) / BASES  # of a mean of draws of these chances
    assert abs(found - expected.mean()) <= 2.5 * error + 1e-9, (change, found, expected.mean(), error)
    wrong = likeness(ones, twins) - true
    theory = math.sqrt((true * (1 - true) / (BANDS * ROWS)).mean())
    assert math.sqrt((wrong**2).mean()) <= theory * 1.02 + 1e-9, (change, theory)
    assert abs(wrong.mean()) <= 3 * theory / math.sqrt(BASES) + 1e-9, "no bias"


def test_unrelated_texts_share_no_band() -> None:
    keys = text_keys(texts(1) + texts(2), KeyChoice())[:, TEXT_BYTES:]
    assert not shared_bands(keys[:BASES], keys[BASES:], BANDS, ROWS).any()
    assert likeness(keys[:BASES], keys[BASES:]).mean() < 0.01


@given(
    lists=st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=200), min_size=1, max_size=8),
    values=st.sampled_from([1, 24, 112]),
)
@settings(max_examples=40, deadline=None)
def test_a_sketch_depends_on_the_set_of_its_ngrams_alone(lists: list[list[int]], values: int) -> None:
    def made(many: list[list[int]]) -> np.ndarray:
        flat = np.array([gram for each in many for gram in each], np.uint64)
        return sketches(flat, np.cumsum([0, *map(len, many)]), values)

    together = made(lists)
    assert together.shape == (len(lists), values) and together.dtype == np.uint8
    for number, grams in enumerate(lists):
        assert (made([grams[::-1] + grams])[0] == together[number]).all()
        assert has_sketch(together[number : number + 1])[0] == bool(grams) or values == 1


def plain(grams: list[int], values: int) -> list[int]:
    """The sketch by its rule: round after round, until every bin has one, which is the least of its first round."""
    least: dict[int, tuple[int, int]] = {}
    for number in range(2 * values if grams else 0):
        if len(least) == values:
            break
        for drawn in draws(np.array(grams, np.uint64), "sketch", number).tolist():
            at = (drawn >> 40) * values >> 24 if number < values else number - values
            least.setdefault(at, (number, drawn & (1 << 40) - 1))
            least[at] = min(least[at], (number, drawn & (1 << 40) - 1))
    bit = 56 if values <= 128 else 48
    bins = np.array([least[at][0] << bit | least[at][1] for at in range(values if grams else 0)], np.uint64)
    return (draws(bins, "byte of a sketch") & np.uint64(255)).tolist() if grams else [0] * values


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=9), min_size=1, max_size=4),
    st.sampled_from([1, 2, 24, 112, 286]),
    st.sampled_from([600, 1 << 14]),
)
@settings(max_examples=25, deadline=None)
def test_a_sketch_is_what_its_rule_says_however_many_rounds_are_thrown_at_once(
    lists: list[list[int]], values: int, at_once: int
) -> None:
    flat = np.array([gram for each in lists for gram in each], np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "_AT_ONCE", at_once)
        found = sketches(flat, np.cumsum([0, *map(len, lists)]), values)
    assert found.tolist() == [plain(grams, values) for grams in lists]


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (2, 16), (26, 11), (3, 2)])
def test_shared_bands_are_those_of_which_all_rows_are_equal(bands: int, rows: int) -> None:
    ones, others = np.random.default_rng(1).integers(1, 3, (2, 500, bands * rows + 3), np.uint8)
    for band in range(0, bands, 2):
        others[:300, band * rows : (band + 1) * rows] = ones[:300, band * rows : (band + 1) * rows]
    expected = [
        sum(bytes(one[at : at + rows]) == bytes(other[at : at + rows]) for at in range(0, bands * rows, rows))
        for one, other in zip(ones, others, strict=True)
    ]
    assert shared_bands(ones, others, bands, rows).tolist() == expected and min(expected[:300]) >= bands // 2


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (26, 11), (20, 13), (3, 2)])
def test_band_keys_are_equal_where_all_rows_are(bands: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    ones = rng.integers(0, 2, (4000, bands * rows), np.uint8)
    for band in (0, bands - 1):
        part = ones[:, band * rows : (band + 1) * rows]
        keys = band_keys(ones, range(band, band + 1), rows)[0]
        _, by_rows = np.unique(part, axis=0, return_inverse=True)
        _, by_key = np.unique(keys, return_inverse=True)
        pairs = set(zip(by_rows.reshape(-1).tolist(), by_key.tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_short_texts_and_texts_of_signs_have_the_exact_key_alone() -> None:
    choice = KeyChoice(min_words=20)
    words = " ".join(f"w{n}" for n in range(20))
    keys = text_keys(["one two three", "One, two: THREE", "!!!", "???", "", words, words[:-4]], choice)
    assert has_sketch(keys[:, TEXT_BYTES:]).tolist() == [False] * 5 + [True, False]
    exact = [row.tobytes() for row in keys[:, :TEXT_BYTES]]
    assert exact[0] == exact[1] and len(set(exact)) == 6
    assert text_keys([words], KeyChoice(values=0)).shape == (1, TEXT_BYTES)


def test_keys_are_the_same_on_every_machine() -> None:
    keys = text_keys(["The quick brown fox jumps over the lazy dog", "日本語のテキスト"], KeyChoice(min_words=5))
    assert [bytes(row).hex() for row in keys] == HEX


@given(st.lists(st.text(max_size=80), max_size=6), st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_keys_of_a_text_do_not_depend_on_those_beside_it(texts: list[str], min_words: int) -> None:
    choice = KeyChoice(ngram=2, values=24, min_words=max(min_words // 5, 1))
    together = text_keys(texts, choice)
    assert [text_keys([text], choice)[0].tobytes() for text in texts] == [row.tobytes() for row in together]


def test_wide_sketches_have_a_version_of_their_own() -> None:
    """Of more than 128 values a round may have a number above 255, which version 1 took for an early one."""
    assert [KeyChoice(values=values).made_from()["sketch"] for values in (24, 112, 128, 129, 286)] == [1, 1, 1, 2, 2]
    few = np.arange(3, dtype=np.uint64)
    found = sketches(np.tile(few, 2), np.array([0, 3, 6]), 286)
    assert found.tolist() == [plain(few.tolist(), 286)] * 2


def test_estimates_of_wide_sketches_of_few_ngrams_are_right() -> None:
    """Of 260 values, as of the preset `curator`: texts of 3 to 30 n-grams, of which two thirds are shared."""
    rng, wrong = np.random.default_rng(3), []
    for _ in range(60):
        count = int(rng.integers(3, 30))
        both = rng.integers(0, 2**63, count + 2 * (count // 4)).astype(np.uint64)
        one, other = both[: count + count // 4], np.concatenate([both[:count], both[count + count // 4 :]])
        true = count / len(both)
        found = sketches(np.concatenate([one, other]), np.array([0, len(one), len(one) + len(other)]), 260)
        wrong.append((likeness(found[:1], found[1:])[0] - true) / math.sqrt(true * (1 - true) / 260 + 1e-9))
    assert abs(np.mean(wrong)) < 3 / math.sqrt(len(wrong)) + 0.1 and math.sqrt(np.mean(np.square(wrong))) < 1.3
