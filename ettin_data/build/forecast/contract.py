"""The contract: what a build of a plan will read, hold, take and cost, each figure with its interval.

Without a pilot only what follows from the sizes of files is known. With one (`pilot`, or one of before that is
kept) the build is gone through in numbers: which splits it will take in the end, which of them the mix will cut and
which it links, by the very rules of `mix`. Nothing of this decides what is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ettin_data.build import mix
from ettin_data.build.first_minute import room
from ettin_data.build.forecast.estimates import Figure, Rates, rates, total
from ettin_data.build.forecast.measured import MeasuredBuild, MeasuredSource, all_kept, kept, of_build
from ettin_data.build.plan import SourcePlan, SplitPlan
from ettin_data.build.prepare import Resolved
from ettin_data.executor import ExecutorOptions
from ettin_data.executor.machine import usable_cores
from ettin_data.sources.base import is_local
from ettin_data.storage.phase import MARKER

REWRITE_S = 1 / 150e6
"""Seconds for a byte of a split that the mix cuts: read, hashed, and written again, taken to be 150 MB/s."""
ORDER_S = 8e-8
"""Seconds for a sample of the order (2.8 billion in 214 s, measured on one core)."""
ONCE = 0.25
"""By which share a time that a pilot measures once may be off, as those of a tiny build."""

_SPLIT_FILES = 6  # of a split beside its shards
_PHASE_FILES = 6  # plan, run, digests, card, order, lock
_INTERVAL_BYTES = 700  # of a file of the order beside its positions


@dataclass(frozen=True)
class SourceFigures:
    """What a build will do with a source. Figures are None where nobody knows without a pilot.

    Attributes:
        target_tokens: that train will have.
        tokens, documents: that its pool will hold.
        passes: through the pool.
        files, splits: that are read in the end; `listed_splits` it has, and `there` are finished.
        shards: of the pool.
        read_bytes: of the files; `download_bytes` those over a network.
        pool_bytes, mixed_bytes: of its splits in the pool, and of what the mix writes again of them.
        folders: of train and validation; `rewritten` are not links.
        filtered, rejected: shares of documents and records.
        cpu_s, seconds: one core for the splits that are not there; `longest_s` for the largest.
        memory: of a worker.
    """

    key: str
    category: str
    target_tokens: int
    tokens: Figure
    documents: Figure | None
    samples: Figure | None
    passes: Figure
    files: int
    splits: int
    listed_splits: int
    there: int
    shards: int
    read_bytes: int
    download_bytes: int
    pool_bytes: Figure
    mixed_bytes: Figure | None
    folders: int
    rewritten: int
    filtered: float | None
    rejected: float | None
    cpu_s: Figure | None
    seconds: Figure | None
    longest_s: float
    memory: int | None


@dataclass(frozen=True)
class Contract:
    """What a build of a plan will come to; see `SourceFigures`.

    Attributes:
        asked: what the pilots were asked for, by source.
        missing_splits: that the build has to make.
        files, largest_folder: in the phase, and entries of its fullest folder.
        after_pools, after_mix, at_end: bytes on disk at each point. A build removes nothing that it has made, so
            that the last is the peak, but for copies: what a search for them needs is not known.
        needed, free: bytes that it will still take, and that the disk has.
        memory: of all workers at once, and of the order.
        cpu_h, wall_s, cost: of what is missing, with `workers`; the cost is of their cores for all of the time.
    """

    phase: str
    workers: int
    asked: Mapping[str, str]
    sources: Mapping[str, SourceFigures]
    target_tokens: int
    tokens: Figure
    documents: Figure | None
    samples: Figure | None
    read_bytes: int
    download_bytes: int
    missing_splits: int
    files: int
    largest_folder: int
    after_pools: Figure
    after_mix: Figure | None
    at_end: Figure | None
    needed: Figure
    free: int | None
    memory: int | None
    cpu_h: Figure | None
    wall_s: Figure | None
    cost: Figure | None

    @property
    def measured(self) -> bool:
        """Whether there is a pilot of every source."""
        return self.asked.keys() == self.sources.keys()

    def to_json(self) -> dict[str, Any]:
        """Its attributes as JSON; figures as value, low and high."""
        return {name: _plain(value) for name, value in vars(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Figure):
        return value.to_json()
    if isinstance(value, SourceFigures):
        return {name: _plain(each) for name, each in vars(value).items()}
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def contract_of(resolved: Resolved, workers: int, price: float | None = None) -> Contract:
    """The contract of a plan, with the pilots that are kept.

    Args:
        resolved: with the plan.
        workers: processes that build it; 0 for this one.
        price: of a core for an hour.
    """
    pilots = all_kept(resolved)
    build = kept(MeasuredBuild, of_build(resolved))
    sources = {key: _source(resolved, plan, pilots.get(key), build) for key, plan in resolved.plan.sources.items()}
    each = list(sources.values())
    samples = total(source.samples for source in each)
    after_pools = total(source.pool_bytes for source in each)
    assert after_pools is not None
    mixed = total(source.mixed_bytes for source in each)
    after_mix = None if mixed is None or build is None else after_pools + mixed + Figure(build.base_bytes, 0.0)
    train = _train_samples(sources)
    at_end = None
    intervals = 1
    if after_mix is not None and train is not None:
        intervals = _intervals(resolved, train)
        order = train * (4 if train.value < 1 << 32 else 8) + Figure(_INTERVAL_BYTES * intervals, 0.0)
        at_end = after_mix + order
    splits = sum(source.splits for source in each)
    there = sum(source.pool_bytes.value * source.there / source.splits for source in each if source.splits)
    last = at_end or after_pools
    memory = _memory(each, workers, train)
    cpu_s, wall_s = _time(each, build, workers, train)
    return Contract(
        phase=resolved.recipe.phase,
        workers=workers,
        asked={key: pilot.asked for key, pilot in pilots.items()},
        sources=sources,
        target_tokens=sum(source.target_tokens for source in each),
        tokens=total(source.tokens for source in each) or Figure(0.0),
        documents=total(source.documents for source in each),
        samples=samples,
        read_bytes=sum(source.read_bytes for source in each),
        download_bytes=sum(source.download_bytes for source in each),
        missing_splits=sum(source.splits - source.there for source in each),
        files=sum(_files_of(source) for source in each) + intervals + _PHASE_FILES + len(each),
        largest_folder=max([splits and max(source.splits for source in each), intervals, _widest(each)]),
        after_pools=after_pools,
        after_mix=after_mix,
        at_end=at_end,
        needed=Figure(max(last.value - there, 0.0), last.half),
        free=room(str(resolved.phase.folder))[1],
        memory=memory,
        cpu_h=None if cpu_s is None else cpu_s * (1 / 3600),
        wall_s=wall_s,
        cost=None if wall_s is None or price is None else wall_s * (price * max(workers, 1) / 3600),
    )


def _source(
    resolved: Resolved, plan: SourcePlan, pilot: MeasuredSource | None, build: MeasuredBuild | None
) -> SourceFigures:
    found = rates(pilot, sum(split.bytes for split in plan.listed)) if pilot is not None else None
    plan = _in_the_end(resolved, plan, found)
    splits = plan.splits
    held = [_tokens(split, found) for split in splits]
    tokens = Figure(sum(held), found.spread * sum(held) if found else None)
    document = found.tokens / found.documents if found and found.documents else 1.0
    target, parts = _mixed(resolved, plan, held, document)
    there = sum((resolved.job(plan, split).folder / MARKER).exists() for split in splits)
    width = np.dtype(resolved.layout.token_dtype).itemsize
    shards = sum(max(math.ceil(each * width / resolved.layout.size_limit), 1) for each in held)
    download = 0 if is_local(plan.source.root) else plan.bytes
    pool, mixed = Figure(resolved.plan.output_bytes(int(tokens.value))), None
    documents = samples = cpu_s = seconds = None
    longest = 0.0
    if found is not None:
        of_bytes = Figure(plan.bytes, found.spread * plan.bytes)
        documents, samples = of_bytes * found.documents, of_bytes * found.samples
        pool = tokens * found.bytes + Figure(found.split_bytes * len(splits), 0.0)
        mixed = Figure(parts.tokens, found.spread * parts.tokens) * found.bytes
        mixed += Figure(found.split_bytes * parts.rewritten, 0.0)
        left = Figure(plan.bytes, found.time_spread * plan.bytes) * (1 - there / max(len(splits), 1))
        fixed = Figure((build.split_s if build else 0.0) * (len(splits) - there), 0.0)
        cpu_s, seconds = left * found.cpu_s + fixed, left * found.seconds + fixed
        longest = max(split.bytes for split in splits) * found.seconds if there < len(splits) else 0.0
    room = max(tokens.value - parts.validation, 1.0)
    passes = Figure(target / room, found.spread * target / room if found else None)
    return SourceFigures(
        key=plan.source.key,
        category=plan.source.category,
        target_tokens=target,
        tokens=tokens,
        documents=documents,
        samples=samples,
        passes=passes,
        files=plan.files,
        splits=len(splits),
        listed_splits=len(plan.listed),
        there=there,
        shards=shards,
        read_bytes=plan.bytes,
        download_bytes=download,
        pool_bytes=pool,
        mixed_bytes=mixed,
        folders=parts.folders,
        rewritten=parts.rewritten,
        filtered=found.filtered if found else None,
        rejected=found.rejected if found else None,
        cpu_s=cpu_s,
        seconds=seconds,
        longest_s=longest,
        memory=found.memory if found else None,
    )


def _tokens(split: SplitPlan, found: Rates | None) -> float:
    return split.bytes * found.tokens if found else float(split.expected_tokens)


def _in_the_end(resolved: Resolved, plan: SourcePlan, found: Rates | None) -> SourcePlan:
    """The source with as many splits as a build will have taken, which takes more where the first hold too little."""
    if found is None or resolved.recipe.sources[plan.source.key].passes is not None:
        return plan
    needed = plan.needed_tokens(resolved.recipe.validation)
    while plan.chosen < len(plan.listed):
        held = sum(_tokens(split, found) for split in plan.splits)
        if held >= needed:
            break
        plan = replace(plan, chosen=plan.more(held, needed))
    return plan


@dataclass(frozen=True)
class _Parts:
    """What the mix makes of a source: folders, of them those that it writes, the tokens in these, and validation's."""

    folders: int
    rewritten: int
    tokens: float
    validation: float


