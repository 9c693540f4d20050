"""Repeated paragraphs of a source: licences, navigation, what stands at the foot of every page.

A paragraph is a line, as in Dolma (its `dedupe` of paragraphs splits at line breaks) and in DCLM's Bloom filter. Two
are equal if their words are. One of fewer words than DCLM's 13 stays wherever it is, and a document of which more than
DCLM's 0.8 is repeated goes as a whole. Which of several equal ones stays is decided as for documents (`dedup.join`):
each paragraph is a row with the hash of its words, so nothing has to be held in memory, and nothing is guessed as by a
Bloom filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ettin_data.base import words
from ettin_data.base.options import Options
from ettin_data.dedup.keys import word_digests
from ettin_data.storage.keys import Keys

VERSION = 1
"""Raised when other paragraphs count as repeated, or something else is done about them."""


class ParagraphChoice(Options):
    """Repeated paragraphs of a source, of which the first stays: by a keyed draw of its document, then in its order."""

    min_words: int = Field(13, ge=1)
    """A line of fewer words stays wherever it is."""
    drop_above: float = Field(0.8, gt=0, le=1)
    """A document goes as a whole if repeated lines are a larger share of its characters, or nothing is left of it."""

    def rows_made_from(self) -> dict[str, Any]:
        """What decides which paragraphs are compared, and by what."""
        return {"version": VERSION, "words": words.VERSION, "min_words": self.min_words}


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text; joined by line breaks they are the text again."""
    return text.split("\n")


def paragraph_keys(texts: Sequence[str], choice: ParagraphChoice) -> tuple[NDArray[np.int64], NDArray[np.int64], Keys]:
    """The paragraphs of some texts that are compared.

    Returns: of each the number of its text, its number among all of that text, and the hash of its words, shape
        (paragraphs, TEXT_BYTES).
    """
    of_text, number, lines = list[int](), list[int](), list[str]()
    for place, text in enumerate(texts):
        for at, line in enumerate(paragraphs(text)):
            if len(line) >= choice.min_words:  # a word has a character
                of_text.append(place)
                number.append(at)
                lines.append(line)
    hashes, offsets = words.word_hashes(lines)
    long = np.flatnonzero(np.diff(offsets) >= choice.min_words)
    keys = word_digests(hashes, offsets[long], offsets[long + 1])
    return np.array(of_text, np.int64)[long], np.array(number, np.int64)[long], keys
