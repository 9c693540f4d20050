"""What keys cost: words and sketches beside datatrove's signatures and beside tokenizing, and the join on made-up keys.

    python -m benchmarks.dedup [--megabytes 4] [--rounds 2] [--documents 1e6] [--builds 60 120] [--json FILE]

Needs spaCy for datatrove's side: `pip install spacy==3.8.18`; without it only ours are measured.

The first table is CPU milliseconds for a MB of text on one core, all in the same run. The join is that of documents of
which two thirds are in clusters of 2 to 100,000, each band of a copy shared with probability a half, with all jobs in
one process: CPU microseconds a document, how many of them the system takes for it, and for writing as many bytes and
nothing else; and the peak of its memory, without what is mapped of files. With `--builds` the same phase is built with
`dedup` and without, of so many MB, in turn: what keys, search and splits that are written anew add to one without, in
percent of it, how many of the splits these are and how many samples they lose.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import text
from benchmarks.filters import prose
from benchmarks.measure import in_fresh_process, in_turn, ratio, report
from ettin_data import recipe
from ettin_data.base import compiled, sealed_json
from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.keys import KeyChoice, text_keys
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import KeyedSplit, ranks
from ettin_data.storage.keys import KeysWriter, read_keys
from ettin_data.storage.ledger import DOCUMENTS, TableWriter
from ettin_data.storage.phase import KEYS, MARKER, POOLS, TRAIN, Phase
from ettin_data.storage.split import Marker, read_marker
from ettin_data.tokenizer.encoder import Tokenizer, resolve

_SPLIT = 250_000


def signatures(texts: list[str]) -> Callable[[], Any]:
    """datatrove's: 5-grams of words, 14 bands of 8, as FineWeb has it."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    step = MinhashDedupSignature("unused", MinhashConfig(num_buckets=14, hashes_per_bucket=8, n_grams=5))
    documents = [Document(text, str(number)) for number, text in enumerate(texts)]

    def run() -> None:
        for document in documents:
            shingles = step.get_shingles(document.text)
            if shingles.size:
                step.get_signature(shingles)

    return run


def batches(texts: list[str]) -> list[list[str]]:
    made: list[list[str]] = [[]]
    held = 0
    for each in texts:
        if held > 500_000:
            made.append([])
            held = 0
        made[-1].append(each)
        held += len(each)
    return made


def keys_by_numpy(parts: list[list[str]], choice: KeyChoice) -> None:
    """The keys as they are made where there was no C compiler."""
    with compiled.numpy_alone():
        for part in parts:
            text_keys(part, choice)


def keys_beside_others(megabytes: float, rounds: int) -> list[dict[str, Any]]:
    texts = prose(megabytes)
    size = sum(len(text.encode()) for text in texts) / 1e6
    parts, choice, tokenizer = batches(texts), KeyChoice(), Tokenizer(resolve())
    candidates: dict[str, Callable[[], Any]] = {
        "keys": lambda: [text_keys(part, choice) for part in parts],
        "keys, numpy": lambda: keys_by_numpy(parts, choice),
        "exact keys alone": lambda: [text_keys(part, KeyChoice(values=0)) for part in parts],
        "tokenizing": lambda: [tokenizer.encode_batch(part) for part in parts],
    }
    if importlib.util.find_spec("spacy"):
        candidates["datatrove's signatures"] = signatures(texts)
    timings = in_turn(candidates, rounds)
    return [
        {"step": name, "ms_per_mb": 1e3 * timing.cpu_s / size, "times_keys": ratio(timing, timings["keys"])}
        for name, timing in timings.items()
    ]


