"""Train both kinds of model on a built run, on whatever machine this is, and report: the end of `make demo`.

On a CPU the nano model takes the first steps of each phase, as many as a stated amount of work allows, computes the
loss on some hundreds of tokens a step (drawn for each token, so the mean is that of all), and starts from the tokens'
frequencies. All samples of the run are checked against the hashes of the build all the same, whether a step reads
them or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ettin_data.base.errors import RecipeError
from ettin_data.order.loader_edits import Kind
from ettin_data.storage.phase import REPORT, TRAINER
from ettin_data.trainer import state
from ettin_data.trainer.config import TrainConfig
from ettin_data.trainer.loop import LOG, train
from ettin_data.trainer.phases import PhaseFolder, run_phases
from ettin_data.trainer.verdict import Verdict, merge, plot

Objective = Literal["encoder", "decoder", "both"]

NANO_WORK: dict[Kind, dict[str, float]] = {
    "encoder": {"pretrain": 3.0e12, "extension": 0.9e12, "decay": 0.9e12},
    "decoder": {"pretrain": 1.0e12, "extension": 0.6e12, "decay": 0.6e12},
}
"""Floating point operations for each phase of the nano model; a core does about 3e10 a second. An encoder learns from
context later than a decoder, which sees the token before the one that it predicts: it gets more."""

OTHER_WORK = 0.9e12
"""The same for a phase of another name."""

NANO_SCORED: dict[Kind, int] = {"encoder": 1024, "decoder": 512}
NANO_BATCH_TOKENS = 4096
"""Batches of a few documents keep the working set of a CPU small; the step is their sum all the same."""

NANO_WARMUP = 0.05
MARGIN = 0.05
"""Nats below the unigram entropy; a short phase of the demo ends 0.15 to 0.5 below it."""


def train_run(
    run: Path,
    *,
    size: str = "nano",
    objective: Objective = "both",
    steps: int | Literal["auto", "all"] = "auto",
    out: Path | None = None,
    **options: object,
) -> Verdict:
    """Train on every phase that `run` holds and write `<run>/report/training.{json,svg,png}`.

    Args:
        run: folder with finished phases.
        size: of `model.SIZES`. objective: which kinds to train, one after the other.
        steps: of each phase; "all" of the order index; "auto": a stated amount of work for nano, all for the others.
        out: where models go (default `<run>/trainer`); each kind in its own folder.
        options: further fields of `TrainConfig`, such as `progress`.

    Returns: one verdict of all; `ok` is the exit status.
    Raises: EttinError when it cannot start.
    """
    if objective not in ("encoder", "decoder", "both"):
        raise RecipeError(f"objective {objective!r} is not known", remedy="encoder, decoder or both")
    kinds: Sequence[Kind] = ("encoder", "decoder") if objective == "both" else (objective,)
    root = out or run / TRAINER
    verdicts: list[Verdict] = []
    logs: dict[str, list[dict[str, Any]]] = {}
    for kind in kinds:
        config = TrainConfig(_phases(run, kind, size, steps), root / kind, kind, size)
        if size == "nano":
            config = replace(
                config,
                scored_tokens=NANO_SCORED[kind],
                batch_tokens=NANO_BATCH_TOKENS,
                unigram_start=True,
                margin=None if isinstance(steps, int) else MARGIN,  # who asks for a few steps does not ask to learn
            )
        verdicts.append(train(replace(config, **options)))  # type: ignore[arg-type]
        logs[kind] = state.read_log(root / kind / LOG)
    verdict, report = merge(verdicts), out or run / REPORT
    verdict = replace(verdict, files=plot(logs, verdict.phases, report))
    verdict.write(report / "training.json")
    return verdict


def _phases(run: Path, kind: Kind, size: str, steps: int | Literal["auto", "all"]) -> tuple[PhaseFolder, ...]:
    found = run_phases(run, steps if isinstance(steps, int) else None)
    if size != "nano":
        return found
    found = tuple(replace(f, phase=replace(f.phase, warmup=NANO_WARMUP if f.phase.warmup else 0.0)) for f in found)
    if steps == "auto":
        found = tuple(replace(f, work=NANO_WORK[kind].get(f.phase.name, OTHER_WORK)) for f in found)
    return found
