"""Mutated files over all readers: no crash, no hang, bounded memory, every record accounted for.

The files are read in processes of their own, so that a crash of a native library is seen and named by its seed.
"""

from __future__ import annotations

import gzip
import io
import multiprocessing
import random
import resource
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import source_kit as kit
import zstandard

from ettin_data import sources
from ettin_data.sources import ReadOptions, Record, SourceFile

TIME_LIMIT_S = 10.0  # a file; they are a few KiB
MEMORY_LIMIT_MIB = 600  # growth of a worker over all its files
OPTIONS = ReadOptions(max_record_bytes=8 << 20, expansion_floor=32 << 20, max_window_bytes=1 << 27)


def corpus(folder: Path) -> dict[str, bytes]:
    """Sound files of every kind that is read; `folder` gets the tokenizer that decodes the MDS ones."""
    rng = random.Random(7)
    words = ["alpha", "beta", "ünï", "\U0001f600", "code()", "\n", "x" * 40]
    rows = [{"text": " ".join(rng.choices(words, k=rng.randrange(1, 40))), "id": str(n)} for n in range(40)]
    lines = kit.jsonl(rows)
    half = lines.index(b"\n", len(lines) // 2) + 1
    texts, ids = [row["text"] for row in rows], [row["id"] for row in rows]
    kit.train_llama_like(folder / "tokenizer.json")
    tokens = [np.arange(rng.randrange(1, 60)) % 250 for _ in range(20)]
    packs = [{"input_ids": np.arange(90) % 250, "indices": [[0, 40], [40, 90]], "domain": "d"} for _ in range(6)]
    own = [{"id": f"d{n // 3}", "input_ids": np.array([50281, *t, 50282])} for n, t in enumerate(tokens)]
    raw = kit.mds_shard(
        {"domain": "str", "input_ids": "ndarray:int32"}, [{"domain": "d", "input_ids": t} for t in tokens]
    )
    dictionary = pa.array(texts[:3] * 13).dictionary_encode()
    return {
        "plain.jsonl": lines,
        "members.jsonl.gz": gzip.compress(lines[:half]) + gzip.compress(lines[half:]),
        "frames.jsonl.zst": zstandard.compress(lines[:half])
        + zstandard.ZstdCompressor(write_checksum=True).compress(lines[half:]),
        "plain.parquet": kit.parquet({"text": texts, "id": ids, "url": ids}, compression="none"),
        "snappy.parquet": kit.parquet({"id": ids, "text": texts}, compression="snappy", row_group_size=7),
        "zstd.parquet": kit.parquet({"text": texts, "id": ids}, compression="zstd", use_dictionary=False),
        "dictionary.parquet": kit.parquet({"text": dictionary}, compression="gzip"),
        "raw.mds": raw,
        "packed.mds": kit.mds_shard(
            {"domain": "str", "input_ids": "ndarray:uint32", "indices": "ndarray:uint32"}, packs
        ),
        "own.mds": kit.mds_shard({"id": "str", "input_ids": "ndarray:uint16"}, own),
        "zipped.mds.zstd": zstandard.compress(raw),
    }


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to four random changes: flips, cuts, repeats, insertions, splices with another file, edge values."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(body) + 1)
        if rng.random() < 0.3:  # headers and footers matter most
            at = min(rng.randrange(64), len(body)) if rng.random() < 0.5 else max(len(body) - rng.randrange(64), 0)
        size = rng.choice((1, 2, 4, 8, 32, 300))
        kind = rng.randrange(8)
        if kind == 0 and at < len(body):
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            body[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del body[at : at + size]
        elif kind == 3:
            body[at:at] = body[max(at - size, 0) : at] * rng.choice((1, 2, 50))
        elif kind == 4:
            del body[at:]
        elif kind == 5:
            start = rng.randrange(len(other) + 1)
            body[at:] = other[start:]
        elif kind == 6:
            body[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"\xff\xff\xff\x7f"))
        else:
            body[at:at] = rng.choice(
                (b"\n", b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"\\ud800", b"\x1f\x8b", b"PAR1")
            )
    return bytes(body)


def oracle_lines(data: bytes) -> int | None:
    """Lines of a JSON Lines file by the standard decoders alone; None where they refuse it."""
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        elif data[:4] == b"\x28\xb5\x2f\xfd":
            data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        return None
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def check(name: str, data: bytes, path: Path, tokenizer: str) -> str | None:
    """Read one mutated file; what is wrong with how that went, or None."""
    path.write_bytes(data)
    source = sources.own_source("fuzz", str(path), tokenizer=None if name == "own.mds" else tokenizer)
    started = time.perf_counter()
    items = list(sources.read_file(source, SourceFile(path.name, len(data)), options=OPTIONS))
    took = time.perf_counter() - started
    if took > TIME_LIMIT_S:
        return f"took {took:.1f} s"
    ends = [item for item in items if not isinstance(item, Record) and item.whole_file]
    rest = [item for item in items if isinstance(item, Record) or not item.whole_file]
    if len(ends) > 1 or (ends and (items[-1] is not ends[0] or ends[0].position != len(rest))):
        return f"a file ends once, with the number of records before: {ends}"
    positions = [item.position for item in rest]
    if ".mds" not in name and positions != list(range(len(rest))):
        return "records are not seen in order, once each"
    for item in rest:
        if isinstance(item, Record):
            item.text.encode()
            item.id.encode()
            if not item.id or (not item.text.strip() and item.tokens is None):
                return f"an empty record: {item}"
        elif not item.reason.isidentifier():
            return f"reason {item.reason!r}"
    if "jsonl" in name and not ends and b"PAR1" not in data[:4]:
        lines = oracle_lines(data)
        if lines is not None and lines != len(rest):
            return f"{len(rest)} records of {lines} lines"
    return None


def worker(seeds: range, folder: str, report: Callable[[object], None]) -> None:
    """Check the files of some seeds; reports each seed before its file, what is wrong, and the growth of memory."""
    home = Path(folder)
    files = corpus(home)
    names = sorted(files)
    for name in names:  # everything imported, every reader warm, before memory is measured
        if wrong := check(name, files[name], home / f"sound.{name}", str(home / "tokenizer.json")):
            raise AssertionError(f"{name}: {wrong}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in seeds:
        rng = random.Random(seed)
        name = rng.choice(names)
        data = mutate(files[name], files[rng.choice(names)], rng)
        report(("at", seed, name))
        try:
            wrong = check(name, data, home / f"{seed % 50}.{name}", str(home / "tokenizer.json"))
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            report(("wrong", seed, f"{name}: {wrong}"))
    report(("memory", -1, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def run(seeds: range, folder: Path) -> None:
    """Check seeds in a process of their own; fails with the seeds that went wrong."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=worker, args=(seeds, str(folder), sender.send))
    process.start()
    sender.close()
    last: object = None
    wrong: list[str] = []
    grown: float | None = None
    try:
        while True:
            assert receiver.poll(TIME_LIMIT_S * 3), f"seed {last} hangs"
            kind, seed, value = receiver.recv()
            if kind == "at":
                last = (seed, value)
            elif kind == "wrong":
                wrong.append(f"seed {seed}, {value}")
            else:
                grown = value
    except EOFError:
        pass
    finally:
        if grown is None:
            process.kill()
        process.join()
    assert not wrong, "\n".join(wrong[:20])
    assert process.exitcode == 0 and grown is not None, f"exit code {process.exitcode} at seed {last}"
    assert grown < MEMORY_LIMIT_MIB, f"memory grew by {grown:.0f} MiB"


def test_fuzz_some(tmp_path: Path) -> None:
    run(range(300), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_fuzz_ten_thousand(part: int, tmp_path: Path) -> None:
    run(range(1000 + part * 2500, 1000 + (part + 1) * 2500), tmp_path)
