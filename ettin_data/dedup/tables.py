"""The last jobs of the join: for the documents of one run, what all kinds of keys say, as one table a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.dedup import sketch
from ettin_data.dedup.components import ComponentJob
from ettin_data.dedup.groups import Documents, GroupJob
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import NEAR, kinds
from ettin_data.storage.attributes import Attribute
from ettin_data.storage.keys import TEXT_BYTES

REASON, TWIN_SPLIT, TWIN_ROW, BANDS, LIKENESS = "reason", "twin_split", "twin_row", "bands", "likeness"


@dataclass(frozen=True)
class TableJob:
    """The tables of one run.

    Attributes:
        run: number of the run.
        files: where the table of each of its splits goes; None for one of an earlier phase, which needs none.
        splits: number of documents of each of its splits.
        starts: shape (splits,), int64, number of the first document of each split of all runs.
        groups: what the jobs before have left.
        choice: of the recipe.
        components: who stays, where that is decided for all that are connected; None for the local rule.
    """

    run: int
    files: tuple[Path | None, ...]
    splits: tuple[int, ...]
    starts: NDArray[np.int64]
    groups: tuple[GroupJob, ...]
    choice: DedupChoice
    components: ComponentJob | None = None


def reasons(choice: DedupChoice) -> tuple[str, ...]:
    """Why documents may be left out, the strongest first."""
    return tuple(dict.fromkeys(kinds(choice)))


def write_tables(job: TableJob) -> list[dict[str, Any]]:
    """Write the tables; returns the digest of each with the number of documents that it leaves out, in their order.

    A table is an attribute: `reason`, and of the twin for which a document is left out `twin_split` (int32, its place
    in the list of splits; -1 without), `twin_row` (int64), how many `bands` (uint8) the two share, and their `likeness`
    (float32, estimated). A document has the strongest of its reasons, and for that the best-ranked twin; of a component
    the twin is the one that stays, whatever connects the two.
    """
    documents = Documents(job.groups[0].runs)
    base, count = documents.runs[job.run].base, documents.runs[job.run].documents
    document, twin, code = _strongest(job)
    ours, theirs = (documents.of("keys", numbers, slice(TEXT_BYTES, None)) for numbers in (document, twin))
    near = job.choice.near
    at, split = document - base, np.searchsorted(job.starts, twin, side="right") - 1
    table: dict[str, NDArray[Any]] = {
        REASON: np.zeros(count, np.uint8),
        TWIN_SPLIT: np.full(count, -1, np.int32),
        TWIN_ROW: np.full(count, -1, np.int64),
        BANDS: np.zeros(count, np.uint8),
        LIKENESS: np.zeros(count, np.float32),
    }
    table[REASON][at], table[TWIN_SPLIT][at] = code, split
    table[TWIN_ROW][at] = twin - job.starts[split]
    if near is not None:
        table[BANDS][at] = sketch.shared_bands(ours, theirs, near.bands, near.rows)
        table[LIKENESS][at] = sketch.likeness(ours, theirs)
    written, begin = [], 0
    for path, size in zip(job.files, job.splits, strict=True):
        columns = {name: column[begin : begin + size] for name, column in table.items()}
        begin += size
        if path is not None:
            attribute = Attribute(reasons(job.choice), columns.pop(REASON), columns)
            files.write(path, attribute.to_bytes())
            written.append({**files.digest(path), "left_out": int((attribute.codes > 0).sum())})
    return written


def _strongest(job: TableJob) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """The documents of the run that have twins, rising, each with its twin and the code of the reason."""
    run, names = job.groups[0].runs[job.run], reasons(job.choice)
    # What is known of each document so far; every group names a document once, so that plain assignments do.
    codes = np.full(run.documents, len(names) + 1, np.uint8)
    ranks, twins = np.full(run.documents, ~np.uint64(0)), np.full(run.documents, np.iinfo(np.int64).max)
    for group in job.groups:
        output, code = group.output(), 1 + names.index(group.reason)
        begin, end = output["begin"][job.run : job.run + 2].tolist()
        at = output["document"][begin:end] - run.base
        twin, rank = output["twin"][begin:end], output["rank"][begin:end]
        known, best = codes[at], ranks[at]
        better = (known > code) | ((known == code) & (best > rank))
        tied = np.flatnonzero((known == code) & (best == rank))
        better[tied] = twins[at[tied]] > twin[tied]
        at = at[better]
        codes[at], ranks[at], twins[at] = code, rank[better], twin[better]
    if job.components is not None:
        twins = job.components.output()["survivor"][run.base : run.base + run.documents]
        found = np.flatnonzero(twins != run.base + np.arange(run.documents))
        return found + run.base, twins[found], np.minimum(codes[found], 1 + names.index(NEAR))
    found = np.flatnonzero(codes <= len(names))
    return found + run.base, twins[found], codes[found]
