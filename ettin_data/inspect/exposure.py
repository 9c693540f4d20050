"""What the model met more than once: for every document of a run, how often and at which steps each phase read it.

It works on the ledgers and the order alone: each split is reduced to one row for each document, these are sorted into
buckets by key, and a bucket is joined in memory, so memory does not grow with the run.

A document is recognised across phases and sources by its id together with its number of tokens: upstream ids alone are
not unique (StarCoder's are small numbers), and files and records differ between upstreams that hold the same documents
(DCLM and its part of Dolmino).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.columns import to_arrow
from ettin_data.base.draws import document_key
from ettin_data.base.errors import ShardError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor, ExecutorOptions, Task, open_workers, perform
from ettin_data.inspect.lookup import Phase, Split, in_threads
from ettin_data.storage import ledger

BUCKET_DOCUMENTS = 20_000_000
"""Rows of documents that are joined at a time: 1 GB."""

_SPLITS = 64  # of a job

COLUMNS = ("key", "phase", "samples", "read", "tokens", "first", "last")


@dataclass(frozen=True)
class Exposure:
    """How the documents of some phases were read.

    Attributes:
        phases: names, in the order of training.
        documents: set of phases (their names, joined by " + ") -> documents that just these phases read.
        times: how often, rounded to whole readings over all phases -> documents.
        repeated: the documents read in more than one phase, or more than once, the most read first, at most `keep`;
            columns key (uint64), phase (index), samples, read (tokens), tokens, first, last (steps from 1), one element
            for each document and phase.
        all_documents: number of documents that were read at all.
    """

    phases: tuple[str, ...]
    documents: dict[str, int]
    times: dict[int, int]
    repeated: ledger.Table
    all_documents: int


def across_phases(
    phases: Sequence[Phase],
    *,
    keep: int = 1000,
    write: Path | None = None,
    scratch: Path | None = None,
    options: ExecutorOptions | None = None,
    progress: Progress = SILENT,
) -> Exposure:
    """How often, and when, the phases read each document.

    Args:
        keep: documents in `repeated`.
        write: a parquet file for the rows of all documents and phases (columns `COLUMNS`).
        scratch: folder that all workers see, for 4 bytes a sample and 48 a document and split; None: the temporary one.
        options: None reads in this process.
        progress: told of a stage for each phase, in samples.
    """
    total = sum(phase.order.law.samples for phase in phases)
    buckets = max(1, -(-total // BUCKET_DOCUMENTS))
    documents: Counter[str] = Counter()
    times: Counter[int] = Counter()
    best: list[ledger.Table] = []
    with tempfile.TemporaryDirectory(prefix="ettin-exposure-", dir=scratch) as folder:
        with open_workers(options) as workers:
            spread = [
                part
                for number, phase in enumerate(phases)
                for part in _spread(phase, number, buckets, Path(folder), workers, progress)
            ]
        with _Writer(write) as writer:
            for bucket in range(buckets):
                table = _join([_rows(path, bounds, bucket) for path, bounds in spread])
                writer.add(table)
                _count(table, [phase.name for phase in phases], documents, times)
                best.append(_most_read(table, keep))
    joined = {name: np.concatenate([table[name] for table in best]) for name in COLUMNS}
    return Exposure(
        tuple(phase.name for phase in phases),
        dict(documents.most_common()),
        dict(sorted(times.items())),
        _most_read(joined, keep),
        sum(documents.values()),
    )


_ROW = np.dtype(
    [
        ("key", "<u8"),
        ("phase", "<i4"),
        ("samples", "<i4"),
        ("read", "<i8"),
        ("tokens", "<i8"),
        ("first", "<i8"),
        ("last", "<i8"),
    ]
)


@dataclass(frozen=True)
class _Job:
    """Splits of a phase to reduce. `steps`: file of the step of each position, int32 from 0, -1 where none reads it."""

    splits: tuple[Split, ...]
    phase: int
    steps: Path
    buckets: int
    out: Path


def _spread(
    phase: Phase, number: int, buckets: int, folder: Path, workers: Executor | None, progress: Progress
) -> list[tuple[Path, NDArray[np.int64]]]:
    """Files of rows in the order of their buckets, and where in them each bucket begins: shape (buckets + 1,)."""
    path = folder / "steps"
    steps = np.memmap(path, np.int32, "w+", shape=(len(phase),))
    steps[:] = -1
    for positions, numbers in phase.readings():
        steps[positions] = numbers
    steps.flush()  # workers on other machines read it
    tasks = []
    for first in range(0, len(phase.splits), _SPLITS):
        splits = tuple(phase.splits[first : first + _SPLITS])
        job = _Job(splits, number, path, buckets, folder / f"{number}.{first}")
        tasks.append(Task(f"{phase.name}/{splits[0].name} and following", job, splits[-1].end - splits[0].first))
    found = perform(_reduce, tasks, workers, progress, title=f"reading {phase.name}")
    path.unlink()
    return [(task.payload.out, bounds) for task, bounds in zip(tasks, found, strict=True)]


def _reduce(job: _Job) -> NDArray[np.int64]:
    """Write one row for each document and split; returns where the buckets begin."""
    steps = np.memmap(job.steps, np.int32, "r")
    rows = np.concatenate(in_threads(lambda split: _documents(split, steps, job.phase), job.splits))
    bucket = (rows["key"] % np.uint64(job.buckets)).astype(np.int64)
    rows[np.argsort(bucket, kind="stable")].tofile(job.out)
    return np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=job.buckets))])


def _rows(path: Path, bounds: NDArray[np.int64], bucket: int) -> NDArray[np.void]:
    begin, end = bounds[bucket : bucket + 2].tolist()
    return np.fromfile(path, _ROW, end - begin, offset=begin * _ROW.itemsize)


def _documents(split: Split, steps: NDArray[np.int32], phase: int) -> NDArray[np.void]:
    tables = ledger.read_ledger(split.folder)
    document, length = tables.samples["document"], tables.samples["length"].astype(np.int64)
    step = steps[split.first : split.end].astype(np.int64)
    if len(step) != len(document):
        raise ShardError(f"the ledger has {len(document):,} samples, the shards have {len(step):,}", where=split.folder)
    if tables.segments is not None:
        step = np.concatenate([step, step[tables.segments["sample"]]])
        document = np.concatenate([document, tables.segments["document"]])
        length = np.concatenate([length, tables.segments["length"]])
    read = step >= 0
    document, length, step = document[read], length[read], step[read]
    order = np.argsort(document, kind="stable")
    document, length, step = document[order], length[order], step[order]
    firsts = np.flatnonzero(np.diff(document, prepend=-1))
    out = np.zeros(len(firsts), _ROW)
    if len(firsts) == 0:
        return out
    rows = document[firsts]
    out["key"], out["tokens"] = tables.documents["key"][rows], tables.documents["tokens"][rows]
    out["phase"] = phase
    out["samples"] = np.diff(np.append(firsts, len(document)))
    out["read"] = np.add.reduceat(length, firsts)
    out["first"] = np.minimum.reduceat(step, firsts) + 1
    out["last"] = np.maximum.reduceat(step, firsts) + 1
    return out


def _join(parts: Sequence[NDArray[np.void]]) -> ledger.Table:
    """Join the rows of a bucket: one for each document and phase, sorted."""
    rows = np.concatenate(parts)
    rows = rows[np.lexsort([rows["phase"], rows["tokens"], rows["key"]])]
    if len(rows) == 0:
        return {name: rows[name] for name in COLUMNS}
    firsts = _firsts(rows["key"], rows["tokens"], rows["phase"])
    return {
        "key": rows["key"][firsts],
        "phase": rows["phase"][firsts],
        "samples": np.add.reduceat(rows["samples"], firsts),
        "read": np.add.reduceat(rows["read"], firsts),
        "tokens": rows["tokens"][firsts],
        "first": np.minimum.reduceat(rows["first"], firsts),
        "last": np.maximum.reduceat(rows["last"], firsts),
    }


def _firsts(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Where a new combination of values begins."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.flatnonzero(new)


def _per_document(table: ledger.Table) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """First row of each document, bits of its phases, and times that it was read (float)."""
    firsts = _firsts(table["key"], table["tokens"])
    bits = np.bitwise_or.reduceat(1 << table["phase"].astype(np.int64), firsts)
    times = np.add.reduceat(table["read"], firsts) / np.maximum(table["tokens"][firsts], 1)
    return firsts, bits, times


def _count(table: ledger.Table, names: Sequence[str], documents: Counter[str], times: Counter[int]) -> None:
    if len(table["key"]) == 0:
        return
    _, bits, often = _per_document(table)
    for value, count in zip(*np.unique(bits, return_counts=True), strict=True):
        documents[" + ".join(name for i, name in enumerate(names) if value >> i & 1)] += int(count)
    for value, count in zip(
        *np.unique(np.maximum(np.rint(often), 1).astype(np.int64), return_counts=True), strict=True
    ):
        times[int(value)] += int(count)


def _most_read(table: ledger.Table, keep: int) -> ledger.Table:
    """The rows of the documents of several phases or readings, the most read first."""
    if len(table["key"]) == 0:
        return table
    order = np.lexsort([table["phase"], table["tokens"], table["key"]])
    table = {name: column[order] for name, column in table.items()}
    firsts, bits, often = _per_document(table)
    several = np.flatnonzero(((bits & (bits - 1)) != 0) | (often >= 1.5))
    chosen = several[np.lexsort([table["key"][firsts[several]], -often[several]])][:keep]
    ends = np.append(firsts[1:], len(table["key"]))
    rows = [np.arange(firsts[i], ends[i]) for i in chosen.tolist()]
    picked = np.concatenate([np.zeros(0, np.int64), *rows])
    return {name: column[picked] for name, column in table.items()}


class _Writer:
    """Writes joined tables to a parquet file, or nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, table: ledger.Table) -> None:
        if self._path is None:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = pa.table({name: to_arrow(table[name]) for name in COLUMNS})
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, rows.schema, compression="zstd")
        self._file.write_table(rows)


