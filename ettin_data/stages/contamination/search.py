"""The search: which documents have which texts, where, and how much of them.

A document that passes the sieve is split into words (`base.words`). Where an n-gram of a text stands, all its words are
compared, and the place is grown to both sides: over equal words, and over one or two that were changed, put in or left
out if two equal ones follow. A text's score is the share of its n-grams that lie in what was grown, each weighted by
how rare it is among the texts; the rule says how large that has to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.words import ngrams, word_hashes, word_keys, word_places
from ettin_data.stages.contamination.index import LEAST, Index
from ettin_data.stages.contamination.rules import ANSWER_WINDOW

VERSION = 1
"""Raised when the same index finds other texts in the same documents."""

_GAPS = ((1, 1), (0, 1), (1, 0), (2, 2), (1, 2), (2, 1), (0, 2), (2, 0))  # words of the text and of the document
_ENOUGH = 2  # equal words behind a gap
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Hit:
    """A text in a document.

    Attributes:
        document: number among those that were searched.
        text: number in the index.
        name: of the text.
        begin, end: characters [begin, end) of the document.
        score: share of the text's n-grams, by weight; 1.0 of one that is shorter than an n-gram.
        whole: whether every word of the text stands there, in order, with nothing between.
    """

    document: int
    text: int
    name: str
    begin: int
    end: int
    score: float
    whole: bool


@dataclass
class _Stretch:
    """Words [text_begin, text_end) of a text at words [begin, end) of a document, grown from one seed."""

    text_begin: int
    text_end: int
    begin: int
    end: int


def search(index: Index, texts: Sequence[str]) -> list[Hit]:
    """Where documents have a text of the index; by document, then by place, then by text.

    Args:
        texts: the documents.
    """
    if index.sieve is None:
        return list(exact(index, texts, range(len(texts)))) if index.names else []
    candidates = index.sieve.candidates(*word_keys(texts))
    return list(exact(index, texts, candidates)) if candidates else []


def search_hashed(
    index: Index, texts: Sequence[str], words: NDArray[np.uint64], bounds: NDArray[np.int64]
) -> list[Hit]:
    """As `search`, of documents whose words are hashed already: `words` and `bounds` are those of `word_hashes`."""
    hits: list[Hit] = []
    for one in index.sieve_of_hashes.candidates(words, bounds) if index.names else []:
        mine = words[bounds[one] : bounds[one + 1]]
        hits += _hits(index, [texts[one]], [one], mine, np.array([0, len(mine)]))
    return hits


def exact(index: Index, texts: Sequence[str], numbers: Sequence[int]) -> Iterator[Hit]:
    """The hits in the documents with these numbers, rising, with no sieve before it."""
    some = [texts[number] for number in numbers]
    return _hits(index, some, numbers, *word_hashes(some))


def _hits(
    index: Index, texts: Sequence[str], numbers: Sequence[int], words: NDArray[np.uint64], bounds: NDArray[np.int64]
) -> Iterator[Hit]:
    """The hits in documents with these numbers and words."""
    document, place, text, text_place = _seeds(index, words, bounds)
    cuts = np.flatnonzero(np.diff(document, prepend=-1, append=-1)).tolist()
    for first, last in pairwise(cuts):
        one = int(document[first])
        mine = words[bounds[one] : bounds[one + 1]].tolist()
        seeds = zip(text[first:last].tolist(), place[first:last].tolist(), text_place[first:last].tolist(), strict=True)
        found = sorted(_in_document(index, mine, list(seeds)))
        if not found:
            continue
        begins, ends = word_places(texts[one])
        for begin, end, number, score, whole in found:
            name = index.names[number]
            yield Hit(numbers[one], number, name, int(begins[begin]), int(ends[end - 1]), score, whole)


def _seeds(
    index: Index, words: NDArray[np.uint64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where n-grams of texts stand, word for word: document, place in it, text, place in that; shapes (n,), int64.

    By document, text and place. A text shorter than an n-gram is here where all its words are.
    """
    found = []
    for size in (index.n, LEAST) if index.has_short else (index.n,):
        hashes, ends = ngrams(words, bounds, size)
        at, begins = index.find(hashes)
        text = index.owners(begins)
        text_place = begins - index.bounds[text]
        document = np.searchsorted(ends, at, side="right") - 1
        place = at - ends[document]
        length = np.diff(index.bounds)[text]
        short = length < index.n
        size_of = np.where(short, length, index.n)
        fits = (short == (size != index.n)) & (place + size_of <= np.diff(bounds)[document])
        document, place, text, text_place = (each[fits] for each in (document, place, text, text_place))
        found.append((document, place, text, text_place, size_of[fits]))
    document, place, text, text_place, sizes = (np.concatenate(each) for each in zip(*found, strict=True))
    same = np.ones(len(document), bool)
    for word in range(int(sizes.max(initial=0))):
        ours = np.minimum(index.bounds[text] + text_place + word, len(index.words) - 1)
        theirs = np.minimum(bounds[document] + place + word, len(words) - 1)
        same &= (index.words[ours] == words[theirs]) | (word >= sizes)
    order = np.lexsort((text_place, place, text, document))
    order = order[same[order]]
    return document[order], place[order], text[order], text_place[order]


