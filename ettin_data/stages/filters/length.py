"""Documents that are too short or too long. Costs well under a millisecond for a megabyte of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Count, Filter

NAME, VERSION = "length", 1


@dataclass(kw_only=True, eq=False, repr=False)
class Length(Filter):
    """Keep documents whose length lies between the bounds, both included.

    Args:
        min_chars, max_chars: bounds in characters (Unicode code points, whitespace included); `None` is no bound.
        min_words, max_words: bounds in words, here runs of characters that are not whitespace; `None` is no bound.

    Reasons: `too_few_chars`, `too_many_chars`, `too_few_words`, `too_many_words`.

    Raises:
        RecipeError: a minimum above its maximum.
    """

    name = "📏 Length"
    options_of: ClassVar = {
        "too_few_chars": "min_chars",
        "too_many_chars": "max_chars",
        "too_few_words": "min_words",
        "too_many_words": "max_words",
    }

    min_chars: Count | None = 1
    max_chars: Count | None = None
    min_words: Count | None = None
    max_words: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for unit in ("chars", "words"):
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if low is not None and high is not None and low > high:
                raise RecipeError(
                    f"no document is long enough: min_{unit}={low} is above max_{unit}={high}",
                    where="filter length",
                    remedy=f"swap them, or set max_{unit} to null",
                )

    def filter(self, document: Document) -> Answer:
        chars = len(document.text)
        reason = self.at_least("too_few_chars", chars, self.min_chars)
        reason = reason or self.at_most("too_many_chars", chars, self.max_chars)
        if not reason and not (self.min_words is None and self.max_words is None):
            words = len(document.text.split())
            reason = self.at_least("too_few_words", words, self.min_words)
            reason = reason or self.at_most("too_many_words", words, self.max_words)
        return (False, reason) if reason else True
