"""Documents in which a regular expression is found too often, or too seldom."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Count, Filter

NAME, VERSION = "pattern", 1

MOST_S = 60.0
"""Processor time that one document may take."""


class _TooLong(Exception):
    pass


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` inside when so much processor time is over; only the main thread can be stopped like that."""

    def stop(*_: object) -> None:
        raise _TooLong

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass(kw_only=True, eq=False, repr=False)
class Pattern(Filter):
    """Keep documents in which the expression is found as often as it may be.

    Args:
        expression: of Python's `re`; `(?i)` in front ignores case.
        least, most: how often it has to be found, and may be; `None` is no bound. Counting ends with the one that is
            too much.

    Reasons: `pattern_too_seldom`, `pattern_too_often`.

    Raises:
        RecipeError: it is no regular expression; or it takes a document more than `MOST_S`, as one with a repeat within
            a repeat may for ever.
    """

    name = "🔎 Pattern"
    options_of: ClassVar = {"pattern_too_seldom": "least", "pattern_too_often": "most"}

    expression: str
    least: Count | None = None
    most: Count | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self._find = re.compile(self.expression).finditer
        except re.error as error:
            where = "filter pattern: expression"
            raise RecipeError(f"{self.expression!r} is no regular expression", where=where, why=error) from error

    def filter(self, document: Document) -> Answer:
        enough = max(self.least or 0, -1 if self.most is None else self.most + 1)
        try:
            with _limited(MOST_S):
                found = sum(1 for _ in islice(self._find(document.text), enough))
        except _TooLong as error:
            raise RecipeError(
                f"{self.expression!r} takes more than {MOST_S:g} s for one document",
                where=f"filter pattern: {document.id}",
                why=f"the document has {len(document.text):,} characters",
                remedy="write it without a repeat within a repeat, such as (a+)+, or with possessive ones: a++",
            ) from error
        reason = self.at_least("pattern_too_seldom", found, self.least)
        reason = reason or self.at_most("pattern_too_often", found, self.most)
        return (False, reason) if reason else True
