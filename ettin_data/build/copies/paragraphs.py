"""The step of a build that finds repeated paragraphs, before anything is tokenized (ARCHITECTURE 5.11).

A first pass over the text leaves a row for each paragraph; the join of copies, which takes them for documents, says
which of several equal ones of a source stays; each split then gets a table of those that go, on which it depends.
"""

from __future__ import annotations

from dataclasses import replace

from ettin_data.base.progress import Progress
from ettin_data.build.copies.duplicates import Copies, made_tables
from ettin_data.build.pool import Pools, SplitJob
from ettin_data.dedup import runs
from ettin_data.dedup.join import Join
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.executor import Executor
from ettin_data.recipe import Recipe
from ettin_data.stages.paragraphs import Paragraphs
from ettin_data.storage import ledger
from ettin_data.storage.phase import DOCUMENTS, KEYS, PARAGRAPHS, Phase

EQUAL = DedupChoice(near=None, across=[])
"""What the join is asked: paragraphs of equal words, within a source."""


def chosen(phase: Phase, recipe: Recipe, source: str, folder: str, found: Copies) -> Paragraphs | None:
    """What a split does about paragraphs; None where the recipe asks for nothing."""
    if recipe.paragraphs is None:
        return None
    return Paragraphs(recipe.paragraphs, phase.paragraphs(source, folder), found.tables.get(f"{source}/{folder}"))


def first_pass(job: SplitJob) -> SplitJob:
    """The job that says what paragraphs a split has, in a folder of their own, its reject log beside it."""
    assert job.paragraphs is not None
    folder = job.paragraphs.rows
    only = replace(job.paragraphs, table=None, only=True)
    rejects = folder.with_name(f"{folder.name}.jsonl")
    return replace(job, paragraphs=only, folder=folder, rejects=rejects, keys=None, decontaminate=None)


def find_repeated(phase: Phase, recipe: Recipe, passed: Pools, workers: Executor | None, progress: Progress) -> Copies:
    """The tables of what goes of each split; `passed` are the splits that first passes have left, by source."""
    splits, made_from = paragraph_splits(passed), {"version": runs.VERSION, "seed": recipe.seed}
    assert recipe.paragraphs is not None
    made_from |= recipe.paragraphs.rows_made_from() | {"splits": [split.made_from() for split in splits]}
    join = Join(splits, EQUAL, recipe.seed, phase.join)
    return made_tables(phase, PARAGRAPHS, made_from, join, workers, progress)[0]


def paragraph_splits(passed: Pools) -> list[KeyedSplit]:
    """The splits as the join takes them: each paragraph is one of its documents."""
    return [
        KeyedSplit(
            f"{key}/{split.folder.name}",
            key,
            split.folder,
            split.folder / KEYS,
            ledger.count_rows(split.folder, DOCUMENTS),
            split.marker.digest,
        )
        for key, members in sorted(passed.items())
        for split in members
    ]
