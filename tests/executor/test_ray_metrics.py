"""Gauges of a build come out of Ray's own metrics page."""

from __future__ import annotations

import time
import urllib.request
from contextlib import suppress

import pytest

from ettin_data.executor import ray_metrics

GAUGES = [
    ("ettin_data_tokens", "Tokens.", [({"phase": "decay", "source": "a"}, 5), ({"phase": "decay", "source": "b"}, 7)])
]


def test_nothing_is_done_outside_of_a_session() -> None:
    assert not ray_metrics.connected()
    ray_metrics.renew(GAUGES)
    assert not ray_metrics._made


@pytest.mark.slow
def test_ray_shows_what_was_set_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp_cors", reason="the metrics agent comes with ray[default]")
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "180")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    try:
        assert ray_metrics.connected()
        ray_metrics.renew([("ettin_data_tokens", "Tokens.", [({"phase": "decay", "source": "a"}, 1)])])
        ray_metrics.renew(GAUGES)
        shown, deadline = dict[str, float](), time.monotonic() + 60
        while set(shown.values()) != {5, 7} and time.monotonic() < deadline:
            time.sleep(0.5)
            node = ray.nodes()[0]
            page = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            with suppress(OSError), urllib.request.urlopen(page, timeout=5) as answer:
                lines = [
                    line for line in answer.read().decode().splitlines() if line.startswith("ray_ettin_data_tokens{")
                ]
                shown = {line.partition('source="')[2][0]: float(line.rpartition(" ")[2]) for line in lines}
        assert shown == {"a": 5, "b": 7}
    finally:
        ray.shutdown()
    ray_metrics.renew(GAUGES)
    assert not ray_metrics._made
