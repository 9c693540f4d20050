"""The batch order: cost of the permutation and its index, of reading it, of verifying against it, of tracing a run.

    python -m benchmarks.order                      # permutation and index for 1e7 and 1e8 samples, verify
    python -m benchmarks.order --sizes 1e9,2.8e9    # full scale: needs 13 GB of free memory and 12 GB of disk, minutes
    python -m benchmarks.order --trace              # trace and exposure on a run of ten million samples

What is claimed: the exact permutation of 2.8 billion samples and its index within 14 GB, a step of it in milliseconds;
verification at half of the rate of bare parquet reading or better; trace in under a second on ten million samples.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import in_fresh_process, in_turn, peak_rss, ratio, report

BATCH = 4608
TOKENS_A_SAMPLE = 609  # mean of phase 1: 1.7047T tokens in 2.8 billion samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1e7,1e8", help="numbers of samples, with commas")
    parser.add_argument("--candidates", default=",".join(CANDIDATES), help="ways to the permutation, with commas")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the verification; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trace", action="store_true", help="trace on ten million samples (1 GB of disk)")
    parser.add_argument("--samples", type=float, default=1e7, help="of the traced run")
    parser.add_argument(
        "--tmp", type=Path, default=Path(tempfile.gettempdir()), help="room for the index: 4 bytes a sample"
    )
    parser.add_argument("--json", type=Path, help="folder for the figures")
    options = parser.parse_args()
    out = options.json
    for size in [int(float(s)) for s in options.sizes.split(",") if s]:
        names = [name for name in options.candidates.split(",") if name]
        rows = [measured for name in names if (measured := permutation_cost(name, size)) is not None]
        if rows:
            report(f"Permutation of {size:,} samples", rows, out and out / f"permutation-{size}.json")
        index = in_fresh_process(index_cost, size, str(options.tmp))
        report(f"Index of {size:,} samples, steps of {BATCH:,}", [index], out and out / f"index-{size}.json")
    if options.rows:
        rows, ratios = verify_cost(options.rows, options.rounds, options.tmp)
        report("Verification beside bare parquet reading, one process", rows, out and out / "verify.json", ratios)
        print(f"verify runs at {ratios['verify / raw parquet']:.2f} of the rate of bare parquet reading\n")
    if options.trace:
        report("Looking into a run", trace_cost(int(options.samples), options.tmp), out and out / "trace.json")


# ---------------------------------------------------------------------------------------------------------------------
# permutation and index

CANDIDATES = {"ettin-data": 4.2, "numpy": 8.2, "numpy .tolist()": 48.0}
"""Ways to the permutation -> bytes of memory a sample; the last is what the reference's sampler does."""


def permutation_cost(name: str, size: int) -> dict[str, Any] | None:
    """Seconds and peak memory of one candidate in a process of its own; None where this machine has not the memory."""
    if CANDIDATES[name] * size > available() - (1 << 30):
        print(f"{name} at {size:,}: left out, it needs about {CANDIDATES[name] * size / 1e9:.0f} GB", flush=True)
        return None
    seconds, peak = in_fresh_process(_permute, name, size)
    return {"candidate": name, "seconds": seconds, "peak GB": peak / 1e9, "ns a sample": seconds / size * 1e9}


def _permute(name: str, size: int) -> tuple[float, int]:
    from ettin_data.order.law import permutation

    begin = time.process_time()
    if name == "ettin-data":
        permutation(size, 21)
    else:
        order = np.random.Generator(np.random.PCG64DXSM(21)).permutation(size)
        if name == "numpy .tolist()":
            order.tolist()
    return time.process_time() - begin, peak_rss()


