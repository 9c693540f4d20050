"""From a recipe to what a build will do: sources found, files listed, tokenizer checked, plan made. Reads no data."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ettin_data import sources
from ettin_data.base import files
from ettin_data.base.errors import BuildError, OrderError, RecipeError, ShardError, TokenizerError
from ettin_data.base.lock import Held
from ettin_data.base.progress import SILENT, Progress
from ettin_data.build import starved
from ettin_data.build.attributes import ChosenStep
from ettin_data.build.attributes import choose as choose_steps
from ettin_data.build.copies import paragraphs
from ettin_data.build.copies.duplicates import Copies, before_packing, check_choice, last_tables
from ettin_data.build.copies.weights import check_weights
from ettin_data.build.licences import licensed
from ettin_data.build.listings import list_sources
from ettin_data.build.plan import Plan, SourcePlan, SplitPlan, make_plan
from ettin_data.build.pool import SplitJob
from ettin_data.build.shares import alone
from ettin_data.executor import Executor, ExecutorOptions
from ettin_data.order.loader_edits import rule_named
from ettin_data.order.packed_order import require_packed
from ettin_data.recipe import Recipe, SourceChoice
from ettin_data.sources import manifest as frozen_listing
from ettin_data.sources.base import ReadOptions, Source, SourceFile, TransportOptions, is_local, local_path
from ettin_data.sources.formats import named
from ettin_data.stages.contamination.options import Decontamination
from ettin_data.stages.contamination.options import chosen as with_texts
from ettin_data.stages.filters.registry import ChosenFilter, choose_filter, choose_filters
from ettin_data.stages.pack.framing import Framing
from ettin_data.storage import records
from ettin_data.storage import split as markers
from ettin_data.storage.mds import Layout
from ettin_data.storage.phase import COPIES, PARAGRAPHS, Phase
from ettin_data.tokenizer.encoder import Tokenizer
from ettin_data.tokenizer.encoder import resolve as resolve_tokenizer
from ettin_data.tokenizer.vocabulary import Vocabulary

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?=/)")


@dataclass(frozen=True)
class BuildOptions:
    """Where and how to build; none of it changes what the code makes of a recipe.

    Attributes:
        out: the run folder; the phase's folder is made in it.
        sources_root: a mirror of the upstreams (folder or fsspec URL), or None for the upstreams themselves.
        executor: kind and number of workers, or workers that are open (`executor.open_workers`); None builds in this
            process.
        cache, cache_bytes: a folder that keeps what was fetched over the network, up to a size; None keeps nothing.
        relist: accept sources that changed since the run was planned, and freeze their listings anew.
        rebuild: make splits again that other code than this has made.
        progress: told of the stages `tokenize` (in bytes of input), `train`, `validation` (in splits) and `order`
            (in samples) where there is something to do, and what a person should know.
    """

    out: Path
    sources_root: str | None = None
    executor: Executor | ExecutorOptions | None = field(default_factory=ExecutorOptions)
    cache: str | None = None
    cache_bytes: int = 100 << 30
    relist: bool = False
    rebuild: bool = False
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        if scheme := _ADDRESS.match(str(self.out)):
            raise RecipeError(
                f"--out {scheme[0]}/… is an address, and a run is built in a folder",
                why="splits are renamed and linked into place, which no object store does",
                remedy=f"build on a disk, or in a mount of it; then send it: ettin-data publish RUN {scheme[0]}//…",
            )
        # workers may have another working folder
        object.__setattr__(self, "out", Path(os.path.abspath(self.out)))
        if self.cache is not None:
            object.__setattr__(self, "cache", os.path.abspath(os.path.expanduser(self.cache)))


@dataclass(frozen=True)
class Resolved:
    """A recipe with everything that it names found: plan, tokenizer, sources, filters, whole-source steps.

    Attributes:
        unfrozen: listings that a build has to freeze (`freeze`).
        decontaminate: the evaluation texts that are looked for, read.
        repeated: which paragraphs an earlier build of the phase has left out.
        copied: which documents it has left out before it packed, since they are copies.
    """

    recipe: Recipe
    plan: Plan
    tokenizer: Tokenizer
    filters: Mapping[str, tuple[ChosenFilter, ...]]
    steps: tuple[ChosenStep, ...]
    phase: Phase
    transport: TransportOptions
    rebuild: bool = False
    unfrozen: tuple[frozen_listing.Manifest, ...] = ()
    decontaminate: Decontamination | None = None
    repeated: Copies = field(default_factory=Copies)
    copied: Copies = field(default_factory=Copies)

    def job(self, source: SourcePlan, split: SplitPlan) -> SplitJob:
        """The job that builds a split."""
        recipe, key = self.recipe, source.source.key
        choice = recipe.sources[key]
        base = ReadOptions(
            on_bad=recipe.bad_input.on_bad,
            strip_starcoder_markers=choice.strip_markers,
            vocabulary=self.tokenizer.vocabulary,
            transport=self.transport,
        )
        folder_name = f"{split.name}-{recipe.layout_name()}"
        return SplitJob(
            name=split.name,
            folder=self.phase.pool(key, folder_name),
            rejects=self.phase.rejects(key, split.name),
            log=self.phase.log(key, split.name),
            source=source.source,
            files=split.files,
            read=base,
            filters=self.filters[key],
            pack=recipe.pack,
            frame=Framing(recipe.length, self.tokenizer.vocabulary.open, self.tokenizer.vocabulary.close),
            layout=self.layout,
            tokenizer=self.tokenizer,
            decoder=_decoder_digest(source.source),
            seed=recipe.seed,
            keys=recipe.keys,
            decontaminate=self.decontaminate,
            paragraphs=paragraphs.chosen(self.phase, recipe, key, folder_name, self.repeated),
            beside=self.phase.keyed(key, folder_name),
            keyed=self.phase.keyed(key, folder_name) if before_packing(recipe) else None,
            copies=self.copied.tables.get(f"{key}/{folder_name}"),
            skip_bad_files=recipe.bad_input.on_bad_file == "skip",
            own_code=self.rebuild,
        )

    @property
    def layout(self) -> Layout:
        shards = self.recipe.shards
        dtype, several = shards.token_dtype or self.tokenizer.vocabulary.dtype, self.recipe.pack.strategy.several
        return Layout(dtype, several, shards.compression, shards.size_limit)


def resolve(recipe: Recipe, options: BuildOptions) -> Resolved:
    """Find tokenizer and sources, list the files, make the plan. Reads no data and writes nothing.

    The recipe of the result says what the tokenizer and the loader's rule decide where this one leaves it open. A
    source whose listing is frozen in `manifests/` has to be the same still, but for files that
    a build has found damaged.

    Raises:
        RecipeError, SourceError, TokenizerError, BuildError: something that the recipe names is not there or not right,
            or a source changed since its listing was frozen.
        FormatError: the phase is of a newer version of this package.
    """
    tokenizer = find_tokenizer(recipe)  # first: nothing is written for one that is not there
    for key in recipe.pack.passed_over:
        options.progress.say(f"pack.{key} is no option of {recipe.pack.name}: passed over")
    recipe = _filled(recipe, tokenizer.vocabulary)
    phase = Phase(options.out / recipe.phase, recipe.phase)
    records.refuse_newer(phase)
    filters = _filters(recipe)
    steps = tuple(choose_steps(recipe.attributes))
    check_choice(recipe, phase)
    check_weights(recipe)
    as_named = {key: _source(key, choice, options.sources_root) for key, choice in recipe.sources.items()}
    chosen = licensed(as_named, recipe)
    for key, source in chosen.items():
        if said := starved.web_rules(source, filters[key]):
            options.progress.say(said)
    transport = TransportOptions(cache=options.cache, cache_bytes=options.cache_bytes)
    listings = list_sources(chosen, phase, recipe.part_bytes, transport, options)
    for key, (found, _) in listings.items():
        _refuse_other_tokens(chosen[key], found, tokenizer)
    made = make_plan(recipe, chosen, {key: files for key, (files, _) in listings.items()})
    unfrozen = tuple(manifest for _, manifest in listings.values() if manifest is not None)
    decontaminate = with_texts(recipe.decontaminate, transport)
    return Resolved(
        recipe,
        made,
        tokenizer,
        filters,
        steps,
        phase,
        transport,
        options.rebuild,
        unfrozen,
        decontaminate,
        repeated=last_tables(phase, PARAGRAPHS) if recipe.paragraphs else Copies(),
        copied=last_tables(phase, COPIES) if before_packing(recipe) else Copies(),
    )


def _filters(recipe: Recipe) -> dict[str, tuple[ChosenFilter, ...]]:
    """Source -> its filters, in the order in which they run."""
    shared = choose_filters(recipe.filters)
    pii = [] if recipe.pii is None else [choose_filter("pii", recipe.pii, "pii", "pii")]
    filters = {}
    for key, choice in recipe.sources.items():
        at = f"sources.{key}.filters"
        own = shared if choice.filters is None else choose_filters(choice.filters, at)
        filters[key] = (*own, *choose_filters(choice.more_filters, f"{at}+"), *pii)
    return filters


def freeze(resolved: Resolved) -> None:
    """Freeze the listings that are not. Only under the lock, and in a phase that is not finished."""
    listing = resolved.phase.listing
    files.write_all({listing(manifest.key): frozen_listing.text(manifest) for manifest in resolved.unfrozen})
    if resolved.unfrozen:
        files.sync(resolved.phase.folder)


def keep_plan(resolved: Resolved) -> str | None:
    """Write the plan and freeze its listings where no build has begun; returns why nothing was written, or None."""
    phase = resolved.phase
    try:
        if not phase.begun:
            with alone(phase):
                if not phase.begun:
                    freeze(resolved)
                    records.write_record(phase, resolved.plan.record())
                    return None
    except Held:
        pass
    return f"a build has begun in {phase.folder}, which keeps its own plan; this one was only shown"


def find_tokenizer(recipe: Recipe) -> Tokenizer:
    """The tokenizer of a recipe, found, loaded and checked.

    Raises:
        TokenizerError: it is not there, it is another one, it lacks a token of its frame, or text becomes one of those.
        BuildError: the recipe wants its ids in a type that does not hold them.
        OrderError: there is no such loader's rule.
        RecipeError: `order.law` is no law of packing.
    """
    rule_named(recipe.loader.rule)
    if recipe.order.law is not None:
        _require_law(recipe, recipe.order.law)
    choice, wanted = recipe.tokenizer, recipe.shards.token_dtype
    file = resolve_tokenizer(choice.name, sha256=choice.sha256)
    tokenizer = Tokenizer(file, choice.backend, check_rate=choice.check_rate, frame=choice.frame)
    needed = tokenizer.vocabulary.dtype  # loads it: what is wrong with it is said now
    if wanted == "uint16" and needed != wanted:
        raise BuildError(
            f"a vocabulary of {tokenizer.vocabulary.size:,} does not fit {wanted}",
            where="shards.token_dtype",
            remedy="leave it out, or set it to uint32",
        )
    return tokenizer


def _require_law(recipe: Recipe, law: str) -> None:
    try:
        require_packed(law, recipe.order.batch, recipe.loader.max_seq_len or recipe.length)
    except OrderError as error:
        raise RecipeError(
            f"order.law = {law!r}: {error.what}",
            where="order.law",
            why=error.why,
            remedy=f"with order.batch {recipe.order.batch:,} give another law, or none: --set order.law=null",
        ) from None


def _filled(recipe: Recipe, vocabulary: Vocabulary) -> Recipe:
    """The recipe with what it leaves open: so `run.json` says it, and nobody after has to know the defaults."""
    shards, loader = recipe.shards, recipe.loader
    limit = loader.max_seq_len or rule_named(loader.rule).max_seq_len(recipe.length)
    return recipe.model_copy(
        update={
            "shards": shards.model_copy(update={"token_dtype": shards.token_dtype or vocabulary.dtype}),
            "validation_twins": recipe.twins,
            "loader": loader.model_copy(update={"max_seq_len": limit}),
        }
    )


def _source(key: str, choice: SourceChoice, sources_root: str | None) -> Source:
    if sources.known(key):
        source = sources.get(key)
        if choice.root is not None:
            source = replace(source, root=choice.root.rstrip("/") + "/", storage={})
        elif sources_root is not None:
            source = sources.with_root(source, sources_root)
        return replace(
            source,
            tokenizer=choice.tokenizer or source.tokenizer,
            encoding=choice.encoding,
            text_key=choice.text_key or source.text_key,
            id_key=choice.id_key or source.id_key,
            globs=source.globs if choice.globs is None else tuple(choice.globs),
            format=source.format if choice.format is None else named(choice.format, where=f"sources.{key}.format").name,
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
    source = replace(source, encoding=choice.encoding)
    return replace(source, globs=tuple(choice.globs), pick=()) if choice.globs is not None else source


def _refuse_other_tokens(source: Source, found: Sequence[SourceFile], tokenizer: Tokenizer) -> None:
    """Raise `TokenizerError` for a pool of a run with another tokenizer, whose ids would be taken for this one's.

    One split of each pool is asked: all splits of a pool are made with one tokenizer.
    """
    if source.tokenizer is not None or not is_local(source.root):
        return
    pools = {os.path.dirname(os.path.dirname(file.path)): os.path.dirname(file.path) for file in found}
    for folder in pools.values():
        try:
            made_with = markers.read_marker(Path(local_path(source.root)) / folder).made_from.get("tokenizer")
        except (ShardError, OSError):
            continue  # no split of ours: `_framed` looks at the ids
        if made_with not in (None, tokenizer.digest):
            raise TokenizerError(
                f"source {source.key!r} has token ids of another tokenizer",
                where=f"{source.root}{folder}",
                why=f"it was made with {str(made_with)[:12]}…, this recipe has {tokenizer.digest[:12]}…",
                remedy=f"name it, so that the ids become text again: --set sources.{source.key}.tokenizer=PATH",
            )


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


def _decoder_digest(source: Source) -> str | None:
    if source.tokenizer is None or not os.path.isfile(source.tokenizer):
        return source.tokenizer
    return str(files.digest(Path(source.tokenizer))["xxh3_64"])
