"""C4's rules."""

from __future__ import annotations

from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Filter, Rejects


class C4Quality(Filter):
    name = "⛰ C4 Quality"

    def __init__(
        self,
        *,
        split_paragraph: bool = True,
        remove_citations: bool = True,
        filter_no_terminal_punct: bool = True,
        min_num_sentences: int = 5,
        min_words_per_line: int = 3,
        max_word_length: int = 1000,
        filter_lorem_ipsum: bool = True,
        filter_javascript: bool = True,
        filter_curly_bracket: bool = True,
        filter_policy: bool = True,
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(rejects=rejects)

    def filter(self, document: Document) -> Answer:
        raise NotImplementedError
