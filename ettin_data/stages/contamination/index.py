"""The index of evaluation texts: their words, the n-grams by which they are found, and what each n-gram weighs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base import words as of_words
from ettin_data.base.ngrams import Needles
from ettin_data.base.words import ngrams, word_hashes
from ettin_data.stages.contamination.rules import Rule
from ettin_data.stages.contamination.sieve import Sieve
from ettin_data.stages.contamination.texts import EvaluationText

LEAST, DIFFERENT = 5, 4
"""Words, and different ones, that a text needs at least: of fewer, clean documents have many by chance."""

_LOOK = 12  # words of which nearly every text has different ones enough


@dataclass(frozen=True)
class Index:
    """Texts to be looked for.

    Attributes:
        texts: those that can be, in their order.
        rule: when a document has one of them.
        words: of all texts end to end (`base.words.word_hashes`), uint64.
        bounds: where the words of each text begin, shape (texts + 1,), int64.
        answers: of each text the words of its answer, where the rule wants that; else none at all.
        unsearchable: name of a text that cannot be looked for -> why.
    """

    texts: tuple[EvaluationText, ...]
    rule: Rule
    words: NDArray[np.uint64]
    bounds: NDArray[np.int64]
    answers: tuple[tuple[int, ...], ...]
    unsearchable: dict[str, str]

    @classmethod
    def of(cls, texts: Sequence[EvaluationText], rule: Rule) -> Index:
        """The index of these texts; what is too short, or stands in several items as a short text, cannot be found."""
        words, bounds = word_hashes([text.text for text in texts])
        each = [words[a:b] for a, b in pairwise(bounds.tolist())]
        same = Counter(mine.tobytes() for mine in each if len(mine) < rule.ngram)
        many = _begins_with_different(words, bounds)
        why: dict[str, str] = {}
        for text, mine, has_many in zip(texts, each, many.tolist(), strict=True):
            if len(mine) < max(LEAST, rule.least_words):
                why[text.name] = f"has {len(mine)} words"
            elif not has_many and (different := len(set(mine.tolist()))) < DIFFERENT:
                why[text.name] = f"has {different} different words"
            elif len(mine) < rule.ngram and (times := same[mine.tobytes()]) > 1:
                why[text.name] = f"has {len(mine)} words, which {times} texts have"
        kept = [number for number, text in enumerate(texts) if text.name not in why]
        lengths = [len(each[number]) for number in kept]
        joined = np.concatenate([np.zeros(0, np.uint64), *(each[number] for number in kept)])
        found = tuple(texts[number] for number in kept)
        answers = tuple(tuple(word_hashes([text.answer])[0].tolist()) for text in found) if rule.wants_answer else ()
        return cls(found, rule, joined, np.cumsum([0, *lengths]), answers, why)

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
        for text in self.texts:
            digest.update(f"\0{text.name}".encode("utf-8", "surrogatepass"))
        digest.update(repr(self.answers).encode())
        digest.update(self.words.tobytes())
        digest.update(self.bounds.tobytes())
        return digest.hexdigest()

    @cached_property
    def sieve(self) -> Sieve:
        """What lets pass only documents that may have something of these texts."""
        return Sieve([text.text for text in self.texts], self.n, LEAST)

    @cached_property
    def _seeds(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Hash, text and place of every n-gram, sorted by hash; a shorter text has its first `LEAST` words."""
        parts = []
        for size in (self.n, LEAST):
            hashes, bounds = ngrams(self.words, self.bounds, size)
            owners = np.repeat(np.arange(len(self.texts)), np.diff(bounds))
            places = np.arange(len(hashes)) - bounds[owners]
            short = np.diff(self.bounds)[owners] < self.n
            mine = ~short if size == self.n else short & (places == 0)
            parts.append((hashes[mine], owners[mine], places[mine]))
            if self.n == LEAST:
                break
        hashes, owners, places = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], owners[order], places[order]

    @cached_property
    def needles(self) -> Needles:
        """The hashes to be looked for in n-grams of `n` words, and, for short texts, of `LEAST`."""
        return Needles(self._seeds[0])

    def ready(self) -> Index:
        """This index, with what a search makes of it made."""
        for _ in (self.sieve, self.needles, self.weights):
            pass
        return self

    @cached_property
    def has_short(self) -> bool:
        """Whether some texts have fewer than n words."""
        return bool((np.diff(self.bounds) < self.n).any())

    def owners(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Which of these hashes each text has at which place: (number in `hashes`, text, place), shapes (m,), int64."""
        seeds, owners, places = self._seeds
        first, last = np.searchsorted(seeds, hashes, "left"), np.searchsorted(seeds, hashes, "right")
        which = np.repeat(np.arange(len(hashes)), last - first)
        at = np.arange(len(which)) - np.repeat(np.cumsum(last - first) - (last - first), last - first) + first[which]
        return which, owners[at], places[at]

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """What the n-gram that begins at each word weighs, shape of `words`, float64; 0 where none begins.

        It is the logarithm of how many times as many texts there are as have the n-gram.
        """
        hashes, bounds = ngrams(self.words, self.bounds, self.n)
        owners = np.repeat(np.arange(len(self.texts)), np.diff(bounds))
        different, which = np.unique(hashes, return_inverse=True)
        pairs = np.unique(which * max(len(self.texts), 1) + owners) // max(len(self.texts), 1)
        having = np.bincount(pairs, minlength=len(different))
        weights = np.zeros(len(self.words))
        places = np.arange(len(hashes)) - bounds[owners]
        weights[self.bounds[owners] + places] = np.log((1 + len(self.texts)) / having)[which]
        return weights


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
