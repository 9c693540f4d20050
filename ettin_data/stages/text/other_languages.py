"""Words of other languages than English, as datatrove splits them: which library that takes depends on the language."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property

from ettin_data.base.errors import RecipeError
from ettin_data.stages.text.english import PUNCTUATION


class ListedWords:
    """The words of one text, with what the rules of `gopher_quality` ask of `word_split.Words`.

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


def splitter_of(language: str) -> Callable[[str], ListedWords]:
    """What splits texts of a language, named as datatrove does: `deu`, or `deu_Latn` with the script.

    Raises:
        RecipeError: datatrove has no splitter for it, or a package that it needs is not installed.
    """
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    try:
        tokenizer = load_word_tokenizer(language)
        tokenizer.word_tokenize("a")  # what it needs it may load with the first text
    except ValueError as error:
        raise RecipeError(
            f"datatrove splits no words of {language!r}",
            why=" ".join(str(error).split()),
            remedy="name it by its ISO 639-3 code, and its script where it has several: deu, srp_Cyrl",
        ) from error
    except ImportError as error:
        said = " ".join(str(error).split())
        command = re.search(r"pip install [\w.\-= \[\]]+", said)
        raise RecipeError(
            f"splitting words of {language!r} needs more packages", why=said, remedy=command and command[0]
        ) from error
    return lambda text: ListedWords(tokenizer.word_tokenize(text))
