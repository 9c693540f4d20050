"""What a plan with a pilot promises, beside what the build then makes and takes: tokens, bytes on disk, wall time.

    python -m benchmarks.pilot [--megabytes 240] [--rounds 2] [--workers 2] [--json FILE]

The three phases of the demo, and one source of so many MB of text in twelve files. Plan and build are commands, each in
a process of its own, as a person runs them; no pilot of before is used. Of the demo a quarter is sampled, of the large
source a hundredth. Times hold on a machine that does the same all the while: the pilot's and the build's load are one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import text
from benchmarks.measure import report
from ettin_data.build.forecast.outcome import bytes_on_disk
from ettin_data.demo import demo
from ettin_data.demo.mirror import demo_scales
from ettin_data.storage.phase import Phase

GOALS = {"tokens": 0.02, "disk": 0.10, "time": 0.25}
"""By which share of what came a promise may be off."""

_FILES = 12


@dataclass(frozen=True)
class Case:
    """A recipe with its changes, as words of the command line, and how much of its sources the pilot samples."""

    name: str
    words: tuple[str, ...]
    sample: str


def cases(folder: Path, megabytes: float) -> list[Case]:
    """What is planned and built; their sources are written."""
    demo.mirror(folder)
    at_all = (f"--sources-root={demo.mirror_folder(folder)}", *(f"--set={change}" for change in demo.OVERRIDES))
    found = [Case(phase, (phase, f"--scale={scale}", *at_all), "25%") for phase, scale in demo_scales().items()]
    if megabytes:
        (folder / "large").mkdir()
        texts = text.documents(megabytes)
        for number in range(_FILES):
            text.write_jsonl(folder / f"large/{number:02}.jsonl.gz", texts[number::_FILES])
        mine = {"phase": "large", "length": 1024, "split_bytes": 1, "order": {"batch": 64},
                "sources": {"mine": {"root": str(folder / "large"), "passes": "all"}}}  # fmt: skip
        (folder / "large.yaml").write_text(json.dumps(mine))
        found.append(Case("large", (str(folder / "large.yaml"),), "1%"))
    return found


def off(case: Case, folder: Path, workers: int) -> dict[str, Any]:
    """A plan and a build of a case: what was promised, what came, and by which share of that the promise is off."""
    out = folder / "run"
    pilots = {"ETTIN_DATA_CACHE": str(folder / "cache")}  # with the tokenizer, which was there before any plan
    shutil.rmtree(folder / "cache/pilots", ignore_errors=True)
    at_all = (*case.words, f"--out={out}", f"--workers={workers}")
    said = _ettin_data("plan", *at_all, f"--pilot={case.sample}", "--json", environment=pilots)
    promised = json.loads(said)["contract"]
    _ettin_data("build", *at_all, environment=pilots)
    phase = Phase(out / case.name, case.name)
    run = json.loads(phase.run_json.read_text())
    came = {
        "tokens": sum(source["pool_tokens"] for source in run["sources"].values()),
        "disk": bytes_on_disk(phase),
        "time": sum(stage["seconds"] for stage in run["stages"].values()),
    }
    shutil.rmtree(out)
    figures = {"tokens": promised["tokens"], "disk": promised["at_end"], "time": promised["wall_s"]}
    return {
        "case": case.name, "promised s": figures["time"]["value"], "took s": came["time"],
        **{f"{name} off": figures[name]["value"] / came[name] - 1 for name in came},
    }  # fmt: skip


def _ettin_data(*words: str, environment: Mapping[str, str]) -> str:
    ran = subprocess.run(["ettin-data", *words], env=os.environ | environment, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"ettin-data {' '.join(words)}: {ran.stderr}")
    return ran.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=240)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ettin-pilot-") as name:
        folder = Path(name)
        planned = cases(folder, options.megabytes)
        off(planned[0], folder, options.workers)  # finds the tokenizer, and warms the files
        rows = [off(case, folder, options.workers) for _ in range(options.rounds) for case in planned]
    held = {name: sum(abs(row[f"{name} off"]) <= goal for row in rows) / len(rows) for name, goal in GOALS.items()}
    report("What a plan promises, beside the build", rows, options.json, held)
    for name, goal in GOALS.items():
        print(f"{name} within {goal:.0%}: {held[name]:.0%} of {len(rows)} builds")


if __name__ == "__main__":
    main()
