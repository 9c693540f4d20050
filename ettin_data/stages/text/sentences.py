"""Split text into sentences exactly as spaCy's rule-based `sentencizer` does after its English tokenizer.

A sentence ends after a word of `SENTENCE_END` and the punctuation that follows it. Whitespace counts: more than one
space between words is a word of its own to spaCy, and begins a sentence where it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, pairwise

from ettin_data.stages.text.english import SENTENCE_END
from ettin_data.stages.text.splitter import split

_PIECE = re.compile(r"\s+|\S+(?: \S+)*")
_END = re.compile(f"[{''.join(sorted(SENTENCE_END))}]")
# no special string has so many small letters before a dot; `Messrs.` has five
_CERTAIN_END = re.compile(r"[a-z]{6}[.!?] [A-Z][a-z]")


def ends(text: str) -> list[int]:
    """Where in the text its sentences end: offsets behind their last words, increasing; none for an empty text."""
    offsets = []
    ended = False  # whether a word that ends a sentence has been seen
    last = 0
    for word, end in _words(text):
        if ended and word not in SENTENCE_END and not _is_punctuation(word):
            offsets.append(last)
            ended = False
        elif word in SENTENCE_END:
            ended = True
        last = end
    return [*offsets, last] if text else []


def at_most(text: str) -> int:
    """No text has more sentences than this: each but the last ends with a mark of `SENTENCE_END`."""
    return 1 + len(_END.findall(text, 0, max(0, len(text) - 1)))


def count(text: str, enough: int) -> int:
    """How many sentences: exact below `enough`; from there on any such number will do. Empty text: 1."""
    certain = 1 + sum(1 for _ in islice(_CERTAIN_END.finditer(text), enough))
    return certain if certain >= enough else all_of(text)


def all_of(text: str) -> int:
    """How many sentences. Empty text: 1."""
    return max(1, len(ends(text)))


def sentences(text: str) -> list[str]:
    """The sentences, which joined give the text; an empty text is one sentence."""
    cuts = [0, *ends(text)[:-1], len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def _words(text: str) -> Iterator[tuple[str, int]]:
    """Words, those of whitespace too, and the offsets of their ends."""
    for piece in _PIECE.finditer(text):
        start, end = piece.span()
        if text[start].isspace():
            # one space after a word belongs to that word
            start += start > 0 and text[start] == " "
            if start < end:
                yield text[start:end], end
            continue
        for word in split(piece.group())[0]:
            start += text[start] == " "
            start += len(word)
            yield word, start


@lru_cache(maxsize=4096)
def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in word)
