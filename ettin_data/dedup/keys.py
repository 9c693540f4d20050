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
        return {**asdict(self), "words": words.VERSION, "sketch": sketch.version(self.values)}


def text_keys(
    texts: Sequence[str],
    choice: KeyChoice,
    hashed: words.Hashed | None = None,
) -> NDArray[np.uint8]:
    """The keys of each text, shape (texts, TEXT_BYTES + choice.values): the hash of its words, then its sketch.

    Args:
        hashed: `base.words.word_hashes(texts)`, where it is known already.
    """
    hashes, offsets = words.word_hashes(texts) if hashed is None else hashed
    counts = np.diff(offsets)
    keys = np.zeros((len(texts), TEXT_BYTES + choice.values), np.uint8)
    keys[:, :TEXT_BYTES] = word_digests(hashes, offsets[:-1], offsets[1:])
    for number in np.flatnonzero(counts == 0).tolist():  # nothing but signs, and equal to the same signs only
        said = b"\0" + texts[number].encode("utf-8", "surrogatepass")
        keys[number, :TEXT_BYTES] = np.frombuffer(xxhash.xxh3_128_digest(said), np.uint8)
    if choice.values:
        least = choice.min_words
        if choice.unit == "character":
            long, least = counts >= max(least, 1), 0
            hashes, offsets = words.letter_hashes(
                [text if is_long else "" for text, is_long in zip(texts, long, strict=True)]
            )
        keys[:, TEXT_BYTES:] = sketch.word_sketches(hashes, offsets, choice.ngram, choice.values, least)
    return keys


def word_digests(hashes: NDArray[np.uint64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.uint8]:
    """128 bits for each span of words, shape (spans, TEXT_BYTES): equal where the words are."""
    data = memoryview(hashes.astype("<u8", copy=False)).cast("B")
    spans = zip((begin * 8).tolist(), (end * 8).tolist(), strict=True)
    said = b"".join([xxhash.xxh3_128_digest(data[first:last]) for first, last in spans])
    return np.frombuffer(said, np.uint8).reshape(-1, TEXT_BYTES)
