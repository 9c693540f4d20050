"""`ettin-data plan`: what a build would read, hold, take and cost; and what differs between two plans."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ettin_data.base.units import count, duration, size
from ettin_data.cli.build import Out, Relist, Root, Workers
from ettin_data.cli.changing import changing
from ettin_data.cli.shared import Json, bar, by_default, console, print_table, tell, tell_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.tree import Tree

    from ettin_data.build.forecast.contract import Contract, SourceFigures
    from ettin_data.build.forecast.estimates import Figure
    from ettin_data.build.plan_diff import PlanDiff
    from ettin_data.build.prepare import Resolved
    from ettin_data.recipe import Loaded, Recipe

_SHOW = "show"
_UNKNOWN = "unknown without --pilot"
_MOST = 40  # changes that are shown

app = typer.Typer(
    cls=by_default(_SHOW),
    help="What a build would read, hold, take and cost: `ettin-data plan RECIPE`. `plan diff A B` compares two.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(_SHOW)
@changing
def plan(
    loaded: Loaded,
    out: Out = Path("runs/ettin"),
    sources_root: Root = None,
    relist: Relist = False,
    pilot: Annotated[
        str | None,
        typer.Option(help="Measure on a sample of each source: a share such as 0.1%, or a number of documents."),
    ] = None,
    workers: Workers = None,
    price_per_core_hour: Annotated[
        float | None, typer.Option(min=0, help="What a core costs for an hour, in any money.")
    ] = None,
    look: Annotated[bool, typer.Option(help="Open the first records of each source.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan.json instead, with the contract.")] = False,
) -> None:
    """Show what would be built; of the data only the first records are read. Writes plan.json where no build has begun.

    With --pilot a keyed sample of each source goes the way of a split, and every figure gets an interval that holds in
    nine of ten cases. What was measured is kept in the user's cache and used by every later plan of the same sources.

    Exits with 2 if a target cannot be met in the passes allowed, 1 if nothing of a source's first records can be used.
    """
    from ettin_data.build.first_minute import (
        disk_note,
        first_records,
        impossible,
        refuse_impossible,
        refuse_unusable,
    )
    from ettin_data.build.forecast.contract import contract_of, workers_of
    from ettin_data.build.forecast.pilot import make_pilots, parse_ask
    from ettin_data.build.prepare import BuildOptions, keep_plan, resolve, states
    from ettin_data.executor import ExecutorOptions
    from ettin_data.executor.machine import usable_cores

    if pilot is not None:
        parse_ask(pilot)
    recipe = loaded.recipe
    with console.status("listing the sources"):
        options = BuildOptions(out, sources_root, relist=relist, progress=bar(recipe.phase))
        began = time.monotonic()
        resolved = resolve(recipe, options)
        resolved_s = time.monotonic() - began
        there = states(resolved)
        looked = list(first_records(resolved.plan, resolved.transport)) if look else []
    refused = impossible(resolved.plan)
    there |= {key: f"impossible: it {why}" for key, why in refused.items()}
    if pilot is not None and not refused and not any(first.problem for first in looked):
        at_once = min(workers or usable_cores(), usable_cores())
        make_pilots(resolved, pilot, options.progress, resolved_s, at_once)
    contract = contract_of(resolved, workers_of(ExecutorOptions(workers=workers)), price_per_core_hour)
    for key, source in contract.sources.items():
        if source.passes.value > recipe.max_epochs and key not in refused:
            doubt = f"doubtful: {source.passes.value:.1f} passes, and a build refuses more than {recipe.max_epochs:g}"
            there[key] = f"{there[key]}; {doubt}" if there.get(key) else doubt
    if as_json:
        tell_json(resolved.plan.record().model_dump(mode="json") | {"contract": contract.to_json()})
    else:
        print_table(_tree(resolved, contract, there))
        for first in looked:
            tell(f"{first.key}  {first.file}: {first.problem or first.facts}")
    if note := disk_note(resolved.plan, str(out)):
        console.tell(note)
    refuse_impossible(resolved.plan)
    refuse_unusable(looked)
    if why := keep_plan(resolved):
        console.tell(why)


def _tree(resolved: Resolved, contract: Contract, there: dict[str, str]) -> Tree:
    """The tree of the plan, with the contract below each source and at the end."""
    from ettin_data.bar import styled

    tree = resolved.plan.tree(there)
    width = max(map(len, contract.sources), default=0)
    ordered = sorted(resolved.plan.sources.items(), key=lambda item: -item[1].target_tokens)  # as the tree has them
    for branch, (key, _) in zip(tree.children, ordered, strict=True):
        for line in _of_source(contract.sources[key], contract):
            branch.add(styled((line, "dim")))
    whole = tree.add(styled(("in all", "bold")))
    for name, text in _of_all(contract):
        whole.add(styled(f"{name:<{max(width, 15)}}  ", text))
    if resolved.recipe.paragraphs:
        whole.add(styled(f"{'paragraphs':<{max(width, 15)}}  ", "the text is read once more to find repeated ones"))
    for name, text in _of_copies(resolved.recipe, contract):
        whole.add(styled(f"{name:<{max(width, 15)}}  ", text))
    return tree


def _of_copies(recipe: Recipe, contract: Contract) -> list[tuple[str, str]]:
    """What a search for copies takes, and which of the other figures it changes; how many there are is not known."""
    from ettin_data.dedup.join import disk_bytes
    from ettin_data.dedup.weights import layers

    chosen = recipe.dedup
    if chosen is None and recipe.twins is None:
        return []
    train = contract.after_pools * (contract.target_tokens / max(contract.tokens.value, 1.0))
    said = [f"a split that loses a document is written anew and not linked: at most {_said(train, size)}"]
    if recipe.pack.strategy.several:
        said = ["copies are in no pool, and the text is read twice"] if chosen else []
    if chosen is not None and contract.documents is not None:
        said.append(f"{_said(contract.documents * disk_bytes(chosen, 1.0), size)} while they are looked for")
    rows = [("copies", "; ".join(said))] if said else []
    if chosen is not None:
        rows.append(("", "how many there are is not known before: passes are of all documents, copies among them"))
        if chosen.weight is not None:
            text = f"dedup.weight takes a document up to {layers(chosen.weight):,} times in a pass"
            rows.append(("", f"{text}: passes and files are shown as if each were taken once"))
    return rows


def _of_source(source: SourceFigures, contract: Contract) -> list[str]:
    if source.documents is None:
        return [f"{source.shards:,} shards; documents and rejects {_UNKNOWN}"]
    dropped = f"filters drop {source.filtered:.1%}, unreadable {source.rejected:.1%}"
    lines = [
        f"pilot of {contract.asked[source.key]}: {_said(source.tokens, count)} tokens in "
        f"{_said(source.documents, count)} documents, {_said(source.passes, '{:.2f}'.format)} passes; {dropped}",
        f"{source.files:,} files in {source.splits:,} of {source.listed_splits:,} splits, {source.shards:,} shards, "
        f"{_said(source.pool_bytes, size)}"
        + (f", {_said(source.seconds, duration)} of one core" if source.seconds else ""),
    ]
    return lines


def _of_all(contract: Contract) -> list[tuple[str, str]]:
    free = "" if contract.free is None else f"; {size(contract.free)} free, {size(contract.needed.value)} still needed"
    memory = _UNKNOWN if contract.memory is None else size(contract.memory)
    rows = [
        ("tokens", f"{count(contract.target_tokens)} in train, {_said(contract.tokens, count)} in the pools"),
        ("documents", _said(contract.documents, count)),
        ("read", f"{size(contract.read_bytes)}, {size(contract.download_bytes)} of it downloaded"),
        ("files", f"{contract.files:,} in the run, {contract.largest_folder:,} in its fullest folder"),
        (
            "disk",
            f"{_said(contract.after_pools, size)} after the pools, {_said(contract.after_mix, size)} after the mix",
        ),
        ("peak", f"{_said(contract.at_end, size)}{free}"),
        ("memory", memory),
        ("one core", _said(contract.cpu_h and contract.cpu_h * 3600, duration)),
        (f"{contract.workers:,} workers", _said(contract.wall_s, duration)),
    ]
    if contract.cost is not None:
        rows.append(("cost", _said(contract.cost, "{:,.2f}".format)))
    return rows


def _said(figure: Figure | None, shown: Callable[[float], str]) -> str:
    """A figure with its interval."""
    if figure is None:
        return _UNKNOWN
    if figure.low is None or figure.high is None:
        return f"about {shown(figure.value)} (its interval {_UNKNOWN})"
    value, low, high = (shown(each) for each in (figure.value, figure.low, figure.high))
    return value if low == high else f"{value} ({low} to {high})"


@app.command("diff")
def diff_plans(
    a: Annotated[str, typer.Argument(help="A recipe, or the folder of a phase such as runs/demo/decay")],
    b: Annotated[str, typer.Argument(help="Another")],
    sources_root: Root = None,
    as_json: Json = False,
) -> None:
    """What changes from one recipe or run to another: keys, targets, pools used again or made anew, documents."""
    from ettin_data.build.plan_diff import open_side
    from ettin_data.build.plan_diff import plan_diff as compare

    with console.status("listing the sources"):
        found = compare(open_side(a, sources_root), open_side(b, sources_root))
    if as_json:
        tell_json(found.to_json())
    else:
        _show_diff(found)


def _show_diff(found: PlanDiff) -> None:
    tell("recipe: the same" if not found.recipe else f"recipe: {len(found.recipe):,} keys differ")
    tell(*(f"  {change}" for change in found.recipe[:_MOST]))
    if len(found.recipe) > _MOST:
        tell(f"  and {len(found.recipe) - _MOST:,} more (--json has them all)")
    if found.targets:
        tell("targets:")
    for key, (one, other) in found.targets.items():
        if one is None or other is None:
            words = [f"{count(each)} tokens" if each is not None else "passes" for each in (one, other)]
            tell(f"  {key}: {words[0]} -> {words[1]}")
        else:
            more = f"{'+' if other > one else '-'}{count(abs(other - one))}"
            tell(f"  {key}: {count(one)} -> {count(other)} tokens ({more})")
    if found.pools is not None:
        tell("pools:")
        for key, pool in found.pools.items():
            parts = [f"{pool.same:,} splits used again"] if pool.same else []
            parts += [f"{number:,} made anew: {why}" for why, number in pool.anew.items()]
            parts += [f"{pool.only_a:,} only in a"] if pool.only_a else []
            parts += [f"{pool.only_b:,} only in b"] if pool.only_b else []
            tell(f"  {key}: {'; '.join(parts)}")
    if found.documents is not None:
        tell("documents of train:")
        for key, part in found.documents.items():
            tell(f"  {key}: {part.both:,} in both, {part.leave:,} leave, {part.enter:,} enter")
    tell(*(f"not known: {each}" for each in found.unknown))
