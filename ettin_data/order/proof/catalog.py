"""What a published order holds: its steps in order, how many rows each has, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError
from ettin_data.order.published import PublishedFile, step_runs

_FAR = 1 << 40  # step numbers above this are mistakes; the arithmetic of steps stays clear of overflow


@dataclass(frozen=True)
class BadFile:
    """A published file that could not be read, and the error."""

    path: str
    why: str


@dataclass(frozen=True)
class Catalog:
    """The published steps in reading order: folders as they come, step numbers rising inside a folder.

    An entry is a step of a folder. Its rows may lie in several runs: a step that a file cuts in two, a step that is
    there twice, rows that do not stand in the order of their steps.

    Attributes:
        folder: index into `folders` of each entry, int64.
        step: published step number of each entry, int64.
        rows: rows of each entry, int64.
        runs: (file number, first row, rows) of each run, int64, shape (runs, 3), sorted by entry.
        bounds: the runs of entry e are `runs[bounds[e]:bounds[e + 1]]`; int64, shape (entries + 1,).
        bad: files that cannot be read; nothing of them is in the entries.
    """

    root: str
    files: tuple[PublishedFile, ...]
    folders: tuple[str, ...]
    folder: NDArray[np.int64]
    step: NDArray[np.int64]
    rows: NDArray[np.int64]
    runs: NDArray[np.int64]
    bounds: NDArray[np.int64]
    bad: tuple[BadFile, ...] = ()

    def __len__(self) -> int:
        return len(self.step)

    @property
    def total_rows(self) -> int:
        return int(self.rows.sum())

    def pieces(self, first: int, last: int | None = None) -> NDArray[np.int64]:
        """The runs of the entries `first` to `last` (included; default only the first): shape (runs, 3)."""
        pieces: NDArray[np.int64] = self.runs[self.bounds[first] : self.bounds[(first if last is None else last) + 1]]
        return pieces

    def rows_at(
        self, entry: NDArray[np.int64], place: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """File number, and number in the file, of rows by their entries and their places in these; int64 all."""
        counts = self.runs[:, 2]
        before = np.cumsum(counts) - counts  # rows of all runs before each
        number = before[self.bounds[entry]] + place
        run = np.searchsorted(before, number, "right") - 1
        return self.runs[run, 0], self.runs[run, 1] + number - before[run]

    def first_file(self) -> NDArray[np.int64]:
        """The number of the file in which each entry begins."""
        files: NDArray[np.int64] = self.runs[self.bounds[:-1], 0]
        return files

    def common_rows(self) -> int:
        """The number of rows that most steps have."""
        values, counts = np.unique(self.rows, return_counts=True)
        return int(values[counts.argmax()])

    def first_rows(self) -> NDArray[np.int64]:
        """For each entry, the number of rows before it in the publication, int64.

        Steps whose numbers are lacking between two published ones (files not downloaded) count as common ones.
        """
        lacking: NDArray[np.int64] = np.maximum(np.diff(self.step, prepend=self.step[:1]) - 1, 0) * self.common_rows()
        before: NDArray[np.int64] = np.cumsum(self.rows) - self.rows + np.cumsum(np.where(lacking > _FAR, 0, lacking))
        return before

    def name(self, entry: int) -> str:
        folder = self.folders[self.folder[entry]]
        return f"step {self.step[entry]}" + (f" of {folder}" if folder else "")


def read_catalog(root: str, files: Sequence[PublishedFile], threads: int = 8) -> Catalog:
    """Read the `step` column of every file (the column is small; the rows are not read).

    A file that cannot be read is put on a list; raises `OrderError`, with the error of the first, when none can.
    """

    def steps_of(file: PublishedFile) -> tuple[NDArray[np.int64], NDArray[np.int64]] | OrderError:
        try:
            return step_runs(root, file.path)
        except OrderError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:  # pyarrow releases the interpreter lock
        found = list(pool.map(steps_of, files))
    errors = [(file, each) for file, each in zip(files, found, strict=True) if isinstance(each, OrderError)]
    if errors and len(errors) == len(files):
        raise errors[0][1]
    folders = tuple(dict.fromkeys(file.folder for file in files))
    parts = [np.zeros((0, 5), np.int64)]
    for number, (file, each) in enumerate(zip(files, found, strict=True)):
        if not isinstance(each, OrderError):
            steps, counts = each
            folder = np.full(len(steps), folders.index(file.folder))
            parts.append(
                np.column_stack([folder, steps, np.full(len(steps), number), np.cumsum(counts) - counts, counts])
            )
    table = np.concatenate(parts)
    # The sort is stable: runs of the same folder and step stay in the order of files and rows.
    table = table[np.lexsort([table[:, 1], table[:, 0]])]
    begins = np.flatnonzero(np.any(np.diff(table[:, :2], axis=0, prepend=-(1 << 62)), axis=1))
    return Catalog(
        root,
        tuple(files),
        folders,
        table[begins, 0],
        table[begins, 1],
        np.add.reduceat(table[:, 4], begins) if len(begins) else begins,
        table[:, 2:],
        np.append(begins, len(table)),
        tuple(BadFile(file.path, " ".join(str(error).split())) for file, error in errors),
    )
