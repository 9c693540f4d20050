"""The words of a document as numbers, shared by the filters that count them.

Splitting is dear and text repeats itself: a **vocabulary** splits each chunk (what stands between whitespace) once, and
remembers what the filters ask about its words. A document is then an array of chunk numbers, and what a filter counts
is a sum over rows of a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.stages.text.english import PUNCTUATION
from ettin_data.stages.text.splitter import BEGINNINGS, JOINTS, NOT_WHOLE, cut_plain, split

_CHUNK = re.compile(r"\S+")
_MAX_CHARS = 4_000_000  # of all chunks in a vocabulary, which is 200 MB if they are short; then a new one is begun

# what is known of a word: whether it is more than punctuation, and its characters if so; whether it has a letter; all
# its characters; and its number in `_JOINED`
_FACTS = 5
_LENGTH, _JOINED_AS = 3, 4
# what is known of a chunk: the sums of the first facts over its words; how many words it has, and where they begin
# among all; whether rule 4 of the splitter changed them; and the first and the last of them before that, as `_JOINED`
_COLUMNS = 8
_SUMMED = _LENGTH
_WORDS, _START, _CHANGED, _HEAD, _TAIL = range(_SUMMED, _COLUMNS)
_END = "\n"  # ends the words of a chunk as if it were one, its number is 0 and its facts are zeros

_JOINED = {word: number for number, word in enumerate(sorted(NOT_WHOLE.union(*JOINTS)), start=1)}
_JOINT = np.zeros((len(_JOINED) + 1, len(_JOINED) + 1), bool)
_DOUBT = _JOINT.copy()  # whether a word and the next, or the end, may make `cut_plain` wrong
for _a, _b in JOINTS:
    _JOINT[_JOINED[_a], _JOINED[_b]] = True
for _a, _b in BEGINNINGS:
    _DOUBT[_JOINED[_a], _JOINED[_b]] = True
_DOUBT[[_JOINED[_word] for _word in NOT_WHOLE]] = True


class _Table:
    """Rows of int32 that are only ever added to."""

    def __init__(self, *shape: int) -> None:
        self._room = np.zeros((1024, *shape), np.int32)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, rows: NDArray[np.integer[Any]]) -> None:
        start, self._n = self._n, self._n + len(rows)
        if self._n > len(self._room):
            self._room = np.concatenate([self._room, np.zeros((self._n, *rows.shape[1:]), np.int32)])
        self._room[start : self._n] = rows

    def take(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """The rows with these numbers."""
        return self._room.take(numbers, axis=0)


class _Numbers(dict[str, int]):
    """Numbers of strings, given as they are met.

    Attributes:
        new: the strings that were met since it was last emptied.
    """

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, string: str) -> int:
        self.new.append(string)
        self[string] = number = len(self)
        return number

    def of(self, strings: Sequence[str]) -> NDArray[np.int64]:
        """Shape (n,), int64."""
        return np.fromiter(map(self.__getitem__, strings), np.intp, len(strings))


class _WordTable(_Numbers):
    """Numbers of words, and what is known of each."""

    def __init__(self) -> None:
        super().__init__()
        self[_END] = 0
        self._facts = _Table(_FACTS)
        self._facts.add(np.zeros((1, _FACTS), np.int32))

    def numbers(self, words: list[str]) -> NDArray[np.int64]:
        """Shape (n,), int64."""
        numbers = self.of(words)
        if new := self.new:
            facts = np.empty((_FACTS, len(new)), np.int32)
            letters = [word.isalpha() or any(map(str.isalpha, word)) for word in new]
            facts[0] = [letter or not PUNCTUATION.issuperset(word) for letter, word in zip(letters, new, strict=True)]
            facts[2] = letters
            facts[_LENGTH] = [*map(len, new)]
            facts[1] = facts[0] * facts[_LENGTH]
            facts[_JOINED_AS] = [_JOINED.get(word, 0) for word in new]
            self._facts.add(facts.T)
            new.clear()
        return numbers

    def facts(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Shape (n, `_FACTS`), int32."""
        return self._facts.take(numbers)


