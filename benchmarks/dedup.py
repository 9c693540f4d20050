"""What keys cost: words and sketches beside datatrove's signatures and beside tokenizing, and the join on made-up keys.

    python -m benchmarks.dedup [--megabytes 4] [--rounds 2] [--documents 1e6] [--json FILE]

Needs spaCy for datatrove's side: `pip install spacy==3.8.18`; without it only ours are measured.

The first table is CPU milliseconds for a MB of text on one core, all in the same run. The join is that of documents of
which two thirds are in clusters of 2 to 100,000, each band of a copy shared with probability a half, with all jobs in
this process: CPU microseconds a document, and the peak of its memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.filters import prose
from benchmarks.measure import in_fresh_process, in_turn, peak_rss, ratio, report
from ettin_data.base import sealed_json
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.keys import KeyChoice, text_keys
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.storage.keys import KeysWriter
from ettin_data.storage.ledger import DOCUMENTS, TableWriter
from ettin_data.storage.phase import KEYS, MARKER
from ettin_data.storage.split import Marker
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
    for text in texts:
        if held > 500_000:
            made.append([])
            held = 0
        made[-1].append(text)
        held += len(text)
    return made


def keys_beside_others(megabytes: float, rounds: int) -> list[dict[str, Any]]:
    texts = prose(megabytes)
    size = sum(len(text.encode()) for text in texts) / 1e6
    parts, choice, tokenizer = batches(texts), KeyChoice(), Tokenizer(resolve())
    candidates: dict[str, Callable[[], Any]] = {
        "keys": lambda: [text_keys(part, choice) for part in parts],
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


def joined(count: int) -> dict[str, Any]:
    """The join, in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = made_up(folder / "pool", count)
        wall, cpu = time.perf_counter(), time.process_time()
        tables = {split.name: folder / "tables" / f"{split.folder.name}.parquet" for split in splits}
        found = find_copies(Join(splits, DedupChoice(), 42, folder / "join"), tables)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        on_disk = sum(path.stat().st_size for path in (folder / "join").iterdir())
        return {
            "documents": count,
            "left_out": sum(entry["left_out"] for entry in found.values()),
            "us_per_document": 1e6 * cpu / count,
            "wall_s": wall,
            "peak": peak_rss(),
            "bytes_per_document": on_disk / count,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--documents", type=float, nargs="*", default=[1e6])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report("Keys, one core", keys_beside_others(arguments.megabytes, arguments.rounds), arguments.json)
    made = [in_fresh_process(joined, int(count)) for count in arguments.documents]
    beside = arguments.json and arguments.json.with_name(f"{arguments.json.stem}-join.json")
    report("The join, in one process", made, beside)


if __name__ == "__main__":
    main()
