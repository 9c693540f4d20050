"""All benchmarks, one after the other, into one page: tables, figures and plots.

    python -m benchmarks.everything [--out build/bench] [--only NAME ...] [--full]

`build/bench/` gets `README.md` (every table, with its plot), `bench.json` (every row and ratio), the plots as SVG, and
a log and a JSON file of each benchmark. `--full` adds the sizes that need much time and 16 GB. Run it on a
machine that does nothing else: only the ratios of one run hold on a shared one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import table


@dataclass(frozen=True)
class Bars:
    """A bar for each row: `value` by `label`; `claim` is drawn as a line."""

    label: str
    value: str
    claim: float | None = None


@dataclass(frozen=True)
class Lines:
    """A line for each `label` over `x`, both axes logarithmic."""

    label: str
    x: str
    value: str


@dataclass(frozen=True)
class Benchmark:
    """A module of `benchmarks`, its arguments, those of a full run, and how its (first) table is drawn."""

    name: str
    arguments: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    plot: Bars | Lines | None = None


BENCHMARKS = (
    Benchmark("end_to_end", ("--megabytes", "30"), plot=Bars("case", "of the bare loop", 0.6)),
    Benchmark("reading", plot=Bars("case", "CPU time of read_file", 1.5)),
    Benchmark("tokenizer", plot=Bars("backend", "M tokens/s")),
    Benchmark("filters", ("--megabytes", "2"), plot=Bars("filter", "times as cheap", 10)),
    Benchmark("contamination", ("--rounds", "2")),
    Benchmark("packing", plot=Bars("strategy", "full %")),
    Benchmark("workers", plot=Bars("workers", "M tokens/s")),
    Benchmark("executor", plot=Bars("", "of a minute %")),
    Benchmark("dedup"),
    Benchmark("pilot", ("--rounds", "1"), plot=Bars("case", "time off")),
    Benchmark("build", plot=Bars("workers", "peak / final", 1.1)),
    Benchmark("memory", ("--megabytes", "100"), ("--megabytes", "1000"), Bars("shape", "peak MB", 1000)),
    Benchmark("durability"),
    Benchmark("trainer_reading", plot=Bars("reader", "CPU us a sample")),
    Benchmark("other_kinds"),
    Benchmark("order", full=("--sizes", "1e8,1e9,2.8e9")),
    Benchmark("scale", full=("--splits", "1000", "10000", "100000"), plot=Lines("part", "splits", "CPU s")),
)


def run(benchmark: Benchmark, out: Path, full: bool) -> tuple[float, bool]:
    """Run one benchmark in a process of its own; wall seconds, and whether it ended well."""
    target = out / f"{benchmark.name}.json"
    arguments = (benchmark.full or benchmark.arguments) if full else benchmark.arguments
    command = [sys.executable, "-m", f"benchmarks.{benchmark.name}", *arguments, "--json", str(target)]
    began = time.perf_counter()
    with open(out / f"{benchmark.name}.log", "wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    return time.perf_counter() - began, ended.returncode == 0


def reports(benchmark: Benchmark, out: Path) -> list[dict[str, Any]]:
    """What the benchmark has written: titles, rows and ratios."""
    files = [out / f"{benchmark.name}.json", *sorted(out.glob(f"{benchmark.name}-*.json"))]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def same_columns(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows in runs that have the same columns, each of which is a table."""
    return [list(run) for _, run in itertools.groupby(rows, key=tuple)]


def draw(plot: Bars | Lines, rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw a table as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.32 * len(rows) if isinstance(plot, Bars) else 4.5))
    if isinstance(plot, Bars):
        labels = _labels(rows, plot.label)
        axes.barh(range(len(rows)), [row[plot.value] for row in rows], color="#4878a8")
        axes.set_yticks(range(len(rows)), labels)
        axes.invert_yaxis()
        if plot.claim is not None:
            axes.axvline(plot.claim, color="#c04040", linestyle="--", linewidth=1)
        axes.set_xlabel(plot.value)
    else:
        for label in dict.fromkeys(row[plot.label] for row in rows):
            points = [(row[plot.x], row[plot.value]) for row in rows if row[plot.label] == label]
            axes.loglog(*zip(*points, strict=True), marker="o", label=label)
        axes.set_xlabel(plot.x)
        axes.set_ylabel(plot.value)
        axes.legend(fontsize=8)
    axes.set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _labels(rows: Sequence[Mapping[str, Any]], label: str) -> list[str]:
    """The labels; where they repeat, with the row's other words."""
    names = [str(row[label]) for row in rows]
    if len(set(names)) == len(names):
        return names
    words = [[str(v) for k, v in row.items() if k != label and isinstance(v, str | int) and v != ""] for row in rows]
    return [f"{name} {' '.join(other[:2])}" for name, other in zip(names, words, strict=True)]


def page(found: Sequence[tuple[Benchmark, float, bool, list[dict[str, Any]]]]) -> str:
    """The Markdown of all tables."""
    lines = [
        "# Benchmarks",
        "",
        f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}. Ratios are of things measured in turn; absolute figures are this machine's.",
    ]
    for benchmark, seconds, well, tables in found:
        state = "" if well else "; **FAILED**, see its log"
        lines += ["", f"## {benchmark.name}", "", f"`python -m benchmarks.{benchmark.name}`, {seconds:.0f} s{state}"]
        for number, one in enumerate(tables):
            lines += ["", one["title"]]
            for rows in same_columns(one["rows"]):
                lines += ["", table(rows)]
            if number == 0 and benchmark.plot is not None:
                lines += ["", f"![{one['title']}]({benchmark.name}.svg)"]
            if one["ratios"]:
                lines += ["", "; ".join(f"{name}: {value:.4g}" for name, value in one["ratios"].items())]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    found = []
    for benchmark in BENCHMARKS:
        if benchmark.name not in options.only:
            continue
        print(f"{benchmark.name} ...", end=" ", flush=True)
        seconds, well = run(benchmark, options.out, options.full)
        tables = reports(benchmark, options.out)
        if benchmark.plot is not None and tables:
            draw(benchmark.plot, tables[0]["rows"], tables[0]["title"], options.out / f"{benchmark.name}.svg")
        print(f"{seconds:.0f} s{'' if well else ', FAILED'}", flush=True)
        found.append((benchmark, seconds, well, tables))
        (options.out / "README.md").write_text(page(found))
        bench = {one.name: {"seconds": wall, "well": well, "reports": held} for one, wall, well, held in found}
        (options.out / "bench.json").write_text(json.dumps(bench, indent=1) + "\n")
    print(options.out / "README.md")
    return int(not all(well for _, _, well, _ in found))


if __name__ == "__main__":
    raise SystemExit(main())
