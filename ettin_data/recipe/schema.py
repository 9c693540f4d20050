"""A recipe: one phase as YAML, typed and validated, with overrides from the command line.

`load` gives a frozen `Recipe`; everything that a build decides follows from it and from the listing of the sources. An
unknown key, a wrong type or an impossible value raises `RecipeError` with the file, the key path, the value and what
would be right.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, ValidationError, model_validator

from ettin_data.base import encodings, yaml_text
from ettin_data.base.errors import RecipeError, SourceError, near
from ettin_data.base.options import Bytes, Count, Options, refusal
from ettin_data.dedup.options import Dedup
from ettin_data.sources import globs
from ettin_data.stages.pack import Choice, choose, from_recipe
from ettin_data.tokenizer.backends import Backend
from ettin_data.tokenizer.vocabulary import Frame

PHASES = ("pretrain", "extension", "decay")
MAX_LENGTH = 8192
"""Longest sequence of the tokenizer's models (`model_max_length` of ModernBERT)."""


Filter = str | dict[str, dict[str, Any] | None]
TokenDtype = Literal["uint16", "uint32"]


def _safe_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.]*", name):
        raise ValueError("a source's name becomes a folder: use letters, digits, _ and .")
    return name


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
    check_rate: float = Field(1e-4, ge=0, le=1)
    """Share of documents that are encoded again with the reference implementation."""


class ShardChoice(Options):
    """How samples are stored (ARCHITECTURE 5.2)."""

    token_dtype: TokenDtype | None = None
    """None takes the smallest that holds the tokenizer's vocabulary."""
    compression: Annotated[str, AfterValidator(_compressor)] | None = None
    """`zstd`, or `zstd:<level>` with a level from 1 to 22."""
    size_limit: Annotated[Bytes, AfterValidator(_addressable)] = 1 << 26


class OrderChoice(Options):
    """The order law's settings (ARCHITECTURE 5.6)."""

    seed: int = Field(21, ge=0)
    epoch: int = Field(0, ge=0)
    batch: int = Field(4608, ge=1)
    interval_tokens: Count = 8_500_000_000
    interval_steps: int | None = Field(None, ge=1)
    """Steps of a checkpoint interval; None derives them from `interval_tokens`."""


class LoaderChoice(Options):
    """What the trainer's loader does to a stored sample before the model sees it (ARCHITECTURE 5.6)."""

    rule: str = "ettin"
    """A name of `order.loader_edits.RULES`."""
    max_seq_len: int | None = Field(None, ge=2)
    """Most tokens that the model is given; None takes the rule's own for this length."""


class AttributeChoice(Options):
    """A step over whole sources, between the pools and the mix (ARCHITECTURE 5.10)."""

    step: str
    """`package.module:name` of the function."""
    options: dict[str, Any] = Field(default_factory=dict)


class BadInput(Options):
    """What happens to files and records that cannot be used."""

    on_bad: Literal["reject", "stop"] = "reject"
    on_bad_file: Literal["fail", "skip"] = "fail"
    """Of a damaged file, "skip" uses what can be read; "fail" builds the other splits, then says what to mend."""
    max_rejects: float = Field(0.01, ge=0, le=1)
    """Share of a source's records, with what skipped files probably held; beyond it the build fails."""
    max_repaired: float = Field(0.001, ge=0, le=1)
    """Share of a source's records that lost characters, since those were not UTF-8; beyond it the build fails."""


class SourceChoice(Options):
    """One source in a mix."""

    tokens: Count
    """Target: tokens of the source's samples in `train/`, the framing tokens included."""
    root: Pattern | None = None
    """Another place of the same files, or the place of a source that is not in the registry."""
    format: str | None = None
    globs: list[Pattern] | None = None
    text_key: str | None = None
    id_key: str | None = None
    encoding: Annotated[str, AfterValidator(encodings.known)] | None = None
    """Of its text, if that is not UTF-8: `latin-1`, `cp1252`, `gb18030`, `shift_jis`, `utf-16`, `cesu-8` …"""
    tokenizer: str | None = None
    """Tokenizer (path or hub id) that decodes a source of token ids."""
    filters: list[Filter] | None = None
    """Instead of the recipe's `filters`."""
    strip_markers: bool = False
    """Take StarCoder's `<reponame>`, `<filename>` and `<gh_stars>` markers out of the text."""


