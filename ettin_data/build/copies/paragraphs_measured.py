"""Repeated paragraphs of a finished phase, counted by source: its text is read once more, and nothing is removed."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from ettin_data.base import disk_errors, files
from ettin_data.build.copies.keys_beside import built_with, planned_jobs, read_again
from ettin_data.build.copies.paragraphs import EQUAL, first_pass, paragraph_splits
from ettin_data.build.pools import build_splits, pools_of
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.build.shares import alone
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.paragraphs import ParagraphChoice
from ettin_data.executor import open_workers
from ettin_data.stages.paragraphs import Paragraphs
from ettin_data.storage import ledger
from ettin_data.storage.attributes import read_attribute
from ettin_data.storage.phase import PARAGRAPHS, POOLS, Phase, attribute_file


def count_repeated(phase: Phase, options: BuildOptions) -> dict[str, dict[str, Any]]:
    """How many paragraphs `paragraphs` would leave out of each source: by the recipe's options, or the default ones.

    Args:
        options: as of `keys_beside.make_keys`.

    Returns: source -> `paragraphs` that are long enough to be compared, how many of them are `repeated` ones that do
        not stay, the `share` of these, and the `documents` that have any.

    Raises:
        BuildError, SourceError: the phase is not finished, or its texts are others now.
    """
    recipe, options = built_with(phase, options)
    choice, found = recipe.paragraphs or ParagraphChoice(), dict[str, Counter[str]]()
    with disk_errors.explained(phase.folder), alone(phase), ExitStack() as opened:
        work = files.private_folder(phase.folder, PARAGRAPHS)  # where workers on other machines see it
        opened.callback(shutil.rmtree, work, ignore_errors=True)
        workers = opened.enter_context(open_workers(options.executor, options.out))
        scratch, jobs, resolved = Phase(work, phase.name), {}, resolve(recipe, options)
        planned = planned_jobs(resolved)
        for name in resolved.phase.splits(POOLS):
            _, source, folder = name.split("/")
            rows = scratch.paragraphs(source, folder)
            job = replace(read_again(planned, resolved.phase.folder / name), paragraphs=Paragraphs(choice, rows))
            jobs[f"paragraphs of {name}"] = replace(first_pass(job), log=rows.with_name(f"{folder}.log"))
        splits = paragraph_splits(pools_of(jobs, build_splits(jobs, workers, options, recipe.bad_input)))
        tables = {split.name: scratch.attribute(PARAGRAPHS) / attribute_file(split.name) for split in splits}
        join = Join(splits, EQUAL, recipe.seed, scratch.join)
        find_copies(join, tables, workers, options.progress, title=PARAGRAPHS)
        for split in splits:
            gone = read_attribute(tables[split.name]).codes > 0
            places = ledger.read_table(split.folder, ledger.DOCUMENTS, ["file", "position"])
            documents = np.unique(np.stack([places["file"][gone], places["position"][gone]]), axis=1)
            counts = {"paragraphs": len(gone), "repeated": int(gone.sum()), "documents": documents.shape[1]}
            found.setdefault(split.source, Counter()).update(counts)
    return {
        source: {**counts, "share": counts["repeated"] / max(counts["paragraphs"], 1)}
        for source, counts in sorted(found.items())
    }
