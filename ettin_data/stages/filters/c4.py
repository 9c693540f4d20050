"""C4's line rules (Raffel et al. 2020, section 2.2, and its code), with datatrove's decisions, reasons and text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from datatrove.data import Document
from pydantic import Field

from ettin_data.stages.filters.base import Answer, Filter
from ettin_data.stages.text import sentences
from ettin_data.stages.text.other_languages import sentences_of

NAME, VERSION = "c4", 1

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_ENDS = (".", "?", "!", '"', "'")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")

Limit = Annotated[int, Field(ge=-1)]  # -1 turns a rule off


@dataclass(kw_only=True, eq=False, repr=False)
class C4Quality(Filter):
    """Remove lines that are not prose, and documents of which too little is left: this filter **edits the text**.

    Rules in this order:

    Args:
        split_paragraph: judge lines; otherwise sentences, and join what is kept with spaces.
        max_word_length: remove lines with a longer word (between whitespace); -1 is off.
        remove_citations: remove `[12]`, `[edit]` and `[citation needed]` from lines.
        filter_no_terminal_punct: remove lines that do not end with one of `. ? ! " '`, or end with an ellipsis.
        min_words_per_line: remove lines with fewer words (between whitespace); -1 is off.
        filter_lorem_ipsum: drop documents with a line that says so. Reason `lorem_ipsum`.
        filter_javascript: remove lines that mention it.
        filter_curly_bracket: drop documents with `{` in a line that got here. Reason `curly_bracket`.
        filter_policy: remove lines about cookies, privacy or terms of use.
        min_num_sentences: drop documents of which fewer sentences are left; -1 is off. Reason `too_few_sentences`.
        language: whose sentences these are, `deu` or `deu_Latn`, split as datatrove splits them; `None` is English,
            which costs a fraction. The words that rules look for stay English, as datatrove's do.

    Statistics besides the common ones: `line-total`, `line-kept`, and `line-filter-` with `too_long_word`,
    `no_terminal_punc`, `too_few_words`, `javascript` or `policy`.
    """

    name = "⛰ C4 Quality"
    web_text = True
    later_options: ClassVar = {"language": None}
    options_of: ClassVar = {
        "too_few_sentences": "min_num_sentences",
        "lorem_ipsum": "filter_lorem_ipsum",
        "curly_bracket": "filter_curly_bracket",
    }

    split_paragraph: bool = True
    remove_citations: bool = True
    filter_no_terminal_punct: bool = True
    min_num_sentences: Limit = 5
    min_words_per_line: Limit = 3
    max_word_length: Limit = 1000
    filter_lorem_ipsum: bool = True
    filter_javascript: bool = True
    filter_curly_bracket: bool = True
    filter_policy: bool = True
    language: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._split = None if self.language is None else sentences_of(self.language)

    def filter(self, document: Document) -> Answer:
        text = document.text
        lines = text.splitlines() if self.split_paragraph else (self._split or sentences.sentences)(text)
        suspect = self._is_suspect(text)
        kept: list[str] = []
        for number, line in enumerate(lines, start=1):
            verdict, line = self._judge(line.strip(), suspect)
            if verdict == "keep":
                kept.append(line)
            elif verdict in ("lorem_ipsum", "curly_bracket"):
                self._count_lines(number, len(kept))
                return False, verdict
            else:
                self.tally[f"line-filter-{verdict}"] += 1
        self._count_lines(len(lines), len(kept))
        found = self._sentences(kept)
        if found < self.min_num_sentences:
            reason = self.at_least("too_few_sentences", found, self.min_num_sentences)
            return False, reason or "too_few_sentences"
        document.text = ("\n" if self.split_paragraph else " ").join(kept).strip()
        return True

    def _is_suspect(self, text: str) -> bool:
        """Whether any line can have one of the words that `_judge_words` looks for."""
        lower = text.lower()
        return "{" in text or any(words in lower for words in ("javascript", "lorem ipsum", *_POLICIES))

    def _judge(self, line: str, suspect: bool) -> tuple[str, str]:
        """What becomes of a line, and the line without citations."""
        longest = self.max_word_length
        if longest != -1 and len(line) > longest and any(len(word) > longest for word in line.split()):
            return "too_long_word", line
        whole = line
        if self.remove_citations and "[" in line:
            line = _CITATION.sub("", line)
        if self.filter_no_terminal_punct and (not line.endswith(_ENDS) or line.endswith("...")):
            return "no_terminal_punc", line
        # the words are those before the citations went; as many as matter are split off
        least = self.min_words_per_line
        if least > 0 and len(whole.split(None, least - 1)) < least:
            return "too_few_words", line
        if suspect or line is not whole:  # taking out a citation can make a new word of two
            return self._judge_words(line), line
        return "keep", line

    def _judge_words(self, line: str) -> str:
        lower = line.lower()
        if self.filter_lorem_ipsum and "lorem ipsum" in lower:
            return "lorem_ipsum"
        if self.filter_javascript and "javascript" in lower:
            return "javascript"
        if self.filter_curly_bracket and "{" in line:
            return "curly_bracket"
        if self.filter_policy and any(policy in lower for policy in _POLICIES):
            return "policy"
        return "keep"

    def _sentences(self, kept: list[str]) -> int:
        """How many sentences: exact where they are too few; from enough on any such number will do.

        Where even the marks that could end one are too few, their number, which is next to exact and costs nothing.
        """
        needed = self.min_num_sentences
        if not self.split_paragraph or needed <= len(kept):  # a line is a sentence at least
            return len(kept)
        if self._split is None and (most := sum(map(sentences.at_most, kept))) < needed:
            return most
        found = 0
        for done, line in enumerate(kept, start=1):
            more = len(kept) - done
            if self._split is None:
                found += sentences.count(line, enough=needed - found - more)
            else:
                found += len(self._split(line))
            if found + more >= needed:
                return found + more
        return found

    def _count_lines(self, total: int, kept: int) -> None:
        self.tally["line-total"] += total
        self.tally["line-kept"] += kept
