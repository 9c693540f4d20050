"""Gopher's repetition rules (Rae et al. 2021, arXiv 2112.11446, table A1), with datatrove's decisions and reasons.

datatrove makes every n-gram of words a string, nine times over. Here an n-gram is a 64-bit hash, a difference of two
prefix sums. Equal n-grams have equal hashes, so hashes give an upper bound on repetition, and that settles most
documents: what cannot exceed a limit is kept. Only where the bound does not settle it are the n-grams compared, and
only those whose hash occurs twice. So the decision is exact whatever the hash does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from datatrove.data import Document
from pydantic import Field

from ettin_data.stages.filters.base import Answer, Filter, Fraction, Rejects
from ettin_data.stages.filters.words import Words, words_of

Grams = tuple[tuple[Annotated[int, Field(ge=1)], Fraction], ...]

_BLOCK = 1 << 16
_ROOM = 1 << 19  # n-grams looked at together: small documents need few calls, large ones little memory
_LENGTH = np.uint64(0xFFF)
_BASE = np.uint64(0x9E37_79B9_7F4A_7C15)  # odd: has powers of every order modulo 2**64


def _powers(base: np.uint64, n: int) -> np.ndarray:
    powers = np.full(n, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


_LOW = _powers(_BASE, _BLOCK + 1)
_HIGH = _powers(_LOW[-1], 1 << 14)  # together `_BASE ** i` for every i below 2**30, the longest text Python splits


def _power(exponents: np.ndarray) -> np.ndarray:
    """`_BASE ** exponents` modulo 2**64, for exponents that do not increase."""
    if len(exponents) == 0 or exponents[0] < _BLOCK:
        return _LOW[exponents]
    return _LOW[exponents & (_BLOCK - 1)] * _HIGH[exponents >> 16]


class _Grams:
    """The n-grams of a document's words, for several n at once.

    For its repeated n-grams datatrove compares the words joined without spaces, so ("ab", "c") equals ("a", "bc"). The
    hash of a stretch of the joined words, the sum of `ord(c[i]) * _BASE ** i`, does not see the cuts between words.

    Attributes:
        ns: the n of each row.
        joined: all words without spaces.
        offsets: where words begin in `joined`, and its end, shape (words + 1,), int64.
        lengths: characters of the n-gram that begins at each word, shape (rows, words); the last n - 1 are cut short.
        keys: hashes of the same, uint64, with the length, or 4095 if it is more, in place of the 12 lowest bits.
        ordered: each row of `keys` sorted.
        longest, longest_again, all_again: for each row the most characters of an n-gram, the same of those whose key
            stands before, and the sum of these.
    """

    def __init__(self, words: Words, ns: Sequence[int]) -> None:
        self.ns, self._words = ns, words
        self.joined = "".join(words.chunks)
        self.offsets = np.zeros(words.n + 1, np.int64)
        np.cumsum(words.lengths, out=self.offsets[1:])
        self.lengths = self._reached(self.offsets) - self.offsets[:-1]
        sums = self._prefix_sums()
        # a stretch has the same hash wherever it stands once its first power is made the same
        hashes = (self._reached(sums) - sums[:-1]) * _power(self.offsets[-1] - self.offsets[:-1])
        self.keys = hashes & ~_LENGTH | np.minimum(self.lengths, int(_LENGTH)).astype(np.uint64)
        self.ordered = np.sort(self.keys, axis=1)
        again = np.where(self.ordered[:, 1:] == self.ordered[:, :-1], self.ordered[:, 1:] & _LENGTH, np.uint64(0))
        self.longest: list[int] = self.lengths.max(axis=1, initial=0).tolist()
        self.longest_again: list[int] = again.max(axis=1, initial=0).tolist()
        self.all_again: list[int] = again.sum(axis=1).tolist()

    def _reached(self, values: np.ndarray) -> np.ndarray:
        """Of values at `offsets` those where each n-gram ends, shape (rows, words)."""
        n = self._words.n
        reached = np.full((len(self.ns), n), values[-1])
        for row, k in enumerate(self.ns):
            reached[row, : max(0, n - k + 1)] = values[k:]
        return reached

    def _prefix_sums(self) -> np.ndarray:
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

    def top(self, row: int, limit: int) -> bool:
        """Whether the most frequent n-gram, of several the first, has more than `limit` characters in all its places.

        Here the words of an n-gram count as joined with spaces.
        """
        n = self.ns[row]
        if self._words.n < n:
            return False
        spaces = n - 1
        if self.longest[row] + spaces <= limit and self.longest[row] <= _LENGTH:
            # no n-gram that is there once exceeds the limit, and none of the others if none is there more often than
            ordered = self.ordered[row]
            times = min(limit // (self.longest_again[row] + spaces), len(ordered))
            if not (ordered[times:] == ordered[: len(ordered) - times]).any():
                return False
        place, count = self._most_frequent(row)
        return count * (int(self.lengths[row, place]) + spaces) > limit

    def _most_frequent(self, row: int) -> tuple[int, int]:
        """Where the most frequent n-gram, of several the first, begins, and how often it occurs."""
        n, numbers = self.ns[row], self._words.numbers
        keys = self.keys[row, : self._words.n - n + 1]
        ordered = np.sort(keys)
        last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
        counts = last.copy()
        counts[0] += 1
        counts[1:] -= last[:-1]
        count = int(counts.max())
        values = ordered[last[counts == count]]
        place = int((values[np.searchsorted(values, keys) % len(values)] == keys).argmax())
        others = np.flatnonzero(keys == keys[place])
        grams = numbers[others[:, None] + np.arange(n)]
        if (grams == grams[0]).all():
            return place, count
        # a key of different n-grams: number the n-grams themselves, by the number of n - 1 words and the next word
        ids = numbers.astype(np.int64)
        for k in range(1, n):
            ids = np.unique(ids[:-1] * (int(numbers.max()) + 1) + numbers[k:], return_inverse=True)[1]
        _, first, counts = np.unique(ids, return_index=True, return_counts=True)
        return int(first[counts == counts.max()].min()), int(counts.max())

    def repeated(self, row: int, limit: int) -> bool:
        """Whether n-grams that stood before, from the left and without overlap, have more than `limit` characters."""
        n = self.ns[row]
        if not self.all_again[row] or (self.all_again[row] <= limit and self.longest[row] <= _LENGTH):
            return False
        # the n-grams whose key occurs elsewhere, by position, and which of them stood before
        ordered = self.ordered[row]
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        values = again[np.concatenate([[True], again[1:] != again[:-1]])]
        keys = self.keys[row, : max(0, self._words.n - n + 1)]
        slots = np.searchsorted(values, keys) % len(values)
        places = np.flatnonzero(values[slots] == keys)
        slots = slots[places]
        first = np.zeros(len(values), np.int64)
        first[slots[::-1]] = places[::-1]  # of several assignments to one slot the last holds
        if self._covered(places[places != first[slots]], n) <= limit:
            return False
        return self._compare(places.tolist(), n, limit)

    def _covered(self, places: np.ndarray, n: int) -> int:
        """Characters of the words that lie in the n-grams at these places."""
        reach = np.minimum(np.append(places[1:], self._words.n), places + n)
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


def _paragraphs(text: str) -> list[str]:
    """What `re.split("\\n{2,}", text)` gives for a text that neither begins nor ends with a line break."""
    paragraphs = text.split("\n\n")
    return [*filter(None, (p.lstrip("\n") for p in paragraphs))] if "\n\n\n" in text else paragraphs


def _lines(text: str) -> list[str]:
    """What `re.split("\\n+", text)` gives."""
    lines = [*filter(None, text.split("\n"))]
    if text.startswith("\n"):
        lines.insert(0, "")
    if text.endswith("\n"):
        lines.append("")
    return lines


class GopherRepetition(Filter):
    """Keep documents that do not repeat themselves. Rules in this order, each off when its option is `None` or 0:

    Args:
        dup_para_frac, dup_para_char_frac: at most this part of the paragraphs (between blank lines), and of the
            characters, stood in a paragraph before. Reasons are the names of the options.
        dup_line_frac, dup_line_char_frac: the same of lines.
        top_n_grams: pairs of n and the part of the characters that the most frequent n-gram of words may have in all
            its places together. Reason `top_<n>_gram`.
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
        self._rules = [(n, part, True) for n, part in top_n_grams] + [(n, part, False) for n, part in dup_n_grams]

    def filter(self, document: Document) -> Answer:
        text = document.text
        if not text:
            return True
        reason = self._of_paragraphs(text) or self._of_lines(text) or self._of_n_grams(text)
        return (False, reason) if reason else True

    def _of_paragraphs(self, text: str) -> str | None:
        if "\n\n" not in text:
            return None
        paragraphs = _paragraphs(text.strip())
        count, characters = _duplicates(paragraphs)
        if self.dup_para_frac and count / len(paragraphs) > self.dup_para_frac:
            return "dup_para_frac"
        if self.dup_para_char_frac and characters / len(text) > self.dup_para_char_frac:
            return "dup_para_char_frac"
        return None

    def _of_lines(self, text: str) -> str | None:
        lines = _lines(text)
        count, characters = _duplicates(lines)
        if self.dup_line_frac and count / len(lines) > self.dup_line_frac:
            return "dup_line_frac"
        if self.dup_line_char_frac and characters / len(text) > self.dup_line_char_frac:
            return "dup_line_char_frac"
        return None

    def _of_n_grams(self, text: str) -> str | None:
        words = words_of(text)
        at_once = max(1, _ROOM // (words.n + 1))
        for first in range(0, len(self._rules), at_once):
            batch = self._rules[first : first + at_once]
            grams = _Grams(words, [n for n, _, _ in batch])
            for row, (n, fraction, top) in enumerate(batch):
                limit = _most(fraction, len(text))
                if top and grams.top(row, limit):
                    return f"top_{n}_gram"
                if not top and grams.repeated(row, limit):
                    return f"duplicated_{n}_n_grams"
        return None
