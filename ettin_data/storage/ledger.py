"""The ledger of a split: from each sample back to its document, and from there to the upstream file and position.

Two parquet files lie beside a split's shards and travel with it into `train/` and `validation/`:

`documents.parquet`, one row for each document used, in reading order
    key       uint64  `draws.document_key` of its id, a label that may repeat
    file      int32   upstream file, an index into the `inputs` of the split's marker
    position  int64   ordinal of the record in that file, from 0
    tokens    int64   text tokens of the whole document
    url_key   uint64  `draws.document_key` of its URL, 0 when it has none
`samples.parquet`, one row for each sample, in the order of the shards
    document  int64   row of its first document
    start     int64   first text token of that document in the sample
    length    int32   text tokens of that document in the sample
    tokens    int32   tokens stored, with the framing tokens
    content   uint64  xxh3-64 of the stored token bytes
`segments.parquet`, only where samples hold several documents: the rest of each sample
    sample, document, start, length     as above, for the second and later documents of a sample

Columns are delta or dictionary encoded and zstd compressed; what costs is `key` and `content`, 8 bytes each, because
hashes do not compress.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import bounded_parquet
from ettin_data.base.columns import to_arrow, to_numpy
from ettin_data.base.errors import ShardError
from ettin_data.base.files import HashedFile
from ettin_data.storage.phase import DOCUMENTS, SAMPLES, SEGMENTS

__all__ = [
    "DOCUMENTS", "ROW_GROUP", "SAMPLES", "SEGMENTS", "TYPES", "Ledger", "Table", "TableWriter", "count_rows",
    "read_column", "read_ledger", "read_table", "require_rows",
]  # fmt: skip

TYPES = {
    DOCUMENTS: {"key": "uint64", "file": "int32", "position": "int64", "tokens": "int64", "url_key": "uint64"},
    SAMPLES: {"document": "int64", "start": "int64", "length": "int32", "tokens": "int32", "content": "uint64"},
    SEGMENTS: {"sample": "int64", "document": "int64", "start": "int64", "length": "int32"},
}
ROW_GROUP = 1 << 20
"""Rows of a row group, pyarrow's default: so many are held while a table is written or a column gone through."""

_HASHES = {"key", "url_key", "content"}
Table = dict[str, NDArray[Any]]