def available() -> int:
    """Bytes of memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def index_cost(size: int, tmp: str) -> dict[str, Any]:
    """Writing an index with 8.5B-token intervals, then reading steps from it without a warm page cache."""
    from ettin_data.stages.order import OrderIndex, OrderLaw, interval_steps, write_order

    with tempfile.TemporaryDirectory(dir=tmp) as folder:
        law = OrderLaw(21, 0, size, BATCH)
        begin, cpu = time.perf_counter(), time.process_time()
        every = interval_steps(8.5e9, size * TOKENS_A_SAMPLE, law)
        info = write_order(Path(folder) / "order", law, interval_steps=every)
        cpu, wall, peak = time.process_time() - cpu, time.perf_counter() - begin, peak_rss()
        _forget(Path(folder))
        times = []
        for step in random.Random(0).sample(range(law.steps), min(100, law.steps)):
            begin = time.perf_counter()
            index = OrderIndex.open(Path(folder) / "order")
            index.step(step).sum()
            times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        for _ in range(100):
            index.rank(step, 3, 8).sum()
        rank = (time.perf_counter() - begin) / 100
        size_on_disk = sum(i.bytes for i in info.intervals)
        return {
            "CPU s": cpu,
            "wall s": wall,
            "peak GB": peak / 1e9,
            "files": len(info.intervals),
            "GB": size_on_disk / 1e9,
            "open + read a step, ms": float(np.median(times)) * 1e3,
            "worst ms": max(times) * 1e3,
            "rank slice of an open step, us": rank * 1e6,
        }


def _forget(folder: Path) -> None:
    """Ask the kernel to drop the pages of the files, so that reading them comes from the disk."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# ---------------------------------------------------------------------------------------------------------------------
# verification


