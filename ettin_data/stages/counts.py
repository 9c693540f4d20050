"""What the steps of a split counted with datatrove's `stat_update`, as JSON that adds up over splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import MetricStats

Counts = dict[str, Any]
"""Label -> how often it was counted; of a label that was given other values than 1, `{total, n, min, max}`."""


def counts_of(step: PipelineStep) -> Counts:
    """What a step counted. Times are left out: the same split counts the same wherever it is built."""
    return {label: _plain(stats) for label, stats in sorted(step.stats.stats.items())}


def added(splits: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The counts of several splits together: name of the step -> its counts."""
    total: dict[str, dict[str, MetricStats]] = {}
    for steps in splits:
        for name, counts in steps.items():
            sums = total.setdefault(name, {})
            for label, value in counts.items():
                sums[label] = sums.get(label, MetricStats()) + _stats(value)
    return {name: {label: _plain(stats) for label, stats in sorted(sums.items())} for name, sums in total.items()}


def _plain(stats: MetricStats) -> Any:
    if stats.min == stats.max == 1:
        return stats.total
    return {"total": stats.total, "n": stats.n, "min": stats.min, "max": stats.max}


def _stats(value: Any) -> MetricStats:
    if isinstance(value, dict):
        return MetricStats(**value)
    return MetricStats(total=value, n=value, min=1, max=1)
