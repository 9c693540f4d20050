"""The batch order: cost of the permutation and its index, of reading it, of verifying against it, of tracing a run.

    python -m benchmarks.order [--quick] [--json FILE]      # 1e7 and 1e8 samples, verify, trace; minutes
    python -m benchmarks.order --sizes 1e9 --parts order    # 10 GB of memory for numpy, 4 GB of disk
    python -m benchmarks.order --sizes 2.8e9 --parts order  # full scale: 12 GB of memory and of disk, a quarter hour

What is claimed: the exact permutation of 2.8 billion samples and its index within 14 GB and minutes, a step of it in
milliseconds; verification at half of the rate of bare parquet reading or better; trace in under a second on ten million
samples. Where several ways to the permutation fit into memory, their results are compared by hash.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from benchmarks.measure import in_fresh_process, in_turn, peak_rss, ratio, report

BATCH = 4608
TOKENS_A_SAMPLE = 609  # mean of phase 1: 1.7047T tokens in 2.8 billion samples
PARTS = ("order", "verify", "trace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: seconds, for a look at the ratios")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--sizes", help="numbers of samples, with commas; default 1e7,1e8")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="ways to the permutation")
    parser.add_argument("--rows", type=int, help="rows of the verification; default 200,000")
    parser.add_argument("--rounds", type=int, help="of the verification; default 5")
    parser.add_argument("--samples", type=float, help="of the traced run; default 1e7, which takes 1 GB of disk")
    parser.add_argument("--tmp", type=Path, default=Path(tempfile.gettempdir()), help="room for index and run")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    quick = options.quick
    rows, ratios = list[dict[str, Any]](), dict[str, float]()

    def add(title: str, found: Sequence[dict[str, Any]]) -> None:
        report(title, found, None)
        rows.extend({"part": title, **row} for row in found)

    if "order" in options.parts:
        for size in [int(float(s)) for s in (options.sizes or ("1e7" if quick else "1e7,1e8")).split(",")]:
            ways = permutation_costs(options.ways, size)
            add(f"Permutation of {size:,} samples", ways)
            seconds = {row["way"]: row["CPU s"] for row in ways}
            if {"ettin-data", "numpy"} <= set(seconds):
                ratios[f"numpy / ettin-data, permutation of {size:,}"] = seconds["numpy"] / seconds["ettin-data"]
            index = in_fresh_process(index_cost, size, str(options.tmp))
            add(f"Index of {size:,} samples, steps of {BATCH:,}", [index])
    if "verify" in options.parts:
        count, rounds = options.rows or (60_000 if quick else 200_000), options.rounds or (3 if quick else 5)
        found, speed = verify_cost(count, rounds, options.tmp)
        ratios |= speed
        add("Verification beside bare parquet reading of the same rows, one process", found)
    if "trace" in options.parts:
        count = int(options.samples or (1e6 if quick else 1e7))
        found = trace_cost(count, options.tmp)
        add(f"Looking into a run of {count:,} samples", found)
        ratios["slowest trace command, s"] = max(row["command s"] for row in found)
    for name, value in ratios.items():
        print(f"{name}: {value:.2f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"title": "The batch order", "rows": rows, "ratios": ratios}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# permutation and index

WAYS = {"ettin-data": 4.3, "numpy": 8.2, "numpy, 32-bit positions": 4.3, "numpy .tolist()": 48.0}
"""Ways to the permutation -> bytes of memory a sample; the last is what the reference's sampler does."""


def permutation_costs(ways: Sequence[str], size: int) -> list[dict[str, Any]]:
    """CPU seconds and peak memory of each way, in a process of its own; left out where this machine lacks memory."""
    rows, digests = [], set()
    for way in ways:
        if WAYS[way] * size > available() - (1 << 30):
            print(f"{way} at {size:,}: left out, it needs about {WAYS[way] * size / 1e9:.0f} GB", flush=True)
            continue
        seconds, peak, digest = in_fresh_process(_permute, way, size)
        digests.add(digest)
        rows.append({"way": way, "CPU s": seconds, "peak GB": peak / 1e9, "ns a sample": seconds / size * 1e9})
    assert len(digests) <= 1, "the permutations are not the same"
    return rows


