"""The heuristic filters: datatrove's decisions, reasons, texts and statistics, on any text and with any options.

datatrove's own filters are the referee. They judge with the words of our splitter, which has its own tests, or with
spaCy's where it is installed.
"""

import gzip
import inspect
import json
import random

import numpy as np
import pytest
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.word_tokenizers import WordTokenizer
from filter_kit import build_filters, document, needs_spacy, real_text, runs, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.stages.filters import gopher_repetition
from ettin_data.stages.filters.options import defaults_of
from ettin_data.stages.filters.registry import shipped
from ettin_data.stages.text import sentences

THEIRS = {
    "gopher_quality": GopherQualityFilter,
    "gopher_repetition": GopherRepetitionFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}


class OurWords(WordTokenizer):
    """Our splitter as one of datatrove's, for its filters to judge with."""

    def word_tokenize(self, text):
        return runs(text)

    def sent_tokenize(self, text):
        return sentences.sentences(text)

    def span_tokenize(self, text):
        ends = sentences.ends(text)
        return list(zip([0, *ends], ends, strict=False))


OUR_WORDS = OurWords()


def answers(name, options, text, language=OUR_WORDS):
    """What our filter and datatrove's say, and the texts that they leave."""
    ours, theirs = document(text), document(text)
    answer = build_filters([{name: options}])[0].filter(ours)
    stop = {"stop_words": list(options["stop_words"])} if "stop_words" in options else {}
    try:
        reference = THEIRS[name](**(options | stop), language=language).filter(theirs)
    except ZeroDivisionError:  # of a text without words, lines or characters
        return answer, answer, "", ""
    return answer, reference, ours.text if answer is True else "", theirs.text if reference is True else ""


def changed_options(name):
    """Options of a filter with some of them changed, thresholds that are met more often among them."""

    def values(key, default):
        if key == "stop_words":
            return st.lists(st.sampled_from(["the", "a", "can", "don't", ".", "Mr.", "x"]), max_size=4).map(tuple)
        if key == "stop_chars":
            return st.none() | st.just((".", "...", "x"))
        if isinstance(default, bool):
            return st.booleans()
        if isinstance(default, tuple):
            return st.lists(
                st.tuples(st.integers(1, 11), st.sampled_from([0.01, 0.05, 0.1, 0.2])), min_size=1, max_size=4
            ).map(tuple)
        if isinstance(default, int):
            return st.sampled_from([default, 1, 2, 5, 10])
        return st.sampled_from([default, 0.01, 0.1, 0.2, 0.5])

    return st.fixed_dictionaries({}, optional={k: values(k, v) for k, v in english_options(name).items()})


def english_options(name):
    """Option -> default, without the language, of which our splitter knows one."""
    return {key: default for key, default in defaults_of(shipped()[name]).items() if key != "language"}


@pytest.mark.parametrize("name", THEIRS)
def test_options_and_defaults_are_datatroves(name):
    theirs = {
        key: parameter.default
        for key, parameter in inspect.signature(THEIRS[name].__init__).parameters.items()
        if key not in ("self", "exclusion_writer", "language")
    }
    ours = english_options(name) | ({"stop_words": None} if name == "gopher_quality" else {})
    assert ours == theirs


@pytest.mark.parametrize("text", ["", " "])
@pytest.mark.parametrize("name", THEIRS)
def test_nothing_is_an_answer_too(name, text):
    (step,) = build_filters([{name: {"min_doc_words": None} if name == "gopher_quality" else {}}])
    expected = {
        "gopher_quality": (False, "gopher_short_doc"),
        "gopher_repetition": True,
        "c4": (False, "too_few_sentences"),
        "fineweb": (False, "empty"),
    }
    assert step.filter(document(text)) == expected[name]


