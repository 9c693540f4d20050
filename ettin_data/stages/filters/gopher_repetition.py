"""Gopher's repetition rules (Rae et al. 2021, arXiv 2112.11446, table A1), with datatrove's decisions and reasons.

datatrove makes every n-gram of words a string, nine times over. Here an n-gram is a 64-bit hash, a difference of two
prefix sums. Equal n-grams have equal hashes, and so equal bits of them: sorted by some bits and then by place, those
that may be equal stand together, the first of the document first. That gives an upper bound on the repetition, which
settles most documents: what cannot exceed a limit is kept. Only where it does not settle it are n-grams compared, and
only those that stand together. So the decision is exact whatever the hash does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from datatrove.data import Document
from numpy.typing import NDArray
from pydantic import Field

from ettin_data.stages.filters.base import Answer, Filter, Fraction
from ettin_data.stages.filters.measured import Reason
from ettin_data.stages.text.other_languages import splitter_of
from ettin_data.stages.text.word_split import Words, words_of

NAME, VERSION = "gopher_repetition", 1

Grams = tuple[tuple[Annotated[int, Field(ge=1)], Fraction], ...]

_BLOCK = 1 << 16
_NARROW = 1 << 14  # for so many words keys of 32 bits tell n-grams apart well enough, and are sorted in half the time
_ROOM = 1 << 15  # n-grams looked at together: small documents need few calls, large ones little memory
_BASE = np.uint64(0x9E37_79B9_7F4A_7C15)  # odd: has powers of every order modulo 2**64


def _powers(base: np.uint64, n: int) -> NDArray[np.uint64]:
    powers = np.full(n, base, np.uint64)
    powers[0] = 1
    accumulated: NDArray[np.uint64] = np.multiply.accumulate(powers)
    return accumulated


_LOW = _powers(_BASE, _BLOCK + 1)
_HIGH = _powers(_LOW[-1], 1 << 14)  # together `_BASE ** i` for every i below 2**30, the longest text Python splits


def _power(exponents: NDArray[np.int64]) -> NDArray[np.uint64]:
    """`_BASE ** exponents` modulo 2**64, for exponents that do not increase, at least one."""
    if exponents[0] < _BLOCK:
        return _LOW.take(exponents)
    powers: NDArray[np.uint64] = _LOW[exponents & (_BLOCK - 1)] * _HIGH[exponents >> 16]
    return powers


class _Rule(NamedTuple):
    """The option of n-grams of one n: of the most frequent one, or of those that stood before."""

    n: int
    fraction: float
    top: bool


class _Stretches:
    """The words of a document, at least one, joined without spaces, and what is needed to hash any stretch of them.

    For its repeated n-grams datatrove compares the words so joined: to it ("ab", "c") equals ("a", "bc"). The hash of
    a stretch, the sum of `ord(c[i]) * _BASE ** i`, does not see the cuts between words either.

    Attributes:
        words: the words.
        joined: they joined.
        offsets: where words begin in `joined`, and its end, shape (words + 1,), int64.
    """

    def __init__(self, words: Words) -> None:
        self.words = words
        self.joined = "".join(words.chunks)
        self.offsets = np.zeros(words.n + 1, np.int64)
        words.lengths.cumsum(out=self.offsets[1:])
        self._sums = self._prefix_sums()
        self._powers = _power(self.offsets[-1] - self.offsets[:-1])

    def _prefix_sums(self) -> NDArray[np.uint64]:
        """The hash of `joined` up to each offset, uint64."""
        if len(self.joined) < _BLOCK:  # as of most documents; a NUL has no part in a sum
            codes = np.frombuffer(f"\0{self.joined}".encode("utf-32-le", "surrogatepass"), np.uint32)
            return (codes * _LOW[: len(codes)]).cumsum().take(self.offsets)
        sums = np.zeros(len(self.offsets), np.uint64)
        carry = np.uint64(0)
        for block, start in enumerate(range(0, len(self.joined), _BLOCK)):
            part = self.joined[start : start + _BLOCK].encode("utf-32-le", "surrogatepass")
            hashes = (np.frombuffer(part, np.uint32) * _LOW[: len(part) // 4]).cumsum()
            hashes *= _HIGH[block]
            hashes += carry
            first, last = self.offsets.searchsorted((start + 1, start + len(hashes) + 1))
            sums[first:last] = hashes.take(self.offsets[first:last] - (start + 1))
            carry = hashes[-1]
        return sums

    def _keys(self, ns: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hashes of the n-grams that begin at each word, shape (ns, words), uint64; the last n - 1 are cut short.

        `ns` are at most one more than the words.
        """
        n = self.words.n
        sums = np.full(n + int(ns.max()), self._sums[-1])
        sums[:n] = self._sums[:-1]
        keys = sums.take(ns[:, None] + np.arange(n))
        keys -= sums[:n]
        keys *= self._powers  # a stretch has the same hash wherever it stands once its first power is made the same
        return keys

    def unsettled(self, rules: Sequence[_Rule], limits: Sequence[int]) -> Iterator[tuple[int, _Grams]]:
        """Of the rules that the document may break their places in the row, and the n-grams they are about.

        The rules about the most frequent one come first.
        """
        n = self.words.n
        ns = np.array([min(rule.n, n + 1) for rule in rules])
        keys = self._keys(ns)
        if n <= _NARROW:
            keys = (keys >> np.uint64(32)).astype(np.uint32)
        mask = keys.dtype.type((1 << (n - 1).bit_length()) - 1)  # the bits of a key that its place takes
        keys &= ~mask
        keys |= np.arange(n, dtype=keys.dtype)
        keys.sort(axis=1)
        same = np.zeros(keys.shape, bool)
        np.less_equal(keys[:, 1:] ^ keys[:, :-1], mask, out=same[:, 1:])
        again = same.ravel().nonzero()[0]
        rows, places = again // n, (keys.take(again) & mask).astype(np.int64)
        tops = int(rows.searchsorted(sum(rule.top for rule in rules)))
        together = self._together(again[:tops], ns, rows[:tops], places[:tops])
        covered = self._covered(ns, rows[tops:], places[tops:])
        longest = int(self.words.lengths.max())
        for row, rule in enumerate(rules):
            if rule.top:
                may_break = max(together[row], rule.n * (longest + 1) - 1) > limits[row]
            else:
                may_break = covered[row] > limits[row]
            if may_break:
                yield row, _Grams(self, rule.n, keys[row], mask, same[row], together[row])

    def _together(
        self, again: NDArray[np.int64], ns: NDArray[np.int64], rows: NDArray[np.int64], places: NDArray[np.int64]
    ) -> list[int]:
        """Of each row the most characters that one n-gram has in all its places, spaces included, or more.

        Given are where in the sorted keys those are that have the bits of the one before, their rows and their places.
        """
        runs = again - np.arange(len(again))  # the same for all with the same bits
        times = np.arange(2, len(again) + 2) - runs.searchsorted(runs)
        reach = ns.take(rows)
        characters = self.offsets.take(places + reach, mode="clip") - self.offsets.take(places) + (reach - 1)
        together = np.zeros(len(ns), np.int64)
        np.maximum.at(together, rows, times * characters)
        most: list[int] = together.tolist()
        return most

    def _covered(self, ns: NDArray[np.int64], rows: NDArray[np.int64], places: NDArray[np.int64]) -> list[float]:
        """Of each row the characters of the words that lie in the n-grams at these places, each counted once."""
        n = self.words.n
        begins = np.zeros(len(ns) * n, bool)
        begins[rows * n + places] = True
        places = begins.nonzero()[0]
        rows = places // n
        ends = np.minimum(places + ns.take(rows), (rows + 1) * n)
        np.minimum(ends[:-1], places[1:], out=ends[:-1])
        first = rows * n
        characters = self.offsets.take(ends - first) - self.offsets.take(places - first)
        covered: list[float] = np.bincount(rows, characters, len(ns)).tolist()
        return covered


