"""`ettin-data train`: the small trainer that proves that the shards are what a model sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin_data.base.errors import RecipeError
from ettin_data.cli.shared import bar, tell

if TYPE_CHECKING:
    from ettin_data.trainer.verdict import Verdict


def train(
    run: Annotated[Path, typer.Argument(help="A run folder with the phases to train on, such as runs/demo.")],
    size: Annotated[str, typer.Option(help="nano, or Ettin's 17m, 32m, 68m, 150m, 400m, 1b.")] = "nano",
    objective: Annotated[str, typer.Option(help="encoder, decoder or both.")] = "both",
    steps: Annotated[str, typer.Option(help="Of each phase: a number, auto, or all of the order index.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Where models go; default <run>/trainer.")] = None,
) -> None:
    """Train through the phases of a run, checking at every step that the batch is what the order says.

    Exits with 1 if a check fails.
    """
    if steps not in ("auto", "all") and not steps.isdecimal():
        raise RecipeError(f"--steps {steps!r} is not a number of steps", remedy="give a number, auto or all")
    verdict = watch(run, size=size, objective=objective, steps=int(steps) if steps.isdecimal() else steps, out=out)
    raise typer.Exit(0 if verdict.ok else 1)


def watch(run: Path, **options: Any) -> Verdict:
    """`trainer.small.train_run` with a bar; prints the verdict."""
    from ettin_data.trainer.small import train_run

    verdict = train_run(run, progress=bar(), **options)
    tell(*verdict.lines())
    return verdict


COMMANDS = (train,)
