"""`ettin-data chaos`: the promise of a build, put to the test on this machine."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin_data.base.errors import RecipeError
from ettin_data.cli.shared import Json, Kind, tell, tell_json

if TYPE_CHECKING:
    from ettin_data.recipe import Recipe


def chaos(
    seed: Annotated[int, typer.Option(help="Of the schedule: the same seed does the same again.")] = 0,
    kills: Annotated[int, typer.Option(help="SIGKILLs (and a few Ctrl-C) of drivers and workers.")] = 10,
    damages: Annotated[int, typer.Option(help="Finished files flipped, cut, removed, swapped.")] = 8,
    full_disks: Annotated[int, typer.Option(help="Times that the disk is full.")] = 1,
    refusals: Annotated[int, typer.Option(help="Builds whose file system refuses calls: EIO, ESTALE, EXDEV …")] = 5,
    network: Annotated[float, typer.Option(help="Share of 429, 503, resets and cut files from a local server.")] = 0.05,
    recipe: Annotated[str, typer.Option(help="A phase, or a YAML file with --sources-root.")] = "decay",
    sources_root: Annotated[str | None, typer.Option(help="A mirror that is a folder; default: the demo's.")] = None,
    scale: Annotated[float | None, typer.Option(help="Of the recipe; default: the demo's.")] = None,
    megabytes: Annotated[float, typer.Option(help="Text in the demo's mirror.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder to work in; default: a temporary one.")] = None,
    executor: Kind = "local",
    workers: Annotated[int, typer.Option(help="Workers at once.")] = 2,
    as_json: Json = False,
) -> None:
    """Build while a seeded schedule kills, damages, fills the disk and breaks the network; demand the undisturbed root.

    Exits with 0 if every promise was kept. In a failure, the folder of the disturbed build is left as it was.
    """
    from ettin_data.chaos import Experiment, run_chaos

    log = (lambda line: None) if as_json else tell

    if executor not in ("local", "ray"):
        raise RecipeError(f"--executor {executor!r} is not known", remedy="use local or ray")
    with ExitStack() as stack:
        folder = out or Path(tempfile.mkdtemp(prefix="ettin-chaos-"))
        if out is None:
            stack.callback(shutil.rmtree, folder)
        loaded, root = _what(recipe, sources_root, scale, megabytes, folder)
        experiment = Experiment(
            loaded,
            folder,
            seed,
            kills,
            damages,
            full_disks,
            refusals,
            network,
            sources_root=root,
            executor={"kind": executor, "workers": workers},
        )
        log(f"schedule of seed {seed}:")
        for number, step in enumerate(experiment.schedule(), 1):
            log(f"  {number:3} {step}")
        outcome = run_chaos(experiment, log)
        if not outcome.ok:
            stack.pop_all()
            log(f"left to be looked at: {folder / 'disturbed'}")
    summary = {
        "ok": outcome.ok,
        "root": outcome.root,
        "kills": outcome.kills,
        "builds": outcome.builds,
        "repairs": outcome.repairs,
        "problems": outcome.problems,
    }
    if as_json:
        tell_json({**summary, "log": outcome.log})
    else:
        tell(_sentence(summary))
    raise typer.Exit(0 if outcome.ok else 1)


def _what(
    recipe: str, sources_root: str | None, scale: float | None, megabytes: float, folder: Path
) -> tuple[Recipe, str | None]:
    """The recipe and the mirror: the demo's unless others are named."""
    from ettin_data import recipe as recipes
    from ettin_data.demo import demo

    phase_name = recipe.removeprefix("ettin/")
    if sources_root is not None or phase_name not in recipes.PHASES:
        return recipes.load_recipe(recipe, scale=1.0 if scale is None else scale), sources_root
    demo.mirror(folder, megabytes)
    loaded = next(phase for phase in demo.recipes(megabytes) if phase.phase == phase_name)
    return loaded if scale is None else recipes.scaled(loaded, scale), str(demo.mirror_folder(folder))


def _sentence(summary: dict[str, Any]) -> str:
    done = f"{summary['kills']} kills, {summary['builds']} builds, {summary['repairs']} repairs"
    if summary["ok"]:
        return f"{done}: always root {summary['root']}"
    return f"{done}; {len(summary['problems'])} promises broken, first: {summary['problems'][0]}"


COMMANDS = (chaos,)
