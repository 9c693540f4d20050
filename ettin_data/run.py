"""A build: from a recipe to `<run>/<phase>/` with pools, train, validation and order (design 5.5).

`resolve` turns a recipe into a plan and split jobs; `build` carries it out. Every step looks first at what is there, so
the same command continues after any interruption, and a change of the recipe rebuilds what depends on it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ettin_data import __version__, digests, faults, mixing, pool, sealed, sources
from ettin_data import marker as markers
from ettin_data.digests import Digests
from ettin_data.errors import BuildError, OrderError, RecipeError
from ettin_data.executor import Event, Executor, ExecutorOptions, Task
from ettin_data.lock import locked
from ettin_data.marker import Marker
from ettin_data.mixing import MixJob
from ettin_data.order.law import OrderLaw, interval_steps
from ettin_data.plan import Plan, SourcePlan, SplitPlan, make_plan
from ettin_data.pool import SplitJob
from ettin_data.recipe import Recipe, SourceChoice
from ettin_data.report import card
from ettin_data.shards import INDEX, Layout, merged_index, write_index
from ettin_data.sources import manifest as frozen_listing
from ettin_data.sources.base import ReadOptions, Source, SourceFile, TransportOptions
from ettin_data.sources.redact import redact, redact_all
from ettin_data.stages.filter import build_filters
from ettin_data.stages.mix import SampleTable, SourceMix, mix_source
from ettin_data.stages.pack import PackOptions
from ettin_data.tokenizer import Tokenizer
from ettin_data.tokenizer import resolve as resolve_tokenizer
from ettin_data.units import count

PLAN, RUN, CARD, MANIFESTS = "plan.json", "run.json", "README.md", "manifests"
TIME_LIMIT = 6 * 3600.0
"""Seconds that one split may take before its worker is taken for hung; the largest upstream file needs minutes."""


@dataclass(frozen=True)
class BuildOptions:
    """Where and how to build; none of it changes the result.

    Attributes:
        out: the run folder; the phase's folder is made in it.
        sources_root: a mirror of the upstreams (folder or fsspec URL), or None for the upstreams themselves.
        executor: kind and number of workers.
        cache, cache_bytes: a folder that keeps what was fetched over the network, up to a size; None keeps nothing.
        relist: accept sources that changed since the run was planned, and freeze their listings anew.
        on_stage: told (stage, tasks, bytes) when a stage starts.
        on_progress: told (tasks, bytes, tokens) as they are done.
        on_message: told what a person should know.
    """

    out: Path
    sources_root: str | None = None
    executor: ExecutorOptions = field(default_factory=lambda: ExecutorOptions(time_limit_s=TIME_LIMIT))
    cache: str | None = None
    cache_bytes: int = 100 << 30
    relist: bool = False
    on_stage: Callable[[str, int, int], None] = lambda stage, tasks, size: None
    on_progress: Callable[[int, int, int], None] = lambda tasks, size, tokens: None
    on_message: Callable[[str], None] = lambda message: None


@dataclass(frozen=True)
class Resolved:
    """A recipe with everything that it names found: plan, tokenizer, sources."""

    recipe: Recipe
    plan: Plan
    tokenizer: Tokenizer
    folder: Path
    transport: TransportOptions

    def job(self, source: SourcePlan, split: SplitPlan) -> SplitJob:
        """The job that builds a split."""
        recipe, key = self.recipe, source.source.key
        choice = recipe.sources[key]
        base = ReadOptions(
            on_bad=recipe.bad_input.on_bad, strip_starcoder_markers=choice.strip_markers, transport=self.transport
        )
        folder_name = f"{split.name}-{recipe.layout_name()}"
        return SplitJob(
            name=split.name,
            folder=self.folder / "pools" / key / folder_name,
            rejects=self.folder / "rejects" / key / f"{split.name}.jsonl",
            source=source.source,
            files=split.files,
            read=base,
            filters=tuple(recipe.filters if choice.filters is None else choice.filters),
            pack=PackOptions(
                strategy=recipe.pack.strategy,
                length=recipe.length,
                min_length=recipe.pack.min_length,
                always_skip=recipe.pack.always_skip,
                window=recipe.pack.window,
                cls_id=self.tokenizer.cls_id,
                sep_id=self.tokenizer.sep_id,
                seed=recipe.seed,
            ),
            layout=self.layout,
            tokenizer=self.tokenizer,
            decoder=_decoder_digest(source.source),
            seed=recipe.seed,
        )

    @property
    def layout(self) -> Layout:
        shards = self.recipe.shards
        return Layout(
            shards.token_dtype, self.recipe.pack.strategy != "backfill", shards.compression, shards.size_limit
        )


def resolve(recipe: Recipe, options: BuildOptions) -> Resolved:
    """Find sources and tokenizer, list the files, make the plan. Reads no data.

    The listing of each source is frozen in `manifests/` the first time; later it has to be the same.

    Raises:
        RecipeError, SourceError, TokenizerError, BuildError: something that the recipe names is not there or not right,
            or a source changed since its listing was frozen.
    """
    for key, choice in recipe.sources.items():
        build_filters(choice.filters or [], where=f"sources.{key}.filters")
    build_filters(recipe.filters, where="filters")
    chosen = {key: _source(key, choice, options.sources_root) for key, choice in recipe.sources.items()}
    folder = options.out / recipe.phase
    transport = TransportOptions(cache=options.cache, cache_bytes=options.cache_bytes)
    listings = {key: _listing(source, folder, transport, options.relist) for key, source in chosen.items()}
    file = resolve_tokenizer(recipe.tokenizer.name, sha256=recipe.tokenizer.sha256)
    tokenizer = Tokenizer(file, recipe.tokenizer.backend, check_rate=recipe.tokenizer.check_rate)
    if recipe.shards.token_dtype == "uint16" and tokenizer.vocab_size > 1 << 16:
        raise BuildError(
            f"a vocabulary of {tokenizer.vocab_size:,} does not fit uint16",
            where="shards.token_dtype",
            remedy="set shards.token_dtype to uint32",
        )
    return Resolved(recipe, make_plan(recipe, chosen, listings), tokenizer, folder, transport)


def _listing(source: Source, folder: Path, transport: TransportOptions, relist: bool) -> list[SourceFile]:
    files = sources.list_files(source, transport=transport)
    path = folder / MANIFESTS / f"{source.key}.json"
    if path.exists() and not relist:
        frozen = frozen_listing.load(path)
        if frozen.root == redact(source.root) and frozen.globs == source.globs:
            frozen_listing.require_same(frozen, source, files)
            return list(frozen.files)
    frozen_listing.save(frozen_listing.freeze(source, files), path)
    return files


def _source(key: str, choice: SourceChoice, sources_root: str | None) -> Source:
    if key in sources.REGISTRY:
        source = sources.get(key)
        if choice.root is not None:
            source = replace(source, root=choice.root.rstrip("/") + "/", storage={})
        elif sources_root is not None:
            source = sources.with_root(source, sources_root)
        return replace(
            source,
            tokenizer=choice.tokenizer or source.tokenizer,
            text_key=choice.text_key or source.text_key,
            id_key=choice.id_key or source.id_key,
            globs=source.globs if choice.globs is None else tuple(choice.globs),
        )
    if choice.root is None:
        raise RecipeError(
            f"there is no source {key!r}",
            where=f"sources.{key}",
            why="it is not in the registry, and the recipe gives no root for it",
            remedy=f"use one of {', '.join(sources.REGISTRY)}, or --add-source {key}=path_or_url:tokens",
        )
    source = sources.own_source(
        key,
        choice.root,
        text_key=choice.text_key or "text",
        id_key=choice.id_key or "id",
        tokenizer=choice.tokenizer,
        format=choice.format,
    )
    return replace(source, globs=tuple(choice.globs)) if choice.globs is not None else source


def states(resolved: Resolved) -> dict[str, str]:
    """For each source what a build would do about its splits, and why, in a few words."""
    result = {}
    for key, source in resolved.plan.sources.items():
        reasons = Counter(resolved.job(source, split).problem() or "" for split in source.splits)
        there = reasons.pop("", 0)
        if not there and set(reasons) == {markers.NOT_FINISHED}:
            result[key] = ""  # nothing of it was ever built, which needs no words
            continue
        words = [f"{number} to build: {reason}" for reason, number in reasons.most_common(2)]
        result[key] = "; ".join([*([f"{there} there"] if there else []), *words])
    return result


def write_plan(resolved: Resolved) -> None:
    """Write `plan.json` into the phase's folder."""
    resolved.folder.mkdir(parents=True, exist_ok=True)
    sealed.write(resolved.folder / PLAN, resolved.plan.to_json())


