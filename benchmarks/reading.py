"""What reading costs beside decompression and parsing alone, in CPU time, form by form.

    python -m benchmarks.reading [--megabytes 40] [--rounds 9] [--cases jsonl.gz ...] [--json FILE]

Each form is read by `sources.read_file` (size checked, damage watched for, every line counted, ids made unique) and, in
turn on the same file, by a bare loop of the same libraries that does none of that: `zlib` or `zstandard` and one
`orjson.loads` a line; for parquet, `pyarrow` to Python strings. The bare loop with isal, which is what the reader uses
for gzip, is there too.

The claims, for documents of a realistic spread of lengths: at most 1.5 times the CPU time of decompression and parsing
for jsonl.gz and jsonl.zst; 60 MB/s of text for them and 150 MB/s for parquet on one core of a current machine. "short"
is the same text in documents of 600 characters: there what a record costs shows, one to two microseconds.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks import text
from benchmarks.measure import in_turn, ratio, report
from ettin_data import sources

CLAIMED_RATIO = 1.5
CLAIMED = ("jsonl.gz", "jsonl.zst")
CASES = tuple(f"{form}{kind}" for form in ("jsonl", "jsonl.gz", "jsonl.zst", "parquet") for kind in ("", "/short"))
SHORT = 600


def write_input(folder: Path, form: str, texts: Sequence[str]) -> Path:
    """The texts as one file of this form, in the schema of Dolma or DCLM."""
    path = folder / f"{len(texts)}.{form}"
    if form == "parquet":
        text.write_parquet(path, texts)
    elif form == "jsonl":
        path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in text.records(texts)))
    else:
        text.write_jsonl(path, texts)
    return path


def ours(path: Path) -> int:
    """Read a file as the pipeline does; returns its records."""
    source = sources.own_source("bench", str(path))
    [file] = sources.list_files(source)
    return sum(isinstance(item, sources.Record) for item in sources.read_file(source, file))


def bare_lines(path: Path, inflate: Callable[[bytes], bytes]) -> int:
    """Decompress a file chunk by chunk, parse each line, nothing else."""
    loads, rest, count = orjson.loads, b"", 0
    with open(path, "rb", buffering=0) as file:
        for chunk in iter(lambda: file.read(1 << 18), b""):
            lines = (rest + inflate(chunk)).split(b"\n")
            rest = lines.pop()
            for line in lines:
                loads(line)["text"]
                count += 1
    return count


def bare_parquet(path: Path) -> int:
    """Text and id of each row as Python strings, nothing else."""
    import pyarrow.parquet as pq

    count = 0
    for batch in pq.ParquetFile(path).iter_batches(1024, columns=["text", "id", "url"], use_threads=False):
        for _ in zip(*(column.to_numpy(zero_copy_only=False) for column in batch.columns), strict=True):
            count += 1
    return count


def bare_loops(path: Path, form: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """The bare loops for a form: the one that is claimed against first."""
    import zstandard
    from isal import isal_zlib

    if form == "parquet":
        yield "pyarrow", partial(bare_parquet, path)
    elif form == "jsonl":
        yield "orjson", lambda: bare_lines(path, bytes)
    elif form == "jsonl.zst":
        yield "zstandard + orjson", lambda: bare_lines(path, zstandard.ZstdDecompressor().decompressobj().decompress)
    else:
        yield "zlib + orjson", lambda: bare_lines(path, zlib.decompressobj(31).decompress)
        yield "isal + orjson", lambda: bare_lines(path, isal_zlib.decompressobj(31).decompress)


def measure(case: str, folder: Path, texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """The rows of one case: the reader, then the bare loops with how many times their CPU time it took."""
    form, _, kind = case.partition("/")
    if kind:
        texts = [whole[i : i + SHORT] for whole in texts for i in range(0, len(whole), SHORT)]
        texts = [piece for piece in texts if not piece.isspace()]
    path = write_input(folder, form, texts)
    loops = dict(bare_loops(path, form))
    assert all(loop() == ours(path) == len(texts) for loop in loops.values()), "they do not read the same"
    timings = in_turn({"read_file": partial(ours, path), **loops}, rounds)
    megabytes = sum(len(piece.encode("utf-8", "replace")) for piece in texts) / 1e6
    return [
        {
            "case": case,
            "read by": name,
            "MB/s of text": megabytes / timing.cpu_s,
            "µs a document": timing.cpu_s / len(texts) * 1e6,
            "CPU time of read_file": round(ratio(timings["read_file"], timing), 2),
        }
        for name, timing in timings.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    texts = text.documents(options.megabytes)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases:
            rows += measure(case, Path(folder), texts, options.rounds)
    ratios: dict[str, float] = {}
    for row in rows:
        if row["read by"] != "read_file":
            ratios.setdefault(row["case"], row["CPU time of read_file"])
    report("Reading, on one core", rows, options.json, ratios)
    for case, times in ratios.items():
        claim = f"; the claim is {CLAIMED_RATIO} at most" if case in CLAIMED else ""
        print(f"{case:16} {times:.2f} times the CPU time of the bare loop{claim}")


if __name__ == "__main__":
    main()
