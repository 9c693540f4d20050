"""FineWeb's rules."""

from __future__ import annotations

from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Count, Filter, Fraction, Number, Rejects


class FineWebQuality(Filter):
    name = "🍷 FineWeb Quality"

    def __init__(
        self,
        *,
        line_punct_thr: Fraction = 0.12,
        line_punct_exclude_zero: bool = False,
        stop_chars: tuple[str, ...] | None = None,
        short_line_thr: Fraction = 0.67,
        short_line_length: Count = 30,
        char_duplicates_ratio: Fraction = 0.01,
        new_line_ratio: Number = 0.3,
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(rejects=rejects)

    def filter(self, document: Document) -> Answer:
        raise NotImplementedError