def _decoder_digest(source: Source) -> str | None:
    if source.tokenizer is None or not os.path.isfile(source.tokenizer):
        return source.tokenizer
    return markers.file_digest(Path(source.tokenizer))["xxh3_64"]


def build(recipe: Recipe, options: BuildOptions) -> dict[str, Any]:
    """Build a phase, or what is missing of it; returns what `run.json` says.

    Raises:
        EttinError: with the place and the remedy; what was finished stays, and the same command continues.
    """
    started = time.time()
    folder = options.out / recipe.phase
    with faults.explained(folder), locked(folder):
        resolved = resolve(recipe, options)
        (folder / RUN).unlink(missing_ok=True)  # written last: where it is, the phase is finished
        for name in ("pools", "train", "validation", "rejects"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with Executor(options.executor) as executor:
            plan, pools = _build_pools(resolved, executor, options)
            sealed.write(folder / PLAN, plan.to_json())
            mixes = {key: _mix(recipe, plan.sources[key], pools[key]) for key in plan.sources}
            train, validation = _carry_out(resolved, mixes, pools, executor, options)
        order = _order(resolved, train, options)
        pool.clean(folder)  # what workers that were killed on the way have left
        names = {f"{key}/{split.folder.name}": split.marker for key, splits in pools.items() for split in splits}
        parts = {"pools": names, "train": train, "validation": validation}
        contents = digests.describe(folder, recipe.phase, parts, str(order["digest"]))
        summary = _summary(resolved, plan, pools, mixes, train, validation, order, contents, options)
        summary |= {"digests": digests.write(folder, contents), "seconds": round(time.time() - started, 1)}
        sealed.write(folder / RUN, summary)
        (folder / CARD).write_text(card(summary), encoding="utf-8")
    return {**summary, "folder": str(folder)}


# ---------------------------------------------------------------------------------------------------------------------
# pools


@dataclass(frozen=True)
class PoolSplit:
    """A finished split of a pool."""

    folder: Path
    marker: Marker


Pools = dict[str, list[PoolSplit]]


def _build_pools(resolved: Resolved, executor: Executor, options: BuildOptions) -> tuple[Plan, Pools]:
    """Build the planned splits, and more of a source whose splits hold fewer tokens than expected."""
    plan = resolved.plan
    sealed.write(resolved.folder / PLAN, plan.to_json())
    pool.clean(resolved.folder)
    pools: Pools = {}
    missing = list(plan.sources)
    while missing:
        jobs = {
            f"pools/{key}/{split.name}": resolved.job(plan.sources[key], split)
            for key in missing
            for split in plan.sources[key].splits
        }
        built = _build_splits(jobs, executor, options)
        for key in missing:
            pools[key] = [PoolSplit(job.folder, built[name]) for name, job in jobs.items() if job.source.key == key]
            pools[key].sort(key=lambda split: split.marker.name)
            _check_rejects(resolved.recipe, key, pools[key])
        plan, missing = _extend(plan, pools, options)
    return plan, pools


def _build_splits(jobs: Mapping[str, SplitJob], executor: Executor, options: BuildOptions) -> dict[str, Marker]:
    """Build the splits that are not there; all by the referee, if the fast tokenizer is caught wrong in one."""
    done = {name: marker for name, job in jobs.items() if (marker := _finished(job))}
    to_build = {name: job for name, job in jobs.items() if name not in done}
    built = {**done, **_run(executor, "tokenize", pool.build_split, to_build, options)}
    mismatches = {name: str(marker.tally["fallback"]) for name, marker in built.items() if marker.tally["fallback"]}
    suspect = [name for name, marker in built.items() if marker.tally["backend"] != pool.REFEREE]
    if not mismatches or not suspect:
        return built
    name, mismatch = next(iter(mismatches.items()))
    options.on_message(
        f"{name}: {mismatch}\nthe fast tokenizer is not used further; {len(suspect)} splits are made again"
    )
    again = {name: replace(jobs[name], distrust_fast=True) for name in suspect}
    return {**built, **_run(executor, "tokenize", pool.build_split, again, options)}


def _finished(job: SplitJob) -> Marker | None:
    return markers.read(job.folder) if job.problem() is None else None


def _extend(plan: Plan, pools: Pools, options: BuildOptions) -> tuple[Plan, list[str]]:
    """Take more splits of the sources that fell short, in proportion to what was missing."""
    extended, short = dict(plan.sources), []
    for key, source in plan.sources.items():
        held = sum(split.marker.tokens for split in pools[key])
        needed = source.target_tokens * (1 + 2 * plan.recipe.validation)
        one_document = sum(_documents(split.marker) for split in pools[key]) < 2
        if (held < needed or one_document) and source.chosen < len(source.listed):
            chosen = int(source.chosen * needed / max(held, 1) * 1.1) + 1
            extended[key] = replace(source, chosen=min(max(chosen, source.chosen + 1), len(source.listed)))
            options.on_message(
                f"{key}: {source.chosen} splits hold {count(held)} of {count(needed)} tokens; "
                f"taking {extended[key].chosen} of {len(source.listed)}"
            )
            short.append(key)
    return replace(plan, sources=extended), short


def _check_rejects(recipe: Recipe, key: str, splits: Sequence[PoolSplit]) -> None:
    """Raise `BuildError` if too much of a source could not be used; a file that breaks off counts as one record."""
    reasons: Counter[str] = Counter()
    damaged: Counter[str] = Counter()
    records = 0
    for split in splits:
        records += split.marker.tally["records"]
        reasons.update(split.marker.tally["rejected"])
        damaged.update(split.marker.tally["damaged"])
    rejected = sum(reasons.values()) + sum(damaged.values())
    seen = records + sum(damaged.values())
    if rejected > recipe.bad_input.max_rejects * max(seen, 1) and records:
        top = ", ".join(f"{reason} {number:,}" for reason, number in (reasons + damaged).most_common(5))
        raise BuildError(
            f"{rejected:,} of {seen:,} records of source {key!r} cannot be used",
            where=f"rejects/{key}/",
            why=f"more than bad_input.max_rejects = {recipe.bad_input.max_rejects:.2%}: {top}",
            remedy="look at the rejects; correct the source, or raise bad_input.max_rejects",
        )
    if records == 0:
        why = ", ".join(f"{reason} {number:,}" for reason, number in damaged.most_common(5)) or "its files are empty"
        raise BuildError(f"source {key!r} gave no records", where=f"rejects/{key}/", why=why)


# ---------------------------------------------------------------------------------------------------------------------
# mix


def _mix(recipe: Recipe, source: SourcePlan, splits: Sequence[PoolSplit]) -> SourceMix:
    def load(number: int) -> SampleTable:
        return mixing.sample_table(splits[number].folder)

    return mix_source(
        source.source.key,
        source.target_tokens,
        [split.marker.name for split in splits],
        [split.marker.tokens for split in splits],
        load,
        seed=recipe.seed,
        validation=recipe.validation,
        max_epochs=recipe.max_epochs,
    )


def copy_name(source: str, copy: int) -> str:
    """The folder of a further pass, as published: `books`, `books-dup`, `books-dup_2`."""
    return source if copy == 0 else f"{source}-dup" if copy == 1 else f"{source}-dup_{copy}"


Part = dict[str, Marker]
"""A finished `train/` or `validation/`: `<source>/<split folder>` -> marker, in the order of the index."""


def _carry_out(
    resolved: Resolved, mixes: Mapping[str, SourceMix], pools: Pools, executor: Executor, options: BuildOptions
) -> tuple[Part, Part]:
    train: dict[str, MixJob] = {}
    validation: dict[str, MixJob] = {}
    for key, mix in mixes.items():
        splits = pools[key]
        for piece in mix.pieces:
            split = splits[piece.split]
            name = f"{copy_name(key, piece.copy)}/{split.folder.name}"
            held_out = mix.held_out if piece.excluded else None
            folder = resolved.folder / "train" / name
            train[name] = MixJob(split.folder, piece.split, folder, piece.cut, held_out, resolved.layout)
        for number in mix.validation_splits:
            split = splits[number]
            name = f"{key}/{split.folder.name}"
            folder = resolved.folder / "validation" / name
            validation[name] = MixJob(split.folder, number, folder, mix.validation, None, resolved.layout)
    parts = []
    for part, jobs in (("train", train), ("validation", validation)):
        root = resolved.folder / part
        done = {name: marker for name, job in jobs.items() if (marker := _already_mixed(job))}
        stale = mixing.remove_others(root, set(jobs))
        if stale or len(done) < len(jobs):
            (root / INDEX).unlink(missing_ok=True)  # what is listed must be there, at every instant
        missing = {f"{part}/{name}": job for name, job in jobs.items() if name not in done}
        made = _run(executor, part, mixing.make, missing, options)
        markers_by_name = {**done, **{name.partition("/")[2]: marker for name, marker in made.items()}}
        kept = {name: markers_by_name[name] for name in sorted(jobs) if markers_by_name[name].samples}
        write_index(root, merged_index([(name, root / name) for name in kept]))
        parts.append(kept)
    return parts[0], parts[1]


def _already_mixed(job: MixJob) -> Marker | None:
    return markers.read(job.folder) if job.problem(markers.read(job.pool)) is None else None


# ---------------------------------------------------------------------------------------------------------------------
# order and summary


def _order(resolved: Resolved, train: Part, options: BuildOptions) -> dict[str, Any]:
    from ettin_data.stages.order import OrderIndex, index_digest, write_order

    choice = resolved.recipe.order
    samples = sum(marker.samples for marker in train.values())
    tokens = sum(marker.tokens for marker in train.values())
    batch = min(choice.batch, samples)
    if batch < choice.batch:
        options.on_message(
            f"order: {samples:,} samples do not fill one batch of {choice.batch:,}; the index has one step of all. "
            "Set order.batch for a small build"
        )
    law = OrderLaw(seed=choice.seed, epoch=choice.epoch, samples=samples, batch=batch)
    steps = choice.interval_steps or interval_steps(choice.interval_tokens, tokens, law)
    digest = index_digest(resolved.folder / "train")
    folder = resolved.folder / "order"
    try:
        info = OrderIndex.open(folder).info
        current = (info.law, info.data_digest, info.interval_steps) == (law, digest, steps)
        current = current and all((folder / i.file).stat().st_size == i.bytes for i in info.intervals)
    except (OrderError, FileNotFoundError):
        current = False
    if not current:
        options.on_stage("order", 1, samples)
        info = write_order(folder, law, interval_steps=steps, phase=resolved.recipe.phase, data_digest=digest)
        options.on_progress(1, samples, 0)
    return {"law": law.name, "seed": law.seed, "epoch": law.epoch, "samples": samples, "batch": law.batch,
            "steps": law.steps, "digest": info.digest}  # fmt: skip


def _summary(
    resolved: Resolved,
    plan: Plan,
    pools: Pools,
    mixes: Mapping[str, SourceMix],
    train: Part,
    validation: Part,
    order: Mapping[str, Any],
    contents: Digests,
    options: BuildOptions,
) -> dict[str, Any]:
    rows = {}
    roots = contents.source_roots("train")
    for key, source in plan.sources.items():
        mix, splits = mixes[key], pools[key]
        mine = [marker for marker in train.values() if marker.source == key]
        held = [marker for marker in validation.values() if marker.source == key]
        tallies = [split.marker.tally for split in splits]
        first_pass = [marker for name, marker in train.items() if name.split("/")[0] == key]
        copies = sorted({name.split("/")[0] for name, marker in train.items() if marker.source == key})
        rows[key] = {
            "category": source.source.category,
            "target_tokens": source.target_tokens,
            "tokens": mix.train_tokens,
            "documents": sum(_documents(marker) for marker in (first_pass or mine)),
            "samples": sum(marker.samples for marker in mine),
            "passes": round(mix.passes, 4),
            "files": source.files,
            "splits": len(splits),
            "validation_tokens": mix.validation_tokens,
            "validation_documents": sum(_documents(marker) for marker in held),
            "pool_tokens": mix.pool_tokens,
            "pool_samples": sum(split.marker.samples for split in splits),
            "records": sum(tally["records"] for tally in tallies),
            "rejected": _add(tally["rejected"] for tally in tallies),
            "filtered": _add(tally["filtered"] for tally in tallies),
            "damaged_files": _add(tally["damaged"] for tally in tallies),
            "noted": _add(tally["noted"] for tally in tallies),
            "tokens_in": sum(tally["tokens_in"] for tally in tallies),
            "skipped_tokens": _add(tally["skipped"] for tally in tallies),
            "checked_documents": sum(tally["checked_documents"] for tally in tallies),
            "backends": dict(Counter(tally["backend"] for tally in tallies)),
            "fallbacks": [tally["fallback"] for tally in tallies if tally["fallback"]],
            "roots": {copy: roots[copy] for copy in copies},
        }
    totals = {
        name: sum(row[name] for row in rows.values())
        for name in ("target_tokens", "tokens", "documents", "samples", "files", "splits", "validation_tokens")
    }
    return {
        "phase": resolved.recipe.phase,
        "root": contents.root,
        "roots": contents.roots(),
        "order": dict(order),
        "totals": totals,
        "sources": rows,
        "tokenizer": resolved.tokenizer.describe(),
        "recipe": redact_all(resolved.recipe.model_dump(mode="json")),
        "layout": {"columns": resolved.layout.columns, "length": resolved.recipe.length},
        "executor": {"kind": options.executor.kind, "workers": options.executor.workers},
        "versions": _versions(),
    }


def _documents(marker: Marker) -> int:
    return int(marker.tally["documents"])


def _add(counters: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return dict(sorted(total.items()))


def _versions() -> dict[str, str]:
    packages = ("datatrove", "fastokens", "mosaicml-streaming", "numpy", "pyarrow", "ray", "tokenizers")
    return {
        "ettin-data": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


# ---------------------------------------------------------------------------------------------------------------------


def _run(
    executor: Executor,
    stage: str,
    function: Callable[[Any], Marker],
    jobs: Mapping[str, Any],
    options: BuildOptions,
) -> dict[str, Marker]:
    """Do the jobs in parallel; returns the marker of each."""
    if not jobs:
        return {}
    tasks = [Task(name, job, max(_weight(job), 1)) for name, job in jobs.items()]
    options.on_stage(stage, len(tasks), sum(task.weight for task in tasks))

    def on_result(task: Task, marker: Marker) -> None:
        options.on_progress(1, task.weight, marker.tokens)

    def on_event(event: Event) -> None:
        if event.kind in ("retried", "worker_died", "timed_out", "waiting"):
            options.on_message(f"{event.kind.replace('_', ' ')} {event.task}: {event.message}")

    return executor.run(function, tasks, on_result=on_result, on_event=on_event)


def _weight(job: SplitJob | MixJob) -> int:
    return job.bytes if isinstance(job, SplitJob) else 1
