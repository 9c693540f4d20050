"""The published form of a batch order, as `jhu-clsp/ettin-data-order` has it: its names, its types, its rows.

    checkpoint_000001/steps_000001_to_000100.parquet      ext_… in the extension phase, decay_… in the decay phase
        input_ids  list<uint16>      the row, perhaps padded
        step       uint64            from 1 in each phase

Names are from the published README; types are those that upstream's saver writes (orionw/bert24
`src/callbacks/data_saving.py`). Reading takes any integer list type and any parquet layout. The published note warns
that batch-size warm-up makes steps inexact while folders are exact, so a folder can be a unit of its own here.

A root is a folder or any fsspec URL (`hf://datasets/jhu-clsp/ettin-data-order`); nothing under it is ever written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import bounded_parquet, files
from ettin_data.base.errors import ExitStatus, OrderError
from ettin_data.base.extras import need_for_url
from ettin_data.storage.phase import Phase
from ettin_data.tokenizer.vocabulary import AnyTokens

PREFIXES = {"pretrain": "checkpoint", "extension": "ext", "decay": "decay"}
"""Phase -> first part of its folders' names, in the order of training; that of any other phase is its own name."""

ACCESS = "for gated or private data accept its terms on the hub and set HF_TOKEN"
STEPS_A_FILE = 100
_FOLDER = re.compile(rf"({'|'.join(PREFIXES.values())})_(\d+)")
_SMALL = 256  # rows at a time where a page is damaged, so that what stands before it is read
_READ_BYTES = 8 << 20  # of tokens, read at a time: fits caches, and bounds memory whatever the row groups are


def folder_name(phase: str, interval: int) -> str:
    """`checkpoint_000001` for the first checkpoint interval (from 1) of the pretrain phase, `mid_000001` of `mid`."""
    return f"{PREFIXES.get(phase, phase)}_{interval:06d}"


def in_training_order(places: Iterable[Phase]) -> list[Phase]:
    """Ettin's phases in the order in which they are trained, then others by name."""
    training = list(PREFIXES)
    return sorted(
        places, key=lambda place: (training.index(place.name) if place.name in PREFIXES else len(training), place.name)
    )


def file_name(first_step: int, last_step: int) -> str:
    """`steps_000001_to_000100.parquet`; steps from 1, both included."""
    return f"steps_{first_step:06d}_to_{last_step:06d}.parquet"


@dataclass(frozen=True)
class PublishedFile:
    """One parquet file: its path (local path or URL path) and the folder that it is in, "" when not a known name."""

    path: str
    folder: str


@dataclass(frozen=True)
class Rows:
    """Some consecutive rows of a file, without their padding.

    Row i is `values[starts[i]:ends[i]]` and belongs to published step `steps[i]`; it is row `first + i` of the file.
    """

    values: AnyTokens
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    steps: NDArray[np.int64]
    first: int

    def __len__(self) -> int:
        return len(self.starts)

    def row(self, i: int) -> AnyTokens:
        return self.values[self.starts[i] : self.ends[i]]


def filesystem(root: str) -> tuple[Any, str]:
    """The fsspec file system and path of a root.

    Raises `OrderError` for an unknown protocol, `MissingPackage` for one whose client is not installed.
    """
    import fsspec

    need_for_url(str(root))
    try:
        system, path = fsspec.core.url_to_fs(str(root))
        return system, path
    except (ValueError, ImportError) as error:
        raise OrderError("the location cannot be opened", where=root, why=error) from error


def list_published(root: str, phase: str | None = None) -> list[PublishedFile]:
    """The parquet files of one phase, in the order of folders and steps.

    Args:
        phase: which phase's folders; None takes all files, and is refused when they are of several phases.
    """
    system, base = filesystem(root)
    try:
        found = [base] if base.endswith(".parquet") else sorted(system.find(base))
    except Exception as error:  # every back end has its own errors; a gated repository is the usual one
        raise OrderError(
            "the published order cannot be listed",
            where=root,
            why=f"{type(error).__name__}: {error}",
            remedy=ACCESS,
        ) from error
    listed = [PublishedFile(path, _known_folder(path, phase)) for path in found if path.endswith(".parquet")]
    if phase is not None:
        wanted = [f for f in listed if f.folder.startswith(PREFIXES.get(phase, phase) + "_")]
        listed = wanted or [f for f in listed if f.folder == ""]
    kinds = sorted({f.folder.rpartition("_")[0] for f in listed})
    if not listed:
        raise OrderError(
            "no published order",
            where=root,
            why="no parquet file of that phase is there",
            remedy="name the folder that has checkpoint_NNNNNN/, ext_NNNNNN/ or decay_NNNNNN/, or its parquet files",
            status=ExitStatus.NOT_FOUND,
        )
    if len(kinds) > 1:
        raise OrderError(
            f"the folders are of several phases: {', '.join(k or '(no name)' for k in kinds)}",
            where=root,
            remedy=f"name the phase: {', '.join(PREFIXES)}",
        )
    return sorted(listed, key=lambda f: (int(f.folder.rpartition("_")[2] or 0), *_numbers(f.path)))


