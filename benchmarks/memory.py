"""The most memory that a worker needs, for inputs of every awkward shape.

    python -m benchmarks.memory [--megabytes 500] [--shapes short whole ...] [--json FILE]

Each shape is one file, of so many MB of text unless it says otherwise, built as one split in a process of its own, with
the filters that remember documents:

* spread: documents of a realistic spread of lengths;
* short: documents of 60 to 180 characters, where anything kept for each document would show: 1,450 MB are 11 million;
* huge: documents of 50 MB each;
* packed: the spread with `best_fit` at 8,000, whose window is held;
* parquet: the spread as parquet of one row group.

The claim: under 1 GB, tokenizer and libraries included.
"""

from __future__ import annotations

import argparse
import gzip
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

import orjson

from benchmarks import text
from benchmarks.measure import in_fresh_process, peak_rss, report
from ettin_data.stages.filters.registry import choose_filters

CLAIM = 1e9
FILTERS = ("length", "exact_duplicate")
SHAPES = {
    "spread": "backfill", "short": "backfill", "huge": "backfill", "packed": "best_fit", "parquet": "backfill",
    "short packed": "best_fit", "short joined": "concat",
}  # fmt: skip


def documents(shape: str, megabytes: float) -> Iterator[str]:
    """Real text cut to the shape, the same text over and over, with a number that makes each document another."""
    held, limit = 0, megabytes * 1e6
    texts = text.documents(min(megabytes, 8))
    whole = "".join(texts)
    number = 0
    while held < limit:
        if shape == "huge":
            document = whole * -(-50_000_000 // len(whole))
        elif shape.startswith("short"):
            begin = number * 977 % (len(whole) - 200)
            document = whole[begin : begin + 60 + number % 120]
        else:
            document = texts[number * 7 % len(texts)]
        document = f"{number}. {document}"
        number += 1
        held += len(document)
        yield document


def write(path: Path, shape: str, megabytes: float) -> None:
    """The file, with ids like those of Dolma's Reddit."""
    numbered = enumerate(documents(shape, megabytes))
    if shape == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [{"id": f"t1_{number:08x}", "text": document} for number, document in numbered]
        pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", row_group_size=len(rows))
        return
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number, document in numbered:
            file.write(orjson.dumps({"id": f"t1_{number:08x}", "text": document}) + b"\n")


def build(path: Path, out: Path, strategy: str) -> dict[str, Any]:
    """Build the file as one split in this process."""
    from benchmarks.end_to_end import split_job
    from ettin_data.build.pool import build_split
    from ettin_data.tokenizer.encoder import Tokenizer, resolve

    tokenizer = Tokenizer(resolve())
    tokenizer.encode_batch(["warm up"])
    before = peak_rss()
    job = split_job(path, out, tokenizer, 1024 if strategy == "backfill" else 8000, strategy)
    marker = build_split(replace(job, filters=tuple(choose_filters(FILTERS))))
    return {
        "documents": marker.tally["documents"],
        "M tokens": marker.tally["tokens_in"] / 1e6,
        "MB before": before / 1e6,
        "peak MB": peak_rss() / 1e6,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=500, help="of text")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows = []
    for shape in options.shapes:
        with tempfile.TemporaryDirectory(prefix="ettin-memory-") as folder:
            path = Path(folder) / f"{shape}.{'parquet' if shape == 'parquet' else 'jsonl.gz'}"
            in_fresh_process(write, path, shape, options.megabytes)
            row = in_fresh_process(build, path, Path(folder) / "run", SHAPES[shape])
            rows.append({"shape": shape, "text MB": options.megabytes, **row})
    ratios = {f"peak of {row['shape']} / 1 GB": row["peak MB"] * 1e6 / CLAIM for row in rows}
    report("Memory of a worker", rows, options.json, ratios)


if __name__ == "__main__":
    main()
