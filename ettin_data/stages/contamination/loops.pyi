"""Loops in C over words (`loops.c`). One raises `ValueError` for an array that is too short."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def fill_filter(hashes: NDArray[np.uint64], shift: int, table: NDArray[np.uint8]) -> None:
    """Set the bits of hashes in a filter's table, which is zeros (`sieve.HashFilter`)."""

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
    """Write where stretches may begin among so many words; returns how many (`sieve.look_up`).

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
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    begins: NDArray[np.signedinteger[Any]],
    owners: NDArray[np.int32],
    texts: NDArray[np.uint64],
    limits: NDArray[np.int64],
    sums: NDArray[np.float64],
    least: NDArray[np.float64],
    gaps: NDArray[np.int64],
    enough: int,
) -> bytes:
    """The n-grams of documents that may be of evaluation texts which these have (`search`).

    Left out are those of a text whose runs of n-grams have nothing equal behind them or a gap, on either side, and
    weigh too little in all of the document.

    Args:
        n: words of an n-gram.
        words, bounds: of documents, as `base.words.word_hashes` returns them.
        firsts: the words with which n-grams of texts begin, rising.
        starts, ends: the texts have the n-gram of each at `begins[start:end]`, rising.
        begins: words of the texts, int32 or int64.
        owners: the text of each of `begins`.
        texts, limits: the words of the texts, and where those of each begin.
        sums: what the n-grams weigh that begin before each word of the texts, and at last all of them.
        least: more has to be found of each text.
        gaps: words of a text and of a document that a place may grow over, shape (gaps, 2).
        enough: equal words behind a gap.

    Returns: int64 numbers, two for each: place in `firsts`, and word of the texts.
    """