class Vocabulary:
    """What is known of the chunks that were met.

    Attributes:
        words: numbers of the words.
        chars: how many characters the chunks hold together.
    """

    def __init__(self) -> None:
        self.words = _WordTable()
        self.chars = 0
        self._numbers = _Numbers()
        self._rows = _Table(_COLUMNS)
        self._flat = _Table()  # the words of all chunks, as numbers

    def columns(self, chunks: Sequence[str]) -> NDArray[np.int32]:
        """What is known of the chunks, shape (`_COLUMNS`, n), int32."""
        numbers = self._numbers.of(chunks)
        if new := self._numbers.new:
            self._learn(new)
            new.clear()
        return np.ascontiguousarray(self._rows.take(numbers).T)

    def _learn(self, new: list[str]) -> None:
        """Split chunks, all at once: those of the usual kinds together, then one by one the others and the doubtful."""
        chunks, tokens = cut_plain(new)
        words = self.words.numbers(tokens)
        ends = (words == 0).nonzero()[0]
        joined = self.words.facts(words)[:, _JOINED_AS]
        doubts = _DOUBT[joined[:-1], joined[1:]].nonzero()[0]
        others = {chunk: split(chunk) for chunk in set(new).difference(chunks)}
        if len(doubts):
            bounds = [-1, *ends.tolist()]
            for i, times in Counter(ends.searchsorted(doubts).tolist()).items():
                before = tokens[bounds[i] + 1 : bounds[i + 1]]
                # nine of ten doubts are the one about `f(x):`, and rule 4 makes a word of its last two
                closed = times == 1 and before[-2:] == [")", ":"]
                others[chunks[i]] = ([*before[:-2], "):"], before) if closed else split(chunks[i])
        tokens = []
        changed: dict[int, list[str]] = {}
        for number, (after, before) in enumerate(others.values(), start=len(chunks)):
            tokens += after
            tokens.append(_END)
            if after is not before:
                changed[number] = before
        chunks += others
        words = np.concatenate([words, self.words.numbers(tokens)])
        rows = self._summed(words)
        for number, before in changed.items():
            rows[number, _CHANGED:] = True, _JOINED.get(before[0], 0), _JOINED.get(before[-1], 0)
        in_order = np.empty((len(new), _COLUMNS), np.int32)
        in_order[self._numbers.of(chunks) - len(self._rows)] = rows  # of a doubtful one the second row holds
        self._rows.add(in_order)
        self._flat.add(words)
        self.chars += sum(map(len, new))

    def _summed(self, words: NDArray[np.int64]) -> NDArray[np.int32]:
        """The rows of chunks with these words, none of them changed."""
        facts = self.words.facts(words)
        ends = (words == 0).nonzero()[0]
        starts = np.zeros_like(ends)
        starts[1:] = ends[:-1] + 1
        rows = np.zeros((len(ends), _COLUMNS), np.int32)
        rows[:, :_SUMMED] = np.add.reduceat(facts[:, :_SUMMED], starts)
        rows[:, _WORDS] = ends - starts
        rows[:, _START] = starts + len(self._flat)
        rows[:, _HEAD] = facts[starts, _JOINED_AS]
        rows[:, _TAIL] = facts[ends - 1, _JOINED_AS]
        return rows

    def words_at(self, places: NDArray[np.int64]) -> NDArray[np.int32]:
        """Numbers of the words at these places among those of all chunks, int32."""
        return self._flat.take(places)

    def lengths(self, words: NDArray[np.int32]) -> NDArray[np.int32]:
        """Characters of words, int32."""
        return self.words.facts(words)[:, _LENGTH]


class Words:
    """The words of one text.

    Attributes:
        chunks: the runs of characters between whitespace; each has at least one word.
        n: how many words.
        wordy, wordy_chars: how many words are not punctuation alone, and their characters.
        alpha: how many words have a letter.
    """

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.chunks = text.split()
        self._vocabulary = vocabulary
        self._columns = vocabulary.columns(self.chunks)
        self._rejoin(text)
        self.wordy, self.wordy_chars, self.alpha, self.n = np.add.reduce(self._columns[: _WORDS + 1], axis=1).tolist()

    @cached_property
    def different(self) -> set[str]:
        """The chunks, each once."""
        return set(self.chunks)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Where the words are among those of all chunks, in the order of the text."""
        counts = self._columns[_WORDS]
        begins = self._columns[_START] + counts - counts.cumsum()  # of each chunk, less the words before it
        return np.repeat(begins, counts) + np.arange(self.n)

    @cached_property
    def numbers(self) -> NDArray[np.int32]:
        """The words in order, shape (n,), int32; equal words have equal numbers."""
        return self._vocabulary.words_at(self._places)

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """Characters of the words in order, shape (n,), int32."""
        return self._vocabulary.lengths(self.numbers)

    def among(self, words: Sequence[str]) -> int:
        """How many of these distinct words stand in the text."""
        known = [number for number in map(self._vocabulary.words.get, words) if number is not None]
        return int((self.numbers == np.array(known, np.int32)[:, None]).any(axis=1).sum())

    def _rejoin(self, text: str) -> None:
        """Split chunks together where rule 4 of the splitter may reach from one to the next.

        That can only matter where it changed one of the two, and a single space stands between two words of `JOINTS`.
        """
        changed = self._columns[_CHANGED].nonzero()[0]
        if not len(changed):
            return
        left = np.concatenate([changed - 1, changed])
        left = left[(left >= 0) & (left < len(self.chunks) - 1)]
        left = left[_JOINT[self._columns[_TAIL, left], self._columns[_HEAD, left + 1]]]
        if not any(f"{self.chunks[k]} {self.chunks[k + 1]}" in text for k in left.tolist()):
            return
        chunks = list(self.chunks)
        for first, last in reversed(self._runs(text)):
            if self._columns[_CHANGED, first : last + 1].any():
                chunks[first : last + 1] = [" ".join(chunks[first : last + 1])]
        self._columns = self._vocabulary.columns(chunks)

    def _runs(self, text: str) -> list[tuple[int, int]]:
        """First and last chunk of the longest runs with one space and a joint between each two."""
        gaps = _CHUNK.split(text)  # before each chunk, and after the last
        joints = np.flatnonzero(_JOINT[self._columns[_TAIL, :-1], self._columns[_HEAD, 1:]]).tolist()
        runs: list[tuple[int, int]] = []
        for k in (k for k in joints if gaps[k + 1] == " "):
            if runs and runs[-1][1] == k:
                runs[-1] = (runs[-1][0], k + 1)
            else:
                runs.append((k, k + 1))
        return runs


class _Splitter:
    """A vocabulary, and the words of the last text: filters in a row split a document once."""

    def __init__(self) -> None:
        self._vocabulary = Vocabulary()
        self._text, self._words = "", Words("", self._vocabulary)

    def words(self, text: str) -> Words:
        if text != self._text:
            if self._vocabulary.chars > _MAX_CHARS:
                self._vocabulary = Vocabulary()
            self._text, self._words = text, Words(text, self._vocabulary)
        return self._words


_splitter = _Splitter()


def words_of(text: str) -> Words:
    """The words of a text. The filters of a process share a vocabulary: that changes their cost, not their answers."""
    return _splitter.words(text)
