"""The guard: ratios of like with like, small, in under three minutes, against the committed baseline.

    python -m benchmarks.quick [--update] [--only NAME ...]

Both sides of a ratio do the same kind of work: our reader beside a bare loop of the same libraries, our way through the
tokenizer beside its bare call, our filters beside datatrove's. They run in turn in this process and count CPU time, so
a ratio holds on a loaded machine and on any processor; no absolute time is judged. What compares different kinds of
work is in `benchmarks.other_kinds`, for `make bench`.

A ratio that seems to have fallen by more than its tolerance is measured up to twice more, and the best one counts: a
disturbance passes, a regression stays. `--update` writes `baseline.json`.
"""

from __future__ import annotations

import argparse
import mmap
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

import numpy as np

from benchmarks import baseline, text
from benchmarks.measure import Timing, in_turn, ratio, ratio_of_best, table

if TYPE_CHECKING:
    from ettin_data.tokenizer.encoder import Tokenizer

Ratios = dict[str, float]
END_TO_END = ("jsonl.gz/1024/backfill", "parquet/1024/backfill")
READING = ("jsonl.gz", "jsonl.zst", "parquet", "jsonl.gz/short")
FILTERS = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


@dataclass(frozen=True)
class Setting:
    """What the probes share: text, its tokenizer, and a folder that is removed behind them."""

    folder: Path
    megabytes: float = 4.0
    rounds: int = 7

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
    """One measurement, the names of the ratios that it gives, and how far they may fall."""

    name: str
    ratios: tuple[str, ...]
    measure: Callable[[Setting], Ratios] = field(repr=False)
    tolerance: float = baseline.TOLERANCE


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


def encoding(tokenizer: Tokenizer, texts: Sequence[str]) -> Callable[[], None]:
    """The texts as a split's documents through the tokenizer, with the checks of a split."""
    ids = [str(number) for number in range(len(texts))]

    def encode() -> None:
        encoder = tokenizer.encoder(seed=1, split="quick")
        encoder.encode(ids, texts)
        encoder.finish()

    return encode


