"""The search: which documents have which texts, where, and how much of them.

What the sieve lets pass of a document is split into words (`base.words`). Where an n-gram of a text stands, all its
words are compared, and the place is grown to both sides: over equal words, and over one or two that were changed, put
in or left out if two equal ones follow. A text's score is the share of its n-grams that lie in what was grown, each
weighted by how rare it is among the texts; the rule says how large that has to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import compiled
from ettin_data.base.word_signs import by_cost, word_signs
from ettin_data.base.words import ngrams, ngrams_at, word_hashes, word_places
from ettin_data.stages.contamination.index import LEAST, Index
from ettin_data.stages.contamination.rules import ANSWER_WINDOW, Rule
from ettin_data.stages.contamination.sieve import signs_of
from ettin_data.stages.contamination.windows import around, in_pieces, merged

VERSION = 2
"""Raised when the same index finds other texts in the same documents."""

_GAPS = ((1, 1), (0, 1), (1, 0), (2, 2), (1, 2), (2, 1), (0, 2), (2, 0))  # words of the text and of the document
_ENOUGH = 2  # equal words behind a gap
_NEAR = max(map(max, _GAPS)) + _ENOUGH  # words that a gap and those behind it take
_ROUNDING, _MOST_ROUNDING = 1e-9, 1e-6


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


class _Stretch(NamedTuple):
    """Words [text_begin, text_end) of a text at words [begin, end) of a document, grown from one run."""

    text_begin: int
    text_end: int
    begin: int
    end: int


class _Run(NamedTuple):
    """So many n-grams in a row of a text, the first at word `text_place`, as they stand at word `place` of a document.

    `left` and `right` say whether something equal may follow on that side.
    """

    place: int
    text_place: int
    grams: int
    left: bool
    right: bool


class _Place(NamedTuple):
    """Words [begin, end) of a document that a rule counts as a text."""

    document: int
    begin: int
    end: int
    text: int
    score: float
    whole: bool


Numbers = NDArray[np.int64]


class _Window(NamedTuple):
    """A part of a document that is looked at closely.

    Attributes:
        document: its number.
        text: what `characters` and `words` are counted in.
        characters: of the document before this text.
        words: of the text before the part.
    """

    document: int
    text: str
    characters: int = 0
    words: int = 0


def search(index: Index, texts: Sequence[str]) -> list[Hit]:
    """Where documents, which are `texts`, have a text of the index; by document, then by place, then by text."""
    if index.sieve is None:
        return list(exact(index, texts, range(len(texts)))) if index.names else []
    order = by_cost(texts)
    pieces, first = in_pieces([texts[number] for number in order])
    signs, bounds = word_signs(pieces)
    places = index.sieve.places(signs, bounds[first])
    if not len(places):
        return []
    begins, ends = around(places, bounds[first], index.reach)
    begins, ends = merged(np.searchsorted(bounds, begins, side="right") - 1, np.searchsorted(bounds, ends))
    of = np.searchsorted(first, begins, side="right") - 1
    by_document = np.argsort(np.array(order)[of], kind="stable")
    windows = [
        _Window(order[number], "".join(pieces[begin:end]), sum(map(len, pieces[first[number] : begin])))
        for number, begin, end in np.stack([of, begins, ends], axis=1)[by_document].tolist()
    ]
    words, limits = word_hashes([window.text for window in windows])
    starts, sizes = None, bounds[ends] - bounds[begins]
    if np.array_equal(np.diff(limits), sizes[by_document]):  # not where a word is so long that it was cut
        moved = np.empty_like(limits[1:])
        moved[by_document] = limits[:-1]
        moved -= bounds[begins]
        starts = np.sort(places + moved[np.searchsorted(bounds[begins], places, side="right") - 1])
    return list(_hits(index, windows, words, limits, starts))


def search_hashed(index: Index, texts: Sequence[str], words: NDArray[np.uint64], bounds: Numbers) -> list[Hit]:
    """As `search`, of documents whose words are hashed already: `words` and `bounds` are those of `word_hashes`."""
    if not index.names:
        return []
    places = index.sieve_of_hashes.places(signs_of(words), bounds)
    if not len(places):
        return []
    begins, ends = merged(*around(places, bounds, index.reach))
    of = (np.searchsorted(bounds, begins, side="right") - 1).tolist()
    windows = [
        _Window(number, texts[number], 0, begin - int(bounds[number]))
        for number, begin in zip(of, begins.tolist(), strict=True)
    ]
    apart = [words[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    limits = np.cumsum([0, *map(len, apart)])
    window = np.searchsorted(begins, places, side="right") - 1
    return list(_hits(index, windows, np.concatenate(apart), limits, places - begins[window] + limits[window]))


def exact(index: Index, texts: Sequence[str], numbers: Sequence[int]) -> Iterator[Hit]:
    """The hits in the documents with these numbers, rising, with no sieve before it."""
    some = [texts[number] for number in numbers]
    return _hits(index, list(map(_Window, numbers, some)), *word_hashes(some))


def _hits(
    index: Index, windows: Sequence[_Window], words: NDArray[np.uint64], bounds: Numbers, starts: Numbers | None = None
) -> Iterator[Hit]:
    """The hits in windows with these words; `starts` are those with which n-grams of texts may begin, None is all."""
    for number, group in groupby(sorted(_places(index, words, bounds, starts)), key=lambda place: place.document):
        document, text, before, skipped = windows[number]
        begins, ends = word_places(text)
        for _, begin, end, one, score, whole in group:
            first, behind = int(begins[skipped + begin]) + before, int(ends[skipped + end - 1]) + before
            yield Hit(document, one, index.names[one], first, behind, score, whole)


def _places(index: Index, words: NDArray[np.uint64], bounds: Numbers, starts: Numbers | None) -> Iterator[_Place]:
    """Where documents with these words have texts. One shorter than an n-gram is where all its words are."""
    lengths = np.diff(index.bounds)
    for size in (index.n, LEAST) if index.has_short else (index.n,):
        hashes, firsts = _ngrams(words, bounds, size, starts)
        fast = size == index.n and compiled.used(_same, "pairs of n-grams")
        for at, begins in _worthy(index, words, bounds, hashes, firsts) if fast else index.find(hashes):
            document, text, at, begins = _equal(index, words, bounds, size, (firsts[at], begins))
            if size == index.n:
                yield from _grown_places(index, words, bounds, (document, text, at, begins))
            else:
                for one, begin, number in zip(
                    document.tolist(), (at - bounds[document]).tolist(), text.tolist(), strict=True
                ):
                    yield _Place(one, begin, begin + int(lengths[number]), number, 1.0, True)


def _equal(
    index: Index, words: NDArray[np.uint64], bounds: Numbers, size: int, pairs: tuple[Numbers, Numbers]
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Of places of documents and of texts those whose words are equal: document, text, word and word of the text."""
    at, begins = pairs
    document, text = np.searchsorted(bounds, at, side="right") - 1, index.owners(begins)
    length = np.diff(index.bounds)[text]
    sizes = np.full(len(text), size) if size == index.n else length
    fits = ((length < index.n) == (size != index.n)) & (at + sizes <= bounds[document + 1])
    for word in range(int(sizes.max(initial=0, where=fits))):
        ours = index.words.take(begins + word, mode="clip")
        fits &= (ours == words.take(at + word, mode="clip")) | (word >= sizes)
    return document[fits], text[fits], at[fits], begins[fits]


