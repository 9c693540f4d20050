"""`ettin-data train`: the small trainer that proves that the shards are what a model sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin_data.base.errors import RecipeError
from ettin_data.cli.shared import PackingLaw, bar, tell

if TYPE_CHECKING:
    from ettin_data.trainer.verdict import Verdict


def train(
    run: Annotated[Path, typer.Argument(help="A run folder with the phases to train on, such as runs/demo.")],
    size: Annotated[str, typer.Option(help="nano, or Ettin's 17m, 32m, 68m, 150m, 400m, 1b.")] = "nano",
    objective: Annotated[str, typer.Option(help="encoder, decoder or both.")] = "both",
    steps: Annotated[str, typer.Option(help="Of each phase: a number, auto, or all of the order index.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Where models go; default <run>/trainer.")] = None,
    law: PackingLaw = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="A checkpoint whose weights to begin with: of the other kind for cross-objective training."),
    ] = None,
) -> None:
    """Train through the phases of a run, checking at every step that the batch is what the order says.

    Exits with 1 if a check fails. A model of the other kind, begun with the weights of this one (give it an --out):

        ettin-data train runs/demo --objective decoder --start-from runs/demo/trainer/encoder/ext8.pt --out runs/crossed
    """
    if steps not in ("auto", "all") and not steps.isdecimal():
        raise RecipeError(f"--steps {steps!r} is not a number of steps", remedy="give a number, auto or all")
    if start_from is not None and objective == "both":
        raise RecipeError(
            "--start-from with both kinds of model",
            why="the weights are those of one, and the next is another run",
            remedy="add --objective encoder or --objective decoder, and an --out of its own",
        )
    many = int(steps) if steps.isdecimal() else steps
    verdict = watch(run, size=size, objective=objective, steps=many, out=out, law=law, start_from=start_from)
    raise typer.Exit(0 if verdict.ok else 1)


def watch(run: Path, **options: Any) -> Verdict:
    """`trainer.small.train_run` with a bar; prints the verdict."""
    from ettin_data.trainer.small import train_run

    verdict = train_run(run, progress=bar(), **options)
    tell(*verdict.lines())
    return verdict


def checkpoint(
    path: Annotated[Path, typer.Argument(help="A checkpoint, such as runs/demo/trainer/encoder/decay6.pt.")],
    out: Annotated[Path, typer.Argument(help="A folder for config.json, model.safetensors and the tokenizer.")],
    run: Annotated[
        Path | None, typer.Option(help="The run that it was trained on; default: the one whose trainer/ it lies in.")
    ] = None,
) -> None:
    """Write a checkpoint in the form that transformers loads: ModernBertForMaskedLM, ModernBertDecoderForCausalLM."""
    from ettin_data.trainer.transformers_form import export_checkpoint

    for sentence in export_checkpoint(path, run or path.absolute().parents[2], out):
        tell(sentence)
    tell(f"{out}: ready for from_pretrained")


COMMANDS = (train, checkpoint)
