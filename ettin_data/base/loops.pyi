"""Loops in C over the characters of texts (`loops.c`). One raises `ValueError` for an array that is too short."""

import numpy as np
from numpy.typing import NDArray

def word_hashes(
    texts: list[str],
    kinds: NDArray[np.uint8],
    numbers: NDArray[np.uint64],
    powers: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
    offsets: NDArray[np.int64],
) -> int:
    """Write the hashes of all words, and where those of each text begin; returns how many (`words.word_hashes`).

    Args:
        kinds, numbers: by code point (`words.rules`).
        powers: of the base, from 0 on: one for each character of a portion.
        hashes: room for one more than there are characters.
        offsets: room for one more than there are texts.
    """

def word_signs(
    texts: list[str],
    table: NDArray[np.uint8],
    alone: int,
    nothing: int,
    signs: NDArray[np.uint16],
    offsets: NDArray[np.int64],
) -> int:
    """Write the signs of all words, and where those of each text begin; returns how many (`word_signs.word_signs`).

    Args:
        table: by code point the byte of a letter, 0 for what ends words.
        alone: from which byte on a letter is a word of its own.
        nothing: the byte of what is not there.
        signs: room for four more than there are characters.
        offsets: room for one more than there are texts.
    """