def _worthy(
    index: Index, words: NDArray[np.uint64], bounds: Numbers, hashes: NDArray[np.uint64], firsts: Numbers
) -> Iterator[tuple[Numbers, Numbers]]:
    """`Index.find` by the compiled loop, without pairs that `_grown_places` finds nothing in."""
    return index.find_worthy(hashes, firsts, words, bounds, np.array(_GAPS), _ENOUGH)


def _same() -> bool:
    """Whether the compiled loop leaves everything that numpy finds places in."""
    words = np.array([n * n * n % 7919 % 6 for n in range(4000)], np.uint64)  # few kinds: nearly all is nearly a text
    bounds, limits = np.arange(0, 4001, 500), np.array([0, 4, 12, 21, 50, 100, 140, 400])
    rule = Rule("half", 4)
    index = Index(tuple("abcdefg"), rule, words[1000:1400], limits, (), {})
    hashes, firsts = _ngrams(words, bounds, rule.ngram, None)

    def places(at: Numbers, begins: Numbers) -> list[_Place]:
        return sorted(
            _grown_places(index, words, bounds, _equal(index, words, bounds, rule.ngram, (firsts[at], begins)))
        )

    every, ours = index.find(hashes), _worthy(index, words, bounds, hashes, firsts)
    right, found = ([place for pair in pairs for place in places(*pair)] for pairs in (every, ours))
    return found == right


