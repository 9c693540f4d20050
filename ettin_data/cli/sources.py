"""`ettin-data sources`: what the mixture is made of, and whether it is there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ettin_data.base.units import count, size
from ettin_data.cli.shared import print_table, tell, tell_json

app = typer.Typer(
    help="Show the sources of the mixture, and check them against their upstreams.", rich_markup_mode=None
)


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show every source: where it is, licence, gate, what is expected of it, phases and targets."""
    if context.invoked_subcommand is not None:
        return
    from ettin_data.base.redact import redact
    from ettin_data.recipe import shipped_targets
    from ettin_data.sources.registry import REGISTRY

    if as_json:
        found = {key: {**_plain(source), "tokens": shipped_targets(key)} for key, source in REGISTRY.items()}
        tell_json(found)
        return
    table = Table(title="The sources", title_justify="left")
    for name in ("source", "category", "where", "files", "bytes", "upstream tokens", "licence", "gated", "targets"):
        table.add_column(name, overflow="fold", justify="right" if name in ("files", "bytes") else "left")
    for key, source in REGISTRY.items():
        wanted = ", ".join(f"{phase} {count(tokens)}" for phase, tokens in shipped_targets(key).items())
        table.add_row(
            key,
            source.category,
            redact(source.root),
            f"{source.files:,}" if source.files else "?",
            size(source.bytes) if source.bytes else "?",
            count(source.upstream_tokens) if source.upstream_tokens else "?",
            source.licence,
            str(source.gated) if source.gated else "no",
            wanted,
        )
    print_table(table, 160)


@app.command()
def check(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Sources; default: all.")] = None,
    sources_root: Annotated[str | None, typer.Option(help="A mirror instead of the upstreams.")] = None,
    run: Annotated[Path | None, typer.Option(help="A phase's folder: compare with what it was planned from.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the upstreams, or a mirror, and say what is missing or changed and how many tokens that costs.

    Exits with 1 if anything is.
    """
    from ettin_data import sources
    from ettin_data.recipe import shipped_targets
    from ettin_data.sources import manifest as manifests
    from ettin_data.storage.phase import Phase

    results = []
    for key in keys or list(sources.REGISTRY):
        source = sources.get(key)
        if sources_root is not None:
            source = sources.with_root(source, sources_root)
        frozen = Phase(run, run.name).listing(key) if run is not None else None
        manifest = manifests.load_manifest(frozen) if frozen is not None and frozen.exists() else None
        result = sources.check_source(source, targets=shipped_targets(key), manifest=manifest)
        results.append(result)
        if not as_json:
            state = "ok" if result.ok else "PROBLEM"
            tell(f"{state:8} {key:22} {result.files:>7,} files  {size(result.bytes):>10}  {result.root}")
            tell(*(f"         {line}" for line in [*result.problems(), *result.notes]))
    if as_json:
        tell_json([{**_plain(result), "ok": result.ok} for result in results])
    raise typer.Exit(0 if all(result.ok for result in results) else 1)


def _plain(value: Any) -> dict[str, Any]:
    return dict(json.loads(json.dumps(dataclasses.asdict(value), default=str)))
