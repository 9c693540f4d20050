"""How the benchmarks measure: CPU seconds, candidates in turn, medians of the rounds, ratios within a round.

On a shared machine the same work takes up to twice as long from one minute to the next, so absolute figures say little
and are never compared with a stored one. Candidates that run directly after each other meet the same conditions: their
ratio is taken round by round, and its median is what a benchmark claims.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@dataclass
class Timing:
    """CPU and wall seconds of each round."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def cpu_s(self) -> float:
        return statistics.median(self.cpu)

    @property
    def wall_s(self) -> float:
        return statistics.median(self.wall)


def in_turn(
    candidates: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, Timing]:
    """Run all candidates once to warm up, then `rounds` times in turn, every second round backwards.

    `clock` gives the CPU seconds so far of whatever does the work.
    """
    timings = {name: Timing() for name in candidates}
    gc.collect()
    gc.freeze()  # what is there already (torch, say) is not gone through again before each candidate, nor in it
    for round_number in range(rounds + 1):
        order = list(candidates) if round_number % 2 else list(candidates)[::-1]
        for name in order:
            gc.collect()
            wall, cpu = time.perf_counter(), clock()
            candidates[name]()
            cpu, wall = clock() - cpu, time.perf_counter() - wall
            if round_number:
                timings[name].cpu.append(cpu)
                timings[name].wall.append(wall)
    gc.unfreeze()
    return timings


def ratio(base: Timing, other: Timing) -> float:
    """How many times as fast as `base` the other is in CPU time: the median over the rounds."""
    return statistics.median(b / o for b, o in zip(base.cpu, other.cpu, strict=True))


def ratio_of_best(base: Timing, other: Timing) -> float:
    """The same of the best rounds: for work of a few milliseconds in the kernel, where a median is mostly noise."""
    return min(base.cpu) / min(other.cpu)


def peak_rss() -> int:
    """The most memory that this process has held so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):  # of this program; ru_maxrss also counts what the parent held at the fork
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a new process, for its own imports, caches and peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def table(rows: Sequence[Row]) -> str:
    """Rows with the same keys as a Markdown table."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    numeric = [isinstance(value, int | float) for value in rows[0].values()]
    lines = [
        "| " + " | ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)) + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def report(title: str, rows: Sequence[Row], path: Path | None, ratios: Mapping[str, float] | None = None) -> None:
    """Print the table; write rows and ratios where `--json` asks for them."""
    print(f"{title}\n\n{table(rows)}\n", flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"title": title, "rows": rows, "ratios": dict(ratios or {})}, indent=1) + "\n")
