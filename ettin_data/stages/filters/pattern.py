"""Documents in which a regular expression is found too often, or too seldom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Count, Filter

NAME, VERSION = "pattern", 1


@dataclass(kw_only=True, eq=False, repr=False)
class Pattern(Filter):
    """Keep documents in which the expression is found as often as it may be.

    Args:
        expression: of Python's `re`; `(?i)` in front ignores case.
        least, most: how often it has to be found, and may be; `None` is no bound. Counting ends with the one that is
            too much.

    Reasons: `pattern_too_seldom`, `pattern_too_often`.

    Raises:
        RecipeError: it is no regular expression.
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
        found = sum(1 for _ in islice(self._find(document.text), enough))
        reason = self.at_least("pattern_too_seldom", found, self.least)
        reason = reason or self.at_most("pattern_too_often", found, self.most)
        return (False, reason) if reason else True
