"""Words and their n-grams against a plain reading, one character after the other, and against literals."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.words import BASE, PORTION, characters, letter_hashes, ngrams, word_hashes

pytestmark = pytest.mark.usefixtures("each_way")

ALPHABET = "abAB éÉßςΣ日本かคำ가 \n\t.,-’'“”\u00ad\u200b\u0301\u0640ＡＢ１2²½ﬁ\U0001f600\U00010400\ud800e\u0301"
TEXTS = st.lists(st.text(st.sampled_from(ALPHABET), max_size=40), max_size=8)

WORDS = [
    3500712028146976598,
    8684004390635917456,
    15241624120004894293,
    3058411604346814086,
    5065362322684051055,
    11206944622475560470,
    2102994305345671401,
    235031337980488180,
    11461943155406031562,
]
GRAMS = [825785219499928907, 11676285822843940751, 14172670832742247918, 3039999596711392503, 7745502876801279279]
KINDS = [16212, 932898, 160743, 4259]
TABLE = 643646151258266238


def read(text: str) -> list[str]:
    """The words of a text of `ALPHABET`, by what the module says of itself."""
    found, word = list[str](), ""
    for character in unicodedata.normalize("NFD", text.lower()):
        plain = {"ς": "σ", "²": "2", "1": "1"}.get(character, unicodedata.normalize("NFKC", character))
        plain = plain if len(plain) == 1 else character
        if character in "\u00ad\u0301":
            continue
        if "\u1100" <= character <= "\u11ff" or plain == "\u0640" or plain in "½ﬁß\U00010428":
            word += plain
        elif plain in "日本がคำ\u0e4d\u0e32":
            found += [word, plain]
            word = ""
        elif plain.isalnum():
            word += plain
        else:
            found.append(word)
            word = ""
    return [each for each in [*found, word] if each]


@given(texts=TEXTS)
@settings(max_examples=150, deadline=None)
def test_words_are_those_of_a_plain_reading(texts: list[str]) -> None:
    hashes, offsets = word_hashes(texts)
    expected = [read(text) for text in texts]
    assert np.diff(offsets).tolist() == [len(each) for each in expected] and offsets[-1] == len(hashes)
    by_word: dict[str, int] = {}
    for word, value in zip((word for each in expected for word in each), hashes.tolist(), strict=True):
        assert by_word.setdefault(word, value) == value
    assert len(set(by_word.values())) == len(by_word)


@given(texts=st.lists(st.text(st.sampled_from("aBz09_ \n.,'\x00\x7f"), max_size=30), max_size=8), data=st.data())
@settings(max_examples=80, deadline=None)
def test_ascii_has_the_words_that_it_has_among_other_characters(texts: list[str], data: st.DataObject) -> None:
    expected = word_hashes([f"{text}…" for text in texts])
    assert [each.tolist() for each in word_hashes(texts)] == [each.tolist() for each in expected]
    mixed = [data.draw(st.sampled_from([text, f"{text}…"])) for text in texts]
    assert [each.tolist() for each in word_hashes(mixed)] == [each.tolist() for each in expected]


@given(texts=TEXTS, n=st.integers(1, 6), least=st.sampled_from([0, 3, 9]))
@settings(max_examples=80, deadline=None)
def test_ngrams_are_those_of_each_text_alone(texts: list[str], n: int, least: int) -> None:
    grams, offsets = ngrams(*word_hashes(texts), n, least)
    by_gram: dict[tuple[str, ...], int] = {}
    for number, text in enumerate(texts):
        words = read(text)
        mine = grams[offsets[number] : offsets[number + 1]].tolist()
        expected = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] if len(words) >= least else []
        assert len(mine) == len(expected)
        for gram, value in zip(expected, mine, strict=True):
            assert by_gram.setdefault(gram, value) == value
    assert len(set(by_gram.values())) == len(by_gram) and offsets[-1] == len(grams)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Don't STOP — “now”", "don’t\n\n stop now!"),
        ("Café, naïve", "CAFE\u0301 nai\u0308ve"),
        ("soft\u00adhyphen zero\u200dwidth", "softhyphen zerowidth"),
        ("ＦＵＬＬ　ｗｉｄｔｈ １２", "full width 12"),
        ("ΟΔΟΣ", "οδός"),
        ("日本語、です", "日 本 語 で す"),
        ("two\x00words", "two words"),
    ],
)
def test_what_only_looks_different_has_the_same_words(text: str, same: str) -> None:
    assert word_hashes([text])[0].tolist() == word_hashes([same])[0].tolist() != []


@given(texts=TEXTS)
@settings(max_examples=80, deadline=None)
def test_letters_are_those_of_the_words_with_blanks_between(texts: list[str]) -> None:
    hashes, offsets = letter_hashes(texts)
    blank = letter_hashes(["a"])[0][1]
    for number, text in enumerate(texts):
        mine = hashes[offsets[number] : offsets[number + 1]]
        assert len(mine[mine != blank]) == sum(len(unicodedata.normalize("NFC", word)) for word in read(text))
        spread = letter_hashes([f" ({text})\u00ad, "])[0].tolist()
        assert [each for each in spread if each != blank] == mine[mine != blank].tolist()


def test_words_are_the_same_on_every_machine_and_python() -> None:
    hashes, offsets = word_hashes(["The quick brown fox", "Über 3.5 日本"])
    assert offsets.tolist() == [0, 4, 9]
    assert hashes.tolist() == WORDS
    assert ngrams(hashes, offsets, 3)[0].tolist() == GRAMS
    kinds, numbers = characters()
    assert np.bincount(kinds).tolist() == KINDS
    assert int(np.bitwise_xor.reduce(numbers * np.arange(1, len(numbers) + 1, dtype=np.uint64))) == TABLE


def hashed(numbers: list[int]) -> int:
    """The hash of a word whose letters have these numbers: a polynomial, mixed."""
    total = sum(number * pow(BASE, place, 1 << 64) for place, number in enumerate(numbers)) % (1 << 64)
    return total ^ (total >> 31)


@given(st.lists(st.text(st.sampled_from("aZ9éßжК\U0001d400１"), min_size=1, max_size=150), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_word_is_the_polynomial_of_its_letters_however_long(words: list[str]) -> None:
    numbers = characters()[1]
    expected = [hashed([int(numbers[ord(letter)]) for letter in word]) for word in words]
    assert word_hashes([" ".join(words), ""])[0].tolist() == expected
    assert word_hashes(words)[0].tolist() == expected


def test_every_character_does_to_words_what_its_table_says() -> None:
    kinds, numbers = characters()
    parts = ((0, 0x3500), (0x4DB0, 0x4E10), (0xA000, 0xAC10), (0xD7A0, 0x10500), (0x1D000, 0x1D800), (0x1F000, 0x1FC10))
    codes = np.concatenate([np.arange(*part) for part in (*parts, (0xE0000, 0xE1010), (0x10FF00, 0x110000))])
    hashes, offsets = word_hashes([f"a{chr(code)}b" for code in codes.tolist()])
    kind, number, base = kinds[codes], numbers[codes], np.uint64(BASE)
    assert np.array_equal(np.diff(offsets), np.choose(kind, [2, 1, 3, 1]))
    one, other = (np.full(len(codes), numbers[ord(letter)]) for letter in "ab")
    first = np.choose(kind, [one, one + number * base + other * base * base, one, one + other * base])
    assert np.array_equal(hashes[offsets[:-1]], first ^ (first >> np.uint64(31)))
    alone = kind == 2
    assert np.array_equal(hashes[offsets[:-1][alone] + 1], number[alone] ^ (number[alone] >> np.uint64(31)))
    assert np.unique(hashes[offsets[1:] - 1][(kind == 0) | alone]).tolist() == [hashed([int(other[0])])]


@pytest.mark.parametrize("size", [PORTION - 1, PORTION, 3 * PORTION + 5])
def test_a_long_text_has_the_words_that_it_has_in_pieces(size: int) -> None:
    text = ("alpha beta, 日本 gamma\u00ad; " * (size // 20 + 1))[:size]
    hashes, offsets = word_hashes(["before", text, "behind"])
    alone, _ = word_hashes([text[:50]])
    assert hashes[1:9].tolist() == alone[:8].tolist() and offsets[1] == 1
    assert len(np.unique(hashes[1 : offsets[2] - 1])) == 5
    assert hashes[[0, -1]].tolist() == word_hashes(["before", "behind"])[0].tolist()


def test_a_word_without_end_and_no_text_at_all() -> None:
    hashes, offsets = word_hashes(["x" * (2 * PORTION), "", "--"])
    assert offsets.tolist()[1:] == [len(hashes)] * 3 and 2 <= len(hashes) <= 4
    for texts in ([], ["", "..."]):
        hashes, offsets = word_hashes(texts)
        assert len(hashes) == 0 and offsets.tolist() == [0] * (len(texts) + 1)
        assert len(ngrams(hashes, offsets, 5)[0]) == 0
