"""The keys of a document, by which copies are found: 128 bits for its words, and a sketch of its n-grams.

The keys are made in the pass that reads the text (`stages.keys`) and lie beside the ledger (`storage.keys`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base import words
from ettin_data.dedup import sketch
from ettin_data.storage.keys import TEXT_BYTES


@dataclass(frozen=True)
class KeyChoice:
    """What keys are made of.

    Attributes:
        ngram: words, or characters, of an n-gram.
        values: of a sketch; 0 makes none.
        min_words: a text of fewer words, or fewer than an n-gram, has no sketch: only equal words make it a copy.
        unit: of n-grams.
    """

    ngram: int = 5
    values: int = 112
    min_words: int = 20
    unit: Literal["word", "character"] = "word"

    def made_from(self) -> dict[str, Any]:
        """What decides the keys of a text."""
        return {**asdict(self), "words": words.VERSION, "sketch": sketch.VERSION}


def text_keys(texts: Sequence[str], choice: KeyChoice) -> NDArray[np.uint8]:
    """The keys of each text, shape (texts, TEXT_BYTES + choice.values): the hash of its words, then its sketch."""
    hashes, offsets = words.word_hashes(texts)
    counts = np.diff(offsets)
    keys = np.zeros((len(texts), TEXT_BYTES + choice.values), np.uint8)
    data, bounds = memoryview(hashes.astype("<u8", copy=False)).cast("B"), (offsets * 8).tolist()
    for number, text in enumerate(texts):
        begin, end = bounds[number], bounds[number + 1]
        # A text of nothing but signs has no words, and is equal to the same signs only.
        said = data[begin:end] if end > begin else b"\0" + text.encode("utf-8", "surrogatepass")
        keys[number, :TEXT_BYTES] = np.frombuffer(xxhash.xxh3_128_digest(said), np.uint8)
    if choice.values:
        long = counts >= max(choice.min_words, choice.ngram if choice.unit == "word" else 1)
        if choice.unit == "character":
            hashes, offsets = words.letter_hashes([text for text, is_long in zip(texts, long, strict=True) if is_long])
        elif not long.all():
            hashes, offsets = hashes[np.repeat(long, counts)], np.concatenate([[0], np.cumsum(counts[long])])
        grams, limits = words.ngrams(hashes, offsets, choice.ngram)
        keys[long, TEXT_BYTES:] = sketch.sketches(grams, limits, choice.values)
    return keys