class Recipe(Options):
    """One phase of the mixture."""

    phase: Literal["pretrain", "extension", "decay"]
    length: int = Field(ge=8, le=MAX_LENGTH)
    seed: int = Field(42, ge=0)
    tokenizer: TokenizerChoice = TokenizerChoice()
    pack: Pack = Field(default_factory=choose)
    shards: ShardChoice = ShardChoice()
    order: OrderChoice = OrderChoice()
    loader: LoaderChoice = LoaderChoice()
    bad_input: BadInput = BadInput()
    filters: list[Filter] = Field(default_factory=list)
    attributes: list[AttributeChoice] = Field(default_factory=list)
    """Steps that need whole sources, in their order; what they leave out is not there for the mix."""
    dedup: Dedup | None = None
    """Copies of documents, of which the best-ranked stays (ARCHITECTURE 5.11); None looks for none."""
    validation: float = Field(0.001, ge=0, lt=0.5)
    """Share of each source's tokens that is held out, at least one document."""
    max_epochs: float = Field(4, gt=0)
    """Most passes over a source that a target may need."""
    split_bytes: Bytes = 1 << 29
    """Small upstream files are grouped up to this size; a larger file is a split of its own."""
    part_bytes: Bytes | None = 1 << 32
    """Files above this size are read in parts of about equal size, each a split of its own, where their format allows
    it; None reads every file whole."""
    sources: dict[Annotated[str, AfterValidator(_safe_name)], SourceChoice] = Field(min_length=1)

    @model_validator(mode="after")
    def _lengths_fit(self) -> Recipe:
        problem = self.pack.strategy.problem
        if problem and (why := problem(self.length, self.pack.options)):
            raise RecipeError(why, where="pack", remedy="correct pack or length")
        return self

    @model_validator(mode="after")
    def _wants_something(self) -> Recipe:
        if self.sources and not any(source.tokens for source in self.sources.values()):
            names, remedy = ", ".join(self.sources), "give one of them tokens, such as 5M, or a larger --scale"
            raise RecipeError(f"no source is to give any tokens: {names}", where="sources", remedy=remedy)
        return self

    def changed(self, *overrides: str) -> Recipe:
        """The recipe with some values set, each `key.path=value` as `--set` takes it. Raises `RecipeError`."""
        data = self.model_dump(mode="json")
        for override in overrides:
            _override(data, override, self.phase)
        return _validate(data, self.phase)

    def layout_name(self) -> str:
        """What a split's folder name says after `<split>-` (ARCHITECTURE 5.5)."""
        return self.pack.layout_name(self.length)


def load_recipe(
    name_or_path: str | Path,
    *,
    overrides: Sequence[str] = (),
    scale: float = 1.0,
    add_sources: Sequence[str] = (),
    drop_sources: Sequence[str] = (),
) -> Recipe:
    """Read a recipe and apply what the command line changes, in this order: add, drop, set, scale.

    Args:
        name_or_path: "pretrain", "extension", "decay" or a YAML file.
        overrides: `key.path=value`, the value read as YAML.
        scale: factor on every target.
        add_sources: `name=path_or_url:tokens`.
        drop_sources: names.

    Raises:
        RecipeError: with the file, key path, value and remedy.
    """
    origin, data = _read(name_or_path)
    sources = data.setdefault("sources", {})
    if not isinstance(sources, dict):
        raise RecipeError(f"sources is {sources!r}", where=f"{origin}: sources", remedy="write `name: {tokens: 1B}`")
    for text in add_sources:
        name, _, rest = text.partition("=")
        place, _, tokens = rest.rpartition(":")
        if not (name and place and tokens):
            raise RecipeError(f"{text!r} does not name a source", remedy="write --add-source name=path_or_url:5M")
        sources[name] = {"root": place, "tokens": tokens}
    for name in drop_sources:
        if name not in sources:
            raise RecipeError(
                f"there is no source {name!r} to drop", where=f"{origin}: sources", remedy=near(name, sources)
            )
        del sources[name]
    for text in overrides:
        _override(data, text, origin)
    recipe = _validate(data, origin)
    if not 0 < scale < math.inf or any(each.tokens * scale > yaml_text.LARGEST for each in recipe.sources.values()):
        raise RecipeError(f"--scale {scale} is no factor for these targets", remedy="give one such as 1e-3")
    return recipe if scale == 1 else scaled(recipe, scale)


