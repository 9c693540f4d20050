"""Documents by the score of a fastText classifier, such as DCLM's or FineWeb-Edu's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from datatrove.data import Document
from pydantic import Field

from ettin_data.stages.filters.base import Answer, Filter, Fraction
from ettin_data.stages.text.fasttext_model import Model, open_model

NAME, VERSION = "fasttext_score", 1


@dataclass(kw_only=True, eq=False, repr=False)
class FastTextScore(Filter):
    """Keep documents to which a classifier gives a label with at least this probability. Reason `below_score`.

    Args:
        model: a file of fastText.
        sha256: its digest, which stands for what it says.
        label: with or without `__label__` in front.
        threshold: the least probability.
        characters: of the beginning that are judged; line breaks count as blanks.

    Raises:
        RecipeError: the model is another one, or has no such label.
        MissingPackage: fastText is not installed.
    """

    name = "🏷 fastText"
    options_of: ClassVar = {"below_score": "threshold"}

    model: str
    sha256: str
    label: str
    threshold: Fraction
    characters: Annotated[int, Field(ge=1)] = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._opened: Model | None = None
        open_model(self.model, self.sha256).require(self.label)

    def filter(self, document: Document) -> Answer:
        if self._opened is None:  # not before: a step travels to its worker, a model does not
            self._opened = open_model(self.model, self.sha256)
        score = self._opened.score(document.text[: self.characters], self.label)
        reason = self.at_least("below_score", score, self.threshold)
        return (False, reason) if reason else True

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_opened": None}
