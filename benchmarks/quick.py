"""The guard: every ratio that the benchmarks claim, small, in under three minutes, against the committed baseline.

    python -m benchmarks.quick [--update] [--only NAME ...]

Each ratio compares two things that run in turn in this process, in CPU time, so that it holds on a loaded machine; no
absolute time is judged. A ratio that seems to have fallen by more than a quarter is measured up to twice more, and the
best one counts: a disturbance passes, a regression stays. `--update` writes `baseline.json`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

import numpy as np

from benchmarks import baseline, text
from benchmarks.measure import Timing, in_turn, ratio, ratio_of_best, table

Ratios = dict[str, float]
END_TO_END = (
    "jsonl.gz/1024/backfill",
    "jsonl.zst/1024/backfill",
    "parquet/1024/backfill",
    "mds/1024/backfill",
    "jsonl.gz/8000/backfill",
    "jsonl.gz/1024/best_fit",
    "jsonl.gz/1024/concat",
)
READING = ("jsonl.gz", "jsonl.zst", "parquet", "jsonl.gz/short")
FILTERS = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


@dataclass(frozen=True)
class Setting:
    """What the probes share: text, its tokenizer, and a folder that is removed behind them."""

    folder: Path
    megabytes: float = 4.0
    rounds: int = 9

    @cached_property
    def texts(self) -> list[str]:
        return text.documents(self.megabytes)

    @cached_property
    def tokenizer(self):
        from ettin_data.tokenizer.encoder import Tokenizer, resolve

        tokenizer = Tokenizer(resolve())
        tokenizer.encode_batch(["warm up"])
        return tokenizer

    def new(self, name: str) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))


@dataclass(frozen=True)
class Probe:
    """One measurement and the names of the ratios that it gives."""

    name: str
    ratios: tuple[str, ...]
    measure: Callable[[Setting], Ratios] = field(repr=False)


def end_to_end(setting: Setting) -> Ratios:
    """The pipeline beside the bare loop, file to finished split."""
    from benchmarks.end_to_end import measure

    folder = setting.new("cases")
    rows = [measure(case, setting.texts, folder, setting.tokenizer, setting.rounds) for case in END_TO_END]
    return {f"end to end {row['case']}": row["of the bare loop"] for row in rows}


def reading(setting: Setting) -> Ratios:
    """Decompressing and parsing alone beside the readers."""
    from benchmarks.reading import measure

    return {
        f"reading {case}": 1 / measure(case, setting.folder, setting.texts, setting.rounds)[-1]["CPU time of read_file"]
        for case in READING
    }


def tokenizing(setting: Setting) -> Ratios:
    """The fast tokenizer with its checks, in times as fast as the referee."""
    from ettin_data.tokenizer.encoder import Tokenizer

    texts = setting.texts[: len(setting.texts) // 4]
    ids = [str(number) for number in range(len(texts))]

    def encoding(tokenizer: Tokenizer) -> Callable[[], None]:
        def encode() -> None:
            encoder = tokenizer.encoder(seed=1, split="quick")
            encoder.encode(ids, texts)
            encoder.finish()

        return encode

    timings = in_turn(
        {
            "fast": encoding(setting.tokenizer),
            "referee": encoding(setting.tokenizer.with_backend("tokenizers")),
        },
        rounds=2,
    )
    return {"tokenizing beside the referee": ratio(timings["referee"], timings["fast"])}


def shards(setting: Setting) -> Ratios:
    """Shards built in bulk, in times as fast as `MDSWriter`."""
    from ettin_data.storage.mds import Layout, ShardWriter, import_streaming

    count, length = 15_000, 600
    ids = [f"document-{number:08}" for number in range(count)]
    tokens = np.random.default_rng(0).integers(0, 50_000, count * length).astype(np.uint16)
    offsets = np.arange(count + 1) * length
    mds_writer = import_streaming().MDSWriter

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            writer = ShardWriter(Path(folder), Layout())
            writer.write(ids, tokens, offsets)
            writer.finish()

    def theirs() -> None:
        columns = {"id": "str", "input_ids": "ndarray:uint16"}
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            with mds_writer(out=f"{folder}/shards", columns=columns, hashes=["xxh3_64"]) as writer:
                for number, name in enumerate(ids):
                    writer.write({"id": name, "input_ids": tokens[offsets[number] : offsets[number + 1]]})

    timings = in_turn({"ours": ours, "theirs": theirs}, setting.rounds)
    return {"shards beside MDSWriter": ratio_of_best(timings["theirs"], timings["ours"])}


def filtering(setting: Setting) -> Ratios:
    """Tokenizing beside each heuristic filter and beside the steps that recipes have by default."""
    from benchmarks.filters import anew, answers, through
    from ettin_data.stages.filters.registry import choose_filters

    texts = setting.texts[: len(setting.texts) // 3]
    steps = {name: choose_filters([name])[0].step() for name in FILTERS}
    timings = in_turn(
        {
            "tokenize": lambda: setting.tokenizer.encode_batch(texts),
            "light": lambda: through(["length", "exact_duplicate"], texts),
            **{name: anew(lambda step=step: answers(step, texts)) for name, step in steps.items()},
        },
        rounds=3,
    )
    return {
        f"tokenizing beside {name}": ratio(timings[key], timings["tokenize"]) ** -1
        for name, key in [("the light filters", "light"), *((name, name) for name in FILTERS)]
    }


def packing(setting: Setting) -> Ratios:
    """How full packed samples are; no time in it."""
    from benchmarks.packing import drawn, measure

    lengths = np.diff(setting.tokenizer.encode_batch(setting.texts)[1])
    many = drawn(lengths[lengths > 0], 9_000_000)
    return {
        f"packing {length} {strategy}, full": measure("drawn", many, length, strategy)["full %"] / 100
        for length in (1024, 8000)
        for strategy in ("best_fit", "concat")
    }


def order(setting: Setting) -> Ratios:
    """Verifying an order beside bare parquet reading."""
    from benchmarks.order import verify_cost

    _, ratios = verify_cost(12_000, setting.rounds, setting.folder)
    return {"verifying beside bare parquet": ratios["verify / raw parquet"]}


def samples(setting: Setting) -> Ratios:
    """Reading samples at random, in times as fast as what ModernBERT's loader does."""
    from benchmarks.trainer_reading import OURS, MapStyle, over, write_samples
    from ettin_data.storage.mds import import_streaming
    from ettin_data.trainer.data import SampleDataset

    import_streaming()  # with which `MapStyle` reads
    folder = setting.new("samples")
    write_samples(folder, 8000)
    positions = np.random.default_rng(1).integers(0, 8000, 6000).tolist()
    dataset, plain = SampleDataset(folder), MapStyle(folder)
    timings = in_turn(
        {
            OURS: over(lambda position: dataset[0, position].tokens, positions),
            "map-style": over(lambda position: plain[position]["input_ids"], positions),
        },
        setting.rounds,
    )
    return {"reading samples beside a map-style reader": ratio(timings["map-style"], timings[OURS])}


