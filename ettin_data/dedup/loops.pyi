"""A loop in C over n-grams (`loops.c`). It raises `ValueError` for an array that is too short."""

import numpy as np
from numpy.typing import NDArray

def sketches(
    hashes: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    n: int,
    shortest: int,
    base: int,
    rounds: NDArray[np.uint64],
    bit: int,
    last: int,
    finaliser: NDArray[np.uint64],
    found: NDArray[np.uint8],
) -> None:
    """Write the sketch of the n-grams of each text of `shortest` words or more (`sketch`).

    Args:
        hashes, offsets: of words, as `base.words.word_hashes` returns them.
        base: of the polynomial that an n-gram's hash is.
        rounds: what the draws of each round are for, two for each value of a sketch.
        bit: where a round's number stands above the drawn bits.
        last: what the draw of the byte is for.
        finaliser: the numbers of a draw (`draws.FINALISER`).
        found: shape (texts, values), zeros.
    """
