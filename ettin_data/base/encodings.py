"""Encodings of text other than UTF-8: known by name, taken off, and guessed from bytes that are not UTF-8."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Callable, Iterator
from itertools import chain

CESU8 = "cesu-8"
"""UTF-8 of UTF-16's surrogate pairs (Unicode Technical Report 26): old Java and Oracle exports. Python has no codec."""

_PAIR = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")
_HIGH = re.compile(rb"[\x80-\xff]+")
_SAMPLE = 2000  # bytes that a guess looks at
_BAD = "\udc80"  # what stands for undecodable bytes: it is no UTF-8, so that readers see, repair and count it


def known(name: str) -> str:
    """The name, if text of this encoding can be read. Raises ValueError."""
    if name.lower() != CESU8:
        try:
            if not codecs.lookup(name)._is_text_encoding:
                raise LookupError
        except LookupError:
            raise ValueError(f"there is no encoding {name!r}; write latin-1, cp1252, gb18030, shift_jis …") from None
    return name


def transcoded(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Text of an encoding as UTF-8, in blocks; what cannot be decoded comes out as bytes that are no UTF-8.

    UTF-16 that does not begin with its mark stays as it is: its bytes say which of the two it is.
    """
    cesu = name.lower() == CESU8
    decoder = codecs.getincrementaldecoder("utf-8" if cesu else name)(_cesu.__name__ if cesu else _undecodable.__name__)
    held = ""
    for block, last in chain(((block, False) for block in blocks), [(b"", True)]):
        try:
            text = held + decoder.decode(block, last)
        except UnicodeError:
            yield from chain([block], blocks)
            return
        held = text[-1:] if cesu and not last and "\ud800" <= text[-1:] <= "\udbff" else ""
        text = text[: len(text) - len(held)]
        if cesu:  # the two halves of a character become one
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if text:
            yield text.encode("utf-8", "surrogatepass")


def _undecodable(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _BAD, error.end


def _cesu(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeError:
        return _undecodable(error)


codecs.register_error(_undecodable.__name__, _undecodable)
codecs.register_error(_cesu.__name__, _cesu)


def decoded(data: bytes, name: str) -> str:
    """One text of an encoding. Raises UnicodeDecodeError."""
    return data.decode(name) if name == "utf-8" else b"".join(transcoded(iter([data]), name)).decode("utf-8")


def likely(data: bytes) -> str | None:
    """The encoding that bytes which are no UTF-8 probably are in, or None for bytes that look like no text.

    A few lines of a language are told from others by what is usual in them: the kana of Japanese, the first level of
    GB2312 and Big5, which holds the characters in use, lower case of Cyrillic. Single high bytes between letters are
    Western European. A guess for a message: nothing is read by it.
    """
    try:
        data.decode("utf-8")
        return None
    except UnicodeDecodeError as error:
        sample = data[max(error.start - 200, 0) : error.start + _SAMPLE]
    if _PAIR.search(sample):
        return CESU8
    if sample.count(0) * 5 > len(sample):
        return "utf-16"
    runs = _HIGH.findall(sample)
    if sum(len(run) == 1 for run in runs) * 5 >= len(runs) * 4:
        return "cp1252" if any(0x80 <= byte < 0xA0 for byte in b"".join(runs)) else "latin-1"
    scores = {name: _usual(sample, name, usual) for name, usual in _USUAL.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 0.5 else None


def _usual(sample: bytes, name: str, usual: Callable[[str], bool]) -> float:
    """The share of characters beyond ASCII that are usual, twice the share of undecodable ones taken off."""
    beyond = [character for character in sample.decode(name, "replace") if character > "\x7f"]
    good = sum(map(usual, beyond)) - 2 * beyond.count("\ufffd")
    return good / max(len(beyond), 1)


@functools.cache
def _in_use(codec: str, first: int, last: int) -> frozenset[str]:
    """The characters of the rows of a two-byte code, and the punctuation of Chinese."""
    pairs = (bytes((lead, trail)) for lead in range(first, last + 1) for trail in range(0x40, 0xFF))
    return frozenset("，。、：；！？“”《》（）") | frozenset(pair.decode(codec, "ignore") for pair in pairs)


_USUAL: dict[str, Callable[[str], bool]] = {  # of two with the same score the first
    "euc_kr": lambda character: "\uac00" <= character <= "\ud7a3",
    "shift_jis": lambda character: "\u3000" <= character <= "\u30ff" or "\u4e00" <= character <= "\u9fff",
    "euc_jp": lambda character: "\u3000" <= character <= "\u30ff" or "\u4e00" <= character <= "\u9fff",
    "gb18030": lambda character: character in _in_use("gb2312", 0xB0, 0xD7) or "\u00b0" <= character <= "\u017f",
    "big5": lambda character: character in _in_use("big5", 0xA4, 0xC6),
    "cp1251": lambda character: "\u0430" <= character <= "\u0451",
    "koi8_r": lambda character: "\u0430" <= character <= "\u0451",
}
