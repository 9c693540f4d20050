"""The index of evaluation texts: their words, the n-grams by which they are found, and what each n-gram weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base import words as of_words
from ettin_data.base.word_signs import by_cost, word_signs
from ettin_data.base.words import ngrams, word_hashes
from ettin_data.stages.contamination.rules import ANSWER_WINDOW, Rule
from ettin_data.stages.contamination.sieve import HashFilter, Sieve, signs_of
from ettin_data.stages.contamination.texts import EvaluationText

LEAST, DIFFERENT = 5, 4
"""Words, and different ones, that a text needs at least: of fewer, clean documents have many by chance."""

MOST_PLACES = 8
"""Of an n-gram in one text that are looked for and weigh something: more has only a text that repeats itself."""

_ROUNDING = 1e-5  # of a share of what a text weighs: more than sums of a hundred million n-grams may be off by
_PORTION, _MORE_PORTION = 1 << 20, 1 << 22  # places of n-grams that are looked at together; by compiled code
_LOOK = 12  # words of which nearly every text has different ones enough


@dataclass(frozen=True)
class Index:
    """Texts to be looked for.

    Attributes:
        names: of those that can be, in their order.
        rule: when a document has one of them.
        words: of all texts end to end (`base.words.word_hashes`), uint64.
        bounds: where the words of each text begin, shape (texts + 1,), int64.
        answers: of each text the words of its answer, where the rule wants that; else none at all.
        unsearchable: name of a text that cannot be looked for -> why.
        sieve: what lets pass only documents that may have something of these texts; None lets all pass.
    """

    names: tuple[str, ...]
    rule: Rule
    words: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    answers: tuple[tuple[int, ...], ...]
    unsearchable: dict[str, str]
    sieve: Sieve | None = None

    @classmethod
    def of(cls, texts: Sequence[EvaluationText], rule: Rule) -> Index:
        """The index of these texts; what is too short, or stands in several items as a short text, cannot be found."""
        words, bounds = word_hashes([text.text for text in texts])
        lengths = np.diff(bounds)
        short = np.flatnonzero(lengths < rule.ngram).tolist()
        same = Counter(words[bounds[number] : bounds[number + 1]].tobytes() for number in short)
        why: dict[int, str] = {}
        for number in np.flatnonzero(~_begins_with_different(words, bounds)).tolist():
            mine = words[bounds[number] : bounds[number + 1]]
            if (different := len(set(mine.tolist()))) < DIFFERENT:
                why[number] = f"has {different} different words"
        for number in short:
            mine = words[bounds[number] : bounds[number + 1]]
            if number not in why and (times := same[mine.tobytes()]) > 1:
                why[number] = f"has {len(mine)} words, which {times} texts have"
        for number in np.flatnonzero(lengths < max(LEAST, rule.least_words)).tolist():
            why[number] = f"has {lengths[number]} words"
        kept = [number for number in range(len(texts)) if number not in why]
        there = np.ones(len(texts), bool)
        there[list(why)] = False
        found = [texts[number] for number in kept]
        words, bounds = words[np.repeat(there, lengths)], np.cumsum([0, *lengths[there].tolist()])
        answers = tuple(tuple(word_hashes([text.answer])[0].tolist()) for text in found) if rule.wants_answer else ()
        unsearchable = {texts[number].name: why[number] for number in sorted(why)}
        some = [found[number].text for number in by_cost([text.text for text in found])]
        sieve = Sieve(*word_signs(some), rule.ngram, LEAST) if found else None
        return cls(tuple(text.name for text in found), rule, words, bounds, answers, unsearchable, sieve)

    @property
    def n(self) -> int:
        """Words of an n-gram."""
        return self.rule.ngram

    def words_of(self, number: int) -> NDArray[np.uint64]:
        """The words of a text, uint64."""
        return self.words[self.bounds[number] : self.bounds[number + 1]]

    @cached_property
    def digest(self) -> str:
        """Of all that decides what is found: words, names, rule."""
        digest = xxhash.xxh3_128(f"{of_words.VERSION} {self.rule}".encode())
        digest.update("".join(f"\0{name}" for name in self.names).encode("utf-8", "surrogatepass"))
        digest.update(repr(self.answers).encode())
        digest.update(self.words.tobytes())
        digest.update(self.bounds.tobytes())
        return digest.hexdigest()

    @property
    def has_short(self) -> bool:
        """Whether some texts have fewer than n words."""
        return bool((np.diff(self.bounds) < self.n).any())

    @cached_property
    def reach(self) -> int:
        """Words of a document that what is said of a place depends on, on each side of it.

        A place grows to each side over at most two words for each of the text's; and places less than a text apart are
        of one hit, so that two of these lie within five times its words. The answer stands behind them.
        """
        answer = max(map(len, self.answers), default=0) + ANSWER_WINDOW
        return 3 * int(np.diff(self.bounds).max(initial=0)) + answer

    @cached_property
    def _grams(self) -> _Grams:
        """The n-grams of all texts; of a text of fewer than n words its first `LEAST`."""
        lengths = np.diff(self.bounds)
        hashes, begins = [], []
        for size, some in ((self.n, lengths >= self.n), (LEAST, lengths < self.n)):
            of_words = np.repeat(some, lengths)
            mine = np.cumsum([0, *lengths[some].tolist()])
            found, bounds = ngrams(self.words[of_words], mine, size)
            places = np.arange(len(found)) + np.repeat(mine[:-1] - bounds[:-1], np.diff(bounds))
            if size != self.n:
                found, places = found[bounds[:-1]], mine[:-1]
            hashes.append(found)
            begins.append(np.flatnonzero(of_words)[places])
        return _Grams.of(np.concatenate(hashes), np.concatenate(begins), self.bounds)

    def find(self, hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Which of these hashes n-grams of texts may have: (number in `hashes`, first word of the n-gram), int64 each.

        All of a text come together, by number; what stands in many texts in portions, as it would not fit into memory.
        A few are of other n-grams: the words are to be compared.
        """
        return self._grams.find(hashes, self.bounds)

    def find_worthy(
        self,
        hashes: NDArray[np.uint64],
        firsts: NDArray[np.int64],
        words: NDArray[np.uint64],
        bounds: NDArray[np.int64],
        gaps: NDArray[np.int64],
        enough: int,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """As `find`, by a compiled loop (`loops.worthy_pairs`), without texts that documents cannot have.

        An n-gram that thousands of texts have takes a ninth of the time for each of them, with what comes after it.

        Args:
            hashes: of n-grams, and `firsts` the words that they begin with.
            words, bounds: of the documents.
            gaps, enough: over which a place may grow, and how many equal words have to follow.
        """
        from ettin_data.stages.contamination import loops

        texts = self.words, self.bounds, self._weight_sums, self._least_weight
        for some, first, last in self._grams.portions(hashes, self.bounds, _MORE_PORTION):
            places = firsts[some], first, last, self._grams.begins, self._owners
            pairs = loops.worthy_pairs(self.n, words, bounds, *places, *texts, gaps, enough)
            which, begins = np.frombuffer(pairs, np.int64).reshape(-1, 2).T
            yield some[which], begins

    @cached_property
    def _owners(self) -> NDArray[np.int32]:
        """The text of each of `_grams.begins`."""
        of_words = np.repeat(np.arange(len(self.names), dtype=np.int32), np.diff(self.bounds))
        return of_words.take(self._grams.begins)

    @cached_property
    def _least_weight(self) -> NDArray[np.float64]:
        """What the n-grams of each text weigh that have to be found, less what sums may be off by."""
        sums = self._weight_sums[self.bounds]
        found: NDArray[np.float64] = (self.least - _ROUNDING) * np.diff(sums)
        return found

    @cached_property
    def least(self) -> NDArray[np.float64]:
        """The least score of each text that counts, float64."""
        lengths, which = np.unique(np.diff(self.bounds), return_inverse=True)
        return np.array([self.rule.least(length) for length in lengths.tolist()])[which]

    def owners(self, begins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which text each of these words is of."""
        return self.bounds.searchsorted(begins, side="right") - 1

    def most(self, texts: NDArray[np.int64], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the n-grams that begin at words [begin, end) of these texts weigh, as a share of all of the text's."""
        sums = self._weight_sums
        share: NDArray[np.float64] = sums[ends] - sums[begins]
        share /= sums[self.bounds[texts + 1]] - sums[self.bounds[texts]]
        return share

    def weight_sums_of(self, text: int) -> list[float]:
        """What the n-grams of a text of n or more words weigh that begin before each word, and at last all of them.

        Each has the logarithm of how many times as many texts there are as have the n-gram.
        """
        found: list[float] = self._weight_sums[self.bounds[text] : self.bounds[text + 1] + 1].tolist()
        return found

    @cached_property
    def _weight_sums(self) -> NDArray[np.float64]:
        return np.concatenate([[0.0], np.cumsum(self._grams.weights)])

    @cached_property
    def sieve_of_hashes(self) -> Sieve:
        """The sieve for documents whose words are hashed already."""
        return Sieve(signs_of(self.words), self.bounds, self.n, LEAST)

    def ready(self, hashed: bool = False) -> Index:
        """This index, with what a search makes of it made; also what one of words that are `hashed` already makes."""
        for _ in (self._grams, self.least, self.sieve_of_hashes if hashed else None):
            pass
        return self


@dataclass(frozen=True)
class _Grams:
    """The n-grams of texts: `begins[starts[i]:starts[i + 1]]` are the first words of those with `hashes[i]`, rising.

    Attributes:
        low: the lower bits, which hashes are without.
        hashes: sorted, uint64.
        starts: one more than hashes, int32 if that is enough.
        begins: numbers of words, likewise; of an n-gram that a text has often, the first `MOST_PLACES`.
        weights: of the n-gram that begins at each word of all texts, float64; 0 where none of `begins` is.
        filter: of the hashes.
    """

    low: np.uint64
    hashes: NDArray[np.uint64]
    starts: NDArray[np.signedinteger[Any]]
    begins: NDArray[np.signedinteger[Any]]
    weights: NDArray[np.float64]
    filter: HashFilter

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], begins: NDArray[np.int64], bounds: NDArray[np.int64]) -> _Grams:
        """Given are the hash and the first word of each n-gram, in any order, and where texts begin."""
        low = np.uint64((1 << int(bounds[-1]).bit_length()) - 1)
        rows = (hashes & ~low) | begins.view(np.uint64)  # a number each, as two would take four times as long to sort
        rows.sort()
        hashes, begins = rows & ~low, (rows & low).view(np.int64)
        owners = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))[begins]
        new = np.diff(hashes, prepend=~hashes[:1]) != 0
        another = new | (np.diff(owners, prepend=-1) != 0)  # the first of its text; those of a hash are by text
        first = np.flatnonzero(new)
        having = np.add.reduceat(another.astype(np.int64), first) if len(first) else first
        weight = np.repeat(np.log(len(bounds) / having), np.diff(first, append=len(hashes)))
        groups = np.flatnonzero(another)
        rank = np.arange(len(hashes)) - np.repeat(groups, np.diff(groups, append=len(hashes)))
        kept = rank < MOST_PLACES
        weights = np.zeros(bounds[-1])
        weights[begins[kept]] = weight[kept]
        starts = np.concatenate([[0], np.cumsum(kept)])[np.append(first, len(hashes))]
        small = np.int32 if len(hashes) < 1 << 31 and bounds[-1] < 1 << 31 else np.int64
        begins = begins[kept].astype(small)
        return cls(low, hashes[first], starts.astype(small), begins, weights, HashFilter(hashes[first]))

    def find(
        self, hashes: NDArray[np.uint64], bounds: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """See `Index.find`."""
        for some, first, last in self.portions(hashes, bounds, _PORTION):
            count = last - first
            which = np.repeat(np.arange(len(some)), count)
            at = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
            yield some[which], self.begins[at].astype(np.int64)

    def portions(
        self, hashes: NDArray[np.uint64], bounds: NDArray[np.int64], size: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Which of these hashes n-grams of texts may have, and from which to which of `begins` each: for as many texts
        at a time as have about `size` of these.
        """
        cut = hashes & ~self.low
        some = self.filter.find(cut)
        if not len(some) or not len(self.hashes):
            return
        number = np.minimum(self.hashes.searchsorted(cut[some]), len(self.hashes) - 1)
        there = self.hashes[number] == cut[some]
        some, number = some[there], number[there]
        first, last = self.starts[number].astype(np.int64), self.starts[number + 1].astype(np.int64)
        portions = int((last - first).sum()) // size + 1
        for begin, end in pairwise(np.linspace(0, len(bounds) - 1, min(portions, len(bounds) - 1) + 1).astype(int)):
            if portions > 1:
                first, last = self._within(number, bounds[begin]), self._within(number, bounds[end])
            yield some, first, last

    def _within(self, number: NDArray[np.int64], word: int) -> NDArray[np.int64]:
        """Where the n-grams with these numbers of hashes have those that begin at a word or behind it."""
        before = np.concatenate([[0], np.cumsum(self.begins < word)])
        there: NDArray[np.int64] = before[self.starts[number + 1]] - before[self.starts[number]]
        return self.starts[number] + there


def _begins_with_different(words: NDArray[np.uint64], bounds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which texts have `DIFFERENT` words among their first ones: of nearly all that is known without counting each."""
    new = np.zeros(len(bounds) - 1, np.int64)
    columns: list[NDArray[np.uint64]] = []
    for place in range(_LOOK if len(words) else 0):
        at = bounds[:-1] + place
        column = words.take(at, mode="clip")
        seen = at >= bounds[1:]
        for other in columns:
            seen |= column == other
        new += ~seen
        columns.append(column)
    return new >= DIFFERENT
