"""Signs of words, for a first look at many texts: the first two letters of each, at a third of what its hash costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import compiled
from ettin_data.base.words import ALONE, BREAK, NOTHING, PORTION, around_ones, ascii_letters, code_points

Signed = tuple[NDArray[np.uint16], NDArray[np.int64]]


def word_signs(texts: Sequence[str]) -> Signed:
    """A sign of each word: equal words have equal signs; not the converse.

    It is the first two letters of the word, one byte each: the small ASCII letter or the digit that counts as the
    same, or one of 160 to 253 for the letters that are none; 0 for the second of a word of one.

    To numpy texts of ASCII alone cost less than others: who has both orders them `by_cost`.

    Returns: signs, shape (words,), uint16; and where those of each text begin, shape (texts + 1,), int64.
    """
    return _looped(texts) if compiled.used(_same, _SIGNS) else _of_numpy(texts)


def _looped(texts: Sequence[str]) -> Signed:
    """`word_signs` by the compiled loop."""
    from ettin_data.base import loops

    signs, offsets = np.empty(sum(map(len, texts)) + 4, np.uint16), np.empty(len(texts) + 1, np.int64)
    count = loops.word_signs(list(texts), _bytes_of_letters(), int(_ONE), _GONE, signs, offsets)
    return signs[:count], offsets


def _same() -> bool:
    """Whether the compiled loop makes the signs that numpy makes."""
    texts = compiled.proof_texts(code_points()[0])
    (ours, mine), (signs, offsets) = _looped(texts), _of_numpy(texts)
    return np.array_equal(ours, signs) and np.array_equal(mine, offsets)


def _of_numpy(texts: Sequence[str]) -> Signed:
    """`word_signs` by numpy."""
    sizes = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    cuts = [0, *(np.flatnonzero(np.diff(sizes // PORTION)) + 1).tolist(), len(texts)] if texts else []
    apart = [_signs(texts[begin:end]) for begin, end in pairwise(cuts)]
    counts = np.concatenate([np.zeros(1, np.int64), *(of_text for _, of_text in apart)])
    return np.concatenate([np.zeros(0, np.uint16), *(signs for signs, _ in apart)]), np.cumsum(counts)


def by_cost(texts: Sequence[str]) -> list[int]:
    """The numbers of texts, first of those of ASCII alone, whose signs cost less by themselves: to numpy, that is."""
    if compiled.used(_same, _SIGNS):
        return list(range(len(texts)))
    ascii = np.fromiter(map(str.isascii, texts), bool, len(texts))
    numbers: list[int] = np.argsort(~ascii, kind="stable").tolist()
    return numbers


def _signs(texts: Sequence[str]) -> Signed:
    """The signs of all words of texts end to end, and how many each text has."""
    if all(map(str.isascii, texts)):
        letters, starts = ascii_letters(np.frombuffer("\n\n".join(["", *texts, ""]).encode("ascii"), np.uint8))
        marks = np.fromiter(map(len, texts), np.int64, len(texts))
        marks = np.concatenate([[0], np.cumsum(marks + 2)])
        single = None
    else:
        rows = (text.encode("utf-8", "surrogatepass") for text in texts)
        letters = _letters_one_byte_each(np.frombuffer(_BETWEEN.join([b"", *rows, b""]), np.uint8))
        marks = np.flatnonzero(letters == _MARK)
        letters[marks] = 0
        inside, ones = letters != 0, letters >= _ONE
        if ones.any():
            starts, ends = around_ones(inside, ones)
            single = ends - starts == 1
        else:
            starts, single = np.flatnonzero(inside[1:] > inside[:-1]) + 1, None
    signs = letters[1:].take(starts).astype(np.uint16)
    signs <<= np.uint16(8)
    if single is not None:
        signs[single] = 0
    signs |= letters.take(starts)
    return signs, np.diff(np.searchsorted(starts, marks))


def _letters_one_byte_each(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """UTF-8 with `_BETWEEN` between texts as one byte for each letter, 0 for what ends words, and `_MARK` for texts."""
    array = data.copy()
    high = np.flatnonzero(array >= 0x80)
    values = array[high]
    lead = (values >= 0xC0) & (values != _MARK)
    at, codes = high[lead], values[lead].astype(np.int64)
    codes = (codes & 0x1F) << 6 | (array[at + 1] & 0x3F)
    for longer, bits in ((0xE0, 10), (0xF0, 15)):
        some = array[at] >= longer
        behind = array[at[some] + (2 if longer == 0xE0 else 3)] & 0x3F
        codes[some] = (codes[some] & ((1 << bits) - 1)) << 6 | behind
    plain = _plain().take(codes)
    array[high[values != _MARK]] = _GONE
    array[at] = plain
    gone = bytes([_GONE]) if (plain != ord(" ")).any() else b""  # signs alone may as well leave gaps
    return np.frombuffer(bytearray(array).translate(_PLAIN, gone), np.uint8)


@cache
def _plain() -> NDArray[np.uint8]:
    """For each code point its byte; `_GONE` for what is in no word, a blank for what ends words."""
    kinds, codes = code_points()
    plain = (codes & np.uint64(31)).astype(np.uint8) | _OTHER
    plain[kinds == ALONE] |= _ONE
    plain = np.where(codes < 128, codes.astype(np.uint8), np.minimum(plain, _GONE - 1))
    plain[kinds == BREAK] = ord(" ")
    plain[kinds == NOTHING] = _GONE
    return plain


@cache
def _bytes_of_letters() -> NDArray[np.uint8]:
    """For each code point its byte, 0 for what ends words, `_GONE` for what is in none."""
    plain = _plain()
    return np.where(plain == _GONE, plain, np.frombuffer(_PLAIN, np.uint8).take(plain))


_SIGNS = "signs of words"
_OTHER, _ONE = np.uint8(160), np.uint8(224)  # the first byte of a letter that is not ASCII, and of one that is a word
_GONE, _MARK, _BETWEEN = 254, 255, b" \xff"  # neither is a byte of UTF-8; the second stands before a text
_PLAIN = bytes(
    ord(chr(code).lower()) * chr(code).isalnum() if code < 128 else code * (code != _GONE) for code in range(256)
)
