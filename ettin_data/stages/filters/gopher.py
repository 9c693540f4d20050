"""Gopher's quality rules."""

from __future__ import annotations

from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Count, Filter, Fraction, Number, Rejects


class GopherQuality(Filter):
    name = "🥇 Gopher Quality"

    def __init__(
        self,
        *,
        min_doc_words: Count | None = 50,
        max_doc_words: Count | None = 100_000,
        min_avg_word_length: Number | None = 3,
        max_avg_word_length: Number | None = 10,
        max_symbol_word_ratio: Number | None = 0.1,
        max_bullet_lines_ratio: Fraction | None = 0.9,
        max_ellipsis_lines_ratio: Fraction | None = 0.3,
        max_non_alpha_words_ratio: Fraction | None = 0.8,
        min_stop_words: Count | None = 2,
        stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with"),
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(rejects=rejects)

    def filter(self, document: Document) -> Answer:
        raise NotImplementedError
