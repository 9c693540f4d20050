"""A recipe as types: one phase, with a default and a sentence for every key that has one.

A recipe says the tokens of each source, or the passes over what it holds. What a file may write besides, parts of a
`total`, groups, another recipe that it `extends`, stands in `written`: `amounts` and `layers` make whole numbers and
one recipe of it before `Recipe` is validated. The sentence below a field is what
`ettin-data recipe keys` says of it.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ettin_data.base import encodings
from ettin_data.base.errors import RecipeError, SourceError
from ettin_data.base.options import Bytes, Count, Options
from ettin_data.dedup.keys import KeyChoice
from ettin_data.dedup.options import Dedup, Twins, keys_for
from ettin_data.dedup.paragraphs import ParagraphChoice
from ettin_data.recipe.limits import BadInput
from ettin_data.recipe.training import LoaderChoice, TrainingChoice
from ettin_data.sources import globs
from ettin_data.sources.base import NAME, NAME_RULE
from ettin_data.stages.contamination.options import DecontaminateChoice
from ettin_data.stages.pack import Choice, choose, from_recipe
from ettin_data.storage.phase import OF_A_PHASE, REPORT, TRAINER
from ettin_data.tokenizer.backends import Backend
from ettin_data.tokenizer.vocabulary import Frame

PHASES = ("pretrain", "extension", "decay")
"""The phases that have a recipe with the package, by their short names. A recipe's own may have any other."""

MAX_LENGTH = 131_072
"""Longest sequence: the longest that long-context models are trained on today. No part of the package needs a limit."""

_RESERVED = frozenset({*OF_A_PHASE, REPORT, TRAINER})
"""Names of what lies in a phase or beside the phases of a run, which no phase can have."""

Filter = str | dict[str, dict[str, Any] | None]
TokenDtype = Literal["uint16", "uint32"]


def _safe_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(NAME_RULE)
    return name


def _phase_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}", name):
        raise ValueError("the name of a phase becomes a folder: use letters, digits, _, - and .")
    if name in _RESERVED:
        raise ValueError("a run has a folder or file of that name; call the phase something else")
    return name


def _all_is_one(passes: object) -> object:
    return 1 if passes == "all" else passes


def _addressable(size: int) -> int:
    if size >= 1 << 32:
        raise ValueError("a shard counts its bytes in 32 bits (MDS): use less than 4 GiB, such as 1GiB")
    return size


def _compressor(name: str) -> str:
    if not re.fullmatch(r"zstd(:([1-9]|1\d|2[0-2]))?", name):
        raise ValueError("write zstd, or zstd:1 to zstd:22")
    return name


