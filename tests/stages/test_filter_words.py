"""Words and sentences: spaCy's, by its vectors in `english_words.json`, and by itself where it is installed."""

import difflib
import json
from pathlib import Path

import pytest
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION, split_into_words
from filter_kit import CODE, needs_spacy, runs, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.stages.text import english, sentences, splitter, word_split

VECTORS = json.loads(Path(__file__).with_name("english_words.json").read_text())


@pytest.mark.parametrize("text, expected", VECTORS["words"])
def test_words_are_spacys(text, expected):
    assert runs(text) == expected
    found = word_split.Words(text, vocabulary := word_split.Vocabulary())
    assert [list(vocabulary.words)[number] for number in found.numbers] == expected


@pytest.mark.parametrize("text, expected", VECTORS["sentences"])
def test_sentences_are_spacys(text, expected):
    assert sentences.sentences(text) == expected
    assert sentences.at_most(text) >= len(expected)
    for enough in range(6):
        n = sentences.count(text, enough)
        assert n == len(expected) if len(expected) < enough else n >= enough


def test_punctuation_is_datatroves():
    assert english.TERMINAL_PUNCTUATION == TERMINAL_PUNCTUATION and english.PUNCTUATION == PUNCTUATION_SET


MARKED = st.tuples(CODE, st.sampled_from(sorted(splitter.SPECIALS)), CODE).map("".join)


@given(st.lists(CODE | MARKED | texts().map(lambda text: "".join(text.split()))))
@settings(max_examples=400, deadline=None)
def test_the_short_way_is_the_long_way(chunks):
    plain, found = splitter.cut_plain(chunks)
    assert found == [word for chunk in plain for word in (*splitter.cut_chunk(chunk, specials={}), "\n")]


def test_what_goes_the_short_way():
    usual = ["word", "(self._x[0],", "a-b", "key='it',", "user's", "x.y()", "1.5,", "`--name`", "don't,x."]
    others = ["a-b.com", "5km", "foo...", "é", "((", "x" * 129]
    assert splitter.cut_plain(usual + others)[0] == usual
    assert splitter.cut_plain([]) == ([], [])


@given(st.text(st.characters(exclude_categories=["Cs"])) | CODE | texts())
def test_splitting_loses_no_character(text):
    assert "".join(runs(text)) == "".join(text.split())
    assert all(runs(text))
    assert "".join(sentences.sentences(text)) == text


@given(st.lists(texts() | CODE, min_size=1, max_size=5))
def test_the_words_of_a_text_do_not_depend_on_those_before(contents):
    vocabulary = word_split.Vocabulary()
    for text in contents:
        found = word_split.Words(text, vocabulary)
        names = list(vocabulary.words)
        expected = runs(text)
        assert [names[number] for number in found.numbers] == expected
        assert found.lengths.tolist() == [len(word) for word in expected]
        wordy = [word for word in expected if not PUNCTUATION_SET.issuperset(word)]
        assert (found.n, found.wordy, found.wordy_chars) == (len(expected), len(wordy), sum(map(len, wordy)))
        assert found.alpha == sum(any(c.isalpha() for c in word) for word in expected)
        assert found.among(("the", "):")) == ("the" in expected) + ("):" in expected)


def test_a_full_vocabulary_is_begun_anew(monkeypatch):
    texts_ = [f"word{i} and {i} others): {i}" for i in range(50)]
    expected = [word_split.Words(text, word_split.Vocabulary()).n for text in texts_]
    monkeypatch.setattr(word_split, "_MAX_CHARS", 40)
    shared_ = word_split._Splitter()
    assert [shared_.words(text).n for text in texts_] == expected
    assert shared_._vocabulary.chars < 200


@needs_spacy
def test_special_strings_are_spacys():
    from spacy.lang.en.tokenizer_exceptions import TOKENIZER_EXCEPTIONS
    from spacy.symbols import ORTH

    theirs = {key: tuple(t[ORTH] for t in value) for key, value in TOKENIZER_EXCEPTIONS.items() if not key.isspace()}
    assert theirs == splitter.SPECIALS


@needs_spacy
@given(st.text(st.characters(exclude_categories=["Cs"])) | CODE | texts())
@settings(max_examples=500, deadline=None)
def test_words_of_any_text_are_spacys(text):
    text = text.replace("IS_ALPHA", "")
    expected = split_into_words(text)
    if runs(text) != expected:
        pytest.fail("\n".join(difflib.ndiff(expected, runs(text))))
