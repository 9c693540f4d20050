"""What every text filter is: a datatrove step that answers `True`, or `(False, "reason")`, for each document.

The answers, the reasons and the names of the statistics are datatrove's, so its reports read the same. Two things
differ from `datatrove.pipeline.filters.BaseFilter`: a dropped document is handed to `rejects` with its reason, so that
a build can account for it, and statistics are gathered in plain counters and handed over in bulk. Not deriving from
`BaseFilter` also spares importing all of datatrove's filters and what they need.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Any, ClassVar

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import MetricStats
from pydantic import Field

from ettin_data.stages.filters.measured import Measured, Reason

Answer = bool | tuple[bool, str]
Rejects = Callable[[Document, str], None]

Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

UNNAMED = "filtered"
"""The reason of a filter that gives none."""

_FLUSH = 65_536  # documents between two times that their lengths and values are added up: half a megabyte of each


@dataclass(frozen=True)
class Kind:
    """A filter that a recipe can name: one that we ship, one of datatrove's, or a user's own.

    Attributes:
        name: as a recipe says it.
        version: of the code that decides: a number, the version of a package, or a digest of its source.
        takes: the class or the function whose parameters, behind `self` or the document, are the options.
        make: gives the step for options by keyword.
    """

    name: str
    version: int | str
    takes: Callable[..., Any]
    make: Callable[..., PipelineStep]


@dataclass(kw_only=True, eq=False, repr=False)
class Filter(PipelineStep):
    """A step that passes on the documents it keeps, in order, and accounts for the others.

    Subclasses give `filter`. Their options are the fields of a data class, or the parameters of their `__init__`; a
    recipe is checked against them.

    Attributes:
        rejects: called with each dropped document and the reason, before the next document is read; None tells nobody.
        options_of: rule (the reason that it gives) -> the option that is its threshold, of rules that have one.
        web_text: whether the rules were made for prose of web pages, and drop most of anything else.
        later_options: options that came after pools were built without them, and their defaults: at these the
            fingerprint of a split does not name them, so that such pools stay.
        measured: rule -> the values that it has looked at; a document that a cheaper bound had settled has none.

    Statistics: `total`, `forwarded`, `dropped`, `dropped_<reason>`, and `doc_len`, the characters of the documents
    kept.
    """

    type = "🔻 - FILTER"

    options_of: ClassVar[Mapping[str, str]] = {}
    web_text: ClassVar[bool] = False
    later_options: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        super().__init__()
        self.rejects: Rejects | None = None
        self.tally: Counter[str] = Counter()
        self.measured: dict[str, Measured] = {}

    @abstractmethod
    def filter(self, document: Document) -> Answer:
        """`True` keeps the document, `(False, reason)` drops it. May edit its text, if the filter is one that does."""

    def at_least(self, rule: str, value: float, threshold: float | None) -> Reason | None:
        """The reason to drop a document if the value is below the threshold; None is no rule."""
        if threshold is None:
            return None
        measured = self.measured.get(rule) or self.measured.setdefault(rule, Measured(threshold, at_least=True))
        measured.recent.append(value)
        return Reason(rule, value, threshold) if value < threshold else None

    def at_most(self, rule: str, value: float, threshold: float | None) -> Reason | None:
        """The reason to drop a document if the value is above the threshold; None is no rule."""
        if threshold is None:
            return None
        measured = self.measured.get(rule) or self.measured.setdefault(rule, Measured(threshold, at_least=False))
        measured.recent.append(value)
        return Reason(rule, value, threshold) if value > threshold else None

    def start(self) -> None:
        """Forget what was remembered of another split; called when a run begins."""

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents kept. One run is one split."""
        self.start()
        lengths = array("q")
        seconds, held = 0.0, 0
        try:
            for document in data:
                if held == _FLUSH:
                    self._hand_over(lengths, seconds)
                    seconds, held = 0.0, 0
                held += 1
                began = perf_counter()
                answer = self.filter(document)
                seconds += perf_counter() - began
                if answer is True:
                    lengths.append(len(document.text))
                    yield document
                else:
                    reason = answer[1] if isinstance(answer, tuple) else UNNAMED
                    self.tally["dropped"] += 1
                    self.tally[f"dropped_{reason}"] += 1
                    if self.rejects is not None:
                        self.rejects(document, reason)
        finally:
            self._hand_over(lengths, seconds)

    def _hand_over(self, lengths: array[int], seconds: float) -> None:
        """Turn what was counted since the last time into datatrove's statistics."""
        forwarded = len(lengths)
        documents = forwarded + self.tally["dropped"]
        for label, n in (("total", documents), ("forwarded", forwarded), *sorted(self.tally.items())):
            if n:
                self.stats[label] += MetricStats(total=n, n=n, mean=1.0, min=1, max=1)
        if forwarded:
            total = sum(lengths)
            mean = total / forwarded
            spread = sum((length - mean) ** 2 for length in lengths)
            self.stats["doc_len"] += MetricStats(total, forwarded, mean, min(lengths), max(lengths), spread)
        if documents:
            self.stats.time_stats.update(seconds)
        for measured in self.measured.values():
            measured.settle()
        self.tally.clear()
        del lengths[:]
