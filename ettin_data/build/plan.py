"""The plan: a recipe resolved against a real listing of files, before any data is read.

Pure functions from a recipe and listings to splits, expected tokens and bytes. A build follows the plan; `plan.json`
beside the run is its readable form. Splits depend on the recipe and the listing alone, never on the number of workers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ettin_data.base import draws
from ettin_data.base.errors import BuildError
from ettin_data.base.redact import redact_all
from ettin_data.base.units import count, size
from ettin_data.recipe import Recipe
from ettin_data.sources import formats, globs
from ettin_data.sources.base import Source, SourceFile
from ettin_data.storage.records import PlannedSource, PlanRecord, totals

if TYPE_CHECKING:
    from rich.tree import Tree

MARGIN = 1.25
"""Splits are chosen for this much more than the target, since tokens are only expected before they are counted."""

_EXTENSIONS = re.compile(r"(\.(jsonl|json|parquet|mds|gz|zst|zstd|txt))+$")
"""Of names, left out of the names of splits. A list of its own that stays as it is: draws are keyed by those names."""


@dataclass(frozen=True)
class SplitPlan:
    """The unit of work: a fixed group of input files, or a part of a large one, that becomes one output folder."""

    name: str
    files: tuple[SourceFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def expected_tokens(self) -> int:
        return sum(formats.expected_tokens(file) for file in self.files)


@dataclass(frozen=True)
class SourcePlan:
    """One source of a plan.

    Attributes:
        source: where and what, with the recipe's changes.
        target_tokens: after scaling; where the recipe wants passes, what they are expected to hold until it is counted.
        listed: all its splits in keyed order; a build takes the shortest prefix that holds the target.
        chosen: how many of them are expected to be enough.
    """

    source: Source
    target_tokens: int
    listed: tuple[SplitPlan, ...]
    chosen: int

    @property
    def splits(self) -> tuple[SplitPlan, ...]:
        return self.listed[: self.chosen]

    @property
    def files(self) -> int:
        return _files(self.splits)

    @property
    def bytes(self) -> int:
        return sum(split.bytes for split in self.splits)

    @property
    def expected_tokens(self) -> int:
        return sum(split.expected_tokens for split in self.splits)

    @property
    def expected_passes(self) -> float:
        return self.target_tokens / max(self.expected_tokens, 1)

    def needed_tokens(self, validation: float) -> float:
        """The tokens that the splits have to hold; with fewer a build takes more of them."""
        return self.target_tokens * (1 + 2 * validation)

    def more(self, held: float, needed: float) -> int:
        """How many splits a build takes next, where those of now hold too few tokens."""
        chosen = int(self.chosen * needed / max(held, 1) * 1.1) + 1
        return min(max(chosen, self.chosen + 1), len(self.listed))


@dataclass(frozen=True)
class Plan:
    """What a build of one phase will do."""

    recipe: Recipe
    sources: Mapping[str, SourcePlan]

    def with_targets(self, tokens: Mapping[str, int]) -> Plan:
        """The plan with the targets of sources as they were counted."""
        sources = {key: replace(plan, target_tokens=tokens[key]) for key, plan in self.sources.items()}
        return replace(self, sources=sources)

    def record(self) -> PlanRecord:
        """What `plan.json` says of it."""
        sources = {
            key: PlannedSource(
                category=plan.source.category,
                target_tokens=plan.target_tokens,
                files=plan.files,
                splits=len(plan.splits),
                input_bytes=plan.bytes,
                listed_files=_files(plan.listed),
                expected_tokens=plan.expected_tokens,
                expected_passes=round(plan.expected_passes, 3),
                expected_bytes=self.output_bytes(plan.target_tokens),
            )
            for key, plan in self.sources.items()
        }
        return PlanRecord(
            phase=self.recipe.phase,
            recipe=redact_all(self.recipe.model_dump(mode="json")),
            totals=totals(sources, "input_bytes", "expected_tokens", "expected_bytes"),
            sources=sources,
            split_files={
                key: {split.name: [file.describe() for file in split.files] for split in plan.splits}
                for key, plan in self.sources.items()
            },
        )

    def output_bytes(self, tokens: int) -> int:
        """Bytes of that many tokens in shards: the ids, and about 40 bytes a sample of id, sizes and offsets."""
        width = 4 if self.recipe.shards.token_dtype == "uint32" else 2
        return tokens * width + tokens * 40 // max(self.recipe.length * 3 // 4, 1)

    def __str__(self) -> str:
        """The tree as text, for `print` in a notebook or a script."""
        from ettin_data.bar import Screen

        console = Screen(width=120, no_color=True)
        with console.capture() as shown:
            console.print(self.tree())
        return shown.get()

    def tree(self, states: Mapping[str, str] | None = None) -> Tree:
        """The plan as a `rich` tree: phase, sources with tokens and passes, totals."""
        from rich.tree import Tree

        from ettin_data.bar import styled

        recipe, total = self.recipe, sum(plan.target_tokens for plan in self.sources.values())
        about = f"  {count(total)} tokens, sequences of {recipe.length:,}, {recipe.pack.name}, "
        root = Tree(styled((recipe.phase, "bold"), about, size(self.output_bytes(total))))
        width = max(map(len, self.sources), default=0)
        for key, plan in sorted(self.sources.items(), key=lambda item: -item[1].target_tokens):
            share = plan.target_tokens / max(total, 1)
            what = (
                f" {share:6.1%}  from {plan.files:,} files in {len(plan.splits):,} splits, {size(plan.bytes)}, about "
                f"{count(plan.expected_tokens)} tokens, {plan.expected_passes:.2f} passes"
            )
            of = f" (of {len(plan.listed):,} splits)" if plan.chosen < len(plan.listed) else ""
            state = f"  {states[key]}" if states and states.get(key) else ""
            target = f"{count(plan.target_tokens):>7}"
            root.add(styled(f"{key:<{width}}  ", (target, "cyan"), what, (of, "dim"), (state, "yellow")))
        return root


def make_plan(recipe: Recipe, sources: Mapping[str, Source], listings: Mapping[str, Sequence[SourceFile]]) -> Plan:
    """Resolve a recipe against listings.

    Args:
        recipe: the phase.
        sources: source key -> source, with roots as they will be read.
        listings: source key -> its files.

    Raises:
        BuildError: a source has no files.
    """
    plans = {}
    for key in sorted(recipe.sources):
        source, files = sources[key], listings[key]
        if not files:
            raise BuildError(f"source {key!r} has no files", where=source.root)
        choice = recipe.sources[key]
        splits = keyed_order(make_splits(source, files, recipe.split_bytes), recipe.seed, key)
        if choice.passes is None:
            chosen, target = enough(splits, choice.tokens, recipe.validation), choice.tokens
        else:  # whole passes take every split
            chosen = len(splits)
            target = choice.target(sum(split.expected_tokens for split in splits))
        before = max((each.splits for each in choice.after), default=0)
        if before > len(splits):
            raise BuildError(
                f"source {key!r} has {len(splits):,} splits, and an earlier build took samples of {before:,}",
                where=f"sources.{key}.after",
                remedy="build from the files of then, with the same split_bytes and part_bytes; or leave out `after`",
            )
        chosen = max(chosen, before)
        plans[key] = SourcePlan(source, target, splits, chosen)
    return Plan(recipe, plans)


def _files(splits: Sequence[SplitPlan]) -> int:
    """How many different files the splits read."""
    return len({file.path for split in splits for file in split.files})


def enough(splits: Sequence[SplitPlan], target: int, validation: float) -> int:
    """How many of the first splits are expected to hold the target, with margin; all of them if none is too many.

    At least two: one split may be a single document, and train and validation need one each.
    """
    need = target * (1 + validation) * MARGIN
    held = 0
    for number, split in enumerate(splits):
        if held >= need and number >= 2:
            return number
        held += split.expected_tokens
    return len(splits)


def keyed_order(splits: Sequence[SplitPlan], seed: int, source: str) -> tuple[SplitPlan, ...]:
    """The splits in an order that the seed decides, so that any prefix is a fair choice of files."""
    keys = draws.draws(draws.document_keys([split.name for split in splits]), seed, "split order", source)
    return tuple(splits[i] for i in np.argsort(keys, kind="stable").tolist())


def make_splits(source: Source, files: Sequence[SourceFile], split_bytes: int) -> list[SplitPlan]:
    """Group files, in the order of their paths, into splits of at most `split_bytes`; a larger file stands alone.

    A split of one file is named after it, as published (`arxiv_0049`), with the folders below the source's own where
    there are several (`cc_news_head-cc_news_0000`): basenames collide, paths do not. A part of a file stands alone and
    says which it is (`mine-part-02-of-11`).
    """
    groups: list[list[SourceFile]] = []
    room = 0  # bytes that the last group may still take
    for file in sorted(files, key=lambda file: (file.path, file.part or ())):
        if groups and file.bytes <= room and file.part is None:
            groups[-1].append(file)
            room -= file.bytes
        else:
            groups.append([file])
            room = split_bytes - file.bytes if file.part is None else -1
    prefix = globs.fixed_prefix(source.globs)
    parts = Counter(file.path for file in files)
    numbers: Counter[str] = Counter()
    splits, taken = [], set()
    for group in groups:
        name = _name(group[0].path, prefix)
        if len(group) > 1:
            name = f"{name}-and-{len(group) - 1}"
        if group[0].part is not None:
            numbers[group[0].path] += 1
            count = str(parts[group[0].path])
            name = f"{name}-part-{numbers[group[0].path]:0{len(count)}}-of-{count}"
        if name in taken:  # the same name but for its extension or its dashes
            name = f"{name}-{draws.key64(group[0].path):016x}"
        taken.add(name)
        splits.append(SplitPlan(name, tuple(group)))
    return splits


def _name(path: str, prefix: str) -> str:
    below = path.removeprefix(prefix)
    stem = _EXTENSIONS.sub("", below) or below
    name = re.sub(r"[^A-Za-z0-9_.\-/]", "_", stem).replace("-", "_").replace("/", "-").lstrip(".")
    return name if len(name) <= 150 else f"{name[:130]}-{draws.key64(path):016x}"
