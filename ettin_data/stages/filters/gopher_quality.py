"""Gopher's quality rules (Rae et al. 2021, arXiv 2112.11446, section A1.1), with datatrove's decisions and reasons."""

from __future__ import annotations

from dataclasses import dataclass

from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Count, Filter, Fraction, Number
from ettin_data.stages.text.splitter import split
from ettin_data.stages.text.word_split import Words, words_of

NAME, VERSION = "gopher_quality", 1

_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


@dataclass(kw_only=True, eq=False, repr=False)
class GopherQuality(Filter):
    """Keep documents that look like prose. Rules in this order, each off when its option is `None` or 0:

    Args:
        min_doc_words, max_doc_words: bounds on the words that are not punctuation alone. Reasons `gopher_short_doc`,
            `gopher_long_doc`.
        min_avg_word_length, max_avg_word_length: bounds on the mean characters of these words. Reasons
            `gopher_below_avg_threshold`, `gopher_above_avg_threshold`.
        max_symbol_word_ratio: at most so many `#` for each word, and so many ellipses. Reasons
            `gopher_too_many_hashes`, `gopher_too_many_ellipsis`.
        max_bullet_lines_ratio: at most this part of the lines begins with a bullet. Reason `gopher_too_many_bullets`.
        max_ellipsis_lines_ratio: at most this part ends with an ellipsis. Reason `gopher_too_many_end_ellipsis`.
        max_non_alpha_words_ratio: at **least** this part of the words has a letter; the name is datatrove's. Reason
            `gopher_below_alpha_threshold`.
        min_stop_words: at least so many different ones of `stop_words` occur. Reason `gopher_enough_stop_words`, which
            means that there are too few of them.

    A document without any word is a `gopher_short_doc`, whatever the options; datatrove divides by zero there.
    """

    name = "🥇 Gopher Quality"

    min_doc_words: Count | None = 50
    max_doc_words: Count | None = 100_000
    min_avg_word_length: Number | None = 3
    max_avg_word_length: Number | None = 10
    max_symbol_word_ratio: Number | None = 0.1
    max_bullet_lines_ratio: Fraction | None = 0.9
    max_ellipsis_lines_ratio: Fraction | None = 0.3
    max_non_alpha_words_ratio: Fraction | None = 0.8
    min_stop_words: Count | None = 2
    stop_words: tuple[str, ...] = _STOP_WORDS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stop_words = tuple(dict.fromkeys(self.stop_words))
        self._whole = tuple(word for word in self.stop_words if word and split(word)[0] == [word])

    def filter(self, document: Document) -> Answer:
        text = document.text
        words = words_of(text)
        reason = self._of_words(text, words) or self._of_lines(text) or self._of_meaning(words)
        return (False, reason) if reason else True

    def _of_words(self, text: str, words: Words) -> str | None:
        if not words.n or (self.min_doc_words and words.wordy < self.min_doc_words):
            return "gopher_short_doc"
        if self.max_doc_words and words.wordy > self.max_doc_words:
            return "gopher_long_doc"
        if words.wordy:
            mean = words.wordy_chars / words.wordy
            if self.min_avg_word_length and mean < self.min_avg_word_length:
                return "gopher_below_avg_threshold"
            if self.max_avg_word_length and mean > self.max_avg_word_length:
                return "gopher_above_avg_threshold"
        if self.max_symbol_word_ratio:
            if text.count("#") / words.n > self.max_symbol_word_ratio:
                return "gopher_too_many_hashes"
            if (text.count("...") + text.count("…")) / words.n > self.max_symbol_word_ratio:
                return "gopher_too_many_ellipsis"
        return None

    def _of_lines(self, text: str) -> str | None:
        if not (self.max_bullet_lines_ratio or self.max_ellipsis_lines_ratio):
            return None
        lines = text.splitlines()
        # a line has no mark in its place that the text has not: most texts are settled by counting the marks
        most = (text.count("•") + text.count("-")) / len(lines)
        if self.max_bullet_lines_ratio and most > self.max_bullet_lines_ratio:
            bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
            if bullets / len(lines) > self.max_bullet_lines_ratio:
                return "gopher_too_many_bullets"
        most = (text.count("...") + text.count("…")) / len(lines)
        if self.max_ellipsis_lines_ratio and most > self.max_ellipsis_lines_ratio:
            ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
            if ellipses / len(lines) > self.max_ellipsis_lines_ratio:
                return "gopher_too_many_end_ellipsis"
        return None

    def _of_meaning(self, words: Words) -> str | None:
        if self.max_non_alpha_words_ratio and words.alpha / words.n < self.max_non_alpha_words_ratio:
            return "gopher_below_alpha_threshold"
        if self.min_stop_words and not self._enough_stop_words(words, self.min_stop_words):
            return "gopher_enough_stop_words"
        return None

    def _enough_stop_words(self, words: Words, enough: int) -> bool:
        # one that stands by itself between whitespace is found without looking at every word
        found = sum(map(words.different.__contains__, self._whole))
        return found >= enough or words.among(self.stop_words) >= enough
