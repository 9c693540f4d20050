"""`ettin-data export`: a finished phase in another project's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ettin_data.cli.shared import Kind, RayAddress, Workers, bar, parallel, tell


def export(
    phase: Annotated[Path, typer.Argument(help="Folder of a finished phase, such as runs/demo/decay.")],
    to: Annotated[str, typer.Option(help="Format: parquet or olmo-numpy.")],
    out: Annotated[Path, typer.Option(help="Folder that gets the files and export.json.")],
    part: Annotated[str, typer.Option(help="train or validation.")] = "train",
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
) -> None:
    """Write the samples of a finished phase in another project's format."""
    from ettin_data.export.export import export_phase

    made = export_phase(
        phase, to, out, part=part, workers=parallel(executor, workers, ray_address), progress=bar(phase.name)
    )
    what = f"{made['samples']:,} samples, {made['tokens']:,} tokens, {len(made['files']):,} files, root {made['root']}"
    tell(f"{out}: {part} of {made['phase']} as {to}, {what}")


COMMANDS = (export,)
