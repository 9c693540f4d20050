"""What looking for evaluation texts adds to a build: the same phase with `decontaminate` and without, in turn.

    python -m benchmarks.contamination [--megabytes 100] [--items 15000] [--rounds 3] [--workers 0] [--json FILE]

The documents are files of this Python. The items are words that stand near each other in its documentation, drawn, and
in one of two a sum; a hundred of them stand in the documents, in upper case, and have to be found. Figures are CPU
seconds of the whole build, with those of workers and of reading the items. The goal is 10% of the build without.

Without workers both are measured once more by numpy alone, as where there was no C compiler.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil

from benchmarks import text
from benchmarks.filters import prose
from benchmarks.measure import in_turn, report
from ettin_data.base import compiled

GOAL = 0.10
PLANTED = 100
_SPLITS = 4


def items(count: int) -> list[str]:
    """Evaluation texts of 5 to 90 words, none of which stands anywhere."""
    rng = random.Random(0)
    words = " ".join(prose(3)).split()
    found = []
    for number in range(count):
        size = rng.choice((5, 7, 9, 12, 15, 20, 30, 40, 60, 90))
        at = rng.randrange(len(words) - 400)
        some = rng.sample(words[at : at + 400], size)
        if number % 2:
            a, b = rng.randrange(99), rng.randrange(99)
            some[size // 2 : size // 2] = f"has {a} + {b} = <<{a}+{b}={a + b}>>{a + b} of {number}".split()
        found.append(" ".join(some))
    return found


def write_inputs(folder: Path, megabytes: float, count: int) -> int:
    """Files of documents with some of the items, and the file of the items; returns how many are planted."""
    rng = random.Random(1)
    texts, looked_for = text.documents(megabytes), items(count)
    planted = rng.sample([one for one in looked_for if len(one.split()) >= 20], PLANTED)
    for one in planted:
        number = rng.randrange(len(texts))
        texts[number] = f"{texts[number]}\n{one.upper()}\n"
    (folder / "mine").mkdir()
    for number in range(_SPLITS):
        text.write_jsonl(folder / f"mine/{number}.jsonl.gz", texts[number::_SPLITS])
    (folder / "items.jsonl").write_text("".join(json.dumps({"question": one}) + "\n" for one in looked_for))
    return len(planted)


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def build(folder: Path, look: bool, workers: int) -> int:
    """Build the phase, in this process if no worker is asked for; returns how many texts were found."""
    from ettin_data import recipe
    from ettin_data.build.build import build_phase
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.executor import ExecutorOptions

    overrides = ["filters=[]", "validation=0"]
    if look:
        texts = {"file": str(folder / "items.jsonl"), "question": "question"}
        overrides.append(f"decontaminate={json.dumps({'texts': [texts], 'action': 'report'})}")
    shipped = recipe.load_recipe("pretrain")
    loaded = recipe.load_recipe(
        "pretrain",
        overrides=overrides,
        add_sources=[f"mine={folder / 'mine'}:all"],
        drop_sources=list(shipped.sources),
    )
    out = folder / "run"
    run = build_phase(loaded, BuildOptions(out, executor=ExecutorOptions(workers=workers) if workers else None))
    shutil.rmtree(out)
    return int(run.sources["mine"].steps.get("decontaminate", {}).get("hits", 0))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--items", type=int, default=15_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ettin-contamination-") as name:
        folder, found = Path(name), list[int]()
        planted = write_inputs(folder, options.megabytes, options.items)
        rows, added = list[dict[str, Any]](), dict[str, float]()
        for way in (*(["compiled"] if compiled.there() else []), *(["numpy"] if not options.workers else [])):
            with compiled.numpy_alone() if way == "numpy" else nullcontext():
                timings = in_turn(
                    {
                        f"without, {way}": lambda: build(folder, False, options.workers),
                        f"with, {way}": lambda: found.append(build(folder, True, options.workers)),
                    },
                    options.rounds,
                    cpu_seconds,
                )
            plain, looking = timings.values()
            added[way] = statistics.median(one / other - 1 for one, other in zip(looking.cpu, plain.cpu, strict=True))
            rows += [
                {
                    "build": key, "MB": options.megabytes, "items": options.items if timing is looking else 0,
                    "CPU s": timing.cpu_s, "wall s": timing.wall_s, "hits": found[-1] if timing is looking else 0,
                }
                for key, timing in timings.items()
            ]  # fmt: skip
    if min(found) < planted:
        raise SystemExit(f"of {planted} planted texts {min(found)} were found")
    report("Looking for evaluation texts, beside the same build without", rows, options.json, added)
    for way, share in added.items():
        print(f"by {way} it adds {share:.1%} to a build; the goal is {GOAL:.0%}")


if __name__ == "__main__":
    main()
