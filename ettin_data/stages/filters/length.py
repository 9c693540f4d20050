"""Documents that are too short or too long. Costs well under a millisecond for a megabyte of text."""

from __future__ import annotations

from dataclasses import dataclass

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
