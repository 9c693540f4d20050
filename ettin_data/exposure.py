"""What the model met more than once, and where it met the texts that it is tested on.

`across_phases` counts, for every document of a run, how often and at which steps each phase read it. It works on the
ledgers and the order alone: each split is reduced to one row for each document, these are spread over buckets by key, and
a bucket is joined in memory, so memory does not grow with the run.

`find_texts` finds rows that contain an n-gram of given texts, token for token (default 13, as GPT-3 and most reports
after it), by one pass over the shards.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data import ledger
from ettin_data.errors import OrderError
from ettin_data.lookup import Phase, Split, in_threads
from ettin_data.ngrams import Needles, ngram_hashes
from ettin_data.order.data import Data
from ettin_data.order.runner import run_jobs

BUCKET_DOCUMENTS = 20_000_000
"""Rows of documents that are joined at a time: 1 GB."""

COLUMNS = ("key", "phase", "samples", "read", "tokens", "first", "last")
NGRAM = 13
_SHARDS_A_JOB = 2
_BLOCK = 1 << 17  # tokens hashed at a time


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
    repeated: dict[str, np.ndarray]
    all_documents: int


def across_phases(phases: Sequence[Phase], *, keep: int = 1000, write: Path | None = None) -> Exposure:
    """How often, and when, the phases read each document.

    Args:
        keep: documents in `repeated`.
        write: a parquet file for the rows of all documents, sorted by key.
    """
    total = sum(phase.order.law.samples for phase in phases)
    buckets = max(1, -(-total // BUCKET_DOCUMENTS))
    documents: Counter[str] = Counter()
    times: Counter[int] = Counter()
    best: list[dict[str, np.ndarray]] = []
    with tempfile.TemporaryDirectory(prefix="ettin-exposure-") as scratch:
        files = [open(Path(scratch) / f"{bucket}", "w+b") for bucket in range(buckets)]
        try:
            for number, phase in enumerate(phases):
                _spread(phase, number, files)
            writer = _Writer(write)
            for file in files:
                table = _join(file)
                writer.add(table)
                _count(table, [phase.name for phase in phases], documents, times)
                best.append(_most_read(table, keep))
            writer.close()
        finally:
            for file in files:
                file.close()
    joined = {name: np.concatenate([table[name] for table in best]) for name in COLUMNS}
    return Exposure(
        tuple(phase.name for phase in phases),
        dict(documents.most_common()),
        dict(sorted(times.items())),
        _most_read(joined, keep),
        sum(documents.values()),
    )


_ROW = np.dtype(
    [("key", "<u8"), ("phase", "<i4"), ("samples", "<i4"), ("read", "<i8"), ("tokens", "<i8"), ("first", "<i8"), ("last", "<i8")]
)  # fmt: skip


def _spread(phase: Phase, number: int, files: Sequence[Any]) -> None:
    """One row for each document and split into the bucket of its key."""
    law = phase.order.law
    with tempfile.TemporaryFile() as scratch:
        steps = np.memmap(scratch, np.int32, "w+", shape=(law.samples,))
        steps[:] = -1
        begin = 0
        for chunk in phase.order.chunks():
            steps[chunk] = np.arange(begin, begin + len(chunk), dtype=np.int64) // law.batch
            begin += len(chunk)
        for rows in in_threads(lambda split: _documents(split, steps, number), phase.splits):
            bucket = (rows["key"] % np.uint64(len(files))).astype(np.int64)
            for place in np.unique(bucket).tolist():
                files[place].write(rows[bucket == place].tobytes())


def _documents(split: Split, steps: np.ndarray, phase: int) -> np.ndarray:
    tables = ledger.read(split.folder)
    document, length = tables.samples["document"], tables.samples["length"].astype(np.int64)
    step = steps[split.first : split.end].astype(np.int64)
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


def _join(file: Any) -> dict[str, np.ndarray]:
    """The rows of a bucket as one for each document and phase, sorted by key and phase."""
    file.seek(0)
    rows = np.frombuffer(file.read(), _ROW)
    rows = rows[np.lexsort([rows["phase"], rows["key"]])]
    if len(rows) == 0:
        return {name: rows[name] for name in COLUMNS}
    new = np.concatenate([[True], (rows["key"][1:] != rows["key"][:-1]) | (rows["phase"][1:] != rows["phase"][:-1])])
    firsts = np.flatnonzero(new)
    return {
        "key": rows["key"][firsts],
        "phase": rows["phase"][firsts],
        "samples": np.add.reduceat(rows["samples"], firsts),
        "read": np.add.reduceat(rows["read"], firsts),
        "tokens": rows["tokens"][firsts],
        "first": np.minimum.reduceat(rows["first"], firsts),
        "last": np.maximum.reduceat(rows["last"], firsts),
    }


def _per_document(table: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First row of each document, bits of its phases, and times that it was read (float)."""
    firsts = np.flatnonzero(np.concatenate([[True], table["key"][1:] != table["key"][:-1]]))
    bits = np.bitwise_or.reduceat(1 << table["phase"].astype(np.int64), firsts)
    times = np.add.reduceat(table["read"], firsts) / np.maximum(table["tokens"][firsts], 1)
    return firsts, bits, times


def _count(table: dict[str, np.ndarray], names: Sequence[str], documents: Counter[str], times: Counter[int]) -> None:
    if len(table["key"]) == 0:
        return
    _, bits, often = _per_document(table)
    for value, count in zip(*np.unique(bits, return_counts=True), strict=True):
        documents[" + ".join(name for i, name in enumerate(names) if value >> i & 1)] += int(count)
    for value, count in zip(
        *np.unique(np.maximum(np.rint(often), 1).astype(np.int64), return_counts=True), strict=True
    ):
        times[int(value)] += int(count)


