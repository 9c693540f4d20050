"""The pools of a phase: which splits are missing, building them, and taking more of a source that falls short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ettin_data.base.errors import EttinError, ExitStatus
from ettin_data.base.units import count
from ettin_data.build import bad_input, pool, tidy
from ettin_data.build.assemble import MixJob
from ettin_data.build.beating import Pulse
from ettin_data.build.copies import paragraphs
from ettin_data.build.copies.added_keys import build_missing, keys_only
from ettin_data.build.copies.duplicates import Copies, before_packing, find
from ettin_data.build.plan import Plan
from ettin_data.build.pool import Pools, PoolSplit, SplitJob
from ettin_data.build.prepare import BuildOptions, Resolved
from ettin_data.build.summary import documents
from ettin_data.executor import Executor, Failure, Task, TaskFailure, perform
from ettin_data.recipe import BadInput
from ettin_data.sources.manifest import ManifestDiff, changed_since
from ettin_data.stages.read import FilesLost
from ettin_data.storage import records, worklog
from ettin_data.storage import split as markers
from ettin_data.storage.phase import MARKER, POOLS
from ettin_data.storage.split import Marker

Made = TypeVar("Made", Marker, Marker | FilesLost)


def build_pools(
    resolved: Resolved, workers: Executor | None, options: BuildOptions
) -> tuple[Plan, Pools, Copies, Copies]:
    """Build the planned splits, and more of a source whose splits hold fewer tokens than expected.

    Returns: the plan, the pools, the copies where they have to be known before documents are packed, and the repeated
        paragraphs.
    """
    plan, copies, repeated = resolved.plan, Copies(), Copies()
    records.write_record(resolved.phase, plan.record())
    tidy.clean(resolved.phase, options.progress)
    pools: Pools = {}
    missing = list(plan.sources)
    while missing:
        if before_packing(resolved.recipe) or resolved.recipe.paragraphs:
            missing = list(plan.sources)  # what one source brings may take something from every other
        jobs = split_jobs(resolved, plan, missing)
        if resolved.recipe.paragraphs:
            jobs, repeated = _without_repeated(resolved, jobs, workers, options)
        if before_packing(resolved.recipe):
            jobs, copies = _without_copies(resolved, jobs, workers, options)
        built = build_splits(jobs, workers, options, resolved.recipe.bad_input)
        pools |= pools_of(jobs, built)
        for key in missing:
            if said := bad_input.judge(resolved.recipe.bad_input, key, [split.marker for split in pools[key]]):
                options.progress.say(said)
        # The parts of a file are read one after the other, by several workers: all have to be of the same state of it.
        refuse_changed(job for job in jobs.values() if any(file.part for file in job.files))
        plan, missing = extend(plan, pools, options)
        if missing:
            records.write_record(resolved.phase, plan.record())  # for those that look how far it is
    return plan, pools, copies, repeated


def _without_repeated(
    resolved: Resolved, jobs: Mapping[str, SplitJob], workers: Executor | None, options: BuildOptions
) -> tuple[dict[str, SplitJob], Copies]:
    """The jobs as they are when it is known which paragraphs are repeated: one reading of the text more."""
    light = {f"paragraphs of {name}": paragraphs.first_pass(job) for name, job in jobs.items()}
    passed = pools_of(light, build_splits(light, workers, options, resolved.recipe.bad_input))
    found = paragraphs.find_repeated(resolved.phase, resolved.recipe, passed, workers, options.progress)
    return {
        name: replace(
            job,
            paragraphs=paragraphs.chosen(resolved.phase, resolved.recipe, job.source.key, job.folder.name, found),
        )
        for name, job in jobs.items()
    }, found


def _without_copies(
    resolved: Resolved, jobs: Mapping[str, SplitJob], workers: Executor | None, options: BuildOptions
) -> tuple[dict[str, SplitJob], Copies]:
    """The jobs as they are when it is known which documents are copies: one reading of the text more."""
    phase = resolved.phase
    light = {
        f"keys of {name}": keys_only(job, phase.keyed(job.source.key, job.folder.name)) for name, job in jobs.items()
    }
    built = build_splits(light, workers, options, resolved.recipe.bad_input)
    copies = find(phase, resolved.recipe, pools_of(light, built), {}, workers, options.progress)
    return {
        name: replace(
            job,
            keyed=phase.keyed(job.source.key, job.folder.name),
            copies=copies.tables.get(f"{job.source.key}/{job.folder.name}"),
        )
        for name, job in jobs.items()
    }, copies


def split_jobs(resolved: Resolved, plan: Plan, sources: Iterable[str]) -> dict[str, SplitJob]:
    """The jobs of all splits that a plan takes of some sources, by the names that people see."""
    return {
        f"{POOLS}/{key}/{split.name}": resolved.job(plan.sources[key], split)
        for key in sources
        for split in plan.sources[key].splits
    }


def pools_of(jobs: Mapping[str, SplitJob], built: Mapping[str, Marker]) -> Pools:
    """The pools of the sources of these jobs, whose splits are all finished."""
    pools: Pools = {}
    for name, job in jobs.items():
        pools.setdefault(job.source.key, []).append(PoolSplit(job.folder, built[name]))
    for splits in pools.values():
        splits.sort(key=lambda split: split.marker.name)
    return pools


def build_splits(
    jobs: Mapping[str, SplitJob], workers: Executor | None, options: BuildOptions, limits: BadInput
) -> dict[str, Marker]:
    """Build the splits that are not there; all by the referee, if the fast tokenizer is caught wrong in one."""
    done = finished(jobs)
    to_build = {name: job for name, job in jobs.items() if name not in done}
    if isinstance(options.progress, Pulse):
        options.progress.makes_again([name for name, job in to_build.items() if (job.folder / MARKER).exists()])
    if not options.relist:
        refuse_changed(to_build.values())
    built = {**done, **_build(to_build, workers, options, limits)}
    mismatches = {name: str(marker.tally["fallback"]) for name, marker in built.items() if marker.tally["fallback"]}
    suspect = [name for name, marker in built.items() if marker.tally["backend"] != pool.REFEREE]
    if not mismatches or not suspect:
        return built
    name, mismatch = next(iter(mismatches.items()))
    options.progress.say(
        f"{name}: {mismatch}\nthe fast tokenizer is not used further; {len(suspect)} splits are made again"
    )
    again = {name: replace(jobs[name], distrust_fast=True) for name in suspect}
    return {**built, **_build(again, workers, options, limits)}


def _build(
    jobs: Mapping[str, SplitJob], workers: Executor | None, options: BuildOptions, limits: BadInput
) -> dict[str, Marker]:
    """Build splits. What stops it leaves an unfinished build, which is its exit status: the same command continues."""
    first = bad_input.FirstSplits(limits, Counter(job.source.key for job in jobs.values()))
    try:
        return bad_input.without_damage(run_jobs(workers, "tokenize", build_missing, jobs, options, first.told))
    except EttinError as error:
        if error is not first.refusal:
            error.exit_status = ExitStatus.INCOMPLETE
        for failure in _without_a_word(error):
            worklog.note(jobs[failure.task].log, worklog.FAILED, failure.reason)
        raise


def _without_a_word(error: EttinError) -> list[Failure]:
    """The splits whose workers died or hung, so that they could not write down themselves how it ended."""
    cause = error if isinstance(error, TaskFailure) else error.__cause__
    return [each for each in cause.failures if each.kind != "error"] if isinstance(cause, TaskFailure) else []


def refuse_changed(jobs: Iterable[SplitJob]) -> None:
    """Raise `SourceError` if a finished split was made from a file of the same size with other content.

    Not for one that was damaged: it was to be mended.
    """
    for job in jobs:
        if changed := [change for change in job.changed_inputs() if change[0] not in job.lost_files()]:
            raise changed_since(job.source, ManifestDiff((), (), tuple(changed)))


def finished(jobs: Mapping[str, SplitJob]) -> dict[str, Marker]:
    """The markers of those splits that are there as their jobs want them."""
    return {name: markers.read_marker(job.folder) for name, job in jobs.items() if job.problem() is None}


def extend(plan: Plan, pools: Pools, options: BuildOptions) -> tuple[Plan, list[str]]:
    """Take more splits of the sources that fell short, in proportion to what was missing."""
    extended, short = dict(plan.sources), []
    for key, source in plan.sources.items():
        held = sum(split.marker.tokens for split in pools[key])
        needed = source.needed_tokens(plan.recipe.validation)
        one_document = sum(documents(split.marker) for split in pools[key]) < 2
        if (held < needed or one_document) and source.chosen < len(source.listed):
            extended[key] = replace(source, chosen=source.more(held, needed))
            options.progress.say(
                f"{key}: {source.chosen} splits hold {count(held)} of {count(needed)} tokens; "
                f"taking {extended[key].chosen} of {len(source.listed)}"
            )
            short.append(key)
    return replace(plan, sources=extended), short


def run_jobs(
    workers: Executor | None,
    title: str,
    function: Callable[[Any], Made],
    jobs: Mapping[str, SplitJob | MixJob],
    options: BuildOptions,
    told: Callable[[Made], str | None] = lambda made: None,
) -> dict[str, Made]:
    """Do the jobs; returns what each has made: a marker, or what is damaged. `told` as of `perform`."""
    tasks = [Task(name, job, max(job.bytes, 1) if isinstance(job, SplitJob) else 1) for name, job in jobs.items()]

    def tokens(made: Made) -> int:
        return made.tokens if isinstance(made, Marker) else 0

    made = perform(function, tasks, workers, options.progress, title=title, tokens=tokens, told=told)
    return dict(zip(jobs, made, strict=True))
