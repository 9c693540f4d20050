"""How far a build is, as gauges: in Prometheus' text format for its node exporter, or for Ray (`ray_metrics`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ettin_data.inspect.status import PhaseStatus

_OF_A_SOURCE = {
    "splits": ("splits", "Splits that are finished."),
    "planned_splits": ("splits_planned", "Splits that the build wants."),
    "tokens": ("tokens", "Tokens in finished splits."),
    "target_tokens": ("tokens_target", "Tokens that the mix takes, in several passes where a source holds fewer."),
    "records": ("records", "Records read."),
    "rejected": ("records_rejected", "Records that could not be used."),
    "filtered": ("records_filtered", "Records that a filter dropped."),
    "lost_files": ("files_lost", "Damaged files whose rest is lost."),
    "bytes": ("input_bytes", "Bytes of input that finished splits were made from."),
    "planned_bytes": ("input_bytes_planned", "Bytes of input that all splits are made from."),
    "tokens_per_s": ("tokens_per_second", "Tokens a second of late."),
    "seconds_left": ("seconds_left", "Seconds until the splits are finished, at that speed."),
}
_OF_A_STAGE = (
    ("seconds", "stage_seconds", "Seconds that a stage of the last build has taken."),
    ("cpu_s", "stage_cpu_seconds", "Seconds of processors that it has taken, of the build and its workers."),
)
_STATES = ("planned", "building", "stopped", "finished")


class Gauge(NamedTuple):
    """A value that goes up and down: its name, what it says, and what it is for each of some labels."""

    name: str
    about: str
    rows: list[tuple[dict[str, str], float]]


def gauges(phases: Sequence[PhaseStatus]) -> list[Gauge]:
    """What is known of some phases. All are gauges: what is built again is counted down first."""
    found = []
    for name, (metric, about) in _OF_A_SOURCE.items():
        rows = [
            ({"phase": phase.phase, "source": key}, getattr(source, name))
            for phase in phases
            for key, source in phase.sources.items()
            if getattr(source, name) is not None
        ]
        found.append((metric, about, rows))
    states = [
        ({"phase": phase.phase, "state": state}, int(phase.state == state)) for phase in phases for state in _STATES
    ]
    workers = [({"phase": phase.phase}, sum(worker.alive for worker in phase.workers)) for phase in phases]
    failures = [({"phase": phase.phase}, len(phase.failures)) for phase in phases]
    looked = [({"phase": phase.phase}, round(phase.at, 3)) for phase in phases]
    for name, metric, about in _OF_A_STAGE:
        rows = [
            ({"phase": phase.phase, "stage": stage}, spent[name])
            for phase in phases
            for stage, spent in phase.stages.items()
        ]
        found.append((metric, about, rows))
    found += [
        ("state", "1 for the state that a phase is in.", states),
        ("builders", "Builds and shares that are at work.", workers),
        ("splits_failed", "Splits whose last attempt failed.", failures),
        ("looked_timestamp_seconds", "When this was written, in seconds since 1970.", looked),
    ]
    return [Gauge(f"ettin_data_{name}", about, rows) for name, about, rows in found if rows]


def exposition(phases: Sequence[PhaseStatus]) -> str:
    """The text of a `.prom` file."""
    lines: list[str] = []
    for name, about, rows in gauges(phases):
        lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {value:.15g}" for labels, value in rows]
    return "\n".join(lines) + "\n"


def _labels(values: Mapping[str, str]) -> str:
    """`{phase="decay"}`; backslashes, quotes and line ends are escaped as the format wants it."""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{name}="{value.translate(escapes)}"' for name, value in values.items()) + "}"