def _most_read(table: dict[str, np.ndarray], keep: int) -> dict[str, np.ndarray]:
    """The rows of the documents of several phases or readings, the most read first."""
    if len(table["key"]) == 0:
        return table
    order = np.lexsort([table["phase"], table["key"]])
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
        self._path, self._file = path, None

    def add(self, table: dict[str, np.ndarray]) -> None:
        if self._path is None:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = pa.table({name: pa.array(table[name]) for name in COLUMNS})
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, rows.schema, compression="zstd")
        self._file.write_table(rows)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


# ---------------------------------------------------------------------------------------------------------------------
# texts


@dataclass(frozen=True)
class Hit:
    """A sample that contains n-grams of a text: `grams` distinct ones of the `of` that the text has."""

    text: int
    position: int
    grams: int
    of: int


def find_texts(
    data: Path,
    texts: Sequence[np.ndarray],
    *,
    n: int = NGRAM,
    options: Any = None,
    on_result: Callable[[Any], None] | None = None,
) -> list[Hit]:
    """The samples of an MDS folder that contain an n-gram of a text, token for token.

    Args:
        data: folder with an `index.json`, such as `<run>/<phase>/train`.
        texts: token ids of each text, without special tokens. One of fewer than n tokens has no n-gram and no hit.
        options: `executor.ExecutorOptions`; None searches in this process.

    Returns: by text, then by shared n-grams, most first, then by position.
    """
    if n < 1:
        raise OrderError(f"an n-gram of {n} tokens cannot be looked for")
    grams = _Grams.of(texts, n)
    if len(grams.hashes) == 0:
        return []
    samples = Data(str(data))
    shards = range(len(samples.reader.infos))
    jobs = [_Job(samples, tuple(shards[i : i + _SHARDS_A_JOB]), grams) for i in range(0, len(shards), _SHARDS_A_JOB)]
    found = [hit for hits in run_jobs(_search, jobs, options=options, on_result=on_result) for hit in hits]
    return sorted(found, key=lambda hit: (hit.text, -hit.grams, hit.position))


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of all texts.

    `tokens[i]` (shape (n,)) is the n-gram with `hashes[i]`; texts `owners[bounds[i]:bounds[i + 1]]` contain it.
    """

    n: int
    hashes: np.ndarray
    tokens: np.ndarray
    owners: np.ndarray
    bounds: np.ndarray
    counts: tuple[int, ...]

    @classmethod
    def of(cls, texts: Sequence[np.ndarray], n: int) -> _Grams:
        hashes = [ngram_hashes(text.astype(np.uint32), n) for text in texts]
        windows = [np.lib.stride_tricks.sliding_window_view(t, n) for t in texts if len(t) >= n]
        if not windows:
            empty = np.zeros(0, np.int64)
            return cls(n, empty.astype(np.uint64), np.zeros((0, n), np.uint32), empty, np.zeros(1, np.int64), ())
        owner = np.repeat(np.arange(len(texts)), [len(h) for h in hashes])
        joined, tokens = np.concatenate(hashes), np.concatenate(windows).astype(np.uint32)
        pairs = np.lexsort([owner, joined])
        distinct = np.ones(len(pairs), bool)
        distinct[1:] = (joined[pairs][1:] != joined[pairs][:-1]) | (owner[pairs][1:] != owner[pairs][:-1])
        pairs = pairs[distinct]
        firsts = np.flatnonzero(np.concatenate([[True], joined[pairs][1:] != joined[pairs][:-1]]))
        counts = np.bincount(owner[pairs], minlength=len(texts))
        return cls(
            n,
            joined[pairs][firsts],
            tokens[pairs][firsts],
            owner[pairs],
            np.append(firsts, len(pairs)),
            tuple(counts.tolist()),
        )


@dataclass(frozen=True)
class _Job:
    data: Data
    shards: tuple[int, ...]
    grams: _Grams


def _search(job: _Job) -> list[Hit]:
    needles, hits = Needles(job.grams.hashes), list[Hit]()
    starts = job.data.reader.starts
    for number in job.shards:
        positions = np.arange(starts[number], starts[number + 1])
        block: list[np.ndarray] = []
        sizes: list[int] = []
        first = int(starts[number])
        for _, tokens in job.data.tokens(positions):
            block.append(tokens)
            sizes.append(len(tokens))
            if sum(sizes) >= _BLOCK:
                hits += _hits(block, sizes, first, needles, job.grams)
                first += len(sizes)
                block, sizes = [], []
        if block:
            hits += _hits(block, sizes, first, needles, job.grams)
    return hits


def _hits(block: list[np.ndarray], sizes: list[int], first: int, needles: Needles, grams: _Grams) -> list[Hit]:
    """Hits in consecutive samples, hashed end to end; an n-gram over a border is none of either sample."""
    tokens = np.concatenate(block)
    at, gram = needles.find(ngram_hashes(tokens, grams.n))
    ends = np.cumsum(sizes)
    sample = np.searchsorted(ends, at, side="right")
    exact = at + grams.n <= ends[sample]
    exact[exact] = (tokens[at[exact][:, None] + np.arange(grams.n)] == grams.tokens[gram[exact]]).all(axis=1)
    pairs = np.unique(np.stack([sample[exact], gram[exact]], axis=1), axis=0)
    counts: Counter[tuple[int, int]] = Counter()
    for row, number in pairs.tolist():
        for owner in grams.owners[grams.bounds[number] : grams.bounds[number + 1]].tolist():
            counts[owner, first + row] += 1
    return [Hit(owner, position, count, grams.counts[owner]) for (owner, position), count in counts.items()]
