"""Documents that are too short or too long. Costs well under a millisecond for a megabyte of text."""

from __future__ import annotations

from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Count, Filter

NAME, VERSION = "length", 1


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

    def __init__(
        self,
        *,
        min_chars: Count | None = 1,
        max_chars: Count | None = None,
        min_words: Count | None = None,
        max_words: Count | None = None,
    ) -> None:
        super().__init__()
        for unit, low, high in (("chars", min_chars, max_chars), ("words", min_words, max_words)):
            if low is not None and high is not None and low > high:
                raise RecipeError(
                    f"no document is long enough: min_{unit}={low} is above max_{unit}={high}",
                    where="filter length",
                    remedy=f"swap them, or set max_{unit} to null",
                )
        self.min_chars, self.max_chars = min_chars, max_chars
        self.min_words, self.max_words = min_words, max_words

    def filter(self, document: Document) -> Answer:
        chars = len(document.text)
        if self.min_chars is not None and chars < self.min_chars:
            return False, "too_few_chars"
        if self.max_chars is not None and chars > self.max_chars:
            return False, "too_many_chars"
        if self.min_words is None and self.max_words is None:
            return True
        words = len(document.text.split())
        if self.min_words is not None and words < self.min_words:
            return False, "too_few_words"
        if self.max_words is not None and words > self.max_words:
            return False, "too_many_words"
        return True