def verify_cost(rows: int, rounds: int, tmp: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of 100 to 1024 tokens of real text, as exported, verified in this process; and the same files only read."""
    import pyarrow.parquet as pq

    from ettin_data.order.export import export_order
    from ettin_data.order.verify import Request, verify
    from ettin_data.stages.order import OrderLaw, write_order

    with tempfile.TemporaryDirectory(dir=tmp) as folder:
        root = Path(folder)
        write_rows(root / "train", rows)
        write_order(root / "order", OrderLaw(21, 0, rows, 1024), interval_steps=1000, phase="pretrain")
        begin = time.process_time()
        export_order(root / "order", root / "train", root / "out")
        exported = time.process_time() - begin
        files = sorted((root / "out").rglob("*.parquet"))

        def read() -> None:
            for path in files:
                for _ in pq.ParquetFile(path, memory_map=True).iter_batches(4096, columns=["input_ids", "step"]):
                    pass

        def check() -> None:
            found = verify(Request(str(root / "train"), str(root / "out")))
            assert found.verdict == "agrees" and sum(r.equal for r in found.checked) == rows // 1024 * 1024

        times = in_turn({"raw parquet": read, "verify": check}, rounds)
        used = rows // 1024 * 1024
        table = [
            {"what": name, "CPU s": timing.cpu_s, "wall s": timing.wall_s, "rows/CPU s": used / timing.cpu_s}
            for name, timing in times.items()
        ]
        table.append({"what": "export", "CPU s": exported, "wall s": exported, "rows/CPU s": used / exported})
        return table, {"verify / raw parquet": ratio(times["raw parquet"], times["verify"])}


def write_rows(folder: Path, rows: int) -> None:
    """An MDS folder of rows cut anywhere out of real tokenized text."""
    from benchmarks.text import documents
    from ettin_data.shards import ShardWriter
    from ettin_data.tokenizer import Tokenizer, resolve

    tokens, _ = Tokenizer(resolve()).encode_batch(documents(8))
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    writer = ShardWriter(folder)
    for first in range(0, rows, 10_000):
        count = min(10_000, rows - first)
        lengths = np.minimum(rng.integers(100, 1300, count), 1022)
        starts = rng.integers(0, len(tokens) - 1022, count)
        offsets = np.cumsum([0, *(lengths + 2)])
        flat = np.empty(offsets[-1], np.uint16)
        flat[offsets[:-1]], flat[offsets[1:] - 1] = 50281, 50282
        for begin, start, length in zip(offsets[:-1].tolist(), starts.tolist(), lengths.tolist(), strict=True):
            flat[begin + 1 : begin + 1 + length] = tokens[start : start + length]
        writer.write([f"{first + i}" for i in range(count)], flat, offsets)
    writer.finish()


# ---------------------------------------------------------------------------------------------------------------------
# looking into a run


def trace_cost(samples: int, tmp: Path) -> list[dict[str, Any]]:
    """Questions to a run of short samples, three to a document, in 300 splits; each in a process of its own."""
    root = Path(tempfile.mkdtemp(dir=tmp))
    try:
        in_fresh_process(write_phase, str(root / "pretrain"), samples, 300)
        rows = []
        for question in ("step", "document", "url", "text", "exposure"):
            seconds, peak = in_fresh_process(ask, str(root / "pretrain"), question, samples)
            rows.append({"question": question, "seconds": seconds, "peak GB": peak / 1e9})
        return rows
    finally:
        shutil.rmtree(root)


def write_phase(folder: str, samples: int, splits: int) -> None:
    """A phase with ledgers, an index and an order, of random tokens."""
    from ettin_data import marker
    from ettin_data.keyed import document_keys
    from ettin_data.ledger import Ledger
    from ettin_data.marker import Marker
    from ettin_data.shards import ShardWriter, write_index
    from ettin_data.stages.order import OrderLaw, write_order

    train, shards = Path(folder) / "train", []
    for number in range(splits):
        count = samples * (number + 1) // splits - samples * number // splits
        rng = np.random.default_rng(number)
        lengths = rng.integers(4, 40, count)
        offsets = np.cumsum([0, *lengths])
        document = np.arange(count) // 3
        ids = [f"{number}-{d}" for d in document.tolist()]
        temporary, name = train / f".tmp-{number}", f"source{number % 15}/split_{number:04d}-x"
        temporary.mkdir(parents=True)
        writer = ShardWriter(temporary)
        tokens = rng.integers(0, 50_000, offsets[-1]).astype(np.uint16)
        writer.write(ids, tokens, offsets)
        infos = writer.finish()
        shards += [info.moved(name) for info in infos]
        documents = document[-1] + 1
        starts = offsets[:-1] - offsets[:-1][document * 3]
        Ledger(
            {
                "key": document_keys(list(dict.fromkeys(ids))),
                "file": np.zeros(documents, np.int32),
                "position": np.arange(documents),
                "tokens": np.add.reduceat(lengths, np.arange(0, count, 3)),
                "url_key": document_keys([f"https://example.org/{number}/{d}" for d in range(documents)]),
            },
            {
                "document": document,
                "start": starts,
                "length": lengths,
                "tokens": lengths,
                "content": rng.integers(0, 2**63, count).astype(np.uint64),
            },
        ).write(temporary)
        inputs = [{"path": f"{name}.json.gz", "size": 1, "etag": None}]
        made = Marker(name, name.partition("/")[0], "f", {}, inputs, {}, count, 0, "r")
        (train / name).parent.mkdir(exist_ok=True)
        marker.publish(temporary, train / name, made, infos)
    write_index(train, shards)
    write_order(Path(folder) / "order", OrderLaw(21, 0, samples, BATCH), interval_steps=500, phase="pretrain")


def ask(folder: str, question: str, samples: int) -> tuple[float, int]:
    """Seconds from opening the run to the answer; Python and its libraries are loaded already."""
    from ettin_data.exposure import across_phases
    from ettin_data.lookup import open_phases
    from ettin_data.trace import trace_document, trace_step

    begin = time.perf_counter()
    phases = open_phases(Path(folder))
    if question == "step":
        assert len(trace_step(phases[0], samples // BATCH // 2, rows=20).rows) == 20
    elif question == "document":
        assert len(trace_document(phases, id="150-1000")[0].sightings) == 3
    elif question == "url":
        assert len(trace_document(phases, url="https://example.org/17/99")[0].sightings) == 3
    elif question == "text":
        (tokens,) = (phases[0].reader.tokens(i) for i in [7])
        assert trace_document(phases, text="", tokenizer=lambda: _Fixed(tokens)) == []
    else:
        assert across_phases(phases).all_documents > 0
    return time.perf_counter() - begin, peak_rss()


class _Fixed:
    """Stands for a tokenizer whose answer is known, so that only the search is timed."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens

    def encode_batch(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return self.tokens, np.array([0, len(self.tokens)])


if __name__ == "__main__":
    main()
