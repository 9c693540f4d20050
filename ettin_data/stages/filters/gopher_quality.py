"""Gopher's quality rules (Rae et al. 2021, arXiv 2112.11446, section A1.1), with datatrove's decisions and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Count, Filter, Fraction, Number
from ettin_data.stages.filters.measured import Reason
from ettin_data.stages.text.other_languages import ListedWords, splitter_of
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
        language: whose words are counted, `deu` or `deu_Latn`, split as datatrove splits them; `None` is English, at a
            tenth of the cost. The stop words of another language have to be given.

    A document without any word is a `gopher_short_doc`, whatever the options; datatrove divides by zero there.
    """

    name = "🥇 Gopher Quality"
    web_text = True
    later_options: ClassVar = {"language": None}
    options_of: ClassVar = {
        "gopher_short_doc": "min_doc_words",
        "gopher_long_doc": "max_doc_words",
        "gopher_below_avg_threshold": "min_avg_word_length",
        "gopher_above_avg_threshold": "max_avg_word_length",
        "gopher_too_many_hashes": "max_symbol_word_ratio",
        "gopher_too_many_ellipsis": "max_symbol_word_ratio",
        "gopher_too_many_bullets": "max_bullet_lines_ratio",
        "gopher_too_many_end_ellipsis": "max_ellipsis_lines_ratio",
        "gopher_below_alpha_threshold": "max_non_alpha_words_ratio",
        "gopher_enough_stop_words": "min_stop_words",
    }

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
    language: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stop_words = tuple(dict.fromkeys(self.stop_words))
        self._words_of = words_of if self.language is None else splitter_of(self.language)
        self._whole = tuple(word for word in self.stop_words if word and split(word)[0] == [word])

    def filter(self, document: Document) -> Answer:
        text = document.text
        words = self._words_of(text)
        reason = self._of_words(text, words) or self._of_lines(text) or self._of_meaning(words)
        return (False, reason) if reason else True

    def _of_words(self, text: str, words: Words | ListedWords) -> Reason | None:
        if not words.n:
            return Reason("gopher_short_doc", 0, self.min_doc_words)
        reason = self.at_least("gopher_short_doc", words.wordy, self.min_doc_words or None)
        reason = reason or self.at_most("gopher_long_doc", words.wordy, self.max_doc_words or None)
        if words.wordy and not reason:
            mean = words.wordy_chars / words.wordy
            reason = self.at_least("gopher_below_avg_threshold", mean, self.min_avg_word_length or None)
            reason = reason or self.at_most("gopher_above_avg_threshold", mean, self.max_avg_word_length or None)
        if self.max_symbol_word_ratio and not reason:
            most, ellipses = self.max_symbol_word_ratio, text.count("...") + text.count("…")
            reason = self.at_most("gopher_too_many_hashes", text.count("#") / words.n, most)
            reason = reason or self.at_most("gopher_too_many_ellipsis", ellipses / words.n, most)
        return reason

    def _of_lines(self, text: str) -> Reason | None:
        if not (self.max_bullet_lines_ratio or self.max_ellipsis_lines_ratio):
            return None
        # a line has no mark in its place that the text has not, and lines are no fewer than ends of lines: nearly all
        # texts are settled by counting
        bullet_marks = text.count("•") + text.count("-") if self.max_bullet_lines_ratio else 0
        ellipsis_marks = text.count("...") + text.count("…") if self.max_ellipsis_lines_ratio else 0
        least = max(text.count("\n"), 1)
        most_bullets, most_ellipses = self.max_bullet_lines_ratio or 1, self.max_ellipsis_lines_ratio or 1
        if bullet_marks / least <= most_bullets and ellipsis_marks / least <= most_ellipses:
            return None
        lines, reason = text.splitlines(), None
        if self.max_bullet_lines_ratio and bullet_marks / len(lines) > most_bullets:
            bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
            reason = self.at_most("gopher_too_many_bullets", bullets / len(lines), most_bullets)
        if self.max_ellipsis_lines_ratio and ellipsis_marks / len(lines) > most_ellipses and not reason:
            ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
            return self.at_most("gopher_too_many_end_ellipsis", ellipses / len(lines), most_ellipses)
        return reason

    def _of_meaning(self, words: Words | ListedWords) -> Reason | None:
        alpha = words.alpha / words.n
        return self.at_least(
            "gopher_below_alpha_threshold", alpha, self.max_non_alpha_words_ratio or None
        ) or self._of_stop_words(words)

    def _of_stop_words(self, words: Words | ListedWords) -> Reason | None:
        enough = self.min_stop_words
        # one that stands by itself between whitespace is found without looking at every word
        if not enough or sum(map(words.different.__contains__, self._whole)) >= enough:
            return None
        return self.at_least("gopher_enough_stop_words", words.among(self.stop_words), enough)
