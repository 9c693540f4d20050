"""How far a build is, in Prometheus' text format, for the textfile collector of its node exporter."""

from __future__ import annotations

from collections.abc import Sequence

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
_STATES = ("planned", "building", "stopped", "finished")


def exposition(phases: Sequence[PhaseStatus]) -> str:
    """The text of a `.prom` file. All are gauges: what is built again is counted down first."""
    lines: list[str] = []
    for name, (metric, about) in _OF_A_SOURCE.items():
        rows = [
            (_labels(phase=phase.phase, source=key), getattr(source, name))
            for phase in phases
            for key, source in phase.sources.items()
            if getattr(source, name) is not None
        ]
        lines += _metric(metric, about, rows)
    states = [
        (_labels(phase=phase.phase, state=state), int(phase.state == state)) for phase in phases for state in _STATES
    ]
    lines += _metric("state", "1 for the state that a phase is in.", states)
    workers = [(_labels(phase=phase.phase), sum(worker.alive for worker in phase.workers)) for phase in phases]
    lines += _metric("builders", "Builds and shares that are at work.", workers)
    failures = [(_labels(phase=phase.phase), len(phase.failures)) for phase in phases]
    lines += _metric("splits_failed", "Splits whose last attempt failed.", failures)
    looked = [(_labels(phase=phase.phase), round(phase.at, 3)) for phase in phases]
    lines += _metric("looked_timestamp_seconds", "When this was written, in seconds since 1970.", looked)
    return "\n".join(lines) + "\n"


def _metric(name: str, about: str, rows: Sequence[tuple[str, float]]) -> list[str]:
    if not rows:
        return []
    full = f"ettin_data_{name}"
    return [
        f"# HELP {full} {about}",
        f"# TYPE {full} gauge",
        *(f"{full}{labels} {value:.15g}" for labels, value in rows),
    ]


def _labels(**values: str) -> str:
    """`{phase="decay"}`; backslashes, quotes and line ends are escaped as the format wants it."""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{name}="{value.translate(escapes)}"' for name, value in values.items()) + "}"