def _in_document(
    index: Index, words: list[int], seeds: list[tuple[int, int, int]]
) -> Iterator[tuple[int, int, int, float, bool]]:
    """(first word, word behind the last, text, score, whole) of what a rule counts; `seeds` by text and place."""
    by_text: dict[int, list[tuple[int, int]]] = {}
    for text, place, text_place in seeds:
        by_text.setdefault(text, []).append((place, text_place))
    for text, places in by_text.items():
        mine = index.words_of(text).tolist()
        if len(mine) < index.n:
            yield from ((place, place + len(mine), text, 1.0, True) for place, _ in places)
            continue
        stretches: list[_Stretch] = []
        for place, text_place in places:
            if not any(s.begin <= place < s.end and s.text_begin <= text_place < s.text_end for s in stretches[-4:]):
                stretches.append(_grown(mine, words, text_place, place, index.n))
        for group in _groups(stretches, len(mine)):
            begin, end = min(s.begin for s in group), max(s.end for s in group)
            score = _score(index, text, group)
            if score < index.rule.least(len(mine)) - _ROUNDING:
                continue
            if not index.rule.wants_answer or _answered(index, text, words, end):
                yield begin, end, text, round(score, 4), words[begin:end] == mine


def _grown(text: list[int], words: list[int], text_place: int, place: int, n: int) -> _Stretch:
    """A seed of n words grown to both sides."""
    ahead = _reach(text, words, text_place + n, place + n, 1)
    behind = _reach(text, words, text_place - 1, place - 1, -1)
    return _Stretch(behind[0] + 1, ahead[0], behind[1] + 1, ahead[1])


def _reach(text: list[int], words: list[int], i: int, j: int, step: int) -> tuple[int, int]:
    """How far from words i and j on, in one direction, the two go together: the first words that no more do."""
    n, m = len(text), len(words)

    def equal(a: int, b: int) -> bool:
        return 0 <= a < n and 0 <= b < m and text[a] == words[b]

    while True:
        while equal(i, j):
            i, j = i + step, j + step
        for of_text, of_words in _GAPS:
            a, b = i + step * of_text, j + step * of_words
            if all(equal(a + step * k, b + step * k) for k in range(_ENOUGH)):
                i, j = a, b
                break
        else:
            return i, j


def _groups(stretches: list[_Stretch], words: int) -> Iterator[list[_Stretch]]:
    """The stretches that are of one place in the document: less than the text's length apart."""
    group: list[_Stretch] = []
    end = 0
    for stretch in sorted(stretches, key=lambda s: (s.begin, s.text_begin)):
        if group and stretch.begin - end >= words:
            yield group
            group = []
        end = max(end, stretch.end) if group else stretch.end
        group.append(stretch)
    if group:
        yield group


def _score(index: Index, text: int, group: list[_Stretch]) -> float:
    """The share of the text's n-grams, by weight, that lie in these stretches."""
    weights = index.weights_of(text)
    there = np.zeros(len(weights), bool)
    for stretch in group:
        there[stretch.text_begin : max(stretch.text_end - index.n + 1, stretch.text_begin)] = True
    return float(weights[there].sum() / weights.sum())


def _answered(index: Index, text: int, words: list[int], end: int) -> bool:
    """Whether the answer, where there is one, stands close behind the question."""
    answer = list(index.answers[text])
    behind = words[end : end + ANSWER_WINDOW + len(answer)]
    return not answer or any(behind[k : k + len(answer)] == answer for k in range(len(behind) - len(answer) + 1))
