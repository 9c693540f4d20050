"""Filters on words and sentences of other languages: datatrove's decisions and text, and what is missing by name."""

import importlib.util
import re

import pytest
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils import word_tokenizers
from filter_kit import build_filters, document, real_text, texts
from hypothesis import given, settings

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.registry import choose_filters

MADE_UP = "qaa_Latn"
THEIRS = {
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}
OPTIONS = [
    ("gopher_quality", {"min_doc_words": 2, "min_stop_words": 1}),
    ("gopher_repetition", {}),
    ("gopher_repetition", {"dup_line_frac": None, "dup_para_frac": None, "top_n_grams": [(1, 0.3), (2, 0.4)]}),
    ("c4", {"filter_no_terminal_punct": False, "filter_curly_bracket": False}),
    ("c4", {"split_paragraph": False, "min_num_sentences": 2, "filter_curly_bracket": False}),
    ("fineweb", {"line_punct_thr": 0.0, "short_line_thr": 1.0, "char_duplicates_ratio": 1.0}),
]


class Plain(word_tokenizers.WordTokenizer):
    """Words, some of them of two, and sentences that need no package: datatrove's own splitters all do."""

    def word_tokenize(self, text):
        return re.findall(r"the \w+|\w+|[^\w\s]", text)

    def sent_tokenize(self, text):
        return [text[begin:end] for begin, end in self.span_tokenize(text)]

    def span_tokenize(self, text):
        return [found.span() for found in re.finditer(r"[^.!?…]+[.!?…]*", text)]


@pytest.fixture(scope="module", autouse=True)
def language():
    known = {MADE_UP: Plain, **word_tokenizers.load_tokenizer_assignments()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_tokenizers, "load_tokenizer_assignments", lambda: known)
        yield


def both(name, text, language, **options):
    """Decision and text, ours and datatrove's."""
    (ours,) = build_filters([{name: {"language": language, **options}}])
    found = []
    try:
        for step in (ours, THEIRS[name](language=language, **options)):
            one = document(text)
            found.append((step.filter(one), one.text))
    except ZeroDivisionError:  # theirs, of a text without words
        return None, None
    return found


@pytest.mark.parametrize(("name", "options"), OPTIONS)
@given(text=texts().filter(bool))  # what to do with a text of nothing depends on the version of datatrove
@settings(max_examples=40, deadline=None)
def test_decisions_are_datatroves(name, options, text):
    ours, theirs = both(name, text, MADE_UP, **options)
    assert ours == theirs


REAL = {"min_doc_words": 20, "max_non_alpha_words_ratio": 0.6}


@pytest.mark.parametrize(
    ("name", "options"), [("gopher_quality", REAL), *OPTIONS[2:5], ("fineweb", {"char_duplicates_ratio": 0.2})]
)
def test_decisions_on_real_text_are_datatroves(name, options):
    found = [both(name, text, MADE_UP, **options) for text in real_text(200_000)]
    assert all(ours == theirs for ours, theirs in found)
    assert {ours[0] is True for ours, _ in found} == {True, False}


@pytest.mark.skipif(importlib.util.find_spec("spacy") is None, reason="needs spaCy")
@pytest.mark.parametrize(("name", "options"), [("gopher_quality", {"stop_words": ["und", "die"]}), *OPTIONS[1:]])
def test_decisions_on_german_are_datatroves(name, options):
    said = "Der Hund ist groß und die Katze ist klein, sagt man z. B. in Köln. "
    for text in (said * 9, f"{said}\nSo ist es!\n" * 3, "\n".join(said.split() * 9)):
        ours, theirs = both(name, text, "deu", **options)
        assert ours == theirs


@pytest.mark.parametrize("name", THEIRS)
def test_what_is_missing_is_named(name):
    with pytest.raises(RecipeError, match="splits no text of 'none'"):
        build_filters([{name: {"language": "none"}}])
    if importlib.util.find_spec("spacy") is None:
        with pytest.raises(RecipeError, match="spacy") as raised:
            build_filters([{name: {"language": "deu"}}])
        assert raised.value.remedy == "pip install spacy"


@pytest.mark.parametrize("name", THEIRS)
def test_pools_that_were_built_before_stay(name):
    (plain,), (other,) = choose_filters([name]), choose_filters([{name: {"language": MADE_UP}}])
    assert "language" not in plain.describe()["options"] and other.describe()["options"]["language"] == MADE_UP
