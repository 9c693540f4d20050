"""`ettin-data mix`: what can be said about mixes without building one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ettin_data.base.errors import SourceError
from ettin_data.cli.shared import Json, tell, tell_json

if TYPE_CHECKING:
    from ettin_data.recipe.temperature_fit import Fit, Point

app = typer.Typer(help="Mixes: by which law given ones were made.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Without a callback typer would make a group of one command that command."""


@app.command()
def explain(
    table: Annotated[Path, typer.Argument(help="CSV: a column of names and columns of tokens, each a mix.")],
    column: Annotated[list[str] | None, typer.Option(help="Only this column; may be repeated.")] = None,
    by: Annotated[
        str, typer.Option(help="The weights: words, documents or bytes of FineWeb2, or a column of the table.")
    ] = "words",
    weights: Annotated[
        Path | None, typer.Option(help="CSV with names and the column of weights, in its place.")
    ] = None,
    exceptions: Annotated[int, typer.Option(min=0, help="So many are shown of each mix.")] = 12,
    as_json: Json = False,
) -> None:
    """Find the temperature by which the counts of a mix were made from sizes: tau, C, the caps, the exceptions.

    tokens = min(what there is, C * weight ** tau). Names are codes of languages, where weights are FineWeb2's.
    """
    from ettin_data.recipe.temperature_fit import fit, read_table

    own = weights is None and by not in ("words", "documents", "bytes")
    known = not own and weights is None
    counts = read_table(table, _code if known else str)
    if known:
        sizes = _sizes(by)
    else:
        sizes = (counts if weights is None else read_table(weights)).column(by)
    titles = column or [title for title in counts.columns if title != by]
    found = {title: fit(sizes, counts.column(title)) for title in titles}
    if as_json:
        tell_json({title: _plain(each) for title, each in found.items()})
        return
    for title, each in found.items():
        tell(*_said(title, each, exceptions))


def _said(title: str, found: Fit, most: int) -> list[str]:
    from ettin_data.recipe.temperature_fit import WITHIN

    follows = found.with_verdict("follows")
    capped = found.with_verdict("capped")
    others = found.with_verdict("more", "less")
    lines = [
        f"{title}: tokens = {found.scale:.6g} * weight ** {found.tau:g} (best fit {found.best:g}): "
        f"{len(follows):,} of {len(found.points):,} members within {WITHIN:.0%}"
    ]
    if capped:
        lines.append(
            f"  {len(capped):,} capped, of weights up to {found.bend:,}: less than the law, as if all was taken"
        )
    if others:
        lines.append(f"  {len(others):,} exceptions" + (f", the first {most}:" if len(others) > most else ":"))
    lines += [f"    {_row(point)}" for point in others[:most]]
    if found.unweighted:
        lines.append(
            f"  without a weight: {', '.join(found.unweighted[:20])}" + (", …" if found.unweighted[20:] else "")
        )
    return lines


def _row(point: Point) -> str:
    off = f"{point.residual:+.1%} of {point.expected:,.0f}"
    return f"{point.name}: {point.tokens:,} tokens, {off} (weight {point.weight:,})"


def _plain(found: Fit) -> dict[str, object]:
    points = {
        point.name: {
            "weight": point.weight, "tokens": point.tokens, "expected": point.expected,
            "residual": point.residual, "verdict": point.verdict,
        }
        for point in found.points
    }  # fmt: skip
    return {
        "tau": found.tau, "best_tau": found.best, "scale": found.scale, "bend": found.bend, "members": points,
        "unweighted": list(found.unweighted),
    }  # fmt: skip


def _sizes(by: str) -> dict[str, int]:
    from ettin_data.sources.languages import sizes

    return sizes(by)  # type: ignore[arg-type]  # one of the three


def _code(name: str) -> str:
    from ettin_data.sources.languages import code_of

    try:
        return code_of(name)
    except SourceError:  # such as `code`, which is no language: named as one without a weight
        return name
