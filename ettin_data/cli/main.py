"""The command line, `ettin-data`: words for what the package does, and how its results are shown."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ettin_data.base.errors import EttinError, ExitStatus
from ettin_data.base.redact import redact
from ettin_data.cli import chaos as cli_chaos
from ettin_data.cli import durable as cli_durable
from ettin_data.cli import order as cli_order
from ettin_data.cli import sources as cli_sources
from ettin_data.cli import trace as cli_trace
from ettin_data.cli import train as cli_train
from ettin_data.cli.shared import (
    TIME_LIMIT_H,
    FrameText,
    Kind,
    RayAddress,
    TokenizerName,
    bar,
    console,
    executor_options,
    fail,
    frame_of,
    print_table,
    words,
)

if TYPE_CHECKING:
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.recipe import Recipe
    from ettin_data.storage.records import RunRecord

app = typer.Typer(
    help="Builds the Ettin pre-training mixture from its public sources, and proves what it built.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_sources.app, name="sources")
app.add_typer(cli_order.order_app, name="order")
for command in (
    cli_durable.verify, cli_durable.repair, cli_durable.diff, cli_chaos.chaos,
    cli_trace.trace, cli_trace.view, cli_trace.exposure, cli_train.train,
):  # fmt: skip
    app.command()(command)

RecipeName = Annotated[str, typer.Argument(help="pretrain, extension, decay, or a YAML file")]
Out = Annotated[Path, typer.Option(help="Run folder; each phase gets a folder in it.")]
Root = Annotated[str | None, typer.Option(help="A mirror of the upstreams: a folder or an fsspec URL.")]
Scale = Annotated[float, typer.Option(help="Factor on every token target.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key.path=value, such as sources.arxiv.tokens=6B")]
Adds = Annotated[list[str] | None, typer.Option("--add-source", help="name=path_or_url:tokens")]
Drops = Annotated[list[str] | None, typer.Option("--drop-source", help="Name of a source to leave out.")]
Workers = Annotated[int | None, typer.Option(help="Workers at once; default: the cores, or the cluster's CPUs.")]
Cache = Annotated[str | None, typer.Option(help="Folder that keeps what was fetched over the network.")]
CacheSize = Annotated[str, typer.Option(help="How large the cache may grow.")]
Relist = Annotated[bool, typer.Option("--relist", help="Accept sources that changed since the run was planned.")]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Make splits again that other code made.")]
TimeLimit = Annotated[float, typer.Option(help="Hours that one split may take.")]
Attempts = Annotated[int, typer.Option(help="Tries for a split whose worker dies or takes too long.")]
Memory = Annotated[str | None, typer.Option(help="Memory of a worker, such as 4GiB; default: no limit.")]


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    megabytes: Annotated[float, typer.Option(help="Text in the mirror.")] = 20,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    train: Annotated[bool, typer.Option(help="End with the small trainer over all three phases.")] = True,
) -> None:
    """Build the three phases, scaled down, from a local mirror of the sources made of real text; then train on them."""
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.demo import demo as demos

    workers_of = executor_options(executor, workers, ray_address)
    with console.status("writing the mirror of the sources"):
        mirror = demos.mirror(out, megabytes)
    console.print(mirror)
    for recipe in demos.recipes(megabytes):
        options = BuildOptions(out, str(demos.mirror_folder(out)), workers_of, relist=True)
        _build(recipe, options)
    if train and not cli_train.watch(out, device="cpu").ok:
        raise typer.Exit(1)


@app.command()
def plan(
    recipe: RecipeName,
    out: Out = Path("runs/ettin"),
    sources_root: Root = None,
    scale: Scale = 1.0,
    sets: Sets = None,
    add_source: Adds = None,
    drop_source: Drops = None,
    relist: Relist = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan.json instead.")] = False,
) -> None:
    """Show what would be built, without reading any data."""
    from ettin_data.build.prepare import BuildOptions, resolve, states
    from ettin_data.storage import records

    loaded = _recipe(recipe, scale, sets, add_source, drop_source)
    with console.status("listing the sources"):
        options = BuildOptions(out, sources_root, relist=relist, progress=bar(loaded.phase))
        resolved = resolve(loaded, options)
        there = states(resolved)
    if as_json:
        print(resolved.plan.record().model_dump_json(indent=1))
    else:
        print_table(resolved.plan.tree(there))
    records.write(resolved.phase, resolved.plan.record())


@app.command()
def build(
    recipe: RecipeName,
    out: Out = Path("runs/ettin"),
    sources_root: Root = None,
    scale: Scale = 1.0,
    sets: Sets = None,
    add_source: Adds = None,
    drop_source: Drops = None,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    time_limit: TimeLimit = TIME_LIMIT_H,
    attempts: Attempts = 3,
    memory: Memory = None,
    cache: Cache = None,
    cache_size: CacheSize = "100GiB",
    relist: Relist = False,
    rebuild: Rebuild = False,
) -> None:
    """Build a phase, or what is missing of it."""
    from ettin_data.base.units import parse_bytes
    from ettin_data.build.prepare import BuildOptions

    loaded = _recipe(recipe, scale, sets, add_source, drop_source)
    limits = {
        "time_limit_s": time_limit * 3600,
        "max_attempts": attempts,
        "memory_limit": parse_bytes(memory) if memory else None,
    }
    workers_of = executor_options(executor, workers, ray_address, **limits)
    options = BuildOptions(out, sources_root, workers_of, cache, parse_bytes(cache_size), relist, rebuild)
    _build(loaded, options)


@app.command()
def tokenizer(
    name: Annotated[str | None, typer.Argument(help="Path or hub id; default: ModernBERT's.")] = None,
    text: Annotated[str | None, typer.Option(help="Text to encode.")] = None,
    frame: FrameText = None,
) -> None:
    """Find a tokenizer, check it, and show what it is: its digest and its tokens by role."""
    from ettin_data.tokenizer import files
    from ettin_data.tokenizer.encoder import Tokenizer, resolve

    given = files.found(name) if name else resolve()
    found = Tokenizer(given, frame=frame_of(frame, name))
    shown = {"path": str(found.file.path), **found.describe(), "vocabulary": found.vocabulary.to_json()}
    print(json.dumps(shown, indent=1))
    if text is not None:
        ids, _ = found.encode_batch([text])
        print(json.dumps([int(i) for i in ids]))


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="A folder with an MDS index.json, such as runs/demo/pretrain/train")],
    first: Annotated[int, typer.Option(help="Position of the first sample.")] = 0,
    number: Annotated[int, typer.Option(help="How many.")] = 5,
    characters: Annotated[int, typer.Option(help="Of text shown for each; 0 shows all.")] = 300,
    tokenizer: TokenizerName = None,
    frame: FrameText = None,
) -> None:
    """Decode samples of a folder of shards, with their source and length."""
    from ettin_data.order.data import run_of
    from ettin_data.order.loader_edits import vocabulary_of
    from ettin_data.storage.mds import MdsReader

    run = run_of(folder)
    reader, decode = MdsReader(folder), words(vocabulary_of(run) if run else None, tokenizer, frame).decode
    for position in range(first, min(first + number, len(reader))):
        sample = reader[position]
        shard, row = reader.locate(position)
        text = decode(sample["input_ids"])
        shown = text if not characters or len(text) <= characters else f"{text[:characters]}…"
        source = reader.infos[shard].basename
        print(f"[{position}] {source} row {row}  id {sample['id']}  {len(sample['input_ids'])} tokens\n{shown}\n")
    print(f"{len(reader):,} samples in {len(reader.infos):,} shards")


# ---------------------------------------------------------------------------------------------------------------------


def _recipe(name: str, scale: float, sets: list[str] | None, adds: list[str] | None, drops: list[str] | None) -> Recipe:
    from ettin_data import recipe

    return recipe.load(name, overrides=sets or (), scale=scale, add_sources=adds or (), drop_sources=drops or ())


def _build(recipe: Recipe, options: BuildOptions) -> None:
    from ettin_data.bar import Bar
    from ettin_data.build.build import build as build_phase

    made = build_phase(recipe, dataclasses.replace(options, progress=Bar(recipe.phase, console)))
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
    print(f"root {run.root}  ({folder}, {run.seconds} s)\n")


def build_script(recipe: str, changes: Sequence[str]) -> None:
    """All of a script in `pipelines/`: `ettin-data build <recipe>` with changes and the script's own options."""
    with _errors_shown():
        app(["build", recipe, *(word for change in changes for word in ("--set", change)), *sys.argv[1:]])


@contextlib.contextmanager
def _errors_shown() -> Iterator[None]:
    try:
        yield
    except EttinError as error:
        fail(error)
    except Exception:  # ours to correct: shown whole, but for secrets
        console.print(redact(traceback.format_exc()), markup=False, highlight=False, soft_wrap=True)
        sys.exit(ExitStatus.WRONG)
    except SystemExit as end:  # so typer ends a command that Ctrl-C stopped
        if end.code == ExitStatus.INTERRUPTED:
            console.print("stopped; what is finished stays, and the same command continues", highlight=False)
        raise


def main() -> None:
    """Run the command line; an `EttinError` is shown without a traceback and exits with 1, Ctrl-C with 130."""
    with _errors_shown():
        app()
