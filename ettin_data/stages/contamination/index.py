"""The index of evaluation texts: their words, the n-grams by which they are found, and what each n-gram weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base import words as of_words
from ettin_data.base.words import ngrams, word_hashes, word_keys
from ettin_data.stages.contamination.rules import Rule
from ettin_data.stages.contamination.sieve import HashFilter, Sieve
from ettin_data.stages.contamination.texts import EvaluationText

LEAST, DIFFERENT = 5, 4
"""Words, and different ones, that a text needs at least: of fewer, clean documents have many by chance."""

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
        sieve = Sieve(*word_keys([text.text for text in found]), rule.ngram, LEAST) if found else None
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
    def _table(self) -> NDArray[np.uint64]:
        """Of every n-gram the upper bits of its hash, then the number of its first word, sorted, uint64.

        A text of fewer than n words has its first `LEAST`.
        """
        short = np.diff(self.bounds) < self.n
        rows = []
        for size, some in ((self.n, ~short), (LEAST, short)):
            hashes, bounds = ngrams(self.words, self.bounds, size)
            owners = np.repeat(np.arange(len(self.names)), np.diff(bounds))
            places = np.arange(len(hashes)) - bounds[owners]
            mine = some[owners] & (~short[owners] | (places == 0))
            begins = (self.bounds[owners] + places)[mine].view(np.uint64)
            rows.append((hashes[mine] & ~self._low) | begins)
        table: NDArray[np.uint64] = np.concatenate(rows)
        table.sort()
        return table

    @property
    def _low(self) -> np.uint64:
        """The bits of `_table` that number words."""
        return np.uint64((1 << len(self.words).bit_length()) - 1)

    @cached_property
    def _filter(self) -> HashFilter:
        return HashFilter(self._table & ~self._low)

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of these hashes n-grams of texts may have: (number in `hashes`, first word of the n-gram), int64 each.

        A few are of other n-grams: the words are to be compared.
        """
        cut = hashes & ~self._low
        some = self._filter.find(cut)
        looked_up = cut[some]
        first = self._table.searchsorted(looked_up)
        count = self._table.searchsorted(looked_up | self._low, side="right") - first
        which = np.repeat(np.arange(len(some)), count)
        at = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + first[which]
        return some[which], (self._table[at] & self._low).view(np.int64)

    def owners(self, begins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which text each of these words is of."""
        return self.bounds.searchsorted(begins, side="right") - 1

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """What the n-gram that begins at each word weighs, shape of `words`; 0 where none begins."""
        begins = (self._table & self._low).view(np.int64)
        owners = np.repeat(np.arange(len(self.names)), np.diff(self.bounds))[begins]
        hashes = self._table & ~self._low
        first = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]))  # of those that are equal, by text
        another = np.diff(owners, prepend=-1) != 0
        another[first] = True
        having = np.add.reduceat(another.astype(np.int64), first) if len(first) else first
        weights = np.zeros(len(self.words))
        weights[begins] = np.repeat(np.log((1 + len(self.names)) / having), np.diff(first, append=len(hashes)))
        return weights

    def weights_of(self, text: int) -> NDArray[np.float64]:
        """What the n-gram that begins at each word of a text of n or more weighs, float64; 0 where none begins.

        It is the logarithm of how many times as many texts there are as have the n-gram.
        """
        return self._weights[self.bounds[text] : self.bounds[text + 1]]

    @cached_property
    def sieve_of_hashes(self) -> Sieve:
        """The sieve for documents whose words are hashed already."""
        return Sieve(self.words, self.bounds, self.n, LEAST)

    def ready(self) -> Index:
        """This index, with what a search makes of it made."""
        for _ in (self._filter, self._weights):
            pass
        return self


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
