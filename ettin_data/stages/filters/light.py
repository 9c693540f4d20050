"""The light filters: length, and exact duplicates. They cost about a millisecond for a megabyte of text."""

from __future__ import annotations

import xxhash
from datatrove.data import Document

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Count, Filter, Rejects
from ettin_data.stages.filters.digest_set import Seen


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
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(rejects=rejects)
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


class ExactDuplicate(Filter):
    """Keep the first document of each text **within one split**; reason `exact_duplicate`.

    A split is the unit of work, so the answer depends on nothing but the split's own inputs: not on workers, nor on the
    order in which splits are built. Equal texts in two splits are both kept.

    Texts are compared by 128-bit xxh3 of their UTF-8: among a billion documents the chance that any two different texts
    are taken for one is below 1e-20. The digests of half a million documents kept are held in memory, some 50 MB;
    more of them cost 16 bytes of a temporary file each (`digest_set.py`).
    """

    name = "🪞 Exact duplicate"

    def __init__(self, *, rejects: Rejects | None = None) -> None:
        super().__init__(rejects=rejects)
        self._seen = Seen()

    def start(self) -> None:
        self._seen = Seen()

    def filter(self, document: Document) -> Answer:
        # "surrogatepass": a lone surrogate is legal in a JSON string, and must not stop a build here
        digest = xxhash.xxh3_128_intdigest(document.text.encode("utf-8", "surrogatepass"))
        return True if self._seen.add(digest) else (False, "exact_duplicate")
