"""Loops over characters and words in C (`loops.c`). One raises `ValueError` for an array that is too short."""

from typing import Any

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

def worthy_pairs(
    n: int,
    words: NDArray[np.uint64],
    bounds: NDArray[np.int64],
    firsts: NDArray[np.int64],
    grams: NDArray[np.int64],
    starts: NDArray[np.signedinteger[Any]],
    begins: NDArray[np.signedinteger[Any]],
    owners: NDArray[np.int32],
    texts: NDArray[np.uint64],
    limits: NDArray[np.int64],
    sums: NDArray[np.float64],
    least: NDArray[np.float64],
    gaps: NDArray[np.int64],
    enough: int,
) -> bytes:
    """The n-grams of documents that may be of evaluation texts which these have (`stages.contamination.search`).

    Left out are those of a text whose runs of n-grams have nothing equal behind them or a gap, on either side, and
    weigh too little in all of the document.

    Args:
        n: words of an n-gram.
        words, bounds: of documents, as `word_hashes` writes them.
        firsts: the words with which n-grams of texts begin, rising.
        grams: which n-gram each is: its texts have `begins[starts[gram] : starts[gram + 1]]`, of one type.
        owners: the text of each of `begins`.
        texts, limits: the words of the texts, and where those of each begin.
        sums: what the n-grams weigh that begin before each word of the texts, and at last all of them.
        least: more has to be found of each text.
        gaps: words of a text and of a document that a place may grow over, shape (gaps, 2).
        enough: equal words behind a gap.

    Returns: int64 numbers, two for each: place in `firsts`, and word of the texts.
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
