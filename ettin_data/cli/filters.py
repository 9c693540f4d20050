"""`ettin-data filters preview`: what the filters of a recipe would drop, on a sample, before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin_data.base.errors import RecipeError
from ettin_data.cli.build import Root
from ettin_data.cli.changing import changing
from ettin_data.cli.shared import bar, tell, tell_json

if TYPE_CHECKING:
    from ettin_data.recipe import Loaded

app = typer.Typer(help="Look at the filters of a recipe.", no_args_is_help=True)

_SHOWN = 240  # characters of a text


@app.callback()
def filters() -> None:
    """Look at the filters of a recipe."""


@app.command()
@changing
def preview(
    loaded: Loaded,
    sample: Annotated[str, typer.Option(help="Share of each source's documents, such as 0.1%.")] = "0.1%",
    texts: Annotated[int, typer.Option(help="Texts to show on either side of a threshold.")] = 10,
    sources_root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """What each filter would drop of each source, in their order and alone, on a sample. Builds and writes nothing."""
    from ettin_data.build.prepare import BuildOptions, resolve
    from ettin_data.build.preview import preview as previews
    from ettin_data.build.preview import to_plain

    share = _share(sample)
    recipe = loaded.recipe
    resolved = resolve(recipe, BuildOptions(Path("runs/preview"), sources_root, progress=bar(recipe.phase)))
    found = [to_plain(one, texts) for one in previews(resolved, share)]
    if as_json:
        tell_json(found)
        return
    for one in found:
        tell(f"{one['source']}: {one['documents']:,} documents looked at")
        for each in one["filters"]:
            _show(each, one["documents"])


def _show(each: dict[str, Any], documents: int) -> None:
    in_order, alone, rules = each["dropped_in_order"], each["dropped_alone"], each["rules"]
    behind, by_itself = sum(in_order.values()), sum(alone.values())
    tell(
        f"  {each['filter']}: drops {behind:,} of the {each['seen']:,} that reach it; alone {by_itself:,} of "
        f"{documents:,}, {each['dropped_only_by_it']:,} of them no other filter does"
    )
    for reason in sorted(alone, key=lambda name: -alone[name]):
        tell(f"    {reason}: {in_order.get(reason, 0):,} in order, {alone[reason]:,} alone")
        if reason in rules:
            said = ", ".join(f"{where} {value:.4g}" for where, value in rules[reason]["around"].items())
            tell(f"      threshold {rules[reason]['threshold']:g}; values next to it: {said}")
    if (worst := next((r for r in sorted(alone, key=lambda name: -alone[name]) if r in rules), None)) is None:
        return
    for side, near in rules[worst]["texts"].items():
        for value, text in near:
            tell(f"      {side} by {worst}, {value:.4g}: {text[:_SHOWN]!r}" if side == "dropped" else
                 f"      {side}, {value:.4g}: {text[:_SHOWN]!r}")  # fmt: skip


def _share(text: str) -> float:
    """A share as it is written: `0.1%`, or 0.001."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise RecipeError(f"--sample {text!r} is no share", remedy="write one such as 0.1%")
    return share
