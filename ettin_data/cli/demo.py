"""`ettin-data demo`: the whole way in small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ettin_data.cli.build import Out, Workers, build_and_show
from ettin_data.cli.shared import Kind, RayAddress, console, executor_options
from ettin_data.cli.train import watch


def demo(
    out: Out = Path("runs/demo"),
    family: Annotated[
        Literal["ettin", "mmbert"], typer.Option(help="Whose phases: mmbert's are in as many languages as are here.")
    ] = "ettin",
    megabytes: Annotated[float, typer.Option(help="Text in the mirror.")] = 20,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    train: Annotated[bool, typer.Option(help="End with the small trainer over the three phases.")] = True,
) -> None:
    """Build the three phases, scaled down, from a local mirror of the sources made of real text; then train on them."""
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.demo import demo as demos
    from ettin_data.demo import languages

    workers_of = executor_options(executor, workers, ray_address)
    with console.status("writing the mirror of the sources"):
        if family == "mmbert":
            written = languages.write_mirror(demos.mirror_folder(out), megabytes=megabytes)
            mirror, recipes = demos.mirror_sentence(written), languages.recipes(out / "recipes", written)
        else:
            mirror, recipes = demos.mirror(out, megabytes), demos.recipes(megabytes)
    console.tell(mirror)
    for recipe in recipes:
        options = BuildOptions(out, str(demos.mirror_folder(out)), workers_of, relist=True)
        build_and_show(recipe, options)
    objective = "encoder" if family == "mmbert" else "both"
    if train and not watch(out, objective=objective, device="cpu").ok:
        raise typer.Exit(1)


COMMANDS = (demo,)