def _expandable(pattern: str) -> str:
    try:
        globs.expand(pattern)
    except SourceError as error:
        raise ValueError(f"{error.what}; {error.remedy}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_expandable)]
"""A path or URL in which `{a..b}` and `{a,b}` stand for a number of files that can be listed."""

Pack = Annotated[Choice, PlainValidator(from_recipe), PlainSerializer(Choice.to_recipe)]
"""How documents become samples (ARCHITECTURE 5.3): `pack: {strategy: backfill, min_length: 512}`, or a name alone."""


class TokenizerChoice(Options):
    """Which tokenizer encodes the text, and how it is checked (ARCHITECTURE 5.1)."""

    name: str | None = None
    """Path or hub id; None finds ModernBERT's by itself."""
    sha256: str | None = None
    """Digest of another tokenizer's `tokenizer.json`; None demands ModernBERT's."""
    frame: Frame | None = None
    """What its tokens are for; None takes those of BERT's family by their names."""
    backend: Backend = "auto"
    """What encodes; `auto` takes the fastest that is right for this tokenizer."""
    check_rate: float = Field(1e-4, ge=0, le=1)
    """Share of documents that are encoded again with the reference implementation."""


class ShardChoice(Options):
    """How samples are stored (ARCHITECTURE 5.2)."""

    token_dtype: TokenDtype | None = None
    """None takes the smallest that holds the tokenizer's vocabulary."""
    compression: Annotated[str, AfterValidator(_compressor)] | None = None
    """`zstd`, or `zstd:<level>` with a level from 1 to 22."""
    size_limit: Annotated[Bytes, AfterValidator(_addressable)] = 1 << 26
    """Most bytes of one shard, less than 4 GiB."""


class OrderChoice(Options):
    """The order law's settings (ARCHITECTURE 5.6)."""

    seed: int = Field(21, ge=0)
    """Of the permutation."""
    epoch: int = Field(0, ge=0)
    """Which epoch's order, from 0."""
    batch: int = Field(4608, ge=1)
    """Samples in a step, over all ranks."""
    interval_tokens: Count = 8_500_000_000
    """Tokens between two checkpoints, each of which has a file of the order."""
    interval_steps: int | None = Field(None, ge=1)
    """Steps of a checkpoint interval; None derives them from `interval_tokens`."""
    law: str | None = None
    """Of a loader that packs rows, as `modernbert-packed-v1:world=8,micro=6`: whose steps `train`, `trace`, `view`,
    `exposure`, `order export` and `order verify` mean; None means those of the order index."""

    @model_serializer(mode="wrap")
    def _as_always(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a law that is not said, as in records of before there was one."""
        data: dict[str, Any] = handler(self)
        if self.law is None:
            del data["law"]
        return data


class AttributeChoice(Options):
    """A step over whole sources, between the pools and the mix (ARCHITECTURE 5.10)."""

    step: str
    """`package.module:name` of the function."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the function gets by name."""


class TakenBefore(Options):
    """What an earlier build of a phase took of a source: `--after` writes it, from the record of that build."""

    tokens: Count = 0
    """Its target."""
    passes: Annotated[float, Field(gt=0)] | None = None
    """Instead of `tokens`: the passes that it took."""
    splits: int = Field(ge=1)
    """How many splits its pool had."""

    def target(self, held: int) -> int:
        """As of `SourceChoice`."""
        return self.tokens if self.passes is None else round(Fraction(repr(self.passes)) * held)


class SourceChoice(Options):
    """One source in a mix."""

    tokens: Count = 0
    """Target: tokens of the source's samples in `train/`, the framing tokens included."""
    passes: Annotated[float, BeforeValidator(_all_is_one), Field(gt=0)] | None = None
    """Instead of `tokens`: how often all that the source holds is taken, such as `2` or `0.5`; `all` is once."""
    after: list[TakenBefore] = Field(default_factory=list)
    """What earlier builds of the phase took, the first one first: all that is taken again, with what they held out, and
    then as much as is missing of the rest. The files must be the same."""
    root: Pattern | None = None
    """Another place of the same files, or the place of a source that is not in the registry."""
    format: str | None = None
    """What its files are, where their names and content do not say it."""
    globs: list[Pattern] | None = None
    """Which files below its root are read: `**/*.jsonl`, `part_{00..99}.parquet`."""
    text_key: str | None = None
    """The key or column that holds the text."""
    id_key: str | None = None
    """The key or column that holds the id."""
    encoding: Annotated[str, AfterValidator(encodings.known)] | None = None
    """Of its text, if that is not UTF-8: `latin-1`, `cp1252`, `gb18030`, `shift_jis`, `utf-16`, `cesu-8` …"""
    tokenizer: str | None = None
    """Tokenizer (path or hub id) that decodes a source of token ids."""
    filters: list[Filter] | None = None
    """Instead of the recipe's `filters`."""
    licence: str | None = None
    """What you know of its licence, instead of what the registry says."""
    terms: str | None = None
    """Where its terms stand, likewise: an address."""
    more_filters: list[Filter] = Field(default_factory=list, alias="filters+")
    """Behind the recipe's `filters`, or those of the source."""
    strip_markers: bool = False
    """Take StarCoder's `<reponame>`, `<filename>` and `<gh_stars>` markers out of the text."""

    @model_validator(mode="after")
    def _says_how_much(self) -> SourceChoice:
        if self.passes is None and "tokens" not in self.model_fields_set:
            raise ValueError("it says not how much: write tokens: 10B, or passes: 2 of all that it holds")
        if self.passes is not None and self.tokens:
            raise ValueError("tokens and passes both say how much: keep one of them")
        return self

    @model_serializer(mode="wrap")
    def _as_always(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not used: records of runs are as they were before there were such keys."""
        data: dict[str, Any] = handler(self)
        if self.passes is None:
            del data["passes"]
        for name in ("after", "more_filters", "licence", "terms"):
            if not data[name]:
                del data[name]
        if self.more_filters:
            data["filters+"] = data.pop("more_filters")
        return data

    def target(self, held: int) -> int:
        """Tokens to give, where that many are there to be taken: `passes` times as many, to the nearest token."""
        return self.tokens if self.passes is None else round(Fraction(repr(self.passes)) * held)


class Recipe(Options):
    """One phase of the mixture."""

    phase: Annotated[str, AfterValidator(_phase_name)]
    """Its name, which is that of its folder in a run."""
    length: int = Field(ge=8, le=MAX_LENGTH)
    """Most tokens of a sample, the opening and the closing one included."""
    seed: int = Field(42, ge=0)
    """Of every draw: which documents are taken, held out and cut where."""
    tokenizer: TokenizerChoice = TokenizerChoice()
    """Which tokenizer encodes the text."""
    pack: Pack = Field(default_factory=choose)
    """How documents become samples: `strategy` (a name of `stages/pack`) and its options, or a name alone."""
    shards: ShardChoice = ShardChoice()
    """How samples are stored."""
    order: OrderChoice = OrderChoice()
    """The batch order."""
    loader: LoaderChoice = LoaderChoice()
    """What the trainer's loader does to a sample."""
    training: TrainingChoice | None = None
    """How a model is trained on it, for the trainer (ARCHITECTURE 5.7); None is as Ettin was."""
    bad_input: BadInput = BadInput()
    """What happens to files and records that cannot be used."""
    filters: list[Filter] = Field(default_factory=list)
    """Filters in their order: a name, or a name with its options; none keeps every document."""
    attributes: list[AttributeChoice] = Field(default_factory=list)
    """Steps that need whole sources, in their order; what they leave out is not there for the mix."""
    dedup: Dedup | None = None
    """Copies of documents, of which the best-ranked stays (ARCHITECTURE 5.11); None looks for none."""
    paragraphs: ParagraphChoice | None = None
    """Repeated paragraphs of a source, of which the first stays (ARCHITECTURE 5.11); None leaves texts as they are."""
    decontaminate: DecontaminateChoice | None = None
    """Evaluation texts that are looked for in every document (ARCHITECTURE 5.12); None looks for none."""
    allow: list[str] | None = None
    """Licences that sources may have, as `ettin-data sources` writes them; another, or one that is not known, stops the
    plan. None allows all."""
    pii: dict[str, Any] | None = None
    """Options of the filter `pii` (personal data), which then stands behind the filters of every source."""
    validation: float = Field(0.001, ge=0, lt=0.5)
    """Share of each source's tokens that is held out, at least one document."""
    validation_twins: Twins | None = None
    """Which copies of held-out documents stay out of train; None takes `exact` where `dedup` is on, and else none."""
    max_epochs: float = Field(4, gt=0)
    """Most passes over a source that a target may need."""
    split_bytes: Bytes = 1 << 29
    """Small upstream files are grouped up to this size; a larger file is a split of its own."""
    part_bytes: Bytes | None = 1 << 32
    """Files above this size are read in parts of about equal size, each a split of its own, where their format allows
    it; None reads every file whole."""
    sources: dict[Annotated[str, AfterValidator(_safe_name)], SourceChoice] = Field(min_length=1)
    """Name -> what is taken of it. A name of the registry needs an amount only, any other a `root` too."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> Recipe:
        problem = self.pack.strategy.problem
        if problem and (why := problem(self.length, self.pack.options)):
            raise RecipeError(why, where="pack", remedy="correct pack or length")
        return self

    @model_validator(mode="after")
    def _twins_can_be_found(self) -> Recipe:
        keys_for(self.dedup, self.validation_twins)
        return self

    @property
    def keys(self) -> KeyChoice | None:
        """By what copies of documents are found; None where nobody looks for any."""
        return keys_for(self.dedup, self.validation_twins)

    @property
    def twins(self) -> Twins | None:
        """Which copies of held-out documents stay out of train, with the default resolved."""
        return self.validation_twins or ("exact" if self.dedup is not None and self.validation else None)

    @model_validator(mode="after")
    def _wants_something(self) -> Recipe:
        if self.sources and not any(source.tokens or source.passes for source in self.sources.values()):
            names, remedy = ", ".join(self.sources), "give one of them tokens, such as 5M, or a larger --scale"
            raise RecipeError(f"no source is to give any tokens: {names}", where="sources", remedy=remedy)
        return self

    @model_validator(mode="after")
    def _earlier_samples_can_be_found(self) -> Recipe:
        grown = [name for name, source in self.sources.items() if source.after]
        if grown and self.dedup is not None and self.dedup.weight is not None:
            why = "how often a pass takes a document would follow from what was added"
            raise RecipeError(
                f"sources.{grown[0]}.after does not go with dedup.weight",
                where=f"sources.{grown[0]}.after",
                why=why,
                remedy="leave one of them out",
            )
        return self

    @model_validator(mode="after")
    def _passes_are_allowed(self) -> Recipe:
        for name, source in self.sources.items():
            if source.passes is not None and source.passes > self.max_epochs:
                raise RecipeError(
                    f"sources.{name}.passes = {source.passes:g}",
                    where=f"sources.{name}.passes",
                    why=f"max_epochs is {self.max_epochs:g}",
                    remedy="lower it, or raise max_epochs",
                )
        return self

    def changed(self, *overrides: str) -> Recipe:
        """The recipe with some values set, each `key.path=value` as `--set` takes it. Raises `RecipeError`."""
        from ettin_data.recipe.load import with_overrides

        return with_overrides(self, overrides)

    def layout_name(self) -> str:
        """What a split's folder name says after `<split>-` (ARCHITECTURE 5.5)."""
        return self.pack.layout_name(self.length)
