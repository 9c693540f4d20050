"""What a recipe says of those who train on the phase: how a loader edits a sample, and how a model is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ettin_data.base.options import Options


class LoaderChoice(Options):
    """What the trainer's loader does to a stored sample before the model sees it (ARCHITECTURE 5.6)."""

    rule: str = "ettin"
    """A name of `order.loader_edits.RULES`."""
    max_seq_len: int | None = Field(None, ge=2)
    """Most tokens that the model is given; None takes the rule's own for this length."""


class TrainingChoice(Options):
    """How a model is trained on the phase, where that is not Ettin's; what is not said is as in Ettin's phase of this
    name, or else as in its first one."""

    mask: float | None = Field(None, gt=0, lt=1)
    """Share of the tokens that an encoder has to guess."""
    rope: float | None = Field(None, gt=1)
    """RoPE base of the global layers; None takes 10,000 up to a length of 1,024, and 160,000 beyond."""
    rope_local: float | None = Field(None, gt=1)
    """RoPE base of the other layers; None takes 10,000."""
    schedule: Literal["warmup", "one_minus_sqrt"] | None = None
    """Of the learning rate: `warmup` rises from `start` to `end` and stays, `one_minus_sqrt` falls."""
    start: float | None = Field(None, ge=0, le=1)
    """Learning rate at the beginning, in parts of the peak."""
    end: float | None = Field(None, ge=0, le=1)
    """Learning rate at the end, in parts of the peak."""
    warmup: float | None = Field(None, ge=0, lt=1)
    """Part of the steps that `warmup` rises for; 0 is flat from the first step on."""
