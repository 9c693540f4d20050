"""Checkpoints and the log of steps: written so that a kill at any instant loses at most the steps since the last one.

A checkpoint is one file `<prefix><steps done in the phase>.pt` (`step40.pt`, `ext8.pt`, `decay6.pt`, as Ettin names
them): weights, optimizer, and one integer of position. No random state: every draw is keyed by its step. With it goes
the identity of the run, what decides the loss curve, and a checkpoint of another identity is refused with the
difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from ettin_data.base import files
from ettin_data.base.errors import EttinError

SUFFIX = ".pt"


class CheckpointError(EttinError):
    """A checkpoint is missing, damaged or of another run."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stood.

    Attributes:
        phase: name of the phase; `step`: steps done in it.
        identity: what decides the loss curve: JSON values.
        threads: of torch, when it was written: on CPU the same number gives the same bits.
        model, optimizer: state dictionaries, on CPU.
    """

    phase: str
    step: int
    identity: Mapping[str, Any]
    threads: int
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]


def save(folder: Path, prefix: str, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint: whole under its name, or not there."""
    path = folder / f"{prefix}{checkpoint.step}{SUFFIX}"
    content = {**vars(checkpoint), "identity": json.dumps(checkpoint.identity)}
    with files.replacing(path) as partial, open(partial, "wb") as file:
        torch.save(content, file)
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values are read, never code. Raises `CheckpointError`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(**{**content, "identity": json.loads(content["identity"])})
    except FileNotFoundError:
        raise CheckpointError("there is no such checkpoint", where=path) from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(
            "the checkpoint cannot be read",
            where=path,
            why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            remedy="delete it; the run continues from the one before",
        ) from error


def names(folder: Path, prefix: str) -> list[str]:
    """The checkpoints of one phase, by their steps."""
    matches = (re.fullmatch(rf"{prefix}(\d+)", path.stem) for path in folder.glob(f"*{SUFFIX}"))
    return [match[0] for match in sorted((m for m in matches if m), key=lambda match: int(match[1]))]


def latest(folder: Path, prefixes: Sequence[str]) -> Path | None:
    """The furthest checkpoint in a folder; `prefixes` in the order of the phases."""
    for prefix in reversed(prefixes):
        if found := names(folder, prefix):
            return folder / f"{found[-1]}{SUFFIX}"
    return None


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """What differs between two identities, one line for each key."""
    lines = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{path}{key}.")
        elif a != b:
            lines.append(f"{path}{key}: {a!r} in the checkpoint, {b!r} now")
    return lines


def open_log(path: Path, phases: Sequence[str], phase: str, step: int) -> TextIO:
    """`metrics.jsonl`, a line for each step, opened to write behind step `step` (counted from 1) of `phase`.

    Lines of later steps are forgotten: the steps come again.
    """
    last = phases.index(phase), step
    kept = [
        row for row in read_log(path) if row["phase"] in phases and (phases.index(row["phase"]), row["step"]) <= last
    ]
    files.write(path, "".join(json.dumps(row) + "\n" for row in kept))
    return open(path, "a", buffering=1)  # a line at a time


def read_log(path: Path) -> list[dict[str, Any]]:
    """The steps of a log; a last line cut by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
