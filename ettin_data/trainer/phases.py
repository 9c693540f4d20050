"""Ettin's three phases: length, RoPE base, mask ratio, learning rate (ARCHITECTURE 5.7); which phases a run folder
holds, what is taken for one of another family (what its recipe says under `training`), and how far a small run goes.

Sources: the published training configurations (`pretraining/configs/standard/*`): warm-up then flat; one-minus-sqrt
from the peak to 0.5 of it (`alpha_f: 0.5`); one-minus-sqrt from half the peak to 0.04 of that (`lr: 1.5e-3`,
`alpha_f: 0.04`). Optimizer state is carried from phase to phase as there (`load_path` with `reset_time`). Not
followed: their batch-size warm-up in phase 1 (the order index has whole batches), StableAdamW's update clipping (here
AdamW and gradient clipping).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import BuildError
from ettin_data.order.loader_edits import Loader
from ettin_data.order.published import in_training_order
from ettin_data.storage import records
from ettin_data.storage.phase import Phase, phases_in
from ettin_data.trainer.model import ModelConfig


@dataclass(frozen=True)
class PhaseRules:
    """One phase of training.

    Attributes:
        name: folder of the phase in the run, and name of its recipe.
        prefix: of its checkpoints, as Ettin publishes them: `step599525`, `ext1000`, `decay100`.
        max_seq_len: most tokens of a sample that the model sees.
        rope_global, rope_local: RoPE base of the global layers, and of the others.
        mask_ratio: of an encoder. Phase 3: 15% in the configurations, 5% on the model card.
        schedule: "warmup" rises to the peak and stays; "one_minus_sqrt" falls from `start` to `end`.
        start, end: learning rate in parts of the peak.
        warmup: part of the phase's steps that "warmup" rises for; 3B of 1.7T tokens.
    """

    name: str
    prefix: str
    max_seq_len: int
    rope_global: float
    mask_ratio: float
    schedule: Literal["warmup", "one_minus_sqrt"]
    start: float
    end: float
    warmup: float = 0.0
    rope_local: float = 10_000.0


PHASES: dict[str, PhaseRules] = {
    phase.name: phase
    for phase in (
        PhaseRules("pretrain", "step", 1024, 10_000.0, 0.30, "warmup", 0.0, 1.0, 3e9 / 1.7e12),
        PhaseRules("extension", "ext", 7999, 160_000.0, 0.30, "one_minus_sqrt", 1.0, 0.5),
        PhaseRules("decay", "decay", 7999, 160_000.0, 0.15, "one_minus_sqrt", 0.5, 0.02),
    )
}


def rules_of(place: Phase) -> PhaseRules:
    """The rules of a phase: Ettin's, or for any other name those of its first phase, with the RoPE base of its length;
    and in their place what the recipe says under `training`.

    Raises `BuildError` for a damaged `run.json`.
    """
    run = records.read_run(place) if place.run_json.exists() else None
    said = {} if run is None else run.recipe.get("training") or {}
    given = {_NAMED.get(key, key): value for key, value in said.items() if value is not None}
    if place.name in PHASES:
        return replace(PHASES[place.name], **given)
    first, later = PHASES["pretrain"], PHASES["extension"]
    limit = first.max_seq_len if run is None else Loader.of_run(run).max_seq_len
    rope = first.rope_global if limit <= first.max_seq_len else later.rope_global
    usual = {"name": place.name, "prefix": place.name, "max_seq_len": limit, "rope_global": rope}
    return replace(first, **{**usual, **given})


_NAMED = {"mask": "mask_ratio", "rope": "rope_global"}


@dataclass(frozen=True)
class Tuning:
    """Peak learning rate of a size, and its decoupled weight decay as configured upstream: the part of a weight that is
    taken off in a step at the peak (composer divides by the peak; torch's `weight_decay` is `decay / peak`)."""

    peak: float
    decay: float


TUNING: dict[str, Tuning] = {
    "nano": Tuning(1e-2, 3e-4),
    "17m": Tuning(3e-3, 3e-4),
    "32m": Tuning(3e-3, 3e-4),
    "68m": Tuning(3e-3, 3e-4),
    "150m": Tuning(8e-4, 1e-5),
    "400m": Tuning(5e-4, 1e-5),
    "1b": Tuning(5e-4, 5e-5),
}


@dataclass(frozen=True)
class PhaseFolder:
    """A built phase to train on.

    Attributes:
        phase: its rules.
        folder: holds `train/`, `order/` and `run.json`.
        steps: to train; None: all of the order index, or what `work` allows.
        work: floating point operations that the phase may take.
    """

    phase: PhaseRules
    folder: Path
    steps: int | None = None
    work: float | None = None


def run_phases(run: Path, steps: int | None = None) -> tuple[PhaseFolder, ...]:
    """The finished phases of a run folder: Ettin's in their order, then others by name. `BuildError` for none."""
    finished = in_training_order([phase for phase in phases_in(run) if phase.finished])
    found = tuple(PhaseFolder(rules_of(phase), phase.folder, steps) for phase in finished)
    if not found:
        raise BuildError("no built phase to train on", where=run, remedy="build one first, as `make demo` does")
    return found


def learning_rate(phase: PhaseRules, step: int, steps: int) -> float:
    """In parts of the peak, for `step` (from 0) of the `steps` that will be trained in this phase."""
    if phase.schedule == "warmup":
        rising = round(phase.warmup * steps)
        return phase.end if step >= rising else phase.start + (phase.end - phase.start) * (step + 1) / (rising + 1)
    return phase.end + (phase.start - phase.end) * (1 - sqrt(step / steps))


def step_work(model: ModelConfig, lengths: NDArray[np.integer[Any]], score: float) -> float:
    """Floating point operations of a step, forward and backward, for samples of these lengths (int, shape (n,)).

    Two for each weight and token forward, twice that backward; attention likewise for each pair of tokens that see each
    other, five products instead of two in its backward; the vocabulary's matrix only where the loss is computed.
    """
    sizes = lengths.astype(np.float64)
    tokens = sizes.sum()
    layer = 4 * model.hidden**2 + 3 * model.hidden * model.intermediate
    work = 6 * tokens * (model.layers * layer) + 6 * tokens * score * model.hidden * model.vocabulary
    for number in range(model.layers):
        span = model.span(number)
        pairs = (sizes**2).sum() if span is None else tokens * 3 * (model.window // 2)
        work += 14 * pairs * model.hidden
    return float(work)


def steps_that_fit(work: NDArray[np.float64], budget: float) -> int:
    """The most first steps whose work, shape (steps,), stays within the budget; at least two, or all there are."""
    return min(max(int(np.searchsorted(np.cumsum(work), budget, side="right")), 2), len(work))