class _Grams(NamedTuple):
    """The n-grams for one n that may have stood before.

    Attributes:
        text: the document.
        n: words of each.
        keys: of the n-grams that begin at each word, in order: some bits of the hash, then those of the place.
        mask: the bits of the place.
        same: which have the bits of the hash that the one before has.
        together: the most characters that one of them has in all its places, spaces between words included, or more.
    """

    text: _Stretches
    n: int
    keys: NDArray[np.unsignedinteger[Any]]
    mask: np.unsignedinteger[Any]
    same: NDArray[np.bool_]
    together: int

    def top(self, limit: int) -> int | None:
        """The characters that the most frequent n-gram, of several the first, has in all its places.

        None where they cannot be more than `limit`. Here the words of an n-gram count as joined with spaces.
        """
        offsets, n = self.text.offsets, self.n
        if len(offsets) <= n:
            return None
        spaces = n - 1
        if self.together <= limit and int((offsets[n:] - offsets[:-n]).max()) + spaces <= limit:
            return None
        place, count = self._most_frequent()
        return count * (int(offsets[place + n] - offsets[place]) + spaces)

    def _most_frequent(self) -> tuple[int, int]:
        """Where the most frequent n-gram, of several the first, begins, and how often it occurs."""
        bits, places = self._with_first()
        _, groups, counts = np.unique(bits, return_inverse=True, return_counts=True)
        count = int(counts.max(initial=1))
        if count == 1:
            return 0, 1
        place = places[counts[groups] == count].min()
        numbers = self.text.words.numbers
        others = places[groups == groups[places == place]]
        grams = numbers[others[:, None] + np.arange(self.n)]
        if (grams == grams[0]).all():
            return int(place), count
        # a key of different n-grams: number the n-grams themselves, by the number of n - 1 words and the next word
        ids = numbers.astype(np.int64)
        for k in range(1, self.n):
            ids = np.unique(ids[:-1] * (int(numbers.max()) + 1) + numbers[k:], return_inverse=True)[1]
        _, first, counts = np.unique(ids, return_index=True, return_counts=True)
        return int(first[counts == counts.max()].min()), int(counts.max())

    def _with_first(self) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64]]:
        """Bits and places (int64) of those that are `same` and of the first of them, but of none that is cut short."""
        with_first = self.same.copy()
        with_first[:-1] |= self.same[1:]
        keys = self.keys[with_first]
        places = (keys & self.mask).astype(np.int64)
        whole = places < len(self.text.offsets) - self.n
        return keys[whole] & ~self.mask, places[whole]

    def repeated(self) -> int:
        """The characters of n-grams that stood before, from the left and without overlap."""
        seen = set()
        characters = free = 0
        places = np.sort(self._with_first()[1])
        starts, ends = self.text.offsets.take(places).tolist(), self.text.offsets.take(places + self.n).tolist()
        for place, start, end in zip(places.tolist(), starts, ends, strict=True):
            if place < free:
                continue
            gram = self.text.joined[start:end]
            if gram not in seen:
                seen.add(gram)
                continue
            characters += end - start
            free = place + self.n
        return characters


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


