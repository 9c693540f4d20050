"""`ettin-data demo`: the whole way in small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ettin_data.cli.build import Out, Workers, build_and_show
from ettin_data.cli.shared import Kind, RayAddress, console, executor_options
from ettin_data.cli.train import watch


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
    console.tell(mirror)
    for recipe in demos.recipes(megabytes):
        options = BuildOptions(out, str(demos.mirror_folder(out)), workers_of, relist=True)
        build_and_show(recipe, options)
    if train and not watch(out, device="cpu").ok:
        raise typer.Exit(1)


COMMANDS = (demo,)
