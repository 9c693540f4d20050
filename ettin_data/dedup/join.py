"""The join: which documents of any number of splits are copies of better-ranked ones, on disk, in bounded memory.

Runs of splits are sorted (`runs`), groups of equal keys found (`groups`), tables written (`tables`). Every job has its
output under a name of its own, atomic and sealed, so that a join that was killed goes on where it was; and since each
is a function of the keys and ranks, the tables are the same bytes whatever did the work, in whatever order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.base.errors import BuildError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.dedup.components import MOST_DOCUMENTS, ComponentJob, find_components
from ettin_data.dedup.groups import GroupJob, SortedRun, find_twins
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import KeyedSplit, RunJob, kinds, sort_run
from ettin_data.dedup.tables import TableJob, write_tables
from ettin_data.executor import Executor, ExecutorOptions, Task, perform
from ettin_data.storage.keys import TEXT_BYTES

RUN_DOCUMENTS = 1 << 20
"""Documents of a run, at least one split: some 220 bytes of memory each."""

PART_DOCUMENTS = 1 << 21
"""Documents that a part of a kind of key has at most, if hashes spread: some 60 bytes of memory each."""

MOST = 1 << 10
"""Runs, and parts, beyond which they have more documents instead: every part is looked for in each run."""


@dataclass(frozen=True)
class Join:
    """What is joined, and where.

    Attributes:
        splits: those of earlier phases first, then ours; of equal ranks the earlier document wins.
        choice, seed: of the recipe.
        work: a folder for the outputs of the jobs, which goes on from what is there and may be removed afterwards.
        run_documents, part_documents: sizes of the jobs; they leave no trace in the tables.
    """

    splits: Sequence[KeyedSplit]
    choice: DedupChoice
    seed: int
    work: Path
    run_documents: int = RUN_DOCUMENTS
    part_documents: int = PART_DOCUMENTS

    def runs(self) -> list[RunJob]:
        """The runs, whose splits together are all splits in their order."""
        total = sum(split.documents for split in self.splits)
        parts = 1
        while parts * self.part_documents < total and parts < MOST:
            parts *= 2
        limit = max(self.run_documents, total // MOST)
        groups: list[list[KeyedSplit]] = [[]]
        held = 0
        for split in self.splits:
            if groups[-1] and held + split.documents > limit:
                groups.append([])
                held = 0
            groups[-1].append(split)
            held += split.documents
        jobs, base = [], 0
        for number, group in enumerate(groups):
            path = self.work / f"run_{number:05}"
            jobs.append(RunJob(path, tuple(group), base, self.choice, self.seed, parts))
            base += jobs[-1].documents
        return jobs


def disk_bytes(choice: DedupChoice, documents: float) -> float:
    """What the sorted keys of so many documents take while a search is made, in bytes: all but for the twins found.

    The text's hash and the sketch, 8 bytes for a rank, and 12 for each kind of key. A copy takes some 24 more for each
    kind that it is found by.
    """
    return documents * (TEXT_BYTES + choice.keys.values + 8 + 12 * len(kinds(choice)))


def find_copies(
    join: Join,
    tables: Mapping[str, Path],
    workers: Executor | ExecutorOptions | None = None,
    progress: Progress = SILENT,
    title: str = "copies",
) -> dict[str, dict[str, Any]]:
    """Write a table for each split that `tables` names, as `tables.write_tables` describes it.

    Args:
        tables: name of a split -> where its table goes; splits that it does not name have ranks but lose nothing.
        title: of what is looked for, as progress shows it.

    Returns: name -> digest of its table, and how many documents it leaves out (`left_out`).

    Raises `BuildError` where the rule is `components` and there are more documents than it can hold.
    """
    by_components = join.choice.near is not None and join.choice.near.rule == "components"
    total = sum(split.documents for split in join.splits)
    if by_components and total > MOST_DOCUMENTS:
        raise BuildError(
            f"`rule: components` holds all documents in memory, at most {MOST_DOCUMENTS:,}; here are {total:,}",
            where="dedup.near.rule",
            remedy="leave it out: the local rule takes any number",
        )
    jobs = join.runs()
    weight = [max(job.documents, 1) for job in jobs]
    tasks = [Task(job.path.name, job, size) for job, size in zip(jobs, weight, strict=True)]
    perform(sort_run, tasks, workers, progress, title=f"{title}: keys")
    runs = tuple(SortedRun.of(job) for job in jobs)
    verify = join.choice.near.verify if join.choice.near else None
    groups = [
        GroupJob(join.work / f"twins_{kind:03}_{part:05}", kind, reason, part, runs, verify)
        for kind, reason in enumerate(kinds(join.choice))
        for part in range(jobs[0].parts)
    ]
    size = max(sum(weight) // jobs[0].parts, 1)
    tasks = [Task(group.path.name, group, size) for group in groups]
    perform(find_twins, tasks, workers, progress, title=f"{title}: twins")
    components = ComponentJob(join.work / "components", tuple(groups)) if by_components else None
    if components is not None:
        task = Task("components", components, total)
        perform(find_components, [task], workers, progress, title=f"{title}: components")
    starts = np.cumsum([0, *(split.documents for split in join.splits)])[:-1]
    tasks = []
    for number, job in enumerate(jobs):
        paths = tuple(tables.get(split.name) for split in job.splits)
        if any(paths):
            sizes = tuple(split.documents for split in job.splits)
            table = TableJob(number, paths, sizes, starts, tuple(groups), join.choice, components)
            tasks.append(Task(job.path.name, table, weight[number]))
    written = perform(write_tables, tasks, workers, progress, title=f"{title}: tables")
    names = [split.name for split in join.splits if split.name in tables]
    return dict(zip(names, (entry for entries in written for entry in entries), strict=True))