def _permute(way: str, size: int) -> tuple[float, int, str]:
    from ettin_data.order.law import permutation

    begin = time.process_time()
    if way == "ettin-data":
        order = permutation(size, 21)
    elif way == "numpy, 32-bit positions":
        order = np.arange(size, dtype=np.uint32)
        np.random.Generator(np.random.PCG64DXSM(21)).shuffle(order)
    else:
        order = np.random.Generator(np.random.PCG64DXSM(21)).permutation(size)
        if way == "numpy .tolist()":
            order.tolist()
    seconds, peak, digest = time.process_time() - begin, peak_rss(), xxhash.xxh3_64()
    for first in range(0, size, 1 << 24):
        digest.update(order[first : first + (1 << 24)].astype(np.uint32).data)
    return seconds, peak, digest.hexdigest()


def available() -> int:
    """Bytes of memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def index_cost(size: int, tmp: str) -> dict[str, Any]:
    """Writing an index with 8.5B-token intervals, then reading steps from it without a warm page cache."""
    from ettin_data.order.index import OrderIndex, OrderLaw, interval_steps, write_order

    with tempfile.TemporaryDirectory(dir=tmp) as folder:
        law = OrderLaw(21, 0, size, BATCH)
        begin, cpu = time.perf_counter(), time.process_time()
        every = interval_steps(8.5e9, size * TOKENS_A_SAMPLE, law)
        info = write_order(Path(folder) / "order", law, interval_steps=every)
        cpu, wall, peak = time.process_time() - cpu, time.perf_counter() - begin, peak_rss()
        _forget(Path(folder))
        times, reads = [], []
        for step in random.Random(0).sample(range(law.steps), min(100, law.steps)):
            begin, read = time.perf_counter(), _bytes_read()
            index = OrderIndex.open(Path(folder) / "order")
            positions = index.step(step)
            positions.sum()
            times.append(time.perf_counter() - begin)
            reads.append(_bytes_read() - read + positions.nbytes)
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
            "KB read": float(np.median(reads)) / 1e3,
            "rank slice of an open step, us": rank * 1e6,
        }


def _bytes_read() -> int:
    """Bytes that this process has read so far, from a disk or a cache; not what it has mapped."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    return 0


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
    from ettin_data.order.index import OrderLaw, write_order
    from ettin_data.order.proof.outcome import Request
    from ettin_data.order.proof.verify import verify_order

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
            found = verify_order(Request(str(root / "train"), str(root / "out")))
            assert found.verdict == "agrees" and sum(r.equal for r in found.checked) == rows // 1024 * 1024

        def check_masked() -> None:
            found = verify_order(Request(str(root / "train"), str(root / "masked")))
            assert found.verdict == "agrees" and sum(r.matched for r in found.checked) == rows // 1024 * 1024

        write_masked(root / "out", root / "masked", share=0.3)
        times = in_turn({"raw parquet": read, "verify": check, "verify masked": check_masked}, rounds)
        used = rows // 1024 * 1024
        table = [
            {"what": name, "CPU s": timing.cpu_s, "wall s": timing.wall_s, "rows/CPU s": used / timing.cpu_s}
            for name, timing in times.items()
        ]
        table.append({"what": "export", "CPU s": exported, "wall s": exported, "rows/CPU s": used / exported})
        return table, {
            "verify / raw parquet": ratio(times["raw parquet"], times["verify"]),
            "verify masked / verify": ratio(times["verify"], times["verify masked"]),
        }


