"""FineWeb's line rules (Penedo et al. 2024, arXiv 2406.17557, section 3.6), with datatrove's decisions and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Count, Filter, Fraction, Number
from ettin_data.stages.filters.measured import Reason
from ettin_data.stages.text.english import TERMINAL_PUNCTUATION
from ettin_data.stages.text.other_languages import splitter_of
from ettin_data.stages.text.word_split import words_of

NAME, VERSION = "fineweb", 1


@dataclass(kw_only=True, eq=False, repr=False)
class FineWebQuality(Filter):
    """Keep documents whose lines look like prose. Lines are those with more than whitespace; rules in this order:

    Args:
        line_punct_thr: at least this part of the lines ends with one of `stop_chars`. Reason `line_punct_ratio`.
        line_punct_exclude_zero: spare documents in which no line does.
        stop_chars: strings that end a line of prose; `None` is the punctuation that ends sentences, in all scripts.
        short_line_thr, short_line_length: at most this part of the lines has at most so many characters. Reason
            `short_line_ratio`.
        char_duplicates_ratio: at most this part of the characters stands in lines that stood before. Reason
            `char_dup_ratio`.
        new_line_ratio: at most so many line breaks for each word. Reason `list_ratio`.
        language: whose words are counted, `deu` or `deu_Latn`, split as datatrove splits them; `None` is English, which
            costs a fraction.

    A document without any line is dropped as `empty`.
    """

    name = "🍷 FineWeb Quality"
    web_text = True
    later_options: ClassVar = {"language": None}
    options_of: ClassVar = {
        "line_punct_ratio": "line_punct_thr",
        "short_line_ratio": "short_line_thr",
        "char_dup_ratio": "char_duplicates_ratio",
        "list_ratio": "new_line_ratio",
    }

    line_punct_thr: Fraction = 0.12
    line_punct_exclude_zero: bool = False
    stop_chars: tuple[str, ...] | None = None
    short_line_thr: Fraction = 0.67
    short_line_length: Count = 30
    char_duplicates_ratio: Fraction = 0.01
    new_line_ratio: Number = 0.3
    language: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        stops = TERMINAL_PUNCTUATION if self.stop_chars is None else self.stop_chars
        self._stops = tuple(stops)
        self._single = frozenset(stops) if all(len(stop) == 1 for stop in stops) else None
        self._listed_words_of = None if self.language is None else splitter_of(self.language)

    def filter(self, document: Document) -> Answer:
        text = document.text
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if not lines:
            return False, "empty"
        reason = self._of_lines(text, lines)
        return (False, reason) if reason else True

    def _of_lines(self, text: str, lines: list[str]) -> Reason | None:
        ratio = self._stopped(lines) / len(lines)
        if not (ratio == 0 and self.line_punct_exclude_zero) and (
            reason := self.at_least("line_punct_ratio", ratio, self.line_punct_thr)
        ):
            return reason
        lengths, breaks = list(map(len, lines)), text.count("\n")
        short = sum(map(self.short_line_length.__ge__, lengths)) / len(lines)
        if reason := self.at_most("short_line_ratio", short, self.short_line_thr):
            return reason
        repeated = (sum(lengths) - sum(map(len, set(lines)))) / (len(text) - breaks)
        if reason := self.at_most("char_dup_ratio", repeated, self.char_duplicates_ratio):
            return reason
        if self._listed_words_of is not None:
            words = self._listed_words_of(text).n or 1  # a text without words divides by zero there
            return self.at_most("list_ratio", breaks / words, self.new_line_ratio)
        # a word at least for every run of characters between whitespace: only long lists need the words themselves
        if breaks / len(text.split()) <= self.new_line_ratio:
            return None
        return self.at_most("list_ratio", breaks / words_of(text).n, self.new_line_ratio)

    def _stopped(self, lines: list[str]) -> int:
        """How many lines end with a stop character."""
        if self._single is None:
            return sum(line.endswith(self._stops) for line in lines)
        # `endswith` would try each of the 159
        return sum(map(self._single.__contains__, map(itemgetter(-1), lines)))
