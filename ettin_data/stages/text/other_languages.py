"""Words and sentences of other languages than English, as datatrove splits them: which library that takes depends on
the language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from ettin_data.base.errors import RecipeError
from ettin_data.stages.text.english import PUNCTUATION


class ListedWords:
    """The words of one text, with what the rules ask of them; counting costs little beside such a split.

    Attributes:
        n: how many words.
        different: the words, each once.
        wordy, wordy_chars: how many words are not punctuation alone, and their characters.
        alpha: how many words have a letter.
    """

    def __init__(self, words: Sequence[str]) -> None:
        wordy = [word for word in words if not PUNCTUATION.issuperset(word)]
        self.n, self.wordy, self.wordy_chars = len(words), len(wordy), sum(map(len, wordy))
        self._words = words

    @cached_property
    def different(self) -> set[str]:
        return set(self._words)

    @cached_property
    def alpha(self) -> int:
        return sum(any(map(str.isalpha, word)) for word in self._words)

    def among(self, words: Sequence[str]) -> int:
        """How many of these distinct words stand in the text."""
        return len(self.different.intersection(words))

    def top(self, n: int) -> int | None:
        """The characters of the most frequent n-gram, of several the first, in all its places; None if there is none.

        The words of an n-gram count as joined with spaces.
        """
        grams = Counter(" ".join(self._words[place : place + n]) for place in range(self.n - n + 1))
        if not grams:
            return None
        (gram, times), *_ = grams.most_common(1)
        return len(gram) * times

    def repeated(self, n: int) -> int:
        """The characters of n-grams that stood before, from the left and without overlap, joined without spaces."""
        seen, characters, place = set[str](), 0, 0
        while place <= self.n - n:
            gram = "".join(self._words[place : place + n])
            if gram in seen:
                characters += len(gram)
                place += n
            else:
                seen.add(gram)
                place += 1
        return characters


def splitter_of(language: str) -> Callable[[str], ListedWords]:
    """What splits texts of a language into words, named as datatrove does: `deu`, or `deu_Latn` with the script.

    Raises:
        RecipeError: datatrove has no splitter for it, or a package that it needs is not installed.
    """
    tokenizer = _loaded(language)
    return lambda text: ListedWords(tokenizer.word_tokenize(text))


def sentences_of(language: str) -> Callable[[str], list[str]]:
    """What splits texts of a language into sentences, which joined give the text; one at least. See `splitter_of`."""
    tokenizer = _loaded(language)

    def split(text: str) -> list[str]:
        ends = [end for _, end in tokenizer.span_tokenize(text)]
        return [text[begin:end] for begin, end in pairwise([0, *ends[:-1], len(text)])]

    return split


def _loaded(language: str) -> Any:
    """datatrove's splitter of a language, with all that it needs."""
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    try:
        tokenizer = load_word_tokenizer(language)
        tokenizer.word_tokenize("a")  # what it needs it may load with the first text
    except ValueError as error:
        raise RecipeError(
            f"datatrove splits no text of {language!r}",
            why=" ".join(str(error).split()),
            remedy="name it by its ISO 639-3 code, and its script where it has several: deu, srp_Cyrl",
        ) from error
    except ImportError as error:
        said = " ".join(str(error).split())
        command = re.search(r"pip install [\w.\-= \[\]]+", said)
        raise RecipeError(
            f"splitting text of {language!r} needs more packages", why=said, remedy=command and command[0]
        ) from error
    return tokenizer
