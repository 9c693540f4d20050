"""Documents by their language, as fastText's `lid.176.ftz` tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from datatrove.data import Document
from pydantic import Field

from ettin_data.base.errors import RecipeError
from ettin_data.stages.filters.base import Answer, Filter, Fraction
from ettin_data.stages.text.fasttext_model import Model, language_model

NAME, VERSION = "language", 1


@dataclass(kw_only=True, eq=False, repr=False)
class Language(Filter):
    """Keep documents in one of these languages. Reasons `other_language`, and `unsure_language` below the threshold.

    Args:
        languages: codes of `lid.176`, mostly ISO 639-1: `en`, `de`, `zh`.
        threshold: the least probability of the likeliest language; 0.65 is FineWeb's.
        characters: of the beginning that are judged: 2,000 give the same label as the whole in 98.6%, at a third of the
            cost.

    Statistics besides the common ones: `language_<code>`, the documents of each.

    Raises:
        RecipeError: a code that the model has not.
        MissingPackage: the model is not installed.
    """

    name = "🌍 Language"
    options_of: ClassVar = {"unsure_language": "threshold"}

    languages: tuple[str, ...]
    threshold: Fraction = 0.65
    characters: Annotated[int, Field(ge=1)] = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._opened: Model | None = None
        if not self.languages:
            raise RecipeError("no language is to be kept", where="filter language: languages")
        for code in self.languages:
            language_model().require(code)

    def filter(self, document: Document) -> Answer:
        if self._opened is None:
            self._opened = language_model()
        code, probability = self._opened.best(document.text[: self.characters])
        self.tally[f"language_{code}"] += 1
        if code not in self.languages:
            return False, "other_language"
        reason = self.at_least("unsure_language", probability, self.threshold)
        return (False, reason) if reason else True

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_opened": None}
