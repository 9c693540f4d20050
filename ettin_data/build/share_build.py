"""The build of one share: its part of the splits, beside the other shares, and what is left to do afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ettin_data.base import disk_errors, files
from ettin_data.base.errors import BuildError, RecipeError, ShardError, SourceError
from ettin_data.base.lock import locked
from ettin_data.build import tidy
from ettin_data.build.beating import beating
from ettin_data.build.copies.duplicates import before_packing
from ettin_data.build.decontamination import made_ready
from ettin_data.build.first_minute import refuse_impossible
from ettin_data.build.plan import Plan
from ettin_data.build.pool import SplitJob
from ettin_data.build.pools import build_splits, extend, finished, pools_of, split_jobs
from ettin_data.build.prepare import BuildOptions, Resolved, find_tokenizer, freeze, resolve
from ettin_data.build.shares import Share, beside, parts
from ettin_data.executor import open_workers
from ettin_data.recipe import Recipe
from ettin_data.sources.manifest import Manifest, load_manifest
from ettin_data.storage import records
from ettin_data.storage.phase import POOLS, REJECTS, Phase

_PLANNING_S = 3600.0  # 64 shares that begin at once on a slow file system


@dataclass(frozen=True)
class Shared:
    """What a share has done, and what a person has to know to go on.

    Attributes:
        splits, found: of this share's part, and how many of them were there before.
        tokens: in the splits that it has built.
        planned: splits of all shares; `missing` of them are not there, by the number of the share that has them.
        seconds: that it took.
    """

    phase: str
    share: Share
    splits: int
    found: int
    tokens: int
    planned: int
    missing: Mapping[int, int]
    seconds: float


def build_share(recipe: Recipe, options: BuildOptions, share: Share) -> Shared:
    """Build what is missing of a share's part; more of a source that falls short, when all shares have built theirs.

    Raises:
        RecipeError: copies or repeated paragraphs have to be known before documents are packed, which needs all splits.
        EttinError: as of `build.build_phase`; what is finished stays, and the same command continues.
    """
    started = time.monotonic()
    phase = Phase(options.out / recipe.phase, recipe.phase)
    find_tokenizer(recipe)
    if recipe.paragraphs:
        raise RecipeError(
            "a share cannot know which of its paragraphs stand elsewhere",
            where="paragraphs",
            why="repeated ones are found in all splits of a source, before any is tokenized",
            remedy="build without --share, or without paragraphs",
        )
    if before_packing(recipe):
        raise RecipeError(
            "a share cannot know which of its documents are copies",
            where="dedup",
            why=f"pack {recipe.pack.name!r} puts several documents into a sample, so that copies have to go first",
            remedy="build without --share, or with a strategy of one document a sample, such as backfill",
        )
    with disk_errors.explained(phase.folder, last=True), beside(phase, share):
        tidy.refuse_foreign(phase)
        resolved = _planned_together(recipe, options)
        for name in (POOLS, REJECTS):
            (phase.folder / name).mkdir(parents=True, exist_ok=True)
        with beating(phase, str(share), options.progress) as pulse:
            made = made_ready(phase, resolved.decontaminate, recipe.keys is not None)
            resolved = replace(resolved, decontaminate=made)
            return _build_part(resolved, share, replace(options, progress=pulse), started)


def _build_part(resolved: Resolved, share: Share, options: BuildOptions, started: float) -> Shared:
    phase = resolved.phase
    with open_workers(options.executor, options.out) as workers:
        plan, splits, found, tokens = resolved.plan, 0, 0, 0
        seen: dict[str, SplitJob] = {}
        while True:
            jobs = split_jobs(resolved, plan, plan.sources)
            whose = parts({name: job.bytes for name, job in jobs.items() if name not in seen}, share.of)
            seen = jobs
            mine = {name: jobs[name] for name, number in whose.items() if number == share.number}
            there = finished(mine)
            splits, found = splits + len(mine), found + len(there)
            if len(there) < len(mine):
                phase.run_json.unlink(missing_ok=True)  # where it is, the phase is finished
                _sweep(mine)
                built = build_splits(mine, workers, options, resolved.recipe.bad_input)
                tokens += sum(marker.tokens for name, marker in built.items() if name not in there)
            ready = finished(jobs)
            missing = Counter(number for name, number in whose.items() if name not in ready)
            if missing:
                break
            pools = pools_of(jobs, ready)
            plan, short = extend(plan, pools, options)
            if not short:
                break
            _keep_plan(phase, plan)
    return Shared(phase.name, share, splits, found, tokens, len(seen), dict(missing), time.monotonic() - started)


def _planned_together(recipe: Recipe, options: BuildOptions) -> Resolved:
    """The plan that all shares have: the first freezes the listings, and every other has the same or is refused."""
    resolved = resolve(recipe, options)
    refuse_impossible(resolved.plan)
    phase = resolved.phase
    with locked(phase.planning, patience_s=_PLANNING_S):
        if any(_frozen_otherwise(phase, manifest) for manifest in resolved.unfrozen):
            resolved = resolve(recipe, options)
        freeze(resolved)
        _keep_plan(phase, resolved.plan)
    return resolved


def _frozen_otherwise(phase: Phase, manifest: Manifest) -> bool:
    """Whether another listing has been frozen than the one that is about to be."""
    path = phase.listing(manifest.key)
    try:
        return path.exists() and load_manifest(path) != manifest
    except SourceError:
        return False


def _keep_plan(phase: Phase, plan: Plan) -> None:
    """Write the plan, unless it is there: shares that are at work all write the same one."""
    record = plan.record()
    try:
        there = records.read_plan(phase) == record
    except (BuildError, ShardError):
        there = False
    if not there:
        records.write_record(phase, record)


def _sweep(mine: Mapping[str, SplitJob]) -> None:
    """Remove what a killed share with this number was writing; nobody else makes these splits."""
    names = {(job.folder.parent, job.name) for job in mine.values()}
    for folder in sorted({folder for folder, _ in names}):
        for path in sorted(folder.glob(f"{files.TEMPORARY}*")):
            if (folder, files.private_name(path.name)) in names:
                tidy.remove(path)
