"""Loops over characters and words in C (`loops.c`). One raises `ValueError` for an array that is too short."""

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

def fill_filter(hashes: NDArray[np.uint64], shift: int, table: NDArray[np.uint8]) -> None:
    """Set the bits of hashes in a filter's table, which is zeros (`stages.contamination.sieve.HashFilter`)."""

def look_up(
    signs: NDArray[np.uint16],
    count: int,
    first: int,
    step: int,
    words: int,
    some: NDArray[np.uint8],
    some_shift: int,
    whole: NDArray[np.uint8],
    whole_shift: int,
    found: NDArray[np.int64],
) -> int:
    """Write where stretches may begin among so many words; returns how many (`stages.contamination.sieve.look_up`).

    Args:
        signs: of the words, and three behind them.
        some, some_shift, whole, whole_shift: the filters' tables and shifts.
        found: room for one more than there are words.
    """

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
    """Write the sketch of the n-grams of each text of `shortest` words or more (`dedup.sketch`).

    Args:
        hashes, offsets: of words, as `word_hashes` writes them.
        base: of the polynomial that an n-gram's hash is.
        rounds: what the draws of each round are for, two for each value of a sketch.
        bit: where a round's number stands above the drawn bits.
        last: what the draw of the byte is for.
        finaliser: the numbers of a draw (`draws.FINALISER`).
        found: shape (texts, values), zeros.
    """