def _known_folder(path: str, phase: str | None) -> str:
    """The folder of a file, if its name is that of an interval: of Ettin's phases, or of the one that is asked for."""
    parent = PurePosixPath(path).parent.name
    own = phase is not None and re.fullmatch(rf"{re.escape(phase)}_\d+", parent)
    return parent if own or _FOLDER.fullmatch(parent) else ""


def _numbers(path: str) -> tuple[list[int], str]:
    name = PurePosixPath(path).name
    return [int(n) for n in re.findall(r"\d+", name)], path


def open_parquet(root: str, path: str) -> Any:
    """A `pyarrow.parquet.ParquetFile`, memory-mapped when local. Raises `OrderError` when it is not readable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    system, _ = filesystem(root)
    try:
        if "file" in system.protocol:
            known = os.stat(path)
            _require_few_values(path, (known.st_ino, known.st_size, known.st_mtime_ns))
            file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        else:
            stored = system.open(path, "rb")
            bounded_parquet.require_few_values(stored)
            file = pq.ParquetFile(stored, pre_buffer=True, page_checksum_verification=True)
        return file
    except (OSError, ValueError, pa.ArrowException) as error:
        raise OrderError("a published file cannot be read", where=path, why=error, remedy=ACCESS) from error


@lru_cache(maxsize=4096)
def _require_few_values(path: str, state: tuple[int, ...]) -> None:
    """Look at a footer once for each state of a local file: a verification opens a file many times."""
    with files.open_ordinary(path) as stored:
        bounded_parquet.require_few_values(stored)


def step_runs(root: str, path: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The `step` column as runs: values (int64) and numbers of rows (int64). Reads only that column."""
    import pyarrow as pa

    with open_parquet(root, path) as file:
        if not {"input_ids", "step"} <= set(file.schema_arrow.names):
            raise OrderError(
                "not a file of the published form",
                where=path,
                why=f"its columns are {', '.join(file.schema_arrow.names)}, not input_ids and step",
            )
        tokens = file.schema_arrow.field("input_ids").type
        if not (_is_list(tokens) and pa.types.is_integer(tokens.value_type)):
            raise OrderError("not a file of the published form", where=path, why=f"its input_ids are {tokens}")
        if not pa.types.is_integer(file.schema_arrow.field("step").type):
            kind = file.schema_arrow.field("step").type
            raise OrderError("not a file of the published form", where=path, why=f"its steps are {kind}")
        try:
            steps = file.read(columns=["step"])["step"].cast(pa.int64()).drop_null().to_numpy()
        except (OSError, pa.ArrowException) as error:
            raise OrderError("a published file cannot be read", where=path, why=error) from error
        if len(steps) < file.metadata.num_rows:
            lacking = file.metadata.num_rows - len(steps)
            raise OrderError("a published file has rows without a step", where=path, why=f"{lacking:,} rows")
    if len(steps) == 0:
        return steps, steps.copy()
    first = np.concatenate([[0], np.flatnonzero(np.diff(steps)) + 1])
    return steps[first], np.diff(np.append(first, len(steps)))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


@dataclass(frozen=True)
class Damage:
    """Rows [first, end) of a published file that cannot be read, and why."""

    path: str
    first: int
    end: int
    why: str


def iter_rows(
    root: str,
    path: str,
    dtype: np.dtype[np.integer[Any]],
    pad: int,
    start: int = 0,
    stop: int | None = None,
    damage: list[Damage] | None = None,
) -> Iterator[Rows]:
    """Rows [start, stop) of a file, some thousands at a time, tokens as `dtype`.

    A token that does not fit `dtype` is no token of the data: its row is given with length 0. Rows of a damaged page
    cannot be read, nor can those behind it in its row group: they are left out, and put on the list `damage`.
    """
    import pyarrow as pa

    unreadable = (OSError, ValueError, pa.ArrowException)
    with open_parquet(root, path) as file:
        bounds = _group_bounds(file.metadata)
        stop = file.metadata.num_rows if stop is None else stop
        groups = [number for number, (begin, end) in enumerate(bounds) if begin < stop and end > start]
        if not groups:
            return
        size = min(_rows_at_a_time(file.metadata), max(stop - start, 256))
        at = start
        try:
            for rows in _read_groups(file, groups, bounds, size, (start, stop), np.dtype(dtype), pad):
                yield rows
                at = rows.first + len(rows)
            return
        except unreadable:
            pass  # once more from there, one group after the other, so that each is damaged by itself
        for number in groups:
            begin, end = max(bounds[number][0], at), min(bounds[number][1], stop)
            try:
                for rows in _read_groups(file, [number], bounds, _SMALL, (begin, end), np.dtype(dtype), pad):
                    yield rows
                    begin = rows.first + len(rows)
            except unreadable as error:
                if damage is not None:
                    damage.append(Damage(path, begin, end, " ".join(str(error).split())))


