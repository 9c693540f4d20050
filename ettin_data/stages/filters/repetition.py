"""Gopher's repetition rules (Rae et al. 2021, arXiv 2112.11446, table A1), with datatrove's decisions and reasons.

datatrove makes every n-gram of words a string, nine times over. Here an n-gram is a 64-bit hash, a difference of two prefix
sums. Equal n-grams have equal hashes, so hashes give an upper bound on repetition, and that settles most documents: what
cannot exceed a limit is kept. Only where the bound does not settle it are strings compared, and only those whose hash
occurs twice. So the decision is exact whatever the hash does.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated

import numpy as np
from datatrove.data import Document
from pydantic import Field

from ettin_data.stages.filters.base import Answer, Filter, Fraction, Rejects
from ettin_data.stages.filters.words import Words, words_of

Grams = tuple[tuple[Annotated[int, Field(ge=1)], Fraction], ...]

_PARAGRAPH_BREAK = re.compile(r"\n{2,}")
_LINE_BREAK = re.compile(r"\n+")
_BLOCK = 1 << 16
_BASE = np.uint64(0x9E37_79B9_7F4A_7C15)  # odd: has powers of every order modulo 2**64


def _powers(base: np.uint64, n: int) -> np.ndarray:
    powers = np.full(n, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


_LOW = _powers(_BASE, _BLOCK + 1)
_HIGH = _powers(_LOW[-1], 1 << 14)  # together `_BASE ** i` for every i below 2**30, the longest text Python splits


def _power(exponents: np.ndarray) -> np.ndarray:
    """`_BASE ** exponents` modulo 2**64."""
    return _LOW[exponents & (_BLOCK - 1)] * _HIGH[exponents >> 16]


class _Grams:
    """The n-grams of a document's words.

    datatrove compares n-grams of 5 and more words as their words joined without spaces, so ("ab", "c") equals ("a", "bc").
    The hash of a stretch of the joined words, the sum of `ord(c[i]) * _BASE ** i`, does not see the cuts between words.
    """

    def __init__(self, words: Words) -> None:
        self.words = words
        self.joined = "".join(words.chunks)
        self.offsets = np.concatenate([[0], np.cumsum(words.lengths, dtype=np.int64)])
        """Where words begin in `joined`, and its end, shape (n + 1,)."""

    @cached_property
    def _sums(self) -> np.ndarray:
        """The hash of `joined` up to each offset, uint64."""
        sums = np.zeros(len(self.offsets), np.uint64)
        carry = np.uint64(0)
        for block, start in enumerate(range(0, len(self.joined), _BLOCK)):
            part = self.joined[start : start + _BLOCK].encode("utf-32-le", "surrogatepass")
            hashes = np.cumsum(np.frombuffer(part, np.uint32) * _LOW[: len(part) // 4]) * _HIGH[block] + carry
            first, last = np.searchsorted(self.offsets, [start + 1, start + len(hashes) + 1])
            sums[first:last] = hashes[self.offsets[first:last] - start - 1]
            carry = hashes[-1]
        return sums

    @cached_property
    def _shift(self) -> np.ndarray:
        """What a difference of sums that begins at an offset is to be multiplied with, to be the same everywhere."""
        return _power(self.offsets[-1] - self.offsets)

    def hashes(self, n: int) -> np.ndarray:
        """A hash of each n-gram's joined words, shape (number of words - n + 1,), uint64."""
        return (self._sums[n:] - self._sums[:-n]) * self._shift[:-n]

    def lengths(self, n: int) -> np.ndarray:
        """Characters of each n-gram's joined words."""
        return self.offsets[n:] - self.offsets[:-n]

    def top(self, n: int, limit: int) -> bool:
        """Whether the most frequent n-gram, of several the first, has more than `limit` characters in all its places.

        Here words count as joined with spaces.
        """
        if self.words.n < n:
            return False
        longest = int(self.lengths(n).max()) + n - 1
        # an n-gram is no more frequent than the pair that it begins with
        if self._most_frequent_pair * longest <= limit:
            return False
        grams = self.words.numbers.astype(np.int64)
        for k in range(1, n):  # numbers of k-grams become numbers of (k + 1)-grams
            longer = grams[:-1] * (int(self.words.numbers.max()) + 1) + self.words.numbers[k:]
            grams = np.unique(longer, return_inverse=True)[1]
        _, first, counts = np.unique(grams, return_index=True, return_counts=True)
        place = int(first[counts == counts.max()].min())
        return int(counts.max()) * (int(self.lengths(n)[place]) + n - 1) > limit

    @cached_property
    def _most_frequent_pair(self) -> int:
        """How often the most frequent pair of words occurs; for a single word, and for words alone, all there are."""
        numbers = self.words.numbers.astype(np.int64)
        pairs = np.sort(numbers[:-1] << 32 | numbers[1:])
        if len(pairs) == 0:
            return self.words.n
        edges = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1], [True]]))
        return int(np.diff(edges).max())

    def repeated(self, n: int, limit: int) -> bool:
        """Whether n-grams that stood before have more than `limit` characters, counted from the left and without overlap."""
        if self.words.n <= n:
            return False  # one n-gram at most
        hashes = self.hashes(n)
        ordered = np.sort(hashes)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(again) == 0 or len(again) * int(self.lengths(n).max()) <= limit:
            return False
        # the n-grams whose hash occurs elsewhere, by position, and which of them stood before
        places = np.flatnonzero(again[np.searchsorted(again, hashes) % len(again)] == hashes)
        before = np.ones(len(places), bool)
        before[np.unique(hashes[places], return_index=True)[1]] = False
        if self._covered(places[before], n) <= limit:
            return False
        return self._compare(places.tolist(), n, limit)

    def _covered(self, places: np.ndarray, n: int) -> int:
        """Characters of the words that lie in the n-grams at these places."""
        reach = np.minimum(np.append(places[1:], self.words.n), places + n)
        return int((self.offsets[reach] - self.offsets[places]).sum())

    def _compare(self, places: list[int], n: int, limit: int) -> bool:
        """`repeated`, by the strings themselves, of the n-grams at these places; all others occur once."""
        seen = set()
        characters = free = 0
        for place in places:
            if place < free:
                continue
            gram = self.joined[self.offsets[place] : self.offsets[place + n]]
            if gram not in seen:
                seen.add(gram)
                continue
            characters += len(gram)
            free = place + n
            if characters > limit:
                return True
        return False


