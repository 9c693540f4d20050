"""`ettin-data export`: a finished phase in another project's format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ettin_data.base.errors import RecipeError
from ettin_data.cli.shared import Kind, RayAddress, Workers, bar, parallel, tell

if TYPE_CHECKING:
    from ettin_data.export.export import By


def export(
    phase: Annotated[Path, typer.Argument(help="Folder of a finished phase, such as runs/demo/decay.")],
    to: Annotated[str, typer.Option(help="Format: parquet, megatron, olmo-numpy or litdata.")],
    out: Annotated[Path, typer.Option(help="Folder that gets the files and export.json.")],
    part: Annotated[str, typer.Option(help="train or validation.")] = "train",
    by: Annotated[
        str | None, typer.Option(help="order: files of steps, as training reads them; split: a file a split. [order]")
    ] = None,
    number: Annotated[
        int | None, typer.Option("--files", help="Number of files by order; default: of 128M tokens.", min=1)
    ] = None,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
) -> None:
    """Write the samples of a finished phase in another project's format, in the order of training."""
    from ettin_data.export.export import export_phase

    if by not in (None, "order", "split"):
        raise RecipeError(f"--by {by!r} is not known", remedy="use order or split")
    made = export_phase(
        phase,
        to,
        out,
        part=part,
        by=cast("By | None", by),
        number=number,
        workers=parallel(executor, workers, ray_address),
        progress=bar(phase.name),
    )
    what = f"{made['samples']:,} samples, {made['tokens']:,} tokens, {len(made['files']):,} files, root {made['root']}"
    tell(f"{out}: {part} of {made['phase']} as {to}, {what}")


COMMANDS = (export,)