class _Options(dict[str, str]):
    """The option of each rule: those of n-grams share two, the others are called like theirs."""

    def __missing__(self, rule: str) -> str:
        return {"top": "top_n_grams", "duplicated": "dup_n_grams"}.get(rule.partition("_")[0], rule)


@dataclass(kw_only=True, eq=False, repr=False)
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
        language: whose words these are, `deu` or `deu_Latn`, split as datatrove splits them; `None` is English, which
            costs a fraction.

    An empty document is kept; datatrove divides by zero there, and drops it from its version 0.10 on.
    """

    name = "👯 Gopher Repetition"
    web_text = True
    later_options: ClassVar = {"language": None}
    options_of: ClassVar = _Options()

    dup_line_frac: Fraction | None = 0.3
    dup_para_frac: Fraction | None = 0.3
    dup_line_char_frac: Fraction | None = 0.2
    dup_para_char_frac: Fraction | None = 0.2
    top_n_grams: Grams = ((2, 0.2), (3, 0.18), (4, 0.16))
    dup_n_grams: Grams = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    language: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rules = [_Rule(n, part, True) for n, part in self.top_n_grams]
        self._rules += [_Rule(n, part, False) for n, part in self.dup_n_grams]
        self._listed_words_of = None if self.language is None else splitter_of(self.language)

    def filter(self, document: Document) -> Answer:
        text = document.text
        if not text:
            return True
        reason = self._of_paragraphs(text) or self._of_lines(text) or self._of_n_grams(text)
        return (False, reason) if reason else True

    def _of_paragraphs(self, text: str) -> Reason | None:
        if "\n\n" not in text:
            return None
        paragraphs = _paragraphs(text.strip())
        count, characters = _duplicates(paragraphs)
        return self.at_most("dup_para_frac", count / len(paragraphs), self.dup_para_frac or None) or self.at_most(
            "dup_para_char_frac", characters / len(text), self.dup_para_char_frac or None
        )

    def _of_lines(self, text: str) -> Reason | None:
        lines = _lines(text)
        count, characters = _duplicates(lines)
        return self.at_most("dup_line_frac", count / len(lines), self.dup_line_frac or None) or self.at_most(
            "dup_line_char_frac", characters / len(text), self.dup_line_char_frac or None
        )

    def _of_n_grams(self, text: str) -> Reason | None:
        for rule, characters in self._settled(text) if self._listed_words_of is None else self._counted(text):
            name = f"top_{rule.n}_gram" if rule.top else f"duplicated_{rule.n}_n_grams"
            if reason := self.at_most(name, characters / len(text), rule.fraction):
                return reason
        return None

    def _settled(self, text: str) -> Iterator[tuple[_Rule, int]]:
        """The characters that rules are about, of those that no bound settles."""
        words = words_of(text)
        if not words.n:
            return
        stretches = _Stretches(words)
        at_once = max(1, _ROOM // words.n)
        for first in range(0, len(self._rules), at_once):
            rules = self._rules[first : first + at_once]
            limits = [_most(rule.fraction, len(text)) for rule in rules]
            for row, grams in stretches.unsettled(rules, limits):
                characters = grams.top(limits[row]) if rules[row].top else grams.repeated()
                if characters is not None:
                    yield rules[row], characters

    def _counted(self, text: str) -> Iterator[tuple[_Rule, int]]:
        """The same of every rule, of the words of another language."""
        assert self._listed_words_of is not None
        words = self._listed_words_of(text)
        for rule in self._rules:
            characters = words.top(rule.n) if rule.top else words.repeated(rule.n)
            if characters is not None:
                yield rule, characters
