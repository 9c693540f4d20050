"""Shards of random tokens, and rows as they are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ettin_data.storage.mds import ShardWriter, write_index

CLS, SEP = 50281, 50282


def write_data(
    folder: Path, samples: int, *, length: int = 40, split: int = 100, seed: int = 0, framed: bool = True
) -> None:
    """MDS splits of `split` samples in sub-folders, `[CLS] … [SEP]` if framed, merged by one index.json."""
    rng = np.random.default_rng(seed)
    shards = []
    for number, first in enumerate(range(0, samples, split)):
        count = min(split, samples - first)
        lengths = np.minimum(rng.integers(5, length + length // 3, count), length)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = rng.integers(0, 50_000, offsets[-1]).astype(np.uint16)
        if framed:
            tokens[offsets[:-1]], tokens[offsets[1:] - 1] = CLS, SEP
        name = f"source{number % 3}/split_{number:04d}"
        (folder / name).mkdir(parents=True)
        writer = ShardWriter(folder / name)
        writer.write([f"doc-{first + i}" for i in range(count)], tokens, offsets)
        shards += [info.moved(name) for info in writer.finish()]
    write_index(folder, shards)


def write_rows(path: Path, rows: list[list[int]], steps: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = pa.array(rows, pa.list_(pa.uint16()))
    pq.write_table(pa.table({"input_ids": lists, "step": pa.array(steps, pa.uint64())}), path)
