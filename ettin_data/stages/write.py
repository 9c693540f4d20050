"""Write: samples become the shards, the ledger and the published statistics of a split, in a private folder."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from ettin_data.base.files import HashedFile
from ettin_data.stages.batches import Samples, Tally
from ettin_data.storage.keys import KeysWriter
from ettin_data.storage.ledger import DOCUMENTS, SAMPLES, SEGMENTS, TableWriter, read_column
from ettin_data.storage.mds import Layout, ShardInfo, ShardWriter
from ettin_data.storage.phase import DECILES, KEYS, STATISTICS
from ettin_data.storage.split import SamplesRoot
from ettin_data.tokenizer.vocabulary import Tokens

_AT_ONCE = 1 << 16
PERCENTILES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100)


class Write(PipelineStep):
    """The step: `Samples` in, files out, nothing yielded. Publishing the folder is the caller's (`build/pool.py`).

    Nothing is kept for each document or sample: a split of millions of them takes the memory of one of a few.

    Attributes:
        sketch: bytes of a sketch, where documents come with keys; None without.
        shards: what was written, when the step has run.
        root: digest of the samples (`storage.split.SamplesRoot`), likewise.
        written: file -> `files.digest`, of all others.
    """

    name = "💾 write"
    type = "💾 - WRITER"

    def __init__(self, folder: Path, layout: Layout, tally: Tally, sketch: int | None = None) -> None:
        super().__init__()
        self.folder, self.layout, self.tally, self.sketch = folder, layout, tally, sketch
        self.shards: list[ShardInfo] = []
        self.root: str | None = None
        self.written: dict[str, dict[str, Any]] = {}

    def run(self, data: Iterable[Samples], rank: int = 0, world_size: int = 1) -> Generator[None, None, None]:
        writer, root = ShardWriter(self.folder, self.layout), SamplesRoot()
        with ExitStack() as tables:
            names = [DOCUMENTS, SAMPLES, *([SEGMENTS] if self.layout.cu_seqlens else [])]
            documents, rows, *segments = (tables.enter_context(TableWriter(self.folder, name)) for name in names)
            keys = None
            if self.sketch is not None:
                keys = tables.enter_context(KeysWriter(self.folder / KEYS, self.sketch))
            for samples in data:
                tokens = samples.tokens.astype(self.layout.token_dtype, copy=False)
                writer.write(samples.ids, tokens, samples.offsets, samples.cu_seqlens)
                content = content_hashes(tokens, samples.offsets)
                names_of = samples.documents["key"][samples.rows["document"] - documents.rows]
                root.add(np.stack([names_of, content], axis=1))
                if samples.segments is not None:
                    for table in segments:
                        table.add({**samples.segments, "sample": samples.segments["sample"] + rows.rows})
                rows.add({**samples.rows, "tokens": np.diff(samples.offsets), "content": content})
                documents.add(samples.documents)
                if keys is not None and samples.keys is not None:
                    keys.add(samples.keys)
                del samples, tokens, content, names_of
        self.shards, self.root = writer.finish(), root.hexdigest()
        tables_written = {name: table.digest for name, table in zip(names, (documents, rows, *segments), strict=True)}
        if keys is not None:
            tables_written[KEYS] = keys.digest
        self.written = tables_written | write_statistics(self.folder, sum(self.tally.skipped.values()))
        yield from ()


def content_hashes(tokens: Tokens, offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """xxh3-64 of each sample's token bytes, shape (n,), uint64."""
    data, item = memoryview(tokens).cast("B"), tokens.dtype.itemsize
    bounds = (offsets * item).tolist()
    hashed = xxhash.xxh3_64_intdigest
    return np.fromiter(
        (hashed(data[begin:end]) for begin, end in itertools.pairwise(bounds)),
        np.uint64,
        len(bounds) - 1,
    )


def write_statistics(folder: Path, skipped: int) -> dict[str, dict[str, Any]]:
    """`stats.json` and `token_decile.json` with the published keys, of the samples of the folder's ledger.

    Percentiles of an empty split are null: the published NaN is not JSON. Returns file -> `files.digest`.
    """
    counts = np.zeros(0, np.int64)
    first = list(itertools.islice(read_column(folder, SAMPLES, "tokens"), 2))

    def groups() -> Iterable[NDArray[Any]]:  # a split of one group is read once
        return first if len(first) == 1 else read_column(folder, SAMPLES, "tokens")

    for lengths in groups():
        more = np.bincount(lengths, minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    values = percentiles(counts) if counts.any() else [None] * len(PERCENTILES)
    stats = {
        "total_duplicated_tokens": 0,
        "total_tokens_written": int(counts @ np.arange(len(counts))),
        "total_tokens_skipped": skipped,
        "percentiles": {f"{p}th": value for p, value in zip(PERCENTILES, values, strict=True)},
    }
    with HashedFile(folder / STATISTICS) as statistics:
        statistics.write(json.dumps(stats))
    with HashedFile(folder / DECILES) as file:  # the text of `json.dumps`, without a list of millions
        for k in range(9):
            file.write(f'{", " if k else "{"}"{k}k": [')
            parts = _rows_of_thousand(groups(), k) if counts[k * 1000 : (k + 1) * 1000].any() else iter(())
            for number, rows in enumerate(parts):
                file.write(f"{', ' if number else ''}{', '.join(map(str, rows.tolist()))}")
            file.write("]")
        file.write("}")
    return {STATISTICS: statistics.digest, DECILES: file.digest}


def percentiles(counts: NDArray[np.int64]) -> list[int]:
    """What `int(np.percentile(lengths, p))` is for `PERCENTILES`, to the last bit.

    Args:
        counts: how many samples there are of each length, from 0; shape (n,), int64, not all zero.
    """
    behind = np.cumsum(counts)
    values = []
    for p in PERCENTILES:
        position = float(behind[-1] - 1) * (p / 100)
        row = int(position)
        low, high = np.searchsorted(behind, [row, row + 1], side="right").tolist()
        part = position - row
        values.append(int(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)))
    return values


def _rows_of_thousand(groups: Iterable[NDArray[Any]], k: int) -> Iterator[NDArray[np.int64]]:
    """The samples of `k` thousand tokens to the next thousand, a few at a time, none of the parts empty."""
    first = 0
    for lengths in groups:
        rows = first + np.flatnonzero(lengths // 1000 == k)
        first += len(lengths)
        yield from (rows[begin : begin + _AT_ONCE] for begin in range(0, len(rows), _AT_ONCE))