def _mixed(resolved: Resolved, plan: SourcePlan, held: list[float], document: float) -> tuple[int, _Parts]:
    """The target, and what `mix.mix_source` would do if the splits held these tokens, and a document so many."""
    recipe, key = resolved.recipe, plan.source.key
    choice = recipe.sources[key]
    by_name = sorted(zip((split.name for split in plan.splits), held, strict=True))
    tokens = np.array([size for _, size in by_name])
    order = mix.cut_order([name for name, _ in by_name], recipe.seed, key)
    whole = tokens.sum()
    if whole <= 0:
        return plan.target_tokens, _Parts(0, 0, 0.0, 0.0)
    wanted = max(min(whole, plan.target_tokens) * recipe.validation, document) if recipe.validation else 0.0
    held_out = set(mix.splits_to_touch(order, tokens, int(max(wanted, 1)))) if recipe.validation else set()
    left = tokens.copy()
    for number in held_out:
        left[number] -= wanted / len(held_out)
    room = max(left.sum(), 1.0)
    target = plan.target_tokens if choice.passes is None else choice.target(int(room))
    copies, rest = divmod(float(target), room)
    folders = len(held_out) + int(copies) * len(left)
    rewritten = len(held_out) * (1 + int(copies))
    size = wanted + copies * sum(left[number] for number in held_out)
    if rest >= 1:
        cut = set(mix.splits_to_touch(order, left.astype(np.int64), int(room - rest)))
        linked = sum(left[number] for number in range(len(left)) if number not in cut)
        folders += len(left)
        rewritten += len(cut | held_out)
        size += max(rest - linked, 0.0) + sum(left[number] for number in held_out - cut)
    return target, _Parts(folders, rewritten, size, wanted)