def write_masked(out: Path, to: Path, share: float) -> None:
    """The same publication with so many tokens drawn for masking."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ettin_data.tokenizer.vocabulary import MODERNBERT

    rng = np.random.default_rng(0)
    for path in out.rglob("*.parquet"):
        target = to / path.relative_to(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(path, partitioning=None)
        lists = table["input_ids"].combine_chunks()
        tokens = lists.values.to_numpy()
        draw, others = rng.random(len(tokens)), rng.integers(0, MODERNBERT.size, len(tokens)).astype(tokens.dtype)
        tokens = np.where(draw < share * 0.8, tokens.dtype.type(MODERNBERT.mask), tokens)
        tokens = np.where((draw >= share * 0.8) & (draw < share * 0.9), others, tokens)
        lists = pa.ListArray.from_arrays(lists.offsets, pa.array(tokens))
        pq.write_table(table.set_column(0, "input_ids", lists), target, compression="zstd", row_group_size=20_000)


def write_rows(folder: Path, rows: int) -> None:
    """An MDS folder of rows cut anywhere out of real tokenized text."""
    from benchmarks.text import documents
    from ettin_data.storage.mds import ShardWriter
    from ettin_data.tokenizer.encoder import Tokenizer, resolve

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


SHORT = "A document of one sample, which a run of ten million others hides."
LONG = "A document that was cut into four samples. " * 8
_SPLITS = 300


def trace_cost(samples: int, tmp: Path) -> list[dict[str, Any]]:
    """Questions to a run of short samples in 300 splits, each as a command and in a process that has its libraries."""
    root = Path(tempfile.mkdtemp(dir=tmp))
    questions = {
        "step": ["--step", str(samples // BATCH // 2)],
        "one rank of a step, all its rows": ["--step", "7", "--rank", "3", "--world", "8", "--rows", "0"],
        "document": ["--doc", f"{_SPLITS // 2}-100"],
        "document that is not there": ["--doc", "nobody"],
        "url": ["--url", "https://example.org/17/99"],
        "text of one sample": ["--text", SHORT],
        "text of four samples": ["--text", LONG],
    }
    try:
        in_fresh_process(write_phase, str(root / "pretrain"), samples)
        rows = []
        for question, words in questions.items():
            answer, peak = in_fresh_process(ask, str(root / "pretrain"), words)
            command = min(_command_seconds(root, words) for _ in range(3))
            rows.append({"question": question, "answer s": answer, "command s": command, "peak GB": peak / 1e9})
        answer, peak = in_fresh_process(ask_exposure, str(root / "pretrain"))
        return [*rows, {"question": "exposure", "answer s": answer, "command s": 0.0, "peak GB": peak / 1e9}]
    finally:
        shutil.rmtree(root)


def write_phase(folder: str, samples: int) -> None:
    """A phase with ledgers, an index and an order, of random tokens and two texts."""
    from ettin_data.order.index import OrderLaw, write_order
    from ettin_data.storage.mds import write_index
    from ettin_data.tokenizer.encoder import Tokenizer, resolve

    train, shards = Path(folder) / "train", []
    encode = Tokenizer(resolve()).encode_batch
    texts = [encode([text])[0] for text in (SHORT, LONG)]
    for number in range(_SPLITS):
        count = samples * (number + 1) // _SPLITS - samples * number // _SPLITS
        shards += _write_split(train, number, count, texts if number == _SPLITS // 2 else ())
    write_index(train, shards)
    write_order(Path(folder) / "order", OrderLaw(21, 0, samples, BATCH), interval_steps=500, phase="pretrain")


def _write_split(train: Path, number: int, count: int, texts: Sequence[np.ndarray]) -> list[Any]:
    """A split whose documents have 1, 1, 4, 1, 1, 4, … samples; the first of each kind is one of the texts."""
    from ettin_data.base.draws import document_keys
    from ettin_data.stages.write import content_hashes
    from ettin_data.storage import split as marker
    from ettin_data.storage.ledger import Ledger
    from ettin_data.storage.mds import ShardWriter
    from ettin_data.storage.split import Marker

    rng = np.random.default_rng(number)
    lengths = rng.integers(4, 40, count)
    pieces = [texts[0], *np.array_split(texts[1], 4)] if len(texts) else []
    places = [0, 2, 3, 4, 5]
    lengths[places[: len(pieces)]] = [len(piece) + 2 for piece in pieces]
    offsets = np.cumsum([0, *lengths])
    tokens = rng.integers(0, 50_000, offsets[-1]).astype(np.uint16)
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = 50281, 50282
    for place, piece in zip(places, pieces, strict=False):
        tokens[offsets[place] + 1 : offsets[place + 1] - 1] = piece
    document = np.repeat(np.arange(count), np.resize([1, 1, 4], count))[:count]
    firsts, text = np.flatnonzero(np.diff(document, prepend=-1)), np.cumsum(lengths - 2)
    ids = [f"{number}-{d}" for d in range(len(firsts))]
    ledger = Ledger(
        {
            "key": document_keys(ids),
            "file": np.zeros(len(firsts), np.int32),
            "position": np.arange(len(firsts)),
            "tokens": np.add.reduceat(lengths - 2, firsts),
            "url_key": document_keys([f"https://example.org/{number}/{d}" for d in range(len(firsts))]),
        },
        {
            "document": document,
            "start": (text - lengths + 2) - (text - lengths + 2)[firsts][document],
            "length": lengths - 2,
            "tokens": lengths,
            "content": content_hashes(tokens, offsets),
        },
    )
    source, split = f"source{number % 15}", f"split_{number:04d}-x"
    temporary = train / f".tmp-{number}"
    temporary.mkdir(parents=True)
    (train / source).mkdir(exist_ok=True)
    writer = ShardWriter(temporary)
    writer.write([ids[d] for d in document.tolist()], tokens, offsets)
    infos = writer.finish()
    ledger.write(temporary)
    inputs = [{"path": f"{split}.json.gz", "size": 1, "etag": None}]
    made = Marker(split, source, "f", {}, inputs, {}, count, 0, "r", "c")
    marker.publish(temporary, train / source / split, made, infos)
    return [info.moved(f"{source}/{split}") for info in infos]


def ask(folder: str, words: Sequence[str]) -> tuple[float, int]:
    """Seconds from opening the run to the answer; Python, its libraries and the tokenizer are loaded already."""
    from ettin_data.inspect.lookup import open_phases
    from ettin_data.inspect.trace import trace_document, trace_step
    from ettin_data.tokenizer.encoder import Tokenizer, resolve

    tokenizer = Tokenizer(resolve(), backend="tokenizers")
    tokenizer.decode([0])
    values = dict(zip(words[::2], words[1::2], strict=True))
    begin = time.perf_counter()
    phases = open_phases(Path(folder))
    if "--step" in values:
        rank = {name: int(values[f"--{name}"]) for name in ("rank", "world") if f"--{name}" in values}
        assert trace_step(phases[0], int(values["--step"]), rows=int(values.get("--rows", 20)) or None, **rank).rows
    else:
        id, url, text = (values.get(name) for name in ("--doc", "--url", "--text"))
        found = trace_document(phases, id=id, url=url, text=text, tokenizer=lambda: tokenizer)
        assert [len(document.sightings) for document in found] in ([], [1], [4])
        assert bool(found) == (id != "nobody")
    return time.perf_counter() - begin, peak_rss()


def ask_exposure(folder: str) -> tuple[float, int]:
    from ettin_data.inspect.exposure import across_phases
    from ettin_data.inspect.lookup import open_phases

    begin = time.perf_counter()
    assert across_phases(open_phases(Path(folder))).all_documents > 0
    return time.perf_counter() - begin, peak_rss()


def _command_seconds(run: Path, words: Sequence[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ettin_data.cli", "trace", run, *words], capture_output=True, check=False)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
