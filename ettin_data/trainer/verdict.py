"""What a training run found, as data, as text and as a plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ettin_data.base import files
from ettin_data.base.extras import need
from ettin_data.base.units import count, duration


@dataclass(frozen=True)
class Check:
    """One thing that was verified: how many times, how often it failed, and what there is to say about it."""

    name: str
    checked: int
    failed: int = 0
    detail: str = ""


@dataclass(frozen=True)
class PhaseResult:
    """One phase of one model.

    Attributes:
        steps, steps_in_order: trained, and in the order index.
        tokens, scored: read by the model, and predicted.
        first_loss, last_loss: mean over the first and the last quarter of the steps (at least 5), in nats.
        unigram_entropy: of the phase's targets. same_targets: what token frequencies alone score where `last_loss` was.
        wait: share of the time that the model waited for data.
        checkpoints: names, in order.
    """

    kind: str
    phase: str
    steps: int
    steps_in_order: int
    tokens: int
    scored: int
    first_loss: float
    last_loss: float
    unigram_entropy: float
    same_targets: float
    seconds: float
    wait: float
    checkpoints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The end of a run: `ok` when every check passed. `failure` is the message that stopped it."""

    ok: bool
    failure: str | None
    checks: tuple[Check, ...]
    phases: tuple[PhaseResult, ...]
    identity: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    reused: bool = False

    def lines(self) -> list[str]:
        """For a terminal."""
        rows = [
            f"{'model':8} {'phase':10} {'steps':>11} {'tokens':>7} {'loss: first -> last':>20} {'unigram':>8} "
            f"{'same targets':>13} {'time':>6}"
        ]
        rows += [
            f"{p.kind:8} {p.phase:10} {p.steps:>4} of {p.steps_in_order:<4} {count(p.tokens):>6} {p.first_loss:>9.3f} "
            f"-> {p.last_loss:<7.3f} {p.unigram_entropy:>8.3f} {p.same_targets:>13.3f} {duration(p.seconds):>6}"
            for p in self.phases
        ] + [""]
        for check in self.checks:
            mark = "FAILED" if check.failed else "ok"
            rows.append(f"  {mark:6} {check.name}: {check.checked:,} checked{check.detail and '; ' + check.detail}")
        if self.failure:
            rows += ["", self.failure]
        return [*rows, "", "verdict: " + ("the shards are what the model saw" if self.ok else "NOT verified")]

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        files.write(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Verdict | None:
        """None when there is none or it is of another version."""
        try:
            data = json.loads(path.read_text())
            data["checks"] = tuple(Check(**check) for check in data["checks"])
            data["phases"] = tuple(
                PhaseResult(**{**row, "checkpoints": tuple(row["checkpoints"])}) for row in data["phases"]
            )
            return cls(**{**data, "files": tuple(data["files"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def combine(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Checks of the same name added up, in the order in which the names come first."""
    combined: dict[str, Check] = {}
    for check in checks:
        old = combined.get(check.name, Check(check.name, 0))
        detail = "; ".join(dict.fromkeys(d for d in (old.detail, check.detail) if d))
        combined[check.name] = Check(check.name, old.checked + check.checked, old.failed + check.failed, detail)
    return tuple(combined.values())


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of several runs."""
    return Verdict(
        ok=all(verdict.ok for verdict in verdicts),
        failure="\n".join(verdict.failure for verdict in verdicts if verdict.failure) or None,
        checks=combine(check for verdict in verdicts for check in verdict.checks),
        phases=tuple(phase for verdict in verdicts for phase in verdict.phases),
        files=tuple(file for verdict in verdicts for file in verdict.files),
        reused=all(verdict.reused for verdict in verdicts),
    )


COLOURS = {"encoder": "#1b6ca8", "decoder": "#c8553d"}


def plot(logs: Mapping[str, Sequence[Mapping[str, Any]]], phases: Sequence[PhaseResult], out: Path) -> tuple[str, ...]:
    """The loss across phases as `training.svg` and `training.png`: a column for each phase, a colour for each kind.

    `logs`: kind -> the steps of its log, in order. Returns the files, or none when there was no step.
    """
    if not phases:
        return ()
    need("matplotlib", "drawing the losses").use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "ettin-data"  # the same data gives the same file
    names = list(dict.fromkeys(p.phase for p in phases))
    figure, panels = plt.subplots(
        2, len(names), figsize=(3.6 * len(names), 5), sharey="row", sharex="col", height_ratios=(4, 1), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, name in enumerate(names):
        losses, rates = panels[:, column]
        for result in (p for p in phases if p.phase == name):
            steps = [row for row in logs.get(result.kind, ()) if row["phase"] == name]
            place, loss = [row["step"] for row in steps], [row["loss"] for row in steps]
            colour, label = COLOURS[result.kind], f"unigram entropy, {result.kind}'s targets"
            losses.plot(place, loss, color=colour, lw=0.8, alpha=0.35)
            losses.plot(place, _smooth(loss), color=colour, lw=1.8, label=result.kind)
            losses.axhline(result.unigram_entropy, color=colour, ls=":", lw=1.3, label=label)
            rates.plot(place, [row["lr"] for row in steps], color=colour, lw=1.3)
        losses.set_title(name, fontsize=10, loc="left", color="#555555")
        rates.set_xlabel("step")
        for panel in (losses, rates):
            panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("loss, nats a token")
    panels[1, 0].set_ylabel("learning rate", fontsize=9)
    panels[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
    out.mkdir(parents=True, exist_ok=True)
    svg, png = out / "training.svg", out / "training.png"
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(png, dpi=130)
    plt.close(figure)
    return str(svg), str(png)


def _smooth(values: Sequence[float], most: int = 8) -> list[float]:
    """The mean of each value and those before it, `most` of them at most."""
    return [sum(values[max(i - most + 1, 0) : i + 1]) / min(i + 1, most) for i in range(len(values))]
