"""A share of the documents, drawn by their text: the same ones in whatever split or run they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import xxhash
from datatrove.data import Document
from pydantic import Field

from ettin_data.base.draws import key64
from ettin_data.stages.filters.base import Answer, Filter, Fraction
from ettin_data.stages.filters.measured import Reason

NAME, VERSION = "sample", 1


@dataclass(kw_only=True, eq=False, repr=False)
class Sampler(Filter):
    """Keep about this share of the documents; equal texts share their fate. Reason `not_sampled`.

    Args:
        share: of the documents.
        seed: another one draws another sample; with the same one a larger share has all of a smaller one.
    """

    name = "🎲 Sample"

    share: Fraction
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._key = key64("sample of documents", self.seed)

    def filter(self, document: Document) -> Answer:
        drawn = xxhash.xxh3_64_intdigest(document.text.encode("utf-8", "surrogatepass"), self._key) / (1 << 64)
        return True if drawn < self.share else (False, Reason("not_sampled", drawn, self.share))