def _most(fraction: float, total: int) -> int:
    """The largest count c for which `c / total > fraction` is false, in floating point as datatrove computes it."""
    most = int(fraction * total) + 1
    while most / total > fraction:
        most -= 1
    return most


def _duplicates(parts: list[str]) -> tuple[int, int]:
    """How many of the strings stood before, and their characters."""
    different = set(parts)
    return len(parts) - len(different), sum(map(len, parts)) - sum(map(len, different))


class GopherRepetition(Filter):
    """Keep documents that do not repeat themselves. Rules in this order, each off when its option is `None` or 0:

    Args:
        dup_para_frac, dup_para_char_frac: at most this part of the paragraphs (between blank lines), and of the
            characters, is a paragraph that stood before. Reasons are the names of the options.
        dup_line_frac, dup_line_char_frac: the same of lines.
        top_n_grams: pairs of n and the part of the characters that the most frequent n-gram of words may have in all its
            places together. Reason `top_<n>_gram`.
        dup_n_grams: pairs of n and the part of the characters that n-grams which stood before may have. Reason
            `duplicated_<n>_n_grams`.

    An empty document is kept; datatrove divides by zero there.
    """

    name = "👯 Gopher Repetition"

    def __init__(
        self,
        *,
        dup_line_frac: Fraction | None = 0.3,
        dup_para_frac: Fraction | None = 0.3,
        dup_line_char_frac: Fraction | None = 0.2,
        dup_para_char_frac: Fraction | None = 0.2,
        top_n_grams: Grams = ((2, 0.2), (3, 0.18), (4, 0.16)),
        dup_n_grams: Grams = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)),
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(rejects=rejects)
        self.dup_line_frac, self.dup_line_char_frac = dup_line_frac, dup_line_char_frac
        self.dup_para_frac, self.dup_para_char_frac = dup_para_frac, dup_para_char_frac
        self.top_n_grams, self.dup_n_grams = top_n_grams, dup_n_grams

    def filter(self, document: Document) -> Answer:
        text = document.text
        if not text:
            return True
        reason = self._of_paragraphs(text) or self._of_lines(text) or self._of_n_grams(text)
        return (False, reason) if reason else True

    def _of_paragraphs(self, text: str) -> str | None:
        paragraphs = _PARAGRAPH_BREAK.split(text.strip())
        count, characters = _duplicates(paragraphs)
        if self.dup_para_frac and count / len(paragraphs) > self.dup_para_frac:
            return "dup_para_frac"
        if self.dup_para_char_frac and characters / len(text) > self.dup_para_char_frac:
            return "dup_para_char_frac"
        return None

    def _of_lines(self, text: str) -> str | None:
        lines = _LINE_BREAK.split(text)
        count, characters = _duplicates(lines)
        if self.dup_line_frac and count / len(lines) > self.dup_line_frac:
            return "dup_line_frac"
        if self.dup_line_char_frac and characters / len(text) > self.dup_line_char_frac:
            return "dup_line_char_frac"
        return None

    def _of_n_grams(self, text: str) -> str | None:
        grams = _Grams(words_of(text))
        for n, fraction in self.top_n_grams:
            if grams.top(n, _most(fraction, len(text))):
                return f"top_{n}_gram"
        for n, fraction in self.dup_n_grams:
            if grams.repeated(n, _most(fraction, len(text))):
                return f"duplicated_{n}_n_grams"
        return None