def growth(setting: Setting) -> Ratios:
    """How far below n log n the work on metadata grows with four times the splits: 1 is n log n, less is worse."""
    from benchmarks import scale

    found = {}
    for part, few in ((scale.plan, 500), (scale.mix, 150)):
        many = 4 * few
        small, large = Timing(), Timing()
        part(setting.folder, few, 0)  # imports
        for _ in range(2):
            for splits, timing in ((few, small), (many, large)):
                began = time.process_time()
                part(setting.folder, splits, 0)
                timing.cpu.append(time.process_time() - began)
        expected = many * np.log(many) / (few * np.log(few))
        found[f"growth of {part.__name__}"] = expected * ratio(small, large)
    return found


def disk(setting: Setting) -> Ratios:
    """The size of a finished build beside the most that it took on the way; no time in it."""
    from benchmarks.build import measure

    return {"final disk beside the peak": measure(setting.new("build"), megabytes=3, workers=1)["final / peak"]}


def start_up(setting: Setting) -> Ratios:
    """Starting Python with numpy beside starting the command line."""

    def starting(module: str) -> Callable[[], None]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True) and None

    timings = in_turn(
        {"numpy": starting("numpy"), "command line": starting("ettin_data.cli.main")}, 5, clock=_of_children
    )  # fmt: skip
    return {"numpy's start beside ours": ratio(timings["numpy"], timings["command line"])}


def _of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


PROBES = (
    Probe("end_to_end", tuple(f"end to end {case}" for case in END_TO_END), end_to_end),
    Probe("reading", tuple(f"reading {case}" for case in READING), reading),
    Probe("tokenizing", ("tokenizing beside the referee",), tokenizing),
    Probe("shards", ("shards beside MDSWriter",), shards),
    Probe("filters", tuple(f"tokenizing beside {name}" for name in ("the light filters", *FILTERS)), filtering),
    Probe(
        "packing",
        tuple(f"packing {length} {name}, full" for length in (1024, 8000) for name in ("best_fit", "concat")),
        packing,
    ),
    Probe("order", ("verifying beside bare parquet",), order),
    Probe("samples", ("reading samples beside a map-style reader",), samples),
    Probe("growth", ("growth of plan", "growth of mix"), growth),
    Probe("disk", ("final disk beside the peak",), disk),
    Probe("start_up", ("numpy's start beside ours",), start_up),
)

_AGAIN = 2


def measured(probes: Sequence[Probe], known: Mapping[str, float], setting: Setting) -> Ratios:
    """All ratios; a probe of which one failed runs again, up to twice, and the best of each counts."""
    found: Ratios = {}
    for probe in probes:
        began = time.perf_counter()
        once = probe.measure(setting)
        wanted = {name: known[name] for name in probe.ratios if name in known}
        for _ in range(_AGAIN):
            if not failures(once, wanted):
                break
            again = probe.measure(setting)
            once = {name: max(value, again[name]) for name, value in once.items()}
        found |= once
        print(f"{probe.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return found


def failures(ratios: Mapping[str, float], known: Mapping[str, float]) -> dict[str, str]:
    """Ratio -> what is wrong with it."""
    return {line.name: problem for line in baseline.compare(ratios, known) if (problem := line.problem())}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the baseline")
    names = [probe.name for probe in PROBES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args(arguments)
    probes = [probe for probe in PROBES if probe.name in options.only]
    committed = baseline.read()
    known = {name: committed[name] for probe in probes for name in probe.ratios if name in committed}
    with tempfile.TemporaryDirectory(prefix="ettin-quick-") as folder:
        ratios = measured(probes, {} if options.update else known, Setting(Path(folder)))
    lines = baseline.compare(ratios, known)
    print(
        table(
            [
                {
                    "ratio": line.name,
                    "now": _shown(line.measured),
                    "baseline": _shown(line.baseline),
                    "change": "" if line.change is None else f"{line.change:+.0%}",
                    "": line.problem() or "",
                }
                for line in lines
            ]
        )
    )
    if options.update:
        run = {name for probe in probes for name in probe.ratios}
        others = {name for probe in PROBES for name in probe.ratios} - run
        baseline.write({name: value for name, value in committed.items() if name in others} | ratios)
        return 0
    failed = failures(ratios, known)
    print(f"\n{len(lines) - len(failed)} of {len(lines)} ratios hold" + "; FAILED" * bool(failed))
    return int(bool(failed))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    raise SystemExit(main())
