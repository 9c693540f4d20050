"""The words of a document as numbers, shared by the filters that count them.

Splitting is dear and text repeats itself: a **vocabulary** splits each chunk (what stands between whitespace) once, and
remembers what the filters ask about its words. A document is then an array of chunk numbers, and what a filter counts
is a sum over rows of a table.
"""

from __future__ import annotations

import re
from array import array
from functools import cached_property

import numpy as np

from ettin_data.stages.filters.english import PUNCTUATION
from ettin_data.stages.filters.splitter import JOINTS, split

_CHUNK = re.compile(r"\S+")
# what is known of a chunk: how many words it has; how many of them are more than punctuation, and their characters;
# how many have a letter; where its words begin among all; whether rule 4 of the splitter changed them; and the first
# and the last of them before that, as numbers in `_JOINED`
_COLUMNS = 8
_WORDS, _WORDY, _WORDY_CHARS, _ALPHA, _START, _CHANGED, _HEAD, _TAIL = range(_COLUMNS)
_SUMMED = _ALPHA + 1  # the first columns are sums over words
_MAX_CHARS = 4_000_000  # of all chunks in a vocabulary, which is about 80 MB; then a new one is begun

_JOINED = {word: number for number, word in enumerate(sorted({word for pair in JOINTS for word in pair}), start=1)}
_JOINT = np.zeros((len(_JOINED) + 1, len(_JOINED) + 1), bool)
for _a, _b in JOINTS:
    _JOINT[_JOINED[_a], _JOINED[_b]] = True


class _WordTable(dict[str, int]):
    """Numbers of words, given as they are met, and of each what it adds to the first columns of a chunk."""

    def __init__(self) -> None:
        super().__init__()
        self._facts = array("i")

    def __missing__(self, word: str) -> int:
        wordy = not PUNCTUATION.issuperset(word)
        has_letter = word.isalpha() or any(map(str.isalpha, word))
        self._facts.extend((1, wordy, len(word) if wordy else 0, has_letter))
        self[word] = number = len(self)
        return number

    def facts(self, words: np.ndarray) -> np.ndarray:
        """Shape (n, `_SUMMED`), int32."""
        # the view must not outlive the call: an array that is looked at cannot grow
        return np.frombuffer(self._facts, np.int32).reshape(-1, _SUMMED)[words]


class Vocabulary(dict[str, int]):
    """Numbers of chunks, given as they are met: `vocabulary[chunk]`.

    Attributes:
        words: numbers of the words.
        chars: how many characters the chunks hold together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words = _WordTable()
        self.chars = 0
        self._flat = array("i")  # the words of all chunks, as numbers
        self._flat_lengths = array("i")  # their characters
        self._places = array("i")  # the last columns of all chunks
        self._rows = np.zeros((0, _COLUMNS), np.int32)
        self._filled = 0

    def __missing__(self, chunk: str) -> int:
        words, before = split(chunk)
        start, changed = len(self._flat), words is not before
        self._flat.extend(map(self.words.__getitem__, words))
        self._flat_lengths.extend(map(len, words))
        self._places.extend((start, changed, _JOINED.get(before[0], 0), _JOINED.get(before[-1], 0)))
        self.chars += len(chunk)
        self[chunk] = number = len(self)
        return number

    def rows(self, chunks: list[str]) -> np.ndarray:
        """What is known of the chunks, shape (n, `_COLUMNS`), int32."""
        numbers = np.fromiter(map(self.__getitem__, chunks), np.int32, len(chunks))
        if self._filled < len(self):
            self._fill()
        return self._rows[numbers]

    def _fill(self) -> None:
        """Make the rows of the chunks that are new, all at once."""
        done, n = self._filled, len(self)
        if n > len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros((max(n, 1024), _COLUMNS), np.int32)])
        places = np.frombuffer(self._places, np.int32).reshape(-1, _COLUMNS - _SUMMED)[done:]
        starts = places[:, 0]
        facts = self.words.facts(np.frombuffer(self._flat, np.int32)[starts[0] :])
        self._rows[done:n, :_SUMMED] = np.add.reduceat(facts, starts - starts[0])
        self._rows[done:n, _SUMMED:] = places
        self._filled = n

    def words_at(self, places: np.ndarray) -> np.ndarray:
        """Numbers of the words at these places among those of all chunks, int32."""
        return np.frombuffer(self._flat, np.int32)[places]

    def lengths_at(self, places: np.ndarray) -> np.ndarray:
        """Characters of the words at these places among those of all chunks, int32."""
        return np.frombuffer(self._flat_lengths, np.int32)[places]


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
        self._rows = vocabulary.rows(self.chunks)
        self._rejoin(text)
        self.n, self.wordy, self.wordy_chars, self.alpha = self._rows[:, :_SUMMED].sum(axis=0).tolist()

    @cached_property
    def _places(self) -> np.ndarray:
        """Where the words are among those of all chunks, in the order of the text."""
        counts = self._rows[:, _WORDS]
        shift = self._rows[:, _START].astype(np.int64)
        shift[1:] -= np.cumsum(counts[:-1])
        return np.repeat(shift, counts) + np.arange(self.n)

    @cached_property
    def numbers(self) -> np.ndarray:
        """The words in order, shape (n,), int32; equal words have equal numbers."""
        return self._vocabulary.words_at(self._places)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of the words in order, shape (n,), int32."""
        return self._vocabulary.lengths_at(self._places)

    def __contains__(self, word: str) -> bool:
        words = self._vocabulary.words
        return dict.__contains__(words, word) and bool((self.numbers == words[word]).any())

    def _rejoin(self, text: str) -> None:
        """Split chunks together where rule 4 of the splitter may reach from one to the next.

        That can only matter where it changed one of the two, and a single space stands between two words of `JOINTS`.
        """
        changed = np.flatnonzero(self._rows[:, _CHANGED])
        if not len(changed):
            return
        left = np.concatenate([changed - 1, changed])
        left = left[(left >= 0) & (left < len(self.chunks) - 1)]
        left = left[_JOINT[self._rows[left, _TAIL], self._rows[left + 1, _HEAD]]]
        if not any(f"{self.chunks[k]} {self.chunks[k + 1]}" in text for k in left.tolist()):
            return
        chunks = list(self.chunks)
        for first, last in reversed(self._runs(text)):
            if self._rows[first : last + 1, _CHANGED].any():
                chunks[first : last + 1] = [" ".join(chunks[first : last + 1])]
        self._rows = self._vocabulary.rows(chunks)

    def _runs(self, text: str) -> list[tuple[int, int]]:
        """First and last chunk of the longest runs with one space and a joint between each two."""
        spans = [chunk.span() for chunk in _CHUNK.finditer(text)]
        joints = np.flatnonzero(_JOINT[self._rows[:-1, _TAIL], self._rows[1:, _HEAD]]).tolist()
        runs: list[tuple[int, int]] = []
        for k in (k for k in joints if text[spans[k][1] : spans[k + 1][0]] == " "):
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


def forget() -> None:
    """Begin a new vocabulary, as a new process does."""
    global _splitter
    _splitter = _Splitter()
