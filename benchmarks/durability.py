"""What durability costs: hashes, markers and fsync, as a share of the build that they protect.

    python -m benchmarks.durability [--megabytes 60] [--rounds 7] [--quick] [--json FILE]

A split of a gzipped JSON Lines file is read, tokenized, packed and written, and three quarters of it cut for `train/`,
in this process on one core. Two measurements of the same thing:

* counted: the time inside the functions that hash, mark and flush, as a share of the time outside of them, in one and
  the same build. It does not suffer from the noise of a shared machine.
* in turn: the build as it is, beside the build with those functions taken out: no hash of a shard, a sample or a file,
  nothing flushed, a folder renamed without a marker. On a machine of one's own the two measurements agree.

Wall time of a flush is the disk's, and waits for what would be written behind the build's back anyway.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import mock

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

import numpy as np

from benchmarks import text
from benchmarks.end_to_end import split_job, write_input
from benchmarks.measure import Timing, in_turn, report
from ettin_data.base import files
from ettin_data.base.draws import draws
from ettin_data.build import assemble, pool
from ettin_data.build.assemble import MixJob
from ettin_data.build.mix import Cut
from ettin_data.build.pool import SplitJob
from ettin_data.stages import write
from ettin_data.storage import split as marker
from ettin_data.storage.mds import writer
from ettin_data.storage.split import Marker
from ettin_data.tokenizer.encoder import Tokenizer, resolve

CLAIM = 0.03
_PART = 0.75
_QUICK = (4.0, 5)  # megabytes, rounds


def _no_hash(*_: Any) -> str:
    return "0" * 16


def _no_leaves(tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.zeros(len(offsets) - 1, np.uint64)


def _rename(temporary: Path, final: Path, marker: Marker, shards: list[Any]) -> Marker:
    os.rename(temporary, final)
    return marker


@contextlib.contextmanager
def without(*what: str) -> Iterator[None]:
    """Take parts of the safety out: "hashes", "fsync", "markers"."""
    with contextlib.ExitStack() as stack:

        def change(module: Any, name: str, instead: Callable[..., Any]) -> None:
            stack.enter_context(mock.patch.object(module, name, instead))

        if "hashes" in what:
            change(writer, "digest", _no_hash)
            change(write, "content_hashes", _no_leaves)
            change(marker.SamplesRoot, "add", lambda root, leaves: None)
            change(files, "digest", lambda path: {"bytes": os.stat(path).st_size, "xxh3_64": _no_hash()})
            change(assemble, "_check_hashes", lambda folder, pool: None)
            change(pool, "_with_digests", lambda job: job.made_from()["inputs"])
        if "fsync" in what:
            change(files, "sync", lambda path: None)
        if "markers" in what:
            change(marker, "publish", _rename)
        yield


@dataclass
class Spent:
    """Seconds inside of what was counted, by part; a call inside of another counts for the outer."""

    cpu: dict[str, float] = field(default_factory=dict)
    wall: dict[str, float] = field(default_factory=dict)
    depth: int = 0

    def counting(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if self.depth:
                return function(*arguments, **named)
            self.depth = 1
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.cpu[part] = self.cpu.get(part, 0.0) + time.process_time() - cpu
                self.wall[part] = self.wall.get(part, 0.0) + time.perf_counter() - wall
                self.depth = 0

        return counted


PARTS = (
    ("hashes of shards", writer, "digest"),
    ("hashes of samples", write, "content_hashes"),
    ("hashes of inputs", pool, "_with_digests"),
    ("root", marker.SamplesRoot, "add"),
    ("hashes before a cut", assemble, "_check_hashes"),
    ("fsync", files, "sync"),
    ("marker and rename", marker, "publish"),
)


@contextlib.contextmanager
def counted() -> Iterator[Spent]:
    """Count the time in each part."""
    spent = Spent()
    with contextlib.ExitStack() as stack:
        for part, module, name in PARTS:
            stack.enter_context(mock.patch.object(module, name, spent.counting(part, getattr(module, name))))
        yield spent


@dataclass(frozen=True)
class Bench:
    """A split and a cut of it, ready to be built again and again."""

    job: SplitJob
    cut: MixJob
    tokens: int

    def build(self) -> None:
        pool.build_split(self.job)
        assemble.make(self.cut)
        rmtree(self.job.folder)
        rmtree(self.cut.folder)


def prepare(megabytes: float, folder: Path) -> Bench:
    tokenizer = Tokenizer(resolve())
    tokenizer.encode_batch(["warm up"])
    path = write_input(folder, "jsonl.gz", text.documents(megabytes), tokenizer)
    job = split_job(path, folder / "run", tokenizer, 1024, "backfill")
    kept = folder / "kept"
    made = pool.build_split(job)
    os.rename(job.folder, kept)  # whole, so that what is cut does not depend on what is left out
    purpose = (42, "mix", "bench", 0)
    limit = int(np.quantile(draws(assemble.sample_table(kept).keys, *purpose).astype(np.float64), _PART))
    cut = MixJob(kept, 0, folder / "train", Cut(purpose, limit, (1, 0)), None, job.layout)
    return Bench(job, cut, made.tally["tokens_in"])


def count_parts(bench: Bench, rounds: int) -> list[dict[str, Any]]:
    """Each part's share of a build, the median over rounds; the last row is their sum."""
    shares: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        with counted() as spent:
            bench.build()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rest = cpu - sum(spent.cpu.values()), wall - sum(spent.wall.values())
        for part in spent.cpu:
            shares.setdefault(part, []).append((spent.cpu[part] / rest[0], spent.wall[part] / rest[1]))
        total = sum(spent.cpu.values()) / rest[0], sum(spent.wall.values()) / rest[1]
        shares.setdefault("all", []).append(total)
    return [
        {
            "part": part,
            "CPU": f"{statistics.median(cpu for cpu, _ in pairs):+.2%}",
            "wall": f"{statistics.median(wall for _, wall in pairs):+.2%}",
        }
        for part, pairs in sorted(shares.items(), key=lambda item: item[0] == "all")
    ]


