"""Write: samples become the shards, the ledger and the published statistics of a split, in a private folder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

import numpy as np
import xxhash
from datatrove.pipeline.base import PipelineStep

from ettin_data.ledger import DOCUMENTS, SAMPLES, SEGMENTS, TYPES, Ledger, Table
from ettin_data.shards import Layout, ShardInfo, ShardWriter
from ettin_data.stages.batches import Samples, Tally

_AT_ONCE = 1 << 16
PERCENTILES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)


class Write(PipelineStep):
    """The step: `Samples` in, files out, nothing yielded. Publishing the folder is the caller's (`pool.py`)."""

    name = "💾 write"
    type = "💾 - WRITER"

    def __init__(self, folder: Path, layout: Layout, tally: Tally) -> None:
        super().__init__()
        self.folder, self.layout, self.tally = folder, layout, tally
        self.ledger: Ledger | None = None
        self.shards: list[ShardInfo] = []

    def run(self, data: Iterable[Samples], rank: int = 0, world_size: int = 1) -> Generator[None, None, None]:
        writer = ShardWriter(self.folder, self.layout)
        documents, rows, segments = Gathered(DOCUMENTS), Gathered(SAMPLES), Gathered(SEGMENTS)
        first = 0
        for samples in data:
            tokens = samples.tokens.astype(self.layout.token_dtype, copy=False)
            writer.write(samples.ids, tokens, samples.offsets, samples.cu_seqlens)
            lengths = np.diff(samples.offsets)
            rows.add({**samples.rows, "tokens": lengths, "content": content_hashes(tokens, samples.offsets)})
            documents.add(samples.documents)
            if samples.segments is not None:
                segments.add({**samples.segments, "sample": samples.segments["sample"] + first})
            first += len(samples.ids)
        self.shards = writer.finish()
        self.ledger = Ledger(documents.table(), rows.table(), segments.table() if self.layout.cu_seqlens else None)
        self.ledger.write(self.folder)
        write_statistics(self.folder, self.ledger.samples["tokens"], sum(self.tally.skipped.values()))
        yield from ()


class Gathered:
    """A table of the ledger that grows, in its stored types: most of the memory of a split of millions of documents.

    Columns grow in place, which the system does without a copy once they are large; parts that are joined at the end
    would be there twice.
    """

    def __init__(self, name: str) -> None:
        self.rows = 0
        self.columns: Table = {column: np.zeros(0, dtype) for column, dtype in TYPES[name].items()}

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """More rows."""
        end = self.rows + len(next(iter(rows.values())))
        for name, column in self.columns.items():
            if end > len(column):
                column.resize(max(end, len(column) * 9 // 8 + _AT_ONCE), refcheck=False)
            column[self.rows : end] = rows[name]
        self.rows = end

    def table(self) -> Table:
        """All rows."""
        for column in self.columns.values():
            column.resize(self.rows, refcheck=False)
        return self.columns


def content_hashes(tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """xxh3-64 of each sample's token bytes, shape (n,), uint64."""
    data, item = memoryview(tokens).cast("B"), tokens.dtype.itemsize
    bounds = (offsets * item).tolist()
    hashed = xxhash.xxh3_64_intdigest
    return np.fromiter(
        (hashed(data[begin:end]) for begin, end in itertools.pairwise(bounds)),
        np.uint64,
        len(bounds) - 1,
    )


def write_statistics(folder: Path, lengths: np.ndarray, skipped: int) -> None:
    """`stats.json` and `token_decile.json` with the published keys.

    Percentiles of an empty split are null: the published NaN is not JSON.
    """
    empty = len(lengths) == 0
    values = [None] * len(PERCENTILES) if empty else [int(v) for v in np.percentile(lengths, PERCENTILES)]
    stats = {
        "total_duplicated_tokens": 0,
        "total_tokens_written": int(lengths.sum()),
        "total_tokens_skipped": skipped,
        "percentiles": {f"{p}th": value for p, value in zip(PERCENTILES, values, strict=True)},
    }
    (folder / "stats.json").write_text(json.dumps(stats))
    thousands = lengths // 1000
    with open(folder / "token_decile.json", "w") as file:  # the text of `json.dumps`, without a list of millions
        for k in range(9):
            file.write(f'{", " if k else "{"}"{k}k": [')
            rows = np.flatnonzero(thousands == k)
            for begin in range(0, len(rows), _AT_ONCE):
                numbers = ", ".join(map(str, rows[begin : begin + _AT_ONCE].tolist()))
                file.write(f"{', ' if begin else ''}{numbers}")
            file.write("]")
        file.write("}")
