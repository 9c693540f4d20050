"""Keys for a finished phase that was built without: the text is read once more, and they lie beside the pools.

The phase itself, with its root, stays as it is. Every split is a folder of its own under `keys/`, put in place when it
is complete, so that the same command goes on from any interruption. A build that needs keys later takes these.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ettin_data.base import disk_errors
from ettin_data.base.errors import BuildError
from ettin_data.build import tidy
from ettin_data.build.copies.added_keys import keys_only
from ettin_data.build.of_run import recipe_of, sources_root_of
from ettin_data.build.pool import SplitJob
from ettin_data.build.pools import build_splits, refuse_changed
from ettin_data.build.prepare import BuildOptions, Resolved, resolve
from ettin_data.build.shares import alone
from ettin_data.dedup.keys import KeyChoice
from ettin_data.executor import open_workers
from ettin_data.recipe import Recipe
from ettin_data.storage.keys import keyed_split
from ettin_data.storage.phase import POOLS, Phase
from ettin_data.storage.records import read_run


@dataclass(frozen=True)
class KeysMade:
    """How many splits of a phase have got keys, and how many had them."""

    made: int
    there: int


def make_keys(phase: Phase, choice: KeyChoice, options: BuildOptions) -> KeysMade:
    """Make the keys of those splits of a finished phase's pools that have none of this kind.

    Args:
        options: as for the build; its `out` is not used, and `sources_root` None means where the run was made from.

    Raises:
        BuildError: the phase is not finished, or a split is not what its recipe would make of its source now.
        EttinError: as of a build; what is finished stays, and the same command continues.
    """
    recipe, options = built_with(phase, options)
    with disk_errors.explained(phase.folder, last=True), alone(phase), ExitStack() as opened:
        workers = opened.enter_context(open_workers(options.executor, options.out))
        tidy.clean(phase, options.progress)
        jobs, there = _missing(resolve(recipe, options), choice)
        build_splits(jobs, workers, options, recipe.bad_input)
    return KeysMade(len(jobs), there)


def built_with(phase: Phase, options: BuildOptions) -> tuple[Recipe, BuildOptions]:
    """The recipe of a finished phase, and the options by which its text is read again. Raises `BuildError`."""
    if not phase.run_json.exists():
        raise BuildError("the text of a finished phase is read again", where=phase.folder, remedy="build it first")
    run = read_run(phase)
    recipe = recipe_of(phase, run.recipe, run.vocabulary)
    root = options.sources_root or sources_root_of(phase, recipe)
    return recipe, replace(options, out=phase.folder.parent, sources_root=root)


def planned_jobs(resolved: Resolved) -> dict[Path, SplitJob]:
    """Folder of a pool's split -> the job that would make it now."""
    jobs = (resolved.job(source, split) for source in resolved.plan.sources.values() for split in source.listed)
    return {job.folder: job for job in jobs}


def read_again(planned: dict[Path, SplitJob], pool: Path) -> SplitJob:
    """The job of a finished split. Raises `BuildError` or `SourceError` where it would be made of other texts now."""
    job = planned.get(pool)
    if job is not None:
        refuse_changed([job])
    if job is None or (problem := job.problem()) is not None:
        raise BuildError(
            "a split is not what its recipe would make of its source now, so that its texts cannot be read again",
            where=pool,
            why="the source has no such split" if job is None else problem,
            remedy="build the phase again, with `dedup` or `paragraphs` in its recipe",
        )
    return job


def _missing(resolved: Resolved, choice: KeyChoice) -> tuple[dict[str, SplitJob], int]:
    """The jobs that make what is missing, by name, and how many splits have it."""
    planned = planned_jobs(resolved)
    jobs, names = {}, resolved.phase.splits(POOLS)
    for name in names:
        pool = resolved.phase.folder / name
        _, source, folder = name.split("/")
        beside = resolved.phase.keyed(source, folder)
        if keyed_split(pool, beside, choice.made_from()) is not None:
            continue
        light = keys_only(replace(read_again(planned, pool), keys=choice), beside)
        jobs[f"keys of {name}"] = replace(light, log=beside.with_name(f"{folder}.log"))
    return jobs, len(names) - len(jobs)
