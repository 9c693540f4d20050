"""What the steps of a split counted with datatrove's `stat_update`, as JSON that adds up over splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import MetricStats

from ettin_data.stages.filters import measured

Counts = dict[str, Any]
"""Label -> how often it was counted; of a label that was given other values than 1, `{total, n, min, max}`.

Of a filter also `MEASURED`: rule -> how the values that it looked at lie around its threshold (`Measured.to_json`).
Of a step that looks for named texts also `ITEMS`: name -> how often it was found.
"""

MEASURED, ITEMS = "measured", "items"
MOST_ITEMS = 100


def counts_of(step: PipelineStep) -> Counts:
    """What a step counted. Times are left out: the same split counts the same wherever it is built."""
    counts = {label: _plain(stats) for label, stats in sorted(step.stats.stats.items())}
    if values := getattr(step, MEASURED, None):
        counts[MEASURED] = {rule: values[rule].to_json() for rule in sorted(values)}
    if items := getattr(step, ITEMS, None):
        counts[ITEMS] = dict(sorted(items.items()))
    return counts


def added(splits: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The counts of several splits together: name of the step -> its counts."""
    total: dict[str, dict[str, MetricStats]] = {}
    values: dict[str, dict[str, list[Any]]] = {}
    items: dict[str, Counter[str]] = {}
    for steps in splits:
        for name, counts in steps.items():
            sums = total.setdefault(name, {})
            for label, value in counts.items():
                if label == MEASURED:
                    for rule, one in value.items():
                        values.setdefault(name, {}).setdefault(rule, []).append(one)
                    continue
                if label == ITEMS:
                    items.setdefault(name, Counter()).update(value)
                    continue
                sums[label] = sums.get(label, MetricStats()) + _stats(value)
    made: dict[str, Counts] = {
        name: {label: _plain(stats) for label, stats in sorted(sums.items())} for name, sums in total.items()
    }
    for name, rules in values.items():
        made[name][MEASURED] = {rule: measured.added(several) for rule, several in sorted(rules.items())}
    for name, found in items.items():
        made[name]["different_items"] = len(found)
        made[name][ITEMS] = most_found(found)
    return made


def most_found(items: Mapping[str, int], most: int = MOST_ITEMS) -> dict[str, int]:
    """Those that were found most often, the most frequent first."""
    return dict(sorted(items.items(), key=lambda item: (-item[1], item[0]))[:most])


def _plain(stats: MetricStats) -> Any:
    if stats.min == stats.max == 1:
        return stats.total
    return {"total": stats.total, "n": stats.n, "min": stats.min, "max": stats.max}


def _stats(value: Any) -> MetricStats:
    if isinstance(value, dict):
        return MetricStats(**value)
    return MetricStats(total=value, n=value, min=1, max=1)
