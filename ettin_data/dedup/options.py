"""What a recipe says of copies: `dedup: {exact: true, near: {ngram: 5}, priority: [wikipedia]}`, or a preset's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ettin_data.base.errors import RecipeError, near
from ettin_data.base.options import Options
from ettin_data.dedup.keys import KeyChoice


class Near(Options):
    """When two texts that differ count as copies: their sketches share a band."""

    ngram: int = Field(5, ge=1, le=100)
    """Words of an n-gram, or characters."""
    unit: Literal["word", "character"] = "word"
    """What an n-gram consists of."""
    bands: int = Field(14, ge=1, le=64)
    """Bands of a sketch, one of which two copies share."""
    rows: int = Field(8, ge=1, le=64)
    """Values of a sketch in each band."""
    rule: Literal["local", "components"] = "local"
    """Who of the copies stays: decided for each pair alone, or one of all that are connected, in memory."""
    verify: float | None = Field(None, gt=0, le=1)
    """A shared band counts only where the sketches are at least so alike; None takes the band's word."""
    min_words: int = Field(20, ge=1)
    """A text of fewer words is a copy only of equal words."""


MOST_OFTEN = 64
"""That a document may be taken in a pass: each time is a folder of every split."""

WEIGHTS: Mapping[str, Mapping[int, int]] = {"fineweb2": {2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}}
"""Name -> published weights (README of the repository huggingface/fineweb-2)."""


def _named_weights(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in WEIGHTS:
        raise ValueError(f"there are no weights {value!r}; {near(value, WEIGHTS)}")
    return dict(WEIGHTS[value])


Weights = Annotated[
    dict[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=1, le=MOST_OFTEN)]],
    AfterValidator(lambda weights: dict(sorted(weights.items()))),
    Field(min_length=1, max_length=MOST_OFTEN),
    BeforeValidator(_named_weights),
]
"""From how many equals on, itself among them, a document is taken how often in each pass; with fewer it is once."""


class DedupChoice(Options):
    """Which documents are copies of others, and who of them stays (ARCHITECTURE 5.11)."""

    exact: bool = True
    """Texts of equal words are copies."""
    url: bool = False
    """Documents of one URL are copies."""
    near: Near | None = Near()
    """When texts that differ are copies; None takes equal ones only."""
    priority: list[str] = Field(default_factory=list, max_length=200)
    """Sources, the best first; copies in others, or of one source, stay by a keyed draw."""
    across: list[Literal["source", "phase"]] = ["source", "phase"]
    """Borders that are looked over: without `source` copies are of one source, without `phase` of this phase."""
    earlier: list[str] = Field(default_factory=list)
    """Finished phases, such as `runs/ettin/pretrain`: what stands in their train/ is not taken again."""

    weight: Weights | None = None
    """From how many equals on a document is taken how often: `{2: 2, 5: 3}`, `fineweb2`; None takes it once."""

    @model_serializer(mode="wrap")
    def _as_always(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a weight that is not used: records are as they were before there was one."""
        data: dict[str, Any] = handler(self)
        if self.weight is None:
            data.pop("weight", None)
        return data

    def finds(self) -> dict[str, Any]:
        """What of it decides which documents are left out, as JSON."""
        return self.model_dump(mode="json", exclude={"weight"})

    @model_validator(mode="after")
    def _looks_for_something(self) -> DedupChoice:
        if not (self.exact or self.url or self.near):
            raise RecipeError("exact, url and near are all off", where="dedup", remedy="leave dedup out")
        if self.earlier and "phase" not in self.across:
            raise RecipeError(
                "`earlier` names phases, and `across` leaves them out", where="dedup.across", remedy="add phase to it"
            )
        if twice := [name for name in self.priority if self.priority.count(name) > 1]:
            raise RecipeError(f"{twice[0]!r} stands twice in the priority", where="dedup.priority")
        return self

    @property
    def keys(self) -> KeyChoice:
        """What has to be known of each document."""
        if self.near is None:
            return KeyChoice(values=0)
        return KeyChoice(self.near.ngram, self.near.bands * self.near.rows, self.near.min_words, self.near.unit)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # within a dump there, here within a source
    "fineweb": {"near": {"ngram": 5, "bands": 14, "rows": 8}, "across": []},
    # n-grams of tokens there, of words here
    "dolma3": {"near": {"ngram": 5, "bands": 26, "rows": 11}},
    "curator": {"near": {"unit": "character", "ngram": 24, "bands": 20, "rows": 13}},
    # one of each component there, the local rule here
    "zyda2": {"near": {"unit": "character", "ngram": 25, "bands": 8, "rows": 16}},
}
"""Name -> published parameters: n-grams, bands and rows of the pipelines of these names, on our words."""


def _named(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"there is no preset {value!r}; {near(value, PRESETS)}")
    return dict(PRESETS[value])


Dedup = Annotated[DedupChoice, BeforeValidator(_named)]
"""The options, written out or as the name of a preset."""

Twins = Literal["exact", "near"]
"""Which copies of a document are meant: those of equal words, or near ones as well."""


def keys_for(dedup: DedupChoice | None, twins: Twins | None) -> KeyChoice | None:
    """The keys by which copies, and copies of held-out documents, are found; None where nobody looks for any.

    Raises `RecipeError` where near copies of held-out documents are asked for, and no sketches are made.
    """
    if twins == "near" and dedup is not None and dedup.near is None:
        raise RecipeError(
            "near copies are found by what `dedup.near` makes, which is null",
            where="validation_twins",
            remedy="leave dedup.near out, or set validation_twins to exact",
        )
    if dedup is not None:
        return dedup.keys
    return DedupChoice(near=Near() if twins == "near" else None).keys if twins else None
