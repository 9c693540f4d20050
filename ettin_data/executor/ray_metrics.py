"""Gauges as metrics of the Ray session that this process has started or joined.

Ray carries them to the metrics agent of its node, which shows them, with `ray_` before their names, to a Prometheus
that scrapes the cluster and so to Ray's dashboard (https://docs.ray.io/en/latest/ray-observability/user-guides/add-app-metrics.html).
The agent comes with `pip install "ray[default]"`; without it Ray takes the values and shows them nowhere.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

_made: dict[str, Any] = {}


def connected() -> bool:
    """Whether this process is part of a Ray session. Ray is not imported for it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def renew(gauges: Sequence[tuple[str, str, Sequence[tuple[Mapping[str, str], float]]]]) -> None:
    """Set gauges: of each its name, what it says, and its values by their labels. All labels of one have the same keys.

    Does nothing outside of a session.
    """
    if not connected():
        _made.clear()  # what was made in one session is nothing in the next
        return
    from ray.util.metrics import Gauge

    for name, about, rows in gauges:
        for labels, value in rows:
            if name not in _made:
                _made[name] = Gauge(name, description=about, tag_keys=tuple(labels))
            _made[name].set(value, tags=dict(labels))