@dataclass
class Ledger:
    """The tables of one split, as numpy columns with the dtypes above; `segments` is None where not needed."""

    documents: Table
    samples: Table
    segments: Table | None = None

    def write(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Write the tables into a split's folder; the same tables give the same bytes. Returns file -> its digest."""
        written = {}
        for name, table in ((DOCUMENTS, self.documents), (SAMPLES, self.samples), (SEGMENTS, self.segments)):
            if table is not None:
                with TableWriter(folder, name) as writer:
                    writer.add(table)
                written[name] = writer.digest
        return written

    def select(self, rows: NDArray[np.int64]) -> Ledger:
        """The ledger of a split that keeps only these samples (increasing int64 rows): documents are renumbered."""
        samples = {name: column[rows] for name, column in self.samples.items()}
        used = [samples["document"]]
        segments = None
        if self.segments is not None:
            # Where each of the old samples stands now; -1 for those that are gone, whose segments go with them.
            new_row = np.full(len(self.samples["document"]), -1, np.int64)
            new_row[rows] = np.arange(len(rows))
            kept = new_row[self.segments["sample"]] >= 0
            segments = {name: column[kept] for name, column in self.segments.items()}
            segments["sample"] = new_row[segments["sample"]]
            used.append(segments["document"])
        documents = np.unique(np.concatenate(used))  # old numbers, rising: the place in it is the new number
        samples["document"] = np.searchsorted(documents, samples["document"])
        if segments is not None:
            segments["document"] = np.searchsorted(documents, segments["document"])
        return Ledger({name: column[documents] for name, column in self.documents.items()}, samples, segments)


class TableWriter:
    """Writes one of the tables as its rows come, in the memory of one row group; to be used in a `with` block.

    How the rows are portioned leaves no trace in the file, which is whole when the block is left.

    Attributes:
        rows: added so far.
    """

    def __init__(self, folder: Path, name: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = TYPES[name]
        self.rows = 0
        self._held = {column: np.zeros(0, dtype) for column, dtype in types.items()}
        self._schema = pa.schema([(column, pa.from_numpy_dtype(dtype)) for column, dtype in types.items()])
        self._hashed = HashedFile(Path(folder) / name)
        self._file = pq.ParquetWriter(
            self._hashed,
            self._schema,
            compression={column: "NONE" if column in _HASHES else "ZSTD" for column in types},
            use_dictionary=False,
            column_encoding={column: "PLAIN" if column in _HASHES else "DELTA_BINARY_PACKED" for column in types},
            write_statistics=False,
        )

    @property
    def digest(self) -> dict[str, Any]:
        """Of the file, when the block is left."""
        return self._hashed.digest

    def add(self, table: Mapping[str, NDArray[Any]]) -> None:
        """More rows: every column of the table, all of one length."""
        begin, count = 0, len(next(iter(table.values())))
        while begin < count:
            at = self.rows % ROW_GROUP
            size = min(count - begin, ROW_GROUP - at)
            for column, held in self._held.items():
                if at + size > len(held):  # grows to a row group and then stays
                    held.resize(min(2 * (at + size), ROW_GROUP), refcheck=False)
                held[at : at + size] = table[column][begin : begin + size]
            self.rows, begin = self.rows + size, begin + size
            if at + size == ROW_GROUP:
                self._write(ROW_GROUP)

    def _write(self, count: int) -> None:
        import pyarrow as pa

        columns = [to_arrow(held[:count]) for held in self._held.values()]
        self._file.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:  # which a full disk must not hide by another one
            with suppress(OSError), self._hashed:
                self._file.close()
            return
        with self._hashed, self._file:
            if self.rows % ROW_GROUP or not self.rows:  # a table without rows has one group of none
                self._write(self.rows % ROW_GROUP)


def read_ledger(folder: Path) -> Ledger:
    """Read a split's ledger. Raises `ShardError` when a table is missing or damaged, or they do not fit each other."""
    folder = Path(folder)
    segments = read_table(folder, SEGMENTS) if (folder / SEGMENTS).exists() else None
    documents, samples = read_table(folder, DOCUMENTS), read_table(folder, SAMPLES)
    require_rows(folder / SAMPLES, samples["document"], len(documents["key"]))
    if segments is not None:
        require_rows(folder / SEGMENTS, segments["document"], len(documents["key"]))
        require_rows(folder / SEGMENTS, segments["sample"], len(samples["document"]))
    return Ledger(documents, samples, segments)


def require_rows(path: Path, rows: NDArray[np.int64], count: int) -> None:
    """Raise `ShardError` if what a table says are rows of another are not of its `count` rows."""
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        raise ShardError(
            f"the ledger {path.name} cannot be read",
            where=path,
            why=f"it names rows from {int(rows.min()):,} to {int(rows.max()):,} of a table of {count:,}",
            remedy="`ettin-data repair` rebuilds the split",
        )


def read_table(folder: Path, name: str, columns: list[str] | None = None) -> Table:
    """Some columns of one of the tables, as numpy arrays. Raises `ShardError` as `read_ledger`."""
    with _opened(folder, name) as file:  # `pq.read_table` takes a millisecond more, and a mix reads 100,000 ledgers
        table = file.read(columns or list(TYPES[name]), use_threads=False)
        read = {column: to_numpy(table[column], TYPES[name][column]) for column in columns or TYPES[name]}
        if len(lengths := {len(values) for values in read.values()}) > 1:
            raise ValueError(f"its columns have {sorted(lengths)} rows")
        return read


def count_rows(folder: Path, name: str) -> int:
    """Rows of one of the tables. Raises `ShardError` as `read_ledger`."""
    with _opened(folder, name) as file:
        return int(file.metadata.num_rows)


def read_column(folder: Path, name: str, column: str) -> Iterator[NDArray[Any]]:
    """One column of one of the tables, a row group at a time."""
    with _opened(folder, name) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, [column], use_threads=False)
            yield to_numpy(table[column], TYPES[name][column])


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[Any]:
    import pyarrow

    path = Path(folder) / name
    try:
        with bounded_parquet.opened(path, TYPES[name].keys()) as file:
            yield file
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise ShardError(
            f"the ledger {name} cannot be read", where=path, why=error, remedy="`ettin-data repair` rebuilds the split"
        ) from error
