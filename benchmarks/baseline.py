"""Ratios against a committed baseline: what may not get worse.

A ratio is a speed or a share beside something that was measured in the same run, so that it says the same on any
machine; more is better. An absolute time never gets here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOLERANCE = 0.25
"""A ratio may fall by this share of its baseline, which is a median. Measured: in four runs on two cores that eight to
ten processes wanted at the same time, no ratio of like with like fell by more than 13%; that was a Gopher filter's,
numpy beside Python. The rest is for other processors."""

BASELINE = Path(__file__).with_name("baseline.json")


@dataclass(frozen=True)
class Line:
    """One ratio: what it is now, what it was, and how far it may fall; None where there is no such thing."""

    name: str
    measured: float | None
    baseline: float | None
    tolerance: float = TOLERANCE

    @property
    def change(self) -> float | None:
        """Of the baseline: -0.26 has fallen by 26%."""
        if self.measured is None or self.baseline is None:
            return None
        return self.measured / self.baseline - 1

    def problem(self) -> str | None:
        """Why the ratio fails, or None."""
        if self.measured is None:
            return "was not measured"
        if not math.isfinite(self.measured) or self.measured <= 0:
            return f"{self.measured} is no ratio"
        if self.change is None:
            return "has no baseline: run with --update and commit it"
        if self.change < -self.tolerance:
            return f"fell by {-self.change:.0%}, more than {self.tolerance:.0%}"
        return None


def compare(
    measured: Mapping[str, float], baseline: Mapping[str, float], tolerances: Mapping[str, float] | None = None
) -> list[Line]:
    """A line for each ratio that either side knows, in the order of the baseline, new ones last.

    `tolerances`: of the ratios that have another than `TOLERANCE`.
    """
    allowed = tolerances or {}
    return [
        Line(name, measured.get(name), baseline.get(name), allowed.get(name, TOLERANCE))
        for name in {**baseline, **measured}
    ]


def read(path: Path = BASELINE) -> dict[str, float]:
    """The committed ratios; none where there is no file yet."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(ratios: Mapping[str, float], path: Path = BASELINE) -> None:
    """Write ratios, to three digits."""
    path.write_text(json.dumps({name: float(f"{value:.3g}") for name, value in ratios.items()}, indent=1) + "\n")