def _train_samples(sources: Mapping[str, SourceFigures]) -> Figure | None:
    """Samples of train: of each source as many as its target has of its pool."""
    return total(
        None if source.samples is None else source.samples * (source.target_tokens / max(source.tokens.value, 1.0))
        for source in sources.values()
    )


def _intervals(resolved: Resolved, samples: Figure) -> int:
    """Files of the order."""
    choice = resolved.recipe.order
    steps = max(samples.value / choice.batch, 1.0)
    tokens = sum(source.target_tokens for source in resolved.plan.sources.values())
    each = choice.interval_steps or max(choice.interval_tokens / max(tokens, 1) * steps, 1.0)
    return math.ceil(steps / each)


def _files_of(source: SourceFigures) -> int:
    """Files below the folders of a source: pool, train, validation (links as well), and a log a split."""
    shards = source.shards / max(source.splits, 1)
    return round((source.splits + source.folders) * (_SPLIT_FILES + shards)) + source.splits


def _widest(sources: list[SourceFigures]) -> int:
    """Files of the fullest split."""
    return max((math.ceil(source.shards / max(source.splits, 1)) + _SPLIT_FILES for source in sources), default=0)


def _memory(sources: list[SourceFigures], workers: int, train: Figure | None) -> int | None:
    if train is None or any(source.memory is None for source in sources):
        return None
    one = max((source.memory or 0 for source in sources), default=0)
    order = int(train.value) * (4 if train.value < 1 << 32 else 8)
    return max(one * (workers + 1), one + order)


def _time(
    each: list[SourceFigures], build: MeasuredBuild | None, workers: int, train: Figure | None
) -> tuple[Figure | None, Figure | None]:
    """Seconds of one core, and by the clock."""
    cpu, pools = total(source.cpu_s for source in each), total(source.seconds for source in each)
    mixed = total(source.mixed_bytes for source in each)
    if build is None or cpu is None or pools is None or mixed is None or train is None:
        return None, None
    share = 1 / max(workers, 1)
    folders = build.folder_s * sum(source.folders for source in each) + mixed.value * REWRITE_S
    held = sum(source.splits for source in each)
    alone = train.value * ORDER_S + build.base_s + build.mix_s * held
    longest = max((source.longest_s for source in each), default=0.0)
    wall = max(pools.value * share, longest) + folders * share + alone
    splits = build.split_s * sum(source.splits - source.there for source in each)
    varied = (pools.half or 0.0) * max(share, longest / max(pools.value, 1e-9))
    return (
        Figure(cpu.value + folders + alone, math.hypot(cpu.half or 0.0, ONCE * (splits + folders + alone))),
        Figure(wall, math.hypot(varied, ONCE * ((splits + folders) * share + alone))),
    )


def workers_of(options: ExecutorOptions | None) -> int:
    """The processes of a build, as far as that is known before they start; 0 where this process does it."""
    return 0 if options is None else options.workers or usable_cores()