def _read_groups(
    file: Any,
    groups: list[int],
    bounds: list[tuple[int, int]],
    size: int,
    span: tuple[int, int],
    dtype: np.dtype[np.integer[Any]],
    pad: int,
) -> Iterator[Rows]:
    """The rows of some row groups, which follow each other, that lie in a span."""
    row, (start, stop) = bounds[groups[0]][0], span
    if start >= stop:
        return
    for batch in file.iter_batches(size, groups, columns=["input_ids", "step"]):
        skip, keep = max(0, start - row), min(batch.num_rows, stop - row)
        if skip < keep:
            yield _rows(batch.slice(skip, keep - skip), dtype, pad, row + skip)
        row += batch.num_rows
        if row >= stop:
            return


def read_rows(
    root: str, path: str, wanted: NDArray[np.int64], dtype: np.dtype[np.integer[Any]], pad: int
) -> Iterator[tuple[int, AnyTokens]]:
    """(row number, tokens) of some rows of a file, in rising order; only the row groups that hold them are read.

    Rows that cannot be read are left out.
    """
    wanted = np.unique(wanted)
    with open_parquet(root, path) as file:
        bounds = _group_bounds(file.metadata)
    for begin, end in bounds:
        here = wanted[(wanted >= begin) & (wanted < end)]
        if len(here) == 0:
            continue
        for rows in iter_rows(root, path, dtype, pad, int(here[0]), int(here[-1]) + 1):
            for row in here[(here >= rows.first) & (here < rows.first + len(rows))].tolist():
                yield row, rows.row(row - rows.first)


def _group_bounds(metadata: Any) -> list[tuple[int, int]]:
    ends = np.cumsum([metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _rows_at_a_time(metadata: Any) -> int:
    size = sum(metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups))
    return max(1, min(1 << 16, int(_READ_BYTES * max(metadata.num_rows, 1) // max(size, 1))))


def _rows(batch: Any, dtype: np.dtype[np.integer[Any]], pad: int, first: int) -> Rows:
    import pyarrow as pa

    column = batch.column("input_ids")
    if pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type))
    offsets = column.offsets.to_numpy().astype(np.int64)
    tokens = column.values
    if tokens.null_count:
        tokens = tokens.cast("int64").fill_null(-1)
    values = tokens.to_numpy(zero_copy_only=False)
    steps = batch.column("step").to_numpy(zero_copy_only=False).astype(np.int64)
    starts, ends = offsets[:-1], offsets[1:].copy()
    if values.dtype != dtype:
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        if low < 0 or high > np.iinfo(dtype).max:
            strange = (values < 0) | (values > np.iinfo(dtype).max)
            counts = np.concatenate([[0], np.cumsum(strange)])
            ends = np.where(counts[ends] > counts[starts], starts, ends)
        values = values.astype(dtype)
    return Rows(values, starts, _without_padding(values, starts, ends, pad), steps, first)


def _without_padding(
    values: AnyTokens, starts: NDArray[np.int64], ends: NDArray[np.int64], pad: int
) -> NDArray[np.int64]:
    """Where each row ends without its padding."""
    if len(starts) == 0 or len(values) == 0:
        return ends
    lengths = ends - starts
    padded = np.flatnonzero((lengths > 0) & (values[np.maximum(ends - 1, 0)] == pad))
    if len(padded) == 0:
        return ends
    ends, width = ends.copy(), int(lengths[0])
    if (lengths == width).all() and (np.diff(starts) == width).all():  # a collated batch: one block
        block = values[starts[0] : ends[-1]].reshape(-1, width)[padded, ::-1] != pad
        text = block.any(axis=1)
        ends[padded] -= np.where(text, block.argmax(axis=1), width)
        return ends
    for i in padded.tolist():
        text = np.flatnonzero(values[starts[i] : ends[i]] != pad)
        ends[i] = starts[i] + (text[-1] + 1 if len(text) else 0)
    return ends
