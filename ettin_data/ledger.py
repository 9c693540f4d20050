"""The ledger of a split: from each sample back to its document, and from there to the upstream file and position.

Two parquet files lie beside a split's shards and travel with it into `train/` and `validation/`:

`documents.parquet`, one row for each document used, in reading order
    key       uint64  identity of the document (`keyed.document_key` of its id)
    file      int32   upstream file, an index into the `inputs` of the split's marker
    position  int64   ordinal of the record in that file, from 0
    tokens    int64   text tokens of the whole document
    url_key   uint64  `keyed.document_key` of its URL, 0 when it has none
`samples.parquet`, one row for each sample, in the order of the shards
    document  int64   row of its first document
    start     int64   first text token of that document in the sample
    length    int32   text tokens of that document in the sample
    tokens    int32   tokens stored, with `[CLS]` and `[SEP]`
    content   uint64  xxh3-64 of the stored token bytes
`segments.parquet`, only where samples hold several documents: the rest of each sample
    sample, document, start, length     as above, for the second and later documents of a sample

Columns are delta or dictionary encoded and zstd compressed; what costs is `key` and `content`, 8 bytes each, because
hashes do not compress.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.errors import ShardError

DOCUMENTS, SAMPLES, SEGMENTS = "documents.parquet", "samples.parquet", "segments.parquet"
TYPES = {
    DOCUMENTS: {"key": "uint64", "file": "int32", "position": "int64", "tokens": "int64", "url_key": "uint64"},
    SAMPLES: {"document": "int64", "start": "int64", "length": "int32", "tokens": "int32", "content": "uint64"},
    SEGMENTS: {"sample": "int64", "document": "int64", "start": "int64", "length": "int32"},
}
_HASHES = {"key", "url_key", "content"}
Table = dict[str, np.ndarray]


@dataclass
class Ledger:
    """The tables of one split, as numpy columns with the dtypes above; `segments` is None where not needed."""

    documents: Table
    samples: Table
    segments: Table | None = None

    def write(self, folder: Path) -> None:
        """Write the tables into a split's folder; the same tables give the same bytes."""
        for name, table in ((DOCUMENTS, self.documents), (SAMPLES, self.samples), (SEGMENTS, self.segments)):
            if table is not None:
                _write(Path(folder) / name, table, TYPES[name])

    def select(self, rows: np.ndarray) -> Ledger:
        """The ledger of a split that keeps only these samples (increasing int64 rows): documents are renumbered."""
        samples = {name: column[rows] for name, column in self.samples.items()}
        used = [samples["document"]]
        segments = None
        if self.segments is not None:
            new_row = np.full(len(self.samples["document"]), -1, np.int64)
            new_row[rows] = np.arange(len(rows))
            kept = new_row[self.segments["sample"]] >= 0
            segments = {name: column[kept] for name, column in self.segments.items()}
            segments["sample"] = new_row[segments["sample"]]
            used.append(segments["document"])
        documents = np.unique(np.concatenate(used))
        samples["document"] = np.searchsorted(documents, samples["document"])
        if segments is not None:
            segments["document"] = np.searchsorted(documents, segments["document"])
        return Ledger({name: column[documents] for name, column in self.documents.items()}, samples, segments)


def read(folder: Path) -> Ledger:
    """Read a split's ledger. Raises `ShardError` when a table is missing or damaged."""
    folder = Path(folder)
    segments = read_table(folder, SEGMENTS) if (folder / SEGMENTS).exists() else None
    return Ledger(read_table(folder, DOCUMENTS), read_table(folder, SAMPLES), segments)


def read_table(folder: Path, name: str, columns: list[str] | None = None) -> Table:
    """Some columns of one of the tables, as numpy arrays."""
    import pyarrow
    import pyarrow.parquet as pq

    path = Path(folder) / name
    try:
        with pq.ParquetFile(path) as file:  # `read_table` takes a millisecond more, and a mix reads 100,000 ledgers
            table = file.read(columns, use_threads=False)
        return {column: _numpy(table[column], TYPES[name][column]) for column in columns or table.column_names}
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise ShardError(
            f"the ledger {name} cannot be read", where=path, why=error, remedy="`ettin-data repair` rebuilds the split"
        ) from error


def _numpy(column: Any, dtype: str) -> np.ndarray:
    """A column without nulls; pyarrow's `to_numpy` would import pandas, which takes longer than a trace."""
    if str(column.type) != dtype or column.null_count:
        raise KeyError(f"a column of {column.type} with {column.null_count:,} nulls, not of {dtype}")
    chunks = [np.frombuffer(c.buffers()[1], dtype, len(c), c.offset * np.dtype(dtype).itemsize) for c in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate([np.zeros(0, dtype), *chunks])


def _write(path: Path, table: Table, types: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: pa.array(np.ascontiguousarray(table[name], dtype=dtype)) for name, dtype in types.items()}
    pq.write_table(
        pa.table(columns),
        path,
        compression={name: "NONE" if name in _HASHES else "ZSTD" for name in types},
        use_dictionary=False,
        column_encoding={name: "PLAIN" if name in _HASHES else "DELTA_BINARY_PACKED" for name in types},
        write_statistics=False,
    )
