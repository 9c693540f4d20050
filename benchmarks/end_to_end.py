"""From files on disk to finished, hashed, marked splits: the pipeline beside a bare loop of the best libraries.

    python benchmarks/end_to_end.py [--megabytes 100] [--repeats 3] [--length 1024] [--json out.json]

The bare loop is the best that can be written by hand with these libraries for one file: inflate with isal, lines,
orjson, fastokens in batches, cut into framed pieces, the bytes of MDS shards, xxh3, write. It keeps no ledger, no
marker, checks nothing and survives nothing. Both run in this process on one core, interleaved; medians of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import tempfile
import time
from pathlib import Path

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

import numpy as np
import orjson
import xxhash
from isal import igzip

from benchmarks.text import documents, write_jsonl_gz
from ettin_data import recipe, run
from ettin_data.pool import build_split
from ettin_data.tokenizer import CLS, SEP, Tokenizer, resolve


def bare_loop(path: Path, out: Path, tokenizer: Tokenizer, length: int) -> int:
    """Read, tokenize, cut, write; returns the number of text tokens."""
    import fastokens

    encoder = _fastokens(tokenizer, fastokens)
    body, limit = length - 2, 1 << 26
    total, shard, size, samples = 0, 0, 0, []

    def flush() -> None:
        nonlocal shard, size, samples
        lengths = np.fromiter(map(len, samples), np.int64, len(samples))
        offsets = np.concatenate([[0], np.cumsum(lengths)]) + 4 + 4 * (len(samples) + 1)
        data = struct.pack("<I", len(samples)) + offsets.astype(np.uint32).tobytes() + b"".join(samples)
        xxhash.xxh3_64_hexdigest(data)
        (out / f"shard.{shard:05}.mds").write_bytes(data)
        shard, size, samples = shard + 1, 0, []

    def encode(ids: list[str], texts: list[str]) -> int:
        nonlocal size
        flat, bounds = encoder(texts)
        for name, begin, end in zip(ids, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            head = name.encode()
            for start in range(begin, end, body):
                piece = flat[start : min(start + body, end)]
                count = len(piece) + 2
                header = struct.pack("<BB", 4, count) if count < 256 else struct.pack("<BH", 5, count)
                sample = b"".join(
                    (struct.pack("<II", len(head), len(header) + 2 * count), head, header, _CLS, piece.tobytes(), _SEP)
                )
                samples.append(sample)
                size += len(sample) + 4
                if size >= limit:
                    flush()
        return len(flat)

    ids, texts, characters, rest = [], [], 0, b""
    with igzip.open(path, "rb") as file:
        while block := file.read(1 << 20):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                record = orjson.loads(line)
                ids.append(record["id"])
                texts.append(record["text"])
                characters += len(record["text"])
            if characters > 1_000_000:
                total += encode(ids, texts)
                ids, texts, characters = [], [], 0
    if ids:
        total += encode(ids, texts)
    if samples:
        flush()
    return total


_CLS, _SEP = np.uint16(CLS).tobytes(), np.uint16(SEP).tobytes()


def _fastokens(tokenizer: Tokenizer, fastokens):
    engine = fastokens.Tokenizer.from_file(str(tokenizer.file.path))

    def encode(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = engine.encode_batch_flat(texts, split_special_tokens=True)
        return np.frombuffer(ids, "<u4").astype(np.uint16), np.frombuffer(offsets, "<i8")

    return encode


def pipeline(folder: Path, path: Path, length: int, strategy: str) -> tuple[int, run.Resolved]:
    """Build the one split with the shipped recipe's settings, filters off; returns its text tokens."""
    loaded = recipe.load(
        "pretrain",
        overrides=[f"length={length}", f"pack.strategy={strategy}", "filters=[]"],
        add_sources=[f"bench={path}:1"],
        drop_sources=list(recipe.load("pretrain").sources),
    )
    resolved = run.resolve(loaded, run.BuildOptions(folder))
    source = resolved.plan.sources["bench"]
    marker = build_split(resolved.job(source, source.splits[0]))
    return marker.tally["tokens_in"], resolved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--strategy", default="backfill")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = root / "bench.jsonl.gz"
        texts = documents(arguments.megabytes)
        write_jsonl_gz(path, texts)
        text_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
        del texts
        tokenizer = Tokenizer(resolve())
        tokenizer.encode_batch(["warm up"])
        cpu: dict[str, list[float]] = {"bare loop": [], "pipeline": []}
        wall: dict[str, list[float]] = {"bare loop": [], "pipeline": []}
        tokens = {}
        for repeat in range(arguments.repeats + 1):
            for name in cpu:
                out = root / "out"
                out.mkdir()
                started = time.perf_counter(), time.process_time()
                if name == "bare loop":
                    tokens[name] = bare_loop(path, out, tokenizer, arguments.length)
                else:
                    tokens[name], _ = pipeline(out, path, arguments.length, arguments.strategy)
                if repeat:  # the first round warms caches
                    wall[name].append(time.perf_counter() - started[0])
                    cpu[name].append(time.process_time() - started[1])
                shutil.rmtree(out)
    rows = []
    for name in cpu:
        seconds = statistics.median(cpu[name])
        rows.append(
            {
                "what": name,
                "tokens": tokens[name],
                "cpu_s": round(seconds, 3),
                "wall_s": round(statistics.median(wall[name]), 3),
                "M_tokens_per_cpu_s": round(tokens[name] / seconds / 1e6, 2),
                "MB_per_cpu_s": round(text_bytes / seconds / 1e6, 1),
                "cpu_s_per_M_tokens": round(seconds / tokens[name] * 1e6, 4),
            }
        )
    ratios = [bare / ours for bare, ours in zip(cpu["bare loop"], cpu["pipeline"], strict=True)]
    ratio = statistics.median(ratios)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print(f"pipeline / bare loop: {ratio:.1%} of its speed (rounds: {', '.join(f'{r:.1%}' for r in ratios)})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