def _ngrams(
    words: NDArray[np.uint64], bounds: Numbers, size: int, starts: Numbers | None
) -> tuple[NDArray[np.uint64], Numbers]:
    """The n-grams of documents that begin at these words, or all of them, and the first word of each."""
    if starts is not None:
        starts = starts[starts + size <= bounds[np.searchsorted(bounds, starts, side="right")]]
        return ngrams_at(words, starts, size), starts
    hashes, ends = ngrams(words, bounds, size)
    return hashes, np.arange(len(hashes)) + np.repeat(bounds[:-1] - ends[:-1], np.diff(ends))


def _grown_places(
    index: Index, words: NDArray[np.uint64], bounds: Numbers, seeds: tuple[Numbers, Numbers, Numbers, Numbers]
) -> Iterator[_Place]:
    """The same from n-grams that stand there: document, text, word and word of the text of each, by document and word.

    N-grams in a row are a run; a text whose runs can neither grow nor weigh enough as they are is not looked at.
    """
    document, text, at, begins = seeds
    if not len(at):
        return
    order = np.argsort(begins - at, kind="stable")
    ahead = np.diff((begins - at)[order], prepend=np.iinfo(np.int64).min) == 0
    first = np.flatnonzero(~(ahead & (np.diff(at[order], prepend=-2) == 1)))
    grams, order = np.diff(first, append=len(order)), order[first]
    of_texts = np.lexsort((begins[order], at[order], text[order], document[order]))
    grams, order = grams[of_texts], order[of_texts]
    document, text, at, begins = (each[order] for each in seeds)
    left, right = _open(index, words, bounds, (document, text, at, begins), grams + index.n - 1)
    pairs = np.flatnonzero((np.diff(document, prepend=-1) != 0) | (np.diff(text, prepend=-1) != 0))
    most = np.add.reduceat(index.most(text, begins, begins + grams), pairs)
    worth = np.logical_or.reduceat(left | right, pairs) | (most > index.least[text[pairs]] - _MOST_ROUNDING)
    sizes = np.diff(pairs, append=len(grams))
    worthy = np.flatnonzero(np.repeat(worth, sizes))  # few, where an n-gram is one that many texts have
    document, text, at, begins = (each[worthy] for each in (document, text, at, begins))
    run_rows = at - bounds[document], begins - index.bounds[text], grams[worthy], left[worthy], right[worthy]
    runs = list(map(_Run, *(each.tolist() for each in run_rows)))
    ends, mine, before = np.cumsum([0, *sizes[worth].tolist()]).tolist(), list[int](), -1
    for first, last in pairwise(ends):
        one, number = int(document[first]), int(text[first])
        if one != before:
            mine, before = words[bounds[one] : bounds[one + 1]].tolist(), one
        for begin, end, score, whole in _of_text(index, number, mine, runs[first:last]):
            yield _Place(one, begin, end, number, score, whole)