@pytest.mark.parametrize("name", THEIRS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_decisions_are_datatroves(name, data):
    options = data.draw(changed_options(name) | st.just({}))
    # What to do with a text of nothing, which no source gives, depends on datatrove's version.
    ours, theirs, our_text, their_text = answers(name, options, data.draw(texts().filter(bool)))
    assert ours == theirs
    assert our_text == their_text


@pytest.mark.parametrize("name", THEIRS)
def test_decisions_on_real_text_are_datatroves(name):
    reasons = set()
    for text in real_text(150_000):
        ours, theirs, our_text, their_text = answers(name, {}, text)
        assert (ours, our_text) == (theirs, their_text)
        reasons.add(ours)
    assert len(reasons) > 1  # the text is no proof of anything if all of it gets the same answer


def test_statistics_of_lines_are_datatroves():
    ours, theirs = build_filters(["c4"])[0], C4QualityFilter(language=OUR_WORDS)
    contents = ["Lorem ipsum is it.\nNot read.", "A fine line. {", "They use cookies.", "x" * 2000, *real_text(100_000)]
    for step in (ours, theirs):
        list(step.run(document(text) for text in contents))
    for label, expected in theirs.stats.stats.items():
        assert ours.stats.stats[label].total == expected.total, label
    assert {"line-filter-policy", "dropped_lorem_ipsum", "line-filter-too_long_word"} < set(ours.stats.stats)


@pytest.mark.parametrize("name", THEIRS)
def test_decisions_on_a_crawl_are_datatroves(name, shared):
    for path in sorted((shared / "samples").glob("*.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            record = json.loads(line)
            text = record.get("text") or record.get("raw_content") or ""
            ours, theirs, our_text, their_text = answers(name, {}, text)
            assert (ours, our_text) == (theirs, their_text)


@given(texts().filter(bool), changed_options("gopher_repetition"))
@settings(max_examples=50, deadline=None)
def test_decisions_do_not_rest_on_hashes(text, options):
    """With hashes that all but always agree, what is left to the comparison of strings gives the same answer."""
    expected = answers("gopher_repetition", options, text)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gopher_repetition, "_LOW", np.ones_like(gopher_repetition._LOW))
        patch.setattr(gopher_repetition, "_HIGH", np.ones_like(gopher_repetition._HIGH))
        assert answers("gopher_repetition", options, text)[0] == expected


def test_the_end_of_a_text_is_no_n_gram():
    """What is left of the last n-grams may have the characters of a whole one, which has not stood before for that."""
    options = {"top_n_grams": ((2, 0.4),), "dup_n_grams": ((3, 0.2), (10**12, 0.1))}
    for text in ("xxxx yyyyyyy aa bb c d e aabb", "a b cc d ab cc", "ab", "a b ab a b"):
        ours, theirs, _, _ = answers("gopher_repetition", options, text)
        assert ours == theirs


@pytest.mark.parametrize("room", [1, 1 << 19])
def test_long_documents_are_looked_at_in_parts(room, monkeypatch):
    monkeypatch.setattr(gopher_repetition, "_ROOM", room)
    rng = random.Random(1)
    names = [f"w{i}" for i in range(9_000)]
    prose = " ".join(rng.choices(names, k=25_000))  # more than two blocks of characters
    passage = " ".join(rng.choices(names, k=2_500))
    often = f"{passage} {prose[:60_000]} {passage} {passage}"
    for text in (prose, f"{prose} {passage} {prose[:9000]} {passage}", often):
        for fraction in (0.02, 0.2, 0.4):
            options = {"dup_n_grams": ((5, fraction), (7, fraction / 2)), "top_n_grams": ((2, 0.0001), (3, fraction))}
            ours, theirs, _, _ = answers("gopher_repetition", options, text)
            assert ours == theirs


@needs_spacy
@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_decisions_on_much_real_text_are_the_originals(name):
    for text in real_text(1_500_000):
        ours, theirs, our_text, their_text = answers(name, {}, text.replace("IS_ALPHA", ""), language="en")
        assert (ours, our_text) == (theirs, their_text)