def in_turns(bench: Bench, rounds: int) -> list[dict[str, Any]]:
    """The build as it is beside the build without: medians, and how much longer in the same round."""

    def unsafe() -> None:
        with without("hashes", "fsync", "markers"):
            bench.build()

    timings = in_turn({"as it is": bench.build, "without": unsafe}, rounds)
    base = timings["without"]
    return [
        {
            "build": name,
            "CPU s": round(timing.cpu_s, 3),
            "wall s": round(timing.wall_s, 3),
            "M tokens/CPU s": round(bench.tokens / 1e6 / timing.cpu_s, 2),
            "CPU": f"{_over(timing, base, 'cpu'):+.2%}",
            "wall": f"{_over(timing, base, 'wall'):+.2%}",
        }
        for name, timing in timings.items()
    ]


def _over(timing: Timing, base: Timing, what: str) -> float:
    pairs = zip(getattr(timing, what), getattr(base, what), strict=True)
    return statistics.median(mine / other for mine, other in pairs) - 1


def measure(megabytes: float, rounds: int, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """The two tables, and the ratio of the CPU time without durability to that with it: 1 costs nothing.

    The ratio is of what was counted: at a few per cent, two builds differ by chance as much as by what is measured.
    """
    bench = prepare(megabytes, folder)
    parts = count_parts(bench, rounds)
    return parts, in_turns(bench, rounds), 1 / (1 + float(parts[-1]["CPU"].rstrip("%")) / 100)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=60, help="of text, UTF-8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK[0]:g} MB and {_QUICK[1]} rounds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    megabytes, rounds = _QUICK if options.quick else (options.megabytes, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        parts, turns, kept = measure(megabytes, rounds, Path(folder))
    report("Durability, counted in the build", parts, options.json, {"durability": round(kept, 4)})
    report("Durability, in turn with a build without it", turns, None)
    print(f"claimed: less than {CLAIM:.0%} of the CPU time of a build")


if __name__ == "__main__":
    main()
