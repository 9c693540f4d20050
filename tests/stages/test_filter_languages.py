"""`gopher_quality` on words of other languages: datatrove's decisions, and what is missing by name."""

import importlib.util
import re

import pytest
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.utils import word_tokenizers
from filter_kit import build_filters, document, real_text, texts
from hypothesis import given, settings

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.registry import choose_filters

MADE_UP = "qaa_Latn"


class Plain(word_tokenizers.WordTokenizer):
    """Words that need no package: datatrove's own splitters all do."""

    def word_tokenize(self, text):
        return re.findall(r"\w+|[^\w\s]", text)

    def sent_tokenize(self, text):
        return [text]

    def span_tokenize(self, text):
        return [(0, len(text))]


@pytest.fixture(scope="module", autouse=True)
def language():
    known = {MADE_UP: Plain, **word_tokenizers.load_tokenizer_assignments()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_tokenizers, "load_tokenizer_assignments", lambda: known)
        yield


def both(text, language, **options):
    (ours,) = build_filters([{"gopher_quality": {"language": language, **options}}])
    theirs = GopherQualityFilter(language=language, **options)
    try:
        return ours.filter(document(text)), theirs.filter(document(text))
    except ZeroDivisionError:  # theirs, of a text without words
        return (False, "gopher_short_doc"), (False, "gopher_short_doc")


@given(texts())
@settings(max_examples=60, deadline=None)
def test_decisions_are_datatroves(text):
    ours, theirs = both(text, MADE_UP, min_doc_words=2, min_stop_words=1)
    assert ours == theirs


def test_decisions_on_real_text_are_datatroves():
    found = [both(text, MADE_UP, min_doc_words=20, max_non_alpha_words_ratio=0.6) for text in real_text(200_000)]
    assert all(ours == theirs for ours, theirs in found) and {ours is True for ours, _ in found} == {True, False}
    if importlib.util.find_spec("spacy"):
        text = "Der Hund ist groß und die Katze ist klein, sagt man. " * 9
        assert both(text, "deu", stop_words=["und", "die"]) == (True, True)


def test_what_is_missing_is_named():
    with pytest.raises(RecipeError, match="splits no words of 'none'"):
        build_filters([{"gopher_quality": {"language": "none"}}])
    if importlib.util.find_spec("spacy") is None:
        with pytest.raises(RecipeError, match="spacy") as raised:
            build_filters([{"gopher_quality": {"language": "deu"}}])
        assert raised.value.remedy == "pip install spacy"


def test_pools_that_were_built_before_stay():
    (plain,), (other,) = choose_filters(["gopher_quality"]), choose_filters([{"gopher_quality": {"language": MADE_UP}}])
    assert "language" not in plain.describe()["options"] and other.describe()["options"]["language"] == MADE_UP
