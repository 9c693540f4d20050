"""Everything that a run of the trainer can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ettin_data.base.progress import SILENT, Progress
from ettin_data.load.samples import ReaderName
from ettin_data.order.loader_edits import Kind
from ettin_data.trainer.data import Layout
from ettin_data.trainer.model import ModelConfig, model_config
from ettin_data.trainer.phases import TUNING, PhaseFolder, Tuning


@dataclass(frozen=True)
class TrainConfig:
    """A run of one model.

    Attributes:
        phases: what to train on, in order.
        out: folder for checkpoints, `metrics.jsonl` and `result.json`.
        kind: "encoder" (masked tokens) or "decoder" (next token).
        size: a name of `model.SIZES`.
        seed: of the weights, the masks and the choice of scored tokens.
        tuning: learning rate and weight decay; None takes the size's.
        scored_tokens: predictions a step that the loss is computed on (drawn for each token, about this many); None:
            all. The vocabulary's matrix is most of a small model's work, so a CPU asks for some hundreds.
        unigram_start: start the vocabulary's bias at the log frequency of the first phase's tokens. A short run does
            not spend itself on them then, and whatever is below the unigram entropy was learned from context.
        margin: nats that the loss has to end below the unigram entropy in each phase; None does not ask.
        law: of a loader that packs rows, as `modernbert-packed-v1:world=8,micro=6` (`order.laws`), or `ettin-v1` for
            the steps of the order index; None: what the recipe of each phase says, or else the index. What it does not
            say of batch, seed, epoch and length is as in the phase.
        layout, batch_tokens, workers, reader: see `data`.
        device: "cpu", "cuda" or "auto". compile: `torch.compile` of the layers; None: on CUDA.
        checkpoint_steps: steps between checkpoints; None: the order index's intervals. A phase's end always has one.
        resume: "latest" continues from `out`'s last checkpoint, a path from that one, None starts anew.
        start_from: a checkpoint whose weights a new run begins with: of the other kind for cross-objective training.
        survey_samples: samples of each phase that are checked and counted before training.
        progress: told of a stage for each phase, in steps, with the loss of each as its note.
    """

    phases: tuple[PhaseFolder, ...]
    out: Path
    kind: Kind = "encoder"
    size: str = "nano"
    seed: int = 21
    tuning: Tuning | None = None
    scored_tokens: int | None = None
    unigram_start: bool = False
    margin: float | None = None
    law: str | None = None
    layout: Layout = "packed"
    batch_tokens: int = 1 << 16
    workers: int = 0
    reader: ReaderName = "mmap"
    device: str = "auto"
    compile: bool | None = None
    checkpoint_steps: int | None = None
    resume: Path | str | None = "latest"
    start_from: Path | None = None
    survey_samples: int = 1 << 18
    progress: Progress = SILENT

    def shape(self, vocabulary: int) -> ModelConfig:
        """Of the model that the size and the kind name, for so many ids. Raises `RecipeError` for an unknown size."""
        return model_config(self.size, causal=self.kind == "decoder", vocabulary=vocabulary)

    @property
    def rates(self) -> Tuning:
        """The tuning that was asked for, else that of the size."""
        return self.tuning or TUNING[self.size.lower()]
