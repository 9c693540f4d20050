"""What of a document is worth a close look: all of a short one, of a long one what is near a place of the sieve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

PIECE = 1 << 14
"""Characters of a piece of a long document, up to the last blank or end of a line in them."""
_LONG = 4  # pieces of a text that is worth the cut


def in_pieces(texts: Sequence[str]) -> tuple[Sequence[str], Numbers]:
    """Texts, long ones cut between words, and which piece is the first of each, shape (texts + 1,), int64."""
    if max(map(len, texts), default=0) < _LONG * PIECE:
        return texts, np.arange(len(texts) + 1)
    apart = [[text] if len(text) < _LONG * PIECE else list(_cut(text)) for text in texts]
    return list(chain.from_iterable(apart)), np.cumsum([0, *map(len, apart)])


def _cut(text: str) -> Iterator[str]:
    begin = 0
    while begin < len(text):
        stop = begin + PIECE
        end = max(text.rfind(" ", begin, stop), text.rfind("\n", begin, stop)) + 1 if stop < len(text) else len(text)
        end = end or text.find(" ", stop) + 1 or len(text)
        yield text[begin:end]
        begin = end


def around(places: Numbers, bounds: Numbers, reach: int) -> tuple[Numbers, Numbers]:
    """The words [begin, end) of the same text that are up to `reach` before each place or behind it.

    Args:
        places: numbers of words, rising.
        bounds: where the words of each text begin, shape (texts + 1,).
        reach: words.
    """
    text = np.searchsorted(bounds, places, side="right") - 1
    return np.maximum(places - reach, bounds[text]), np.minimum(places + reach, bounds[text + 1])


def merged(begins: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """Spans [begin, end), both rising, with those that overlap as one."""
    apart = begins[1:] >= ends[:-1]
    return begins[np.concatenate([[True], apart])[: len(begins)]], ends[np.concatenate([apart, [True]])[: len(ends)]]
