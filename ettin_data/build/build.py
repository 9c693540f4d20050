"""A build: from a recipe to `<run>/<phase>/` with pools, train, validation and order (ARCHITECTURE 5.5).

`prepare` has made a plan and split jobs of the recipe; `build` carries it out. Every step looks first at what is there,
so the same command continues after any interruption, and a change of the recipe rebuilds what depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache

from ettin_data.base import disk_errors
from ettin_data.base.errors import OrderError
from ettin_data.base.modules import code_digest
from ettin_data.base.progress import stage
from ettin_data.build import assemble, attributes, decontamination, pool, starved, tidy
from ettin_data.build.assemble import MixJob, Part
from ettin_data.build.attributes import LeftOut
from ettin_data.build.beating import beating
from ettin_data.build.card import write_card
from ettin_data.build.clock import Clock
from ettin_data.build.copies import duplicates
from ettin_data.build.copies.twins import find_twins_of_validation
from ettin_data.build.copies.weights import Layers, find_layers
from ettin_data.build.first_minute import disk_note, refuse_impossible
from ettin_data.build.forecast.contract import contract_of, workers_of
from ettin_data.build.forecast.outcome import said as said_of_plan
from ettin_data.build.growth import Growth, mix_after
from ettin_data.build.mix import Load, SampleTable, SourceMix, mix_source
from ettin_data.build.plan import SourcePlan
from ettin_data.build.pool import Pools, PoolSplit
from ettin_data.build.pools import build_pools, run_jobs
from ettin_data.build.prepare import BuildOptions, Resolved, find_tokenizer, freeze, resolve
from ettin_data.build.shares import alone
from ettin_data.build.summary import summary
from ettin_data.executor import Executor, open_workers
from ettin_data.order.appended import AppendedLaw
from ettin_data.order.index import OrderIndex, OrderInfo, index_digest, write_order
from ettin_data.order.law import OrderLaw, interval_steps
from ettin_data.recipe import Recipe
from ettin_data.storage import digests, records
from ettin_data.storage import split as markers
from ettin_data.storage.mds import merged_index, write_index
from ettin_data.storage.phase import INDEX, ORDER, PARTS, POOLS, REJECTS, TRAIN, VALIDATION, Phase, copy_name
from ettin_data.storage.records import OrderRecord, RunRecord
from ettin_data.storage.split import Marker


def build_phase(recipe: Recipe, options: BuildOptions) -> RunRecord:
    """Build a phase, or what is missing of it; returns what `run.json` says.

    Raises:
        EttinError: with the place and the remedy; what was finished stays, and the same command continues.
    """
    clock = Clock()
    phase = Phase(options.out / recipe.phase, recipe.phase)
    find_tokenizer(recipe)  # a tokenizer that is refused leaves no trace, not even the folder of the lock
    with disk_errors.explained(phase.folder, last=True), alone(phase), ExitStack() as opened:
        workers = opened.enter_context(open_workers(options.executor, options.out))  # a cluster before any network
        clock.workers = workers
        clock.ended("start")
        tidy.refuse_foreign(phase)
        resolved = resolve(recipe, options)
        refuse_impossible(resolved.plan)
        if not phase.begun and (note := disk_note(resolved.plan, str(options.out))):  # later some of it is there
            options.progress.say(note)
        phase.run_json.unlink(missing_ok=True)  # written last: where it is, the phase is finished
        freeze(resolved)
        promised = contract_of(resolved, workers_of(workers.options if workers else None))
        planned = promised.measured or (phase.plan_json.exists() and not phase.begun)
        for name in (*PARTS, REJECTS):
            (phase.folder / name).mkdir(parents=True, exist_ok=True)
        with beating(phase, "", options.progress) as pulse:  # not before: what is refused leaves no trace
            clock.beat = pulse.beat
            if workers is not None:
                made = decontamination.made_ready(phase, resolved.decontaminate, recipe.keys is not None)
                resolved = replace(resolved, decontaminate=made)
            clock.ended("plan")
            run = _carried_through(resolved, workers, opened, replace(options, progress=pulse), clock)
        if planned:
            options.progress.say(said_of_plan(promised, run, phase))
        return run


def _carried_through(
    resolved: Resolved, workers: Executor | None, opened: ExitStack, options: BuildOptions, clock: Clock
) -> RunRecord:
    """Pools, mix, order and records of a phase that is ours, and whose listings are frozen."""
    recipe, phase = resolved.recipe, resolved.phase
    plan, pools, copies, repeated = build_pools(resolved, workers, options)
    clock.ended("tokenize")
    starved.refuse(recipe, resolved.filters, plan, pools)
    left_out, attribute_files = attributes.take_steps(phase, resolved.steps, pools)
    checked = decontamination.write_checked(phase, resolved.decontaminate)
    if not duplicates.before_packing(recipe):
        copies = duplicates.find(phase, recipe, pools, left_out, workers, options.progress)
        left_out = copies.beside(left_out)
    layers = find_layers(phase, recipe, pools, copies)
    clock.ended("copies")
    mixes = {key: _mix(recipe, plan.sources[key], pools[key], left_out, layers) for key in plan.sources}
    clock.ended("mix")
    twins, twin_files = find_twins_of_validation(phase, recipe, pools, left_out, mixes, workers, options.progress)
    out_of_train = {name: (*files, twins[name]) if name in twins else files for name, files in left_out.items()}
    clock.ended("copies")
    if twins:
        mixes = {
            key: _mix(recipe, plan.sources[key], pools[key], left_out, layers, out_of_train) for key in plan.sources
        }
    plan = plan.with_targets({key: mix.target for key, mix in mixes.items()})
    planned = records.write_record(phase, plan.record())
    clock.ended("mix")
    train, validation = _carry_out(resolved, mixes, pools, left_out, out_of_train, layers, workers, options, clock)
    decontamination.remove_made(phase)
    opened.close()  # nothing behind this needs workers, and the order needs their memory
    if said := _of_other_code(pools, train, validation):
        options.progress.say(said)
    order = _order(resolved, train, options)
    clock.ended("order")
    tidy.clean(phase, options.progress)  # what workers that were killed on the way have left
    names = {f"{key}/{split.folder.name}": split.marker for key, splits in pools.items() for split in splits}
    parts = {POOLS: names, TRAIN: train, VALIDATION: validation}
    beside = [*attribute_files, *repeated.files, *copies.files, *layers.files, *twin_files, *checked]
    contents = digests.describe(phase, parts, order.digest, beside)
    carried = digests.write_digests(phase, contents)
    how = workers.options if workers else None
    made = summary(
        resolved,
        plan,
        pools,
        out_of_train,
        mixes,
        train,
        validation,
        order,
        contents,
        how,
        carried,
        planned,
    )
    written = write_card(phase.card, made)
    tidy.sync_folders(phase)
    clock.ended("records")
    times = {"seconds": clock.seconds, "stages": clock.stages}
    made = made.model_copy(update={"card": written, **times})
    records.write_record(phase, made)
    return made


# ---------------------------------------------------------------------------------------------------------------------
# mix


def _mix(
    recipe: Recipe,
    source: SourcePlan,
    splits: Sequence[PoolSplit],
    left_out: LeftOut,
    layers: Layers,
    out_of_train: LeftOut | None = None,
) -> SourceMix:
    """Decide about one source; `out_of_train` is `left_out` with what stays out of train alone."""
    key = source.source.key

    def loading(gone: LeftOut) -> Load:
        @lru_cache(maxsize=1)  # a source of one split, which thousands of languages are, is read once
        def load(number: int) -> SampleTable:
            folder = splits[number].folder
            return assemble.sample_table(folder, splits[number].marker.inputs, gone[f"{key}/{folder.name}"])

        return load

    def load_layer(number: int, layer: int) -> SampleTable:
        folder, name = splits[number].folder, f"{key}/{splits[number].folder.name}"
        gone = (*(out_of_train or left_out)[name], *layers.of(name, layer))
        return assemble.sample_table(folder, splits[number].marker.inputs, gone)

    names, tokens = [split.marker.name for split in splits], [split.marker.tokens for split in splits]
    choice, attributed = recipe.sources[key], any(left_out[f"{key}/{split.folder.name}"] for split in splits)
    if choice.after:
        number = {name: at for at, name in enumerate(names)}
        first = [tuple(sorted(number[split.name] for split in source.listed[: each.splits])) for each in choice.after]
        builds = [*map(Growth, first, choice.after), Growth(tuple(range(len(names))), choice)]
        return mix_after(
            key,
            names,
            tokens,
            loading(left_out),
            builds,
            seed=recipe.seed,
            validation=recipe.validation,
            max_epochs=recipe.max_epochs,
            attributes=attributed,
            load_train=None if out_of_train is None else loading(out_of_train),
        )
    return mix_source(
        key,
        source.target_tokens,
        names,
        tokens,
        loading(left_out),
        seed=recipe.seed,
        validation=recipe.validation,
        max_epochs=recipe.max_epochs,
        attributes=attributed,
        passes_of=None if choice.passes is None else choice.target,
        load_train=None if out_of_train is None else loading(out_of_train),
        layers=len(layers),
        load_layer=load_layer,
    )


def _carry_out(
    resolved: Resolved,
    mixes: Mapping[str, SourceMix],
    pools: Pools,
    left_out: LeftOut,
    out_of_train: LeftOut,
    layers: Layers,
    workers: Executor | None,
    options: BuildOptions,
    clock: Clock,
) -> tuple[Part, Part]:
    train: dict[str, MixJob] = {}
    validation: dict[str, MixJob] = {}
    for key, mix in mixes.items():
        splits = pools[key]
        for piece in mix.pieces:
            split = splits[piece.split]
            pool_name, number = f"{key}/{split.folder.name}", piece.layer * len(splits) + piece.split
            name = f"{copy_name(key, piece.copy * len(layers) + piece.layer)}/{split.folder.name}"
            folder = resolved.phase.folder / TRAIN / name
            gone = (*out_of_train[pool_name], *layers.of(pool_name, piece.layer))
            train[name] = MixJob(
                split.folder, number, folder, piece.cut, piece.held_out, resolved.layout, gone, options.rebuild
            )
        for number in mix.validation_splits:
            split = splits[number]
            name = f"{key}/{split.folder.name}"
            folder = resolved.phase.folder / VALIDATION / name
            gone = left_out[name]
            validation[name] = MixJob(
                split.folder, number, folder, mix.validation, None, resolved.layout, gone, options.rebuild
            )
    parts = []
    for part, jobs in ((TRAIN, train), (VALIDATION, validation)):
        root = resolved.phase.folder / part
        done = {name: marker for name, job in jobs.items() if (marker := _already_mixed(job))}
        stale = tidy.remove_others(resolved.phase, part, set(jobs), options.progress)
        if stale or len(done) < len(jobs):
            (root / INDEX).unlink(missing_ok=True)  # what is listed must be there, at every instant
        missing = {f"{part}/{name}": job for name, job in jobs.items() if name not in done}
        made = run_jobs(workers, part, assemble.make, missing, options)
        markers_by_name = {**done, **{name.partition("/")[2]: marker for name, marker in made.items()}}
        kept = {name: markers_by_name[name] for name in sorted(jobs) if markers_by_name[name].samples}
        write_index(root, merged_index([(name, root / name) for name in kept]))
        parts.append(kept)
        clock.ended(part)
    return parts[0], parts[1]


def _already_mixed(job: MixJob) -> Marker | None:
    return markers.read_marker(job.folder) if job.problem(markers.read_marker(job.pool)) is None else None


def _of_other_code(pools: Pools, *parts: Part) -> str | None:
    """A sentence about splits that were there, made by other code of the same versions; None if there are none."""
    own = {
        split.marker.fingerprint: split.marker.code == code_digest(pool.__name__)
        for splits in pools.values()
        for split in splits
    }
    for marker in (marker for part in parts for marker in part.values()):
        own.setdefault(marker.fingerprint, marker.code == code_digest(assemble.__name__))  # a linked one is the pool's
    others = len(own) - sum(own.values())
    said = f"{others:,} of {len(own):,} splits were made by other code of the same versions; --rebuild makes them again"
    return said if others else None


# ---------------------------------------------------------------------------------------------------------------------
# order


def _order(resolved: Resolved, train: Part, options: BuildOptions) -> OrderRecord:
    choice = resolved.recipe.order
    samples = sum(marker.samples for marker in train.values())
    tokens = sum(marker.tokens for marker in train.values())
    batch = min(choice.batch, samples)
    if batch < choice.batch:
        options.progress.say(
            f"order: {samples:,} samples do not fill one batch of {choice.batch:,}; the index has one step of all. "
            "Set order.batch for a small build"
        )
    law = OrderLaw(seed=choice.seed, epoch=choice.epoch, samples=samples, batch=batch)
    steps = choice.interval_steps or interval_steps(choice.interval_tokens, tokens, law)
    digest = index_digest(resolved.phase.train)
    folder = resolved.phase.order
    if (longer := _goes_on(resolved.phase, law, digest)) is not None:
        law, steps = longer.law, longer.interval_steps
    try:
        index = OrderIndex.open(folder)
        info = index.info
        if isinstance(info.law, AppendedLaw) and longer is None and info.data_digest == digest:
            index.check_earlier()  # which then is damaged: that the order begins anew must be said
        current = (info.law, info.data_digest, info.interval_steps) == (law, digest, steps)
        if current:
            index.check()  # read as a whole: to write it again takes several times as long
    except OrderError as error:
        if folder.exists():
            options.progress.say(f"the order is written again: {error.what}")
        current = False
    if not current:
        with stage(options.progress, "order", 1, samples):
            info = write_order(folder, law, interval_steps=steps, phase=resolved.recipe.phase, data_digest=digest)
            options.progress.advance(samples)
    return info.record()


def _goes_on(phase: Phase, law: OrderLaw, data_digest: str) -> OrderInfo | None:
    """An order of this law that goes on from an earlier build's, which is as good; also one that a repair set aside."""
    for folder in (phase.order, phase.aside / ORDER):
        try:
            index = OrderIndex.open(folder)
            index.check_earlier()
        except OrderError:
            continue
        there = index.law
        if isinstance(there, AppendedLaw) and (there.plain, index.info.data_digest) == (law, data_digest):
            return index.info
    return None