@functools.cache
def _shipped_recipes() -> list[Recipe]:
    return [load_recipe(phase) for phase in PHASES]


def shipped_targets(key: str) -> dict[str, int]:
    """Phase -> the tokens that its shipped recipe wants of a source, of those that want any."""
    wanted = {each.phase: each.sources[key].tokens for each in _shipped_recipes() if key in each.sources}
    return {phase: tokens for phase, tokens in wanted.items() if tokens}


def scaled(recipe: Recipe, scale: float) -> Recipe:
    """The recipe with every target multiplied, rounded to whole tokens."""
    sources = {
        name: source.model_copy(update={"tokens": max(round(source.tokens * scale), 1 if source.tokens else 0)})
        for name, source in recipe.sources.items()
    }
    return recipe.model_copy(update={"sources": sources})


def shipped(phase: str) -> Path:
    """The recipe file of a phase that comes with the package."""
    return Path(str(resources.files("ettin_data") / "recipes" / "ettin" / f"{phase}.yaml"))


def _read(name_or_path: str | Path) -> tuple[str, dict[str, Any]]:
    path = shipped(str(name_or_path)) if str(name_or_path) in PHASES else Path(name_or_path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(yaml_text.MOST_CHARACTERS + 1)
        data = yaml_text.parse(text)
    except FileNotFoundError:
        raise RecipeError(
            f"there is no recipe {str(name_or_path)!r}",
            remedy=f"name one of {', '.join(PHASES)}, or a YAML file",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError("the recipe cannot be read", where=path, why=error) from error
    except RecipeError as error:
        raise _located(error, str(path)) from error
    if not isinstance(data, dict):
        raise RecipeError(f"the recipe is not a mapping but {type(data).__name__}", where=path)
    return path.name, data


def _override(data: dict[str, Any], text: str, origin: str) -> None:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"{text!r} sets nothing", remedy="write --set sources.arxiv.tokens=6B")
    if parts[0] == "sources" and len(parts) > 2 and parts[1] not in data["sources"]:
        raise RecipeError(
            f"the recipe has no source {parts[1]!r}",
            where=f"{origin}: --set {text}",
            remedy=f"{near(parts[1], data['sources'])}, or add it with --add-source",
        )
    at = data
    for part in parts[:-1]:
        child = at.get(part)
        at[part] = child = {} if child is None else child
        if not isinstance(child, dict):
            raise RecipeError(f"{part!r} is a value, not a section", where=f"{origin}: --set {text}")
        at = child
    try:
        at[parts[-1]] = yaml_text.parse(value)
    except RecipeError as error:
        raise _located(error, f"{origin}: --set {key.strip()}") from error


def _validate(data: Mapping[str, Any], origin: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as invalid:
        error = refusal(invalid, Recipe)
    except RecipeError as refused:
        error = refused
    raise _located(error, origin)


def _located(error: RecipeError, origin: str) -> RecipeError:
    """The error with where the recipe came from before its key path."""
    where = f"{origin}: {error.where}" if error.where else origin
    return RecipeError(error.what, where=where, why=error.why, remedy=error.remedy)