def made_up(folder: Path, count: int) -> list[KeyedSplit]:
    """Splits of documents in clusters, without texts."""
    rng = np.random.default_rng(0)
    label = np.arange(count)
    label[rng.permutation(count)[: min(100_000, count // 10)]] = count
    rest = rng.permutation(count)[: count // 3]
    label[rest] = count + 1 + (rng.pareto(1.0, len(rest)) * count / 20).astype(np.int64) % (count // 10 + 1)
    return [
        _split(folder / f"split{begin:09}", label[begin : begin + _SPLIT], rng) for begin in range(0, count, _SPLIT)
    ]


def _split(folder: Path, label: NDArray[np.int64], rng: np.random.Generator) -> KeyedSplit:
    from ettin_data.base.draws import draws

    size = len(label)
    bands = np.stack([draws(label.astype(np.uint64), "band", band) for band in range(14)], axis=1)
    other = rng.random(bands.shape) < 0.5
    bands[other] = rng.integers(0, 2**63, int(other.sum()), np.uint64)
    folder.mkdir(parents=True)
    with KeysWriter(folder / KEYS, 112) as file:
        file.add(np.concatenate([rng.integers(0, 256, (size, 16), np.uint8), bands.view(np.uint8)], axis=1))
    with TableWriter(folder, DOCUMENTS) as table:
        zeros = np.zeros(size, np.int64)
        table.add({"key": zeros, "file": zeros, "position": np.arange(size), "tokens": zeros, "url_key": zeros})
    none: dict[str, Any] = {name: {} for name in ("rejected", "filtered", "damaged", "noted", "skipped", "steps")}
    names = ("records", "documents", "tokens_in", "text_tokens", "checked_documents", "samples", "tokens")
    tally = {**none, **dict.fromkeys(names, 0), "backend": "tokenizers", "fallback": None}
    marker = Marker(
        folder.name, "made_up", "", {}, [{"path": folder.name, "size": 1, "etag": None}], tally, 0, 0, "", ""
    )
    sealed_json.write(folder / MARKER, marker.to_json())
    return KeyedSplit(f"made_up/{folder.name}", "made_up", folder, folder / KEYS, size, marker.digest)


class _Memory(threading.Thread):
    """Looks every few milliseconds how much memory this process has of its own, without what is mapped of files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.done = 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.01):
            lines = Path("/proc/self/status").read_text().splitlines()
            self.most = max(self.most, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")))


def joined(folder: Path, splits: list[KeyedSplit]) -> dict[str, Any]:
    """The join, in this process."""
    count = sum(split.documents for split in splits)
    memory, wall, before = _Memory(), time.perf_counter(), os.times()
    memory.start()
    tables = {split.name: folder / "tables" / f"{split.folder.name}.parquet" for split in splits}
    found = find_copies(Join(splits, DedupChoice(), 42, folder / "join"), tables)
    wall, after = time.perf_counter() - wall, os.times()
    memory.done.set()
    on_disk = sum(path.stat().st_size for path in (folder / "join").iterdir())
    user, system = after.user - before.user, after.system - before.system
    return {
        "documents": count,
        "left_out": sum(entry["left_out"] for entry in found.values()),
        "us_per_document": 1e6 * (user + system) / count,
        "of_it_system": 1e6 * system / count,
        "bare_write": 1e6 * bare_write(folder / "bare", on_disk) / count,
        "wall_s": wall,
        "peak": memory.most,
        "bytes_per_document": on_disk / count,
    }


def bare_write(path: Path, size: int) -> float:
    """CPU seconds that it takes to write so many bytes: on some virtual machines ten times as many as on others."""
    data, before = np.random.default_rng(0).bytes(1 << 18), time.process_time()
    with path.open("wb") as file:
        for _ in range(size >> 18):
            file.write(data)
    return time.process_time() - before


def bare_join(splits: list[KeyedSplit]) -> Callable[[], Any]:
    """What any join has to do, in memory and without a table: each kind of key sorted, the best rank of each group."""
    keys = np.concatenate([read_keys(split.keys, 112) for split in splits]).view(np.uint64)[:, [0, *range(2, 16)]].T
    rank = np.concatenate([ranks(split, DedupChoice(), 42) for split in splits])

    def run() -> None:
        for column in np.ascontiguousarray(keys):
            order = np.argsort(column)
            begins = np.flatnonzero(np.diff(column[order], prepend=column[order[0]] + np.uint64(1)))
            np.minimum.reduceat(rank[order], begins)

    return run


def join_of(count: int) -> dict[str, Any]:
    """Made-up documents and their join, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="ettin-dedup-") as name:
        splits = in_fresh_process(made_up, Path(name) / "pool", count)
        found: dict[str, Any] = in_fresh_process(joined, Path(name), splits)
        return found


def builds(megabytes: float, rounds: int) -> list[dict[str, Any]]:
    """A build with keys and the search for copies, one without, in this process."""
    with tempfile.TemporaryDirectory(prefix="ettin-dedup-") as name:
        folder = Path(name)
        (folder / "mine").mkdir()
        texts = text.documents(megabytes)
        for number in range(2):
            text.write_jsonl(folder / f"mine/{number}.jsonl.gz", texts[number::2])
        shipped = recipe.load_recipe("pretrain")
        stages: dict[str, list[dict[str, float]]] = {"null": [], "{}": []}
        anew: dict[str, Any] = {}

        def build(dedup: str) -> None:
            loaded = recipe.load_recipe(
                "pretrain",
                overrides=["filters=[]", "validation=0", f"dedup={dedup}"],
                add_sources=[f"mine={folder / 'mine'}:all"],
                drop_sources=list(shipped.sources),
            )
            made = build_phase(loaded, BuildOptions(folder / "run", executor=None))
            stages[dedup].append({name: spent.cpu_s for name, spent in made.stages.items()})
            if dedup == "{}":
                anew.update(_written_anew(Phase(folder / "run/pretrain", "pretrain")))
            shutil.rmtree(folder / "run")

        timings = in_turn({"without": lambda: build("null"), "with dedup": lambda: build("{}")}, rounds)
        without, adds = timings["without"].cpu, {}
        for stage, of_build in (("keys", "tokenize"), ("search", "copies"), ("written anew", "train")):
            more = (
                with_it.get(of_build, 0) - plain.get(of_build, 0)
                for plain, with_it in zip(stages["null"][1:], stages["{}"][1:], strict=True)
            )
            adds[f"{stage} %"] = 100 * statistics.median(
                one / all_of_it for one, all_of_it in zip(more, without, strict=True)
            )
        return [
            {
                "build": name, "MB": megabytes, "CPU s": timing.cpu_s,
                "times without": statistics.median(
                    one / other for one, other in zip(timing.cpu, without, strict=True)
                ),
                **{name: (share if timing is timings["with dedup"] else 0.0) for name, share in (adds | anew).items()},
            }
            for name, timing in timings.items()
        ]  # fmt: skip


def _written_anew(phase: Phase) -> dict[str, float]:
    """Percent of the splits of `train/` that are not linked, and of the samples that are left out of them."""
    train = [read_marker(phase.folder / name) for name in phase.splits(TRAIN)]
    pools = [read_marker(phase.folder / name) for name in phase.splits(POOLS)]
    samples = sum(marker.samples for marker in train) / sum(marker.samples for marker in pools)
    return {
        "splits anew %": 100 * sum("left_out" in marker.made_from for marker in train) / len(pools),
        "left out %": 100 * (1 - samples),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--documents", type=float, nargs="*", default=[1e6])
    parser.add_argument("--builds", type=float, nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report("Keys, one core", keys_beside_others(arguments.megabytes, arguments.rounds), arguments.json)
    made = [join_of(int(count)) for count in arguments.documents]
    beside = arguments.json and arguments.json.with_name(f"{arguments.json.stem}-join.json")
    report("The join, in one process", made, beside)
    for megabytes in arguments.builds:
        report("Builds, in one process", builds(megabytes, arguments.rounds), None)


if __name__ == "__main__":
    main()
