"""What a recipe says of evaluation texts, `decontaminate`, and the same with the texts read."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from ettin_data.base import files
from ettin_data.base.errors import BuildError, RecipeError
from ettin_data.base.options import Options
from ettin_data.base.redact import redact
from ettin_data.sources import TransportOptions
from ettin_data.stages.contamination.index import LEAST, Index
from ettin_data.stages.contamination.rules import Name, Rule, rule_of
from ettin_data.stages.contamination.search import VERSION
from ettin_data.stages.contamination.texts import TextsChoice, different, read_files, read_texts
from ettin_data.stages.running import collecting_seldom

Action = Literal["report", "drop", "mask"]


class DecontaminateChoice(Options):
    """Evaluation texts, and what happens to a document that has one of them."""

    texts: list[TextsChoice] = Field(min_length=1)
    """Files of evaluation texts and benchmarks, or only one; of each a name alone will do: `gsm8k`, `my.jsonl`."""
    unit: Literal["words"] = "words"
    """What n-grams are made of: words as `base.words` reads them. Tokens are for `exposure --unit tokens`."""
    ngram: int | None = None
    """Words of an n-gram; None takes the rule's own: 8, or 5 of `decon`."""
    rule: Name = "half"
    """When a document has a text: with half of what its n-grams weigh, or as allenai's decon says."""
    action: Action = "drop"
    """`drop` leaves the document out, `mask` takes the text out of it, `report` only writes it down."""

    @field_validator("texts", mode="before")
    @classmethod
    def _of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value


@dataclass(frozen=True)
class MadeIndex:
    """An index with all that a search makes of it, in a file, which workers read in a tenth of the time.

    It is a pickle, which can do anything to who reads it: `sha256`, which comes with a worker's job, says that it is
    still what the build has written.
    """

    path: Path
    sha256: str

    @classmethod
    def write(cls, index: Index, path_of: Callable[[str], Path]) -> MadeIndex:
        """Write it, which should be `ready`, to `path_of` its digest."""
        data = pickle.dumps(index, pickle.HIGHEST_PROTOCOL)
        digest = hashlib.sha256(data).hexdigest()
        files.write(path_of(digest), data)
        return cls(path_of(digest), digest)

    def load(self) -> Index:
        """Raises `BuildError` if it is another file by now."""
        with files.open_ordinary(self.path) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise BuildError("the index of the evaluation texts was changed", where=self.path, remedy="build again")
        index: Index = pickle.loads(data)
        return _kept(index)


@dataclass(frozen=True)
class Decontamination:
    """The choice of a recipe as a split's job carries it. Small: a worker reads the texts itself.

    Attributes:
        texts: with absolute paths.
        digest: of the index (`Index.digest`), where the build was planned.
        read: what each file was when it was read (`EvaluationFile.describe`); decides nothing.
        made: that index, made ready for workers; None where each reads the texts.
    """

    texts: tuple[TextsChoice, ...]
    rule: Rule
    action: Action
    digest: str
    read: tuple[Mapping[str, Any], ...] = ()
    made: MadeIndex | None = None

    def made_from(self) -> Mapping[str, Any]:
        """What decides content: which texts, how they are found, and what happens then."""
        return {"version": VERSION, "index": self.digest, "action": self.action}

    def index(self) -> Index:
        """The index, made once in a process. Raises `BuildError` if the texts are not those of the plan."""
        if self.digest in _indexes:
            return _indexes[self.digest]
        index = self.made.load() if self.made else _kept(Index.of(read_texts(self.texts), self.rule))
        if index.digest != self.digest:
            raise BuildError(
                "the evaluation texts have changed since the build was planned",
                where=", ".join(str(choice.benchmark or choice.file) for choice in self.texts),
                why=f"their index is {index.digest}, it was {self.digest}",
                remedy="start the build again; every worker has to see the same files",
            )
        return index


_indexes: dict[str, Index] = {}


def _kept(index: Index) -> Index:
    _indexes.clear()  # a process is at one build at a time
    _indexes[index.digest] = index
    return index


def chosen(choice: DecontaminateChoice | None, transport: TransportOptions | None = None) -> Decontamination | None:
    """What a recipe asks for, with its texts read. Raises `RecipeError` or `SourceError` if they cannot be."""
    if choice is None:
        return None
    texts = tuple(one for text in choice.texts for one in text.chosen())
    with collecting_seldom():
        read = read_files(texts, transport)
        index = _kept(Index.of(different(read), rule_of(choice.rule, choice.ngram)))
    if not index.names:
        name, why = next(iter(index.unsearchable.items()))
        raise RecipeError(
            "none of the evaluation texts can be looked for",
            where=", ".join(redact(file.address) for file in read),
            why=f"of {len(index.unsearchable):,} texts the first, {name}, {why}",
            remedy=f"name longer ones: rule {index.rule.name!r} wants {max(LEAST, index.rule.least_words)} words",
        )
    return Decontamination(texts, index.rule, choice.action, index.digest, tuple(file.describe() for file in read))
