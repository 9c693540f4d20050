"""Gopher's repetition rules."""

from __future__ import annotations

from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Count, Filter, Fraction, Rejects

Grams = tuple[tuple[Count, Fraction], ...]


class GopherRepetition(Filter):
    name = "👯 Gopher Repetition"

    def __init__(
        self,
        *,
        dup_line_frac: Fraction | None = 0.3,
        dup_para_frac: Fraction | None = 0.3,
        dup_line_char_frac: Fraction | None = 0.2,
        dup_para_char_frac: Fraction | None = 0.2,
        top_n_grams: Grams = ((2, 0.2), (3, 0.18), (4, 0.16)),
        dup_n_grams: Grams = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)),
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(rejects=rejects)

    def filter(self, document: Document) -> Answer:
        raise NotImplementedError