def _open(
    index: Index,
    words: NDArray[np.uint64],
    bounds: Numbers,
    runs: tuple[Numbers, Numbers, Numbers, Numbers],
    size: Numbers,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether something equal follows on the left and on the right of runs of so many words, with or without a gap."""
    document, text, at, begins = runs

    def words_from(
        of: NDArray[np.uint64], first: Numbers, step: int, low: Numbers, high: Numbers
    ) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        places = first + step * np.arange(_NEAR)[:, None]
        return of.take(places, mode="clip"), (places >= low) & (places < high)

    sides = []
    for step, i, j in ((-1, begins - 1, at - 1), (1, begins + size, at + size)):
        ours, there = words_from(index.words, i, step, index.bounds[text], index.bounds[text + 1])
        theirs, here = words_from(words, j, step, bounds[document], bounds[document + 1])
        same = (ours[:, None] == theirs) & there[:, None] & here
        found = same[0, 0]
        for a, b in _GAPS:
            found = found | np.logical_and.reduce([same[a + k, b + k] for k in range(_ENOUGH)])
        sides.append(found)
    return sides[0], sides[1]


def _of_text(index: Index, text: int, words: list[int], runs: list[_Run]) -> Iterator[tuple[int, int, float, bool]]:
    """(first word, word behind the last, score, whole) of what a rule counts as a text; `runs` by their places."""
    mine = index.words_of(text).tolist()
    stretches, near = list[_Stretch](), list[_Stretch]()
    heap = runs  # sorted, and so a heap
    while heap:
        run = heappop(heap)
        near = [one for one in near if one.end > run.place]
        around = (s for s in near if s.begin <= run.place and s.text_begin <= run.text_place < s.text_end)
        stretch = next(around, None)
        if stretch is None:
            stretch = _grown(mine, words, run, index.n)
            stretches.append(stretch)
            near.append(stretch)
        known = min(stretch.end - run.place, stretch.text_end - run.text_place)
        if known < run.grams:  # it leaves that stretch
            rest = _Run(run.place + known, run.text_place + known, run.grams - known, True, run.right)
            heappush(heap, rest)
    sums, least = index.weight_sums_of(text), float(index.least[text]) - _ROUNDING
    for group in _groups(stretches, len(mine)):
        score = _score(sums, group, index.n)
        if score < least:
            continue
        begin, end = min(s.begin for s in group), max(s.end for s in group)
        if not index.rule.wants_answer or _answered(index, text, words, end):
            yield begin, end, round(score, 4), words[begin:end] == mine


def _grown(text: list[int], words: list[int], run: _Run, n: int) -> _Stretch:
    """A run grown to both sides."""
    size = run.grams + n - 1
    ahead, behind = (run.text_place + size, run.place + size), (run.text_place - 1, run.place - 1)
    if run.right:
        ahead = _reach(text, words, *ahead, 1)
    if run.left:
        behind = _reach(text, words, *behind, -1)
    return _Stretch(behind[0] + 1, ahead[0], behind[1] + 1, ahead[1])


def _reach(text: list[int], words: list[int], i: int, j: int, step: int) -> tuple[int, int]:
    """How far from words i and j on, in one direction, the two go together: the first words that no more do."""
    n, m = len(text), len(words)
    last_text, last_words = n - _ENOUGH, m - _ENOUGH
    back = 0 if step > 0 else _ENOUGH - 1  # from the word behind a gap to the first of those that have to be equal
    while True:
        while 0 <= i < n and 0 <= j < m and text[i] == words[j]:
            i, j = i + step, j + step
        for of_text, of_words in _GAPS:
            a, b = i + step * of_text - back, j + step * of_words - back
            if 0 <= a <= last_text and 0 <= b <= last_words and text[a : a + _ENOUGH] == words[b : b + _ENOUGH]:
                i, j = a + back, b + back
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


def _score(sums: list[float], group: list[_Stretch], n: int) -> float:
    """The share of the text's n-grams, by weight, that lie in these stretches; `sums` are of the weights."""
    found, done = 0.0, 0
    for text_begin, text_end, *_ in sorted(group):
        first, last = max(text_begin, done), text_end - n + 1
        if first < last:
            found += sums[last] - sums[first]
            done = last
    return found / (sums[-1] - sums[0])


def _answered(index: Index, text: int, words: list[int], end: int) -> bool:
    """Whether the answer, where there is one, stands close behind the question."""
    answer = list(index.answers[text])
    behind = words[end : end + ANSWER_WINDOW + len(answer)]
    return not answer or any(behind[k : k + len(answer)] == answer for k in range(len(behind) - len(answer) + 1))
