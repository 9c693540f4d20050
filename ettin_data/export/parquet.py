"""Parquet, one row a sample: `id` (string) and `input_ids` (list of uint16 or uint32), for `datasets` and pandas."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from ettin_data.base.columns import to_arrow
from ettin_data.export.format import ExportFormat, Samples, Whole
from ettin_data.storage.phase import CARD
from ettin_data.tokenizer.vocabulary import Vocabulary

_ROWS = 4096  # of a row group: at 8,000 tokens each, 64 MB


def write_parquet(samples: Samples, vocabulary: Vocabulary, folder: Path, stem: str) -> None:
    """One file, in the memory of one row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = pa.from_numpy_dtype(np.dtype(vocabulary.dtype))
    schema = pa.schema([("id", pa.string()), ("input_ids", pa.list_(tokens))])
    with pq.ParquetWriter(folder / f"{stem}.parquet", schema, compression="ZSTD") as file:
        while group := list(islice(samples, _ROWS)):
            offsets = np.cumsum([0, *(len(ids) for _, ids in group)], dtype=np.int32)
            values = to_arrow(np.concatenate([ids for _, ids in group]))
            lists = pa.ListArray.from_arrays(to_arrow(offsets), values)
            file.write_table(pa.table([pa.array([name for name, _ in group], pa.string()), lists], schema=schema))


def card_text(whole: Whole) -> Mapping[str, str]:
    """The head of a card, by which `datasets.load_dataset(folder)` and the hub's viewer find the files of the part."""
    pattern = "*/*.parquet" if any("/" in name for name in whole.files) else "*.parquet"
    head = f"configs:\n- config_name: default\n  data_files:\n  - split: {whole.part}\n    path: '{pattern}'\n"
    return {CARD: f"---\n{head}---\n\nSamples of ettin-data: `id`, and `input_ids` with their framing.\n"}


EXPORT = ExportFormat(
    "parquet", "for datasets, pandas and DuckDB: one row a sample, id and input_ids", write_parquet, card_text
)