def to_json(exposure: Exposure, phases: Sequence[Phase]) -> dict[str, Any]:
    """An exposure as plain values; the documents read most get their ids from the data."""
    table = exposure.repeated
    documents: list[dict[str, Any]] = []
    for i in range(len(table["key"])):
        same = documents and (documents[-1]["key"], documents[-1]["tokens"]) == (table["key"][i], table["tokens"][i])
        if not same:
            documents.append({"key": int(table["key"][i]), "tokens": int(table["tokens"][i]), "phases": []})
        documents[-1]["phases"].append(
            {
                "phase": exposure.phases[table["phase"][i]],
                "times": round(float(table["read"][i] / max(table["tokens"][i], 1)), 4),
                "samples": int(table["samples"][i]),
                "first": int(table["first"][i]),
                "last": int(table["last"][i]),
            }
        )
    by_name = {phase.name: phase for phase in phases}
    for document in documents:
        key = document.pop("key")
        document["id"] = _id_of(by_name[document["phases"][0]["phase"]], key)
    return {
        "phases": list(exposure.phases),
        "all_documents": exposure.all_documents,
        "documents": exposure.documents,
        "times": {str(n): count for n, count in exposure.times.items()},
        "most_read": documents,
    }


def _id_of(phase: Phase, key: int) -> str:
    """The id behind a key, from a sample that has it; packed samples may not, then the key in hexadecimal."""
    for documents in phase.documents_with("key", key):
        for position in phase.positions_of(documents)[:4].tolist():
            name = phase.reader.id(position)
            if document_key(name) == key:
                return name
    return f"{key:016x}"
