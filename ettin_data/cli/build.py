"""`ettin-data build`: a phase, from a recipe."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ettin_data.base.errors import RecipeError
from ettin_data.base.units import count, duration
from ettin_data.cli.changing import changing
from ettin_data.cli.shared import (
    TIME_LIMIT_H,
    Kind,
    RayAddress,
    console,
    executor_options,
    print_table,
    size_option,
    tell,
)
from ettin_data.cli.watching import Watching
from ettin_data.inspect.status import where_time_went
from ettin_data.storage.phase import Phase

if TYPE_CHECKING:
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.build.share_build import Shared
    from ettin_data.recipe import Loaded, Recipe
    from ettin_data.storage.records import RunRecord

SHOWN_SHARES = 8

Out = Annotated[Path, typer.Option(help="Run folder; each phase gets a folder in it.")]
Root = Annotated[str | None, typer.Option(help="A mirror of the upstreams: a folder or an fsspec URL.")]
Workers = Annotated[int | None, typer.Option(help="Workers at once; default: the cores, or the cluster's CPUs.")]
Cache = Annotated[str | None, typer.Option(help="Folder that keeps what was fetched over the network.")]
CacheSize = Annotated[str, typer.Option(help="How large the cache may grow.")]
Relist = Annotated[bool, typer.Option("--relist", help="Accept sources that changed since the run was planned.")]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Make splits again that other code made.")]
TimeLimit = Annotated[float, typer.Option(help="Hours that one split may take.")]
Attempts = Annotated[int, typer.Option(help="Tries for a split whose worker dies or takes too long.")]
StartLimit = Annotated[float, typer.Option(help="Minutes to wait for the first worker, as in a full cluster.")]
ShareText = Annotated[
    str | None, typer.Option("--share", help="Build only this part of the splits, such as 3/64 (from 1 to 64).")
]
Events = Annotated[bool, typer.Option("--json", help="Print events, one JSON object a line (docs/watch.md).")]
Metrics = Annotated[Path | None, typer.Option(help="A .prom file to renew, for Prometheus' textfile collector.")]
Memory = Annotated[str | None, typer.Option(help="Memory of a worker, such as 4GiB; default: no limit.")]


@changing
def build(
    loaded: Loaded,
    out: Out = Path("runs/ettin"),
    sources_root: Root = None,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    time_limit: TimeLimit = TIME_LIMIT_H,
    attempts: Attempts = 3,
    start_limit: StartLimit = 5.0,
    memory: Memory = None,
    cache: Cache = None,
    cache_size: CacheSize = "100GiB",
    relist: Relist = False,
    rebuild: Rebuild = False,
    share: ShareText = None,
    as_json: Events = False,
    metrics: Metrics = None,
) -> None:
    """Build a phase, or what is missing of it; with --share a part of its splits, beside other shares.

    Exits with 3 if something of it failed: what is finished stays, and the same command continues.
    """
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.build.shares import Share

    part = Share.parse(share) if share is not None else None
    recipe = loaded.recipe
    if loaded.after is not None and os.path.realpath(loaded.after) in map(os.path.realpath, (out, out / recipe.phase)):
        raise RecipeError(
            f"--after {loaded.after} is what the build would change",
            why="a build that is interrupted could not be continued, nor the order go on from there",
            remedy=f"keep it first: cp -al {out / recipe.phase} earlier, and --after earlier",
        )
    limits = {
        "time_limit_s": time_limit * 3600,
        "max_attempts": attempts,
        "start_limit_s": start_limit * 60,
        "memory_limit": size_option("--memory", memory) if memory else None,
    }
    workers_of = executor_options(executor, workers, ray_address, **limits)
    options = BuildOptions(
        out, sources_root, workers_of, cache, size_option("--cache-size", cache_size), relist, rebuild
    )
    if part is None:
        build_and_show(recipe, options, as_json, metrics)
        return
    from ettin_data.build.share_build import build_share

    with _watching(recipe, options, f" {part}", as_json, metrics) as progress:
        done = build_share(recipe, dataclasses.replace(options, progress=progress), part)
        if as_json:
            progress.event("share", **{**dataclasses.asdict(done), "share": str(part)})
    if not as_json:
        show_share(done)


def _watching(recipe: Recipe, options: BuildOptions, share: str, events: bool, metrics: Path | None) -> Watching:
    phase = Phase(options.out / recipe.phase, recipe.phase)
    return Watching(phase, f"{recipe.phase}{share}", console, events=events, metrics=metrics)


def show_share(done: Shared) -> None:
    """What a share has built, what is missing, and what to run next."""
    found = f" ({done.found:,} were there)" if done.found else ""
    tell(
        f"{done.phase}, share {done.share}: {done.splits:,} splits are finished{found}, "
        f"{count(done.tokens)} tokens in {duration(done.seconds)}"
    )
    if not done.missing:
        tell(
            f"  all {done.planned:,} splits are there",
            "  next: the same command without --share, once: it mixes, orders and writes run.json",
        )
        return
    whose = [f"{number}/{done.share.of} ({missing:,})" for number, missing in sorted(done.missing.items())]
    more = f" and {len(whose) - SHOWN_SHARES:,} more" if len(whose) > SHOWN_SHARES else ""
    tell(
        f"  missing: {sum(done.missing.values()):,} of {done.planned:,} splits, of shares "
        f"{', '.join(whose[:SHOWN_SHARES])}{more}",
        "  next: wait for these shares, or run again those that have ended; then the same command without --share, "
        "which builds what is missing and finishes",
    )


def build_and_show(recipe: Recipe, options: BuildOptions, events: bool = False, metrics: Path | None = None) -> None:
    """Build, show how far it is, and what was made."""
    from ettin_data.build.build import build_phase

    with _watching(recipe, options, "", events, metrics) as progress:
        made = build_phase(recipe, dataclasses.replace(options, progress=progress))
        if events:
            progress.event("finished", root=made.root, totals=made.totals, seconds=made.seconds,
                           stages={name: spent.model_dump() for name, spent in made.stages.items()})  # fmt: skip
    if not events:
        show_run(made, options.out / recipe.phase)


def show_run(run: RunRecord, folder: Path) -> None:
    """What was made, and how far each source is from its target."""
    table = Table(title=f"{run.phase}: {run.totals['tokens']:,} tokens", title_justify="left")
    for name in ("source", "target tokens", "tokens", "off", "documents", "samples", "passes", "held out"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for key, row in run.sources.items():
        target = row.target_tokens
        table.add_row(
            key,
            f"{target:,}",
            f"{row.tokens:,}",
            f"{(row.tokens - target) / max(target, 1):+.2%}",
            f"{row.documents:,}",
            f"{row.samples:,}",
            f"{row.passes:.2f}",
            f"{row.validation_documents:,}",
        )
    totals = run.totals
    table.add_section()
    table.add_row(
        "total", f"{totals['target_tokens']:,}", f"{totals['tokens']:,}", "", f"{totals['documents']:,}",
        f"{totals['samples']:,}", "", "",
    )  # fmt: skip
    print_table(table, 110)
    stages = {name: spent.model_dump() for name, spent in run.stages.items()}
    tell(f"root {run.root}  ({folder}, {run.seconds} s)", f"  took: {where_time_went(stages)}", "")


COMMANDS = (build,)
