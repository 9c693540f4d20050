"""What a recipe says of evaluation texts, `decontaminate`, and the same with the texts read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from ettin_data.base.errors import BuildError
from ettin_data.base.options import Options
from ettin_data.stages.contamination.index import Index
from ettin_data.stages.contamination.rules import Name, Rule, rule_of
from ettin_data.stages.contamination.search import VERSION
from ettin_data.stages.contamination.texts import TextsChoice, read_texts

Action = Literal["report", "drop", "mask"]


class DecontaminateChoice(Options):
    """Evaluation texts, and what happens to a document that has one of them."""

    texts: list[TextsChoice] = Field(min_length=1)
    """Files of evaluation texts."""
    unit: Literal["words"] = "words"
    """What n-grams are made of: words as `base.words` reads them. Tokens are for `exposure --unit tokens`."""
    ngram: int | None = None
    """Words of an n-gram; None takes the rule's own: 8, or 5 of `decon`."""
    rule: Name = "half"
    """When a document has a text: with half of what its n-grams weigh, or as allenai's decon says."""
    action: Action = "drop"
    """`drop` leaves the document out, `mask` takes the text out of it, `report` only writes it down."""


@dataclass(frozen=True)
class Decontamination:
    """The choice of a recipe as a split's job carries it. Small: a worker reads the texts itself.

    Attributes:
        texts: with absolute paths.
        digest: of the index (`Index.digest`), where the build was planned.
    """

    texts: tuple[TextsChoice, ...]
    rule: Rule
    action: Action
    digest: str

    def made_from(self) -> Mapping[str, Any]:
        """What decides content: which texts, how they are found, and what happens then."""
        return {"version": VERSION, "index": self.digest, "action": self.action}

    def index(self) -> Index:
        """The index, made once in a process. Raises `BuildError` if the texts are not those of the plan."""
        if self.digest in _indexes:
            return _indexes[self.digest]
        index = _read(self.texts, self.rule)
        if index.digest != self.digest:
            raise BuildError(
                "the evaluation texts have changed since the build was planned",
                where=", ".join(choice.file for choice in self.texts),
                why=f"their index is {index.digest}, it was {self.digest}",
                remedy="start the build again; every worker has to see the same files",
            )
        return index


_indexes: dict[str, Index] = {}


def _read(texts: tuple[TextsChoice, ...], rule: Rule) -> Index:
    index = Index.of(read_texts(texts), rule)
    _indexes.clear()  # a process is at one build at a time
    _indexes[index.digest] = index
    return index


def chosen(choice: DecontaminateChoice | None) -> Decontamination | None:
    """What a recipe asks for, with its texts read. Raises `RecipeError` if they cannot be."""
    if choice is None:
        return None
    files = tuple(
        text.model_copy(update={"file": os.path.abspath(os.path.expanduser(text.file))}) for text in choice.texts
    )
    rule = rule_of(choice.rule, choice.ngram)
    return Decontamination(files, rule, choice.action, _read(files, rule).digest)
