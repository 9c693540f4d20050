"""How alike two texts truly are, from their words and not from sketches; and how many of some pairs are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ettin_data.base import words
from ettin_data.dedup.keys import KeyChoice
from ettin_data.inspect.duplicates import texts
from ettin_data.inspect.search import Numbers, Search
from ettin_data.tokenizer.encoder import Tokenizer

ALIKE = 0.5
"""Jaccard similarity from which two texts count as copies."""

_Z = 1.959963984540054  # of a normal distribution, 95% of which are within
_AT_ONCE = 512  # pairs whose texts are held together


def similarity(one: str, other: str, choice: KeyChoice) -> float:
    """Exact Jaccard similarity of the n-grams of two texts; where neither has one, 1 if their words are equal or 0."""
    of = words.letter_hashes if choice.unit == "character" else words.word_hashes
    hashes, offsets = of([one, other])
    grams, limits = words.ngrams(hashes, offsets, choice.ngram)
    ours, theirs = np.unique(grams[: limits[1]]), np.unique(grams[limits[1] :])
    if not len(ours) and not len(theirs):
        return float(np.array_equal(hashes[: offsets[1]], hashes[offsets[1] :]))
    common = len(np.intersect1d(ours, theirs, assume_unique=True))
    return common / (len(ours) + len(theirs) - common)


def wilson(true: int, of: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, "Probable inference", JASA 1927); (0, 1) of nothing."""
    if not of:
        return 0.0, 1.0
    share, square = true / of, _Z * _Z / of
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def precision(
    search: Search, pairs: Mapping[str, tuple[Numbers, Numbers]], tokenizer: Tokenizer
) -> dict[str, dict[str, Any]]:
    """Reason -> of the pairs whose texts are both there (`pairs`), how many are `alike`, the `share`, its `interval`.

    `unread` are those of which a text is not in a pool.
    """
    choice = search.choice.keys
    found = {}
    for reason, (copies, twins) in pairs.items():
        alike = read = 0
        for begin in range(0, len(copies), _AT_ONCE):
            some = copies[begin : begin + _AT_ONCE], twins[begin : begin + _AT_ONCE]
            tokens = texts(search, np.concatenate(some), tokenizer.vocabulary)
            there = [pair for pair in zip(*(each.tolist() for each in some), strict=True) if set(pair) <= set(tokens)]
            decoded = tokenizer.decode_batch([tokens[number] for pair in there for number in pair])
            read += len(there)
            alike += sum(
                similarity(one, other, choice) >= ALIKE for one, other in zip(decoded[::2], decoded[1::2], strict=True)
            )
        found[reason] = {
            "pairs": read, "alike": alike, "unread": len(copies) - read,
            "share": alike / read if read else None, "interval": list(wilson(alike, read)),
        }  # fmt: skip
    return found
