"""From works to the demo mirror's documents: what each is made of and how long it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from ettin_data.base import draws
from ettin_data.demo.text import Work

_LETTERS = re.compile(r"[A-Za-z]{1,6}")
_DIGITS = re.compile(r"[0-9]")
_SIGNS = re.compile(r"[^\sA-Za-z0-9]+")
_CHARACTERS_PER_TOKEN = 3.5


@dataclass(frozen=True, slots=True)
class Document:
    """One document of the mirror, named after the work that it starts in. `tokens` is `estimate_tokens` of its text."""

    text: str
    name: str
    package: str
    tokens: int


@dataclass(frozen=True)
class Shape:
    """How long a source's documents are.

    Attributes:
        median, spread: of the lognormal that lengths in characters are drawn from; `spread` is the standard deviation
            of the logarithm. Not used if `whole`.
        longest: in characters.
        whole: documents are whole works, cut only at `longest`.
        share: no document is more than this part of its source, because validation takes a whole one.
    """

    median: int = 0
    spread: float = 0.0
    longest: int = 70_000
    whole: bool = False
    share: float = 1 / 8


def estimate_tokens(text: str) -> int:
    """About how many ModernBERT tokens `text` is, without the tokenizer, which may have to be downloaded.

    Coefficients fitted to the real tokenizer on docstrings and code of many packages: within 4% for each kind of text,
    where bytes alone are 10% off.
    """
    letters, digits, signs = (len(pattern.findall(text)) for pattern in (_LETTERS, _DIGITS, _SIGNS))
    beyond_ascii = 0 if text.isascii() else len(text.encode("utf-8")) - len(text)
    return round(0.74 * letters + 0.48 * digits + 1.48 * signs + 1.29 * text.count("\n") + 0.25 * beyond_ascii)


class Shelf:
    """Deals works out as documents, round and round: a source never gets a passage twice, two sources only at need."""

    def __init__(self, kind: str, works: list[Work]) -> None:
        works = sorted(works, key=lambda work: draws.key64("demo", "shelf", kind, work.name))
        self._passages = [(work, passage) for work in works for passage in work.passages]
        self._next = 0

    def deal(self, source: str, tokens: int, shape: Shape) -> list[Document]:
        """Documents of about `tokens` estimated tokens in all; fewer when that would repeat a passage."""
        longest = min(shape.longest, tokens * _CHARACTERS_PER_TOKEN * shape.share)
        documents: list[Document] = []
        unread, room = len(self._passages), tokens
        for length in _lengths(source, shape):
            if not unread or room <= 0:
                break
            goal = min(length, longest, room * _CHARACTERS_PER_TOKEN)
            work, text, read = self._take(goal, longest, unread, whole=shape.whole)
            unread -= read
            if text:
                documents.append(Document(text, work.name, work.package, estimate_tokens(text)))
                room -= documents[-1].tokens
        return documents

    def _take(self, goal: float, longest: float, unread: int, *, whole: bool) -> tuple[Work, str, int]:
        """Read on until there are `goal` characters; returns the first work, the text, and how many passages were read.

        Stops at the end of a work if `whole`, or if three quarters are there: mixing works is for long documents only.
        A passage longer than `longest` is read and left out.
        """
        first, _ = self._passages[self._next]
        taken: list[str] = []
        size = read = 0
        while read < unread and size < goal:
            work, passage = self._passages[self._next]
            if not taken:
                first = work
            elif size + len(passage) > longest or (work is not first and (whole or size > 0.75 * goal)):
                break
            if len(passage) <= longest:
                taken.append(passage)
                size += len(passage)
            self._next = (self._next + 1) % len(self._passages)
            read += 1
        return first, "".join(taken).strip(), read


def _lengths(source: str, shape: Shape) -> Iterator[float]:
    """Lognormal lengths in characters whose quantiles are evenly spread, so that even a few have their long tail."""
    at = draws.key64("demo", "lengths", source) / 2**64
    golden = (math.sqrt(5) - 1) / 2  # multiples of it, modulo one, never cluster
    while True:
        at = (at + golden) % 1.0
        draw = NormalDist().inv_cdf(min(max(at, 1e-4), 1 - 1e-4))
        yield math.inf if shape.whole else shape.median * math.exp(shape.spread * draw)
