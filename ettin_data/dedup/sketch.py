"""Sketches: a hundred bytes that stand for the word n-grams of a text, and say how alike two texts are.

The fast similarity sketch (Dahlgaard, Knudsen, Thorup, "Fast Similarity Sketching", FOCS 2017) throws every n-gram
into one of k bins, round after round with another hash, until each bin has one, and keeps of each bin the least of the
first round that reached it. Two texts agree in a bin with the probability of their Jaccard similarity J, as with k
permutations, at the price of about one for a text of any size.

Of each bin one byte is kept (b-bit minwise hashing, Li and König 2010). Some rows of bytes are a band. Of 14 bands of
8, texts share one with probability 1-(1-J^8)^14, which is 0.4 for J = .66 and 0.97 for .84. The bands are the sketch:
how alike texts are is known wherever their keys are, and both together take 112 bytes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import compiled, words
from ettin_data.base.draws import FINALISER, draw_in_place, draws, key64

_VERSION, _WIDE_VERSION = 1, 2
_NARROW = 128

Sketches = NDArray[np.uint8]
"""Shape (texts, values): one byte for each bin, all 0 for a text without n-grams."""

_EMPTY = ~np.uint64(0)
_BYTE = ("byte of a sketch",)  # what the last draw is for

_BITS = np.uint64(40)  # the round stands above the drawn bits: an earlier one is less
_DRAWN = np.uint64((1 << 40) - 1)
_AT_ONCE = 1 << 14  # draws at a time: their numbers stay in the processor's caches
_ROWS_AT_ONCE = 1 << 12  # sketches at a time, which stay there too


def version(values: int) -> int:
    """Raised when some n-grams get another sketch of so many values; version 1 of wide ones put late rounds first."""
    return _VERSION if values <= _NARROW else _WIDE_VERSION


def _round_bit(values: int) -> int:
    """Where the number of a round stands above the drawn bits: eight bits of it, or sixteen where more are needed."""
    return 56 if values <= _NARROW else 48


def word_sketches(
    hashes: NDArray[np.uint64], offsets: NDArray[np.int64], n: int, values: int, least: int = 0
) -> Sketches:
    """The sketch of each text by its n-grams.

    Args:
        hashes: of the words of all texts end to end, or of their letters.
        offsets: where those of each text begin, shape (texts + 1,).
        least: a text of fewer has no sketch.
    """
    if compiled.used(_same, "sketches"):
        return _looped(hashes, offsets, n, values, least)
    return sketches(*words.ngrams(hashes, offsets, n, least), values)


def _looped(hashes: NDArray[np.uint64], offsets: NDArray[np.int64], n: int, values: int, least: int) -> Sketches:
    """`word_sketches` by the compiled loop."""
    from ettin_data.dedup import loops

    found = np.zeros((len(offsets) - 1, values), np.uint8)
    draw = _rounds(2 * values), _round_bit(values), key64(*_BYTE), np.array(FINALISER, np.uint64)
    loops.sketches(hashes, offsets, n, max(n, least), words.BASE, *draw, found)
    return found


def _same() -> bool:
    """Whether the compiled loop makes the sketches that numpy makes."""
    hashed = words.word_hashes(compiled.proof_texts(words.code_points()[0]))
    return all(
        np.array_equal(_looped(*hashed, n, values, least), sketches(*words.ngrams(*hashed, n, least), values))
        for n, values, least in ((5, 112, 20), (1, 7, 0), (3, 260, 0))
    )


def sketches(grams: NDArray[np.uint64], offsets: NDArray[np.int64], values: int) -> Sketches:
    """The sketch of each text.

    Args:
        grams: hashes of all texts' n-grams end to end (`base.words.ngrams`); one that repeats counts once.
        offsets: where those of each text begin, shape (texts + 1,).
        values: bins of a sketch.
    """
    lengths = np.diff(offsets)
    least = np.full((len(lengths), values), _EMPTY)
    first = np.repeat(np.arange(0, len(lengths) * values, values), lengths)  # bin of the text of each n-gram
    left, purposes, buffers = lengths, _rounds(2 * values), np.empty((2, _AT_ONCE), np.uint64)
    begin = 0
    while begin < 2 * values and len(grams):
        # Several rounds before anybody looks who is done: a later one changes nothing in a bin that has its least, and
        # a look costs as much as many throws.
        border = values if begin < values else 2 * values
        end = begin + max(1, min(begin, _AT_ONCE // len(grams), border - begin))
        _throw(grams, first, purposes[begin:end], begin, least, buffers)
        begin, unfilled = end, (least == _EMPTY).any(axis=1)
        if not unfilled.all():  # texts of many n-grams are done after a round or two
            stays = np.repeat(unfilled, left)
            grams, first, left = grams[stays], first[stays], np.where(unfilled, left, 0)
    # The byte is mixed anew: the least of many numbers is small, and the low bits of a round's number are its own.
    found = draws(least, *_BYTE).astype(np.uint8)
    found[lengths == 0] = 0
    return found


@cache
def _rounds(count: int) -> NDArray[np.uint64]:
    """What the draws of each round are for, as a key, shape (count,)."""
    return np.array([key64("sketch", number) for number in range(count)], np.uint64)


def _throw(
    grams: NDArray[np.uint64],
    first: NDArray[np.int64],
    rounds: NDArray[np.uint64],
    begin: int,
    least: NDArray[np.uint64],
    buffers: NDArray[np.uint64],
) -> None:
    """Some rounds, from number `begin`: `least[text, bin]` becomes less where an n-gram falls lower. In place.

    From round `values` on all n-grams fall into the same bin, another one in each round, so that none stays empty; the
    rounds are all before that one, or none is.
    """
    values, step = least.shape[1], _AT_ONCE // len(rounds)
    number = np.arange(begin, begin + len(rounds), dtype=np.uint64)[:, None]
    for start in range(0, len(grams), step):
        some, bins = grams[start : start + step], first[start : start + step]
        drawn, scratch = buffers[:, : len(rounds) * len(some)].reshape(2, len(rounds), len(some))
        drawn[:] = some
        draw_in_place(drawn, rounds, scratch)
        if begin < values:
            np.right_shift(drawn, _BITS, out=scratch)
            scratch *= np.uint64(values)
            scratch >>= np.uint64(24)
        else:
            scratch[:] = number - np.uint64(values)
        at = scratch.view(np.int64)
        at += bins
        drawn &= _DRAWN
        drawn |= number << np.uint64(_round_bit(values))
        np.minimum.at(least.reshape(-1), at.reshape(-1), drawn.reshape(-1))


def band_keys(found: Sketches, bands: range, rows: int) -> NDArray[np.uint64]:
    """The keys of some bands of each sketch, shape (bands, texts), uint64: equal where all rows of the band are."""
    keys, purpose = np.zeros((len(bands), len(found)), np.uint64), np.array([key64("band")], np.uint64)
    scratch = np.empty((1, _ROWS_AT_ONCE), np.uint64)
    for start in range(0, len(found), _ROWS_AT_ONCE):
        some = found[start : start + _ROWS_AT_ONCE]
        for place, band in enumerate(bands):
            key = keys[place, None, start : start + _ROWS_AT_ONCE]
            for begin in range(band * rows, (band + 1) * rows, 8):
                part = some[:, begin : min(begin + 8, (band + 1) * rows)]
                if part.shape[1] < 8:
                    part = np.pad(part, ((0, 0), (0, 8 - part.shape[1])))
                key ^= part.view("<u8").T
                draw_in_place(key, purpose, scratch[:, : len(some)])
    return keys


def likeness(ones: Sketches, others: Sketches) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of the n-grams of the texts of each pair, shape (pairs,), from 0 to 1.

    Its standard error is at most about sqrt(J (1 - J) / values).
    """
    if not len(ones) or not ones.shape[1]:
        return np.zeros(len(ones))
    values = ones.shape[1]
    equal = (ones == others).view(np.uint8).sum(axis=1, dtype=np.min_scalar_type(values)) / np.float64(values)
    # Bytes of different n-grams are equal one time in 256: take those off.
    alike: NDArray[np.float64] = np.clip((256 * equal - 1) / 255, 0, 1)
    return alike


def shared_bands(ones: Sketches, others: Sketches, bands: int, rows: int) -> NDArray[np.int64]:
    """In how many bands the texts of each pair agree, shape (pairs,); none where one has no n-grams."""
    together = 8 if rows % 8 == 0 else 1  # rows that are compared as one number
    one, other = (each[:, : bands * rows].view(f"u{together}") for each in (ones, others))
    agree = (one == other).reshape(len(ones), bands, rows // together)
    equal = agree[:, :, 0].copy()
    for row in range(1, rows // together):  # a third of what `all` of the last axis takes
        equal &= agree[:, :, row]
    shared: NDArray[np.int64] = np.where(has_sketch(ones) & has_sketch(others), equal.sum(axis=1), 0)
    return shared


def has_sketch(found: Sketches) -> NDArray[np.bool_]:
    """Mask of the texts that have n-grams, shape (texts,)."""
    mask: NDArray[np.bool_] = found.any(axis=1)
    return mask