def tokenizing(setting: Setting) -> Ratios:
    """The bare call of the library that encodes, beside our way to it."""
    from benchmarks.bare import fast_encoder

    bare, texts = fast_encoder(setting.tokenizer.file), setting.texts[: len(setting.texts) // 2]
    ours = encoding(setting.tokenizer, texts)
    timings = in_turn({"bare": lambda: bare(texts), "ours": ours}, setting.rounds)
    return {"tokenizing": ratio(timings["bare"], timings["ours"])}


def samples_to_write(count: int = 15_000, length: int = 600) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids, tokens end to end, and their limits."""
    tokens = np.random.default_rng(0).integers(0, 50_000, count * length).astype(np.uint16)
    return [f"document-{number:08}" for number in range(count)], tokens, np.arange(count + 1) * length


def writing(root: Path, ids: list[str], tokens: np.ndarray, offsets: np.ndarray) -> Callable[[], None]:
    """The samples through our writer of shards."""
    from ettin_data.storage.mds import Layout, ShardWriter

    def write() -> None:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            writer = ShardWriter(Path(folder), Layout())
            writer.write(ids, tokens, offsets)
            writer.finish()

    return write


def shards(setting: Setting) -> Ratios:
    """Cutting and writing of the bare loop beside our writer, with the hash that both take."""
    from benchmarks.bare import bare_loop

    ids, tokens, offsets = samples_to_write()

    def bare() -> None:
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            bare_loop(iter([(ids, ids)]), lambda texts: (tokens, offsets), Path(folder), 1024)

    timings = in_turn({"bare": bare, "ours": writing(setting.folder, ids, tokens, offsets)}, setting.rounds)
    return {"writing shards": ratio_of_best(timings["bare"], timings["ours"])}


def filtering(setting: Setting) -> Ratios:
    """datatrove's heuristic filters beside ours, the same answers for the same documents.

    Their words and sentences come from our plain splitter, which stands in for spaCy: that is what is compared least.
    """
    from benchmarks.filters import answers, build, forget, theirs, without_spacy

    texts = setting.texts[: len(setting.texts) // 12]
    found: Ratios = {}
    with without_spacy():
        for name in FILTERS:
            ours, reference = build(name), theirs(name)
            forget()
            if answers(ours, texts) != answers(reference, texts):
                raise SystemExit(f"{name}: another answer than datatrove's")
            timings = in_turn(
                {
                    "ours": lambda step=ours: (forget(), answers(step, texts)),
                    "datatrove": lambda step=reference: answers(step, texts),
                },
                rounds=3,
            )
            found[f"filter {name}"] = ratio(timings["datatrove"], timings["ours"])
    return found


def evaluation(setting: Setting) -> Ratios:
    """Hashing the words of all texts beside looking for 15,000 evaluation texts in them, none of which is there."""
    from benchmarks.contamination import items
    from ettin_data.base.words import word_hashes
    from ettin_data.stages.contamination.index import Index
    from ettin_data.stages.contamination.rules import rule_of
    from ettin_data.stages.contamination.search import search
    from ettin_data.stages.contamination.texts import EvaluationText

    looked_for = [EvaluationText(str(number), one) for number, one in enumerate(items(15_000))]
    index = Index.of(looked_for, rule_of("half")).ready()
    texts = setting.texts  # a batch as a build has them
    timings = in_turn(
        {"hashing": lambda: word_hashes(texts), "looking": lambda: search(index, texts)},
        setting.rounds,
    )
    return {"looking for evaluation texts": ratio(timings["hashing"], timings["looking"])}


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
    """The least that reading a sample through a memory map takes in Python, beside the trainer's data set."""
    from benchmarks.trainer_reading import over, write_samples
    from ettin_data.load.samples import SampleDataset

    folder = setting.new("samples")
    write_samples(folder, 8000)
    dataset = SampleDataset(folder)
    [info] = dataset.index.infos
    with open(folder / info.basename, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begins = np.frombuffer(data, np.uint32, info.samples + 1, 4).tolist()
    sizes = struct.Struct("<II").unpack_from

    def bare(position: int) -> np.ndarray:
        begin = begins[position]
        name, array = sizes(data, begin)
        head = 2 if data[begin + 8 + name] & 3 == 0 else 3
        return np.frombuffer(data, "<u2", (array - head) // 2, begin + 8 + name + head)

    positions = np.random.default_rng(1).integers(0, 8000, 8000).tolist()
    assert all(np.array_equal(bare(i), dataset[0, i].tokens) for i in positions[:100])
    candidates = {"bare": over(bare, positions), "ours": over(lambda i: dataset[0, i].tokens, positions)}
    timings = in_turn(candidates, setting.rounds)
    return {"reading samples": ratio(timings["bare"], timings["ours"])}


def copies(setting: Setting) -> Ratios:
    """Sorting keys of made-up documents in memory beside our join, which does it on disk and says who is whose copy."""
    from benchmarks.dedup import bare_join, made_up
    from ettin_data.dedup.join import Join, find_copies
    from ettin_data.dedup.options import DedupChoice

    splits = made_up(setting.new("keys"), 150_000)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            tables = {split.name: Path(folder, split.folder.name) for split in splits}
            find_copies(Join(splits, DedupChoice(), 42, Path(folder, "join")), tables)

    timings = in_turn({"bare": bare_join(splits), "ours": ours}, rounds=3)
    return {"copies beside bare numpy": ratio(timings["bare"], timings["ours"])}


def growth(setting: Setting) -> Ratios:
    """How far below n log n the work on metadata grows with four times the splits: 1 is n log n, less is worse."""
    from benchmarks import scale

    found = {}
    for part, few in ((scale.plan, 300), (scale.mix, 100)):
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


GROWTH = 0.5
"""A size that no longer fits in a cache costs some tens of percent; what grows with the square falls to a third."""

PROBES = (
    Probe("end_to_end", tuple(f"end to end {case}" for case in END_TO_END), end_to_end),
    Probe("reading", tuple(f"reading {case}" for case in READING), reading),
    Probe("tokenizing", ("tokenizing",), tokenizing),
    Probe("shards", ("writing shards",), shards),
    Probe("filters", tuple(f"filter {name}" for name in FILTERS), filtering),
    Probe("evaluation", ("looking for evaluation texts",), evaluation),
    Probe(
        "packing",
        tuple(f"packing {length} {name}, full" for length in (1024, 8000) for name in ("best_fit", "concat")),
        packing,
    ),
    Probe("order", ("verifying beside bare parquet",), order),
    Probe("samples", ("reading samples",), samples),
    Probe("copies", ("copies beside bare numpy",), copies),
    Probe("growth", ("growth of plan", "growth of mix"), growth, GROWTH),
    Probe("disk", ("final disk beside the peak",), disk),
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
    return {line.name: problem for line in compare(ratios, known) if (problem := line.problem())}


def compare(ratios: Mapping[str, float], known: Mapping[str, float]) -> list[baseline.Line]:
    """Each ratio beside its baseline, with the tolerance of its probe."""
    return baseline.compare(ratios, known, {name: probe.tolerance for probe in PROBES for name in probe.ratios})


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
    lines = compare(ratios, known)
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
