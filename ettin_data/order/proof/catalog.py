"""What a published order holds: its steps in order, how many rows each has, and where they are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.published import PublishedFile, step_runs

Piece = tuple[int, int, int]  # file number, first row, rows


@dataclass(frozen=True)
class Catalog:
    """The published steps in reading order: folders as they come, step numbers rising inside a folder.

    Attributes:
        folder: index into `folders` of each entry, int64.
        step: published step number of each entry, int64.
        rows: rows of each entry, int64.
        pieces: where the rows of each entry are; more than one piece when a step is cut by a file or is there twice.
    """

    root: str
    files: tuple[PublishedFile, ...]
    folders: tuple[str, ...]
    folder: NDArray[np.int64]
    step: NDArray[np.int64]
    rows: NDArray[np.int64]
    pieces: tuple[tuple[Piece, ...], ...]

    def __len__(self) -> int:
        return len(self.step)

    @property
    def total_rows(self) -> int:
        return int(self.rows.sum())

    def common_rows(self) -> int:
        """The number of rows that most steps have."""
        values, counts = np.unique(self.rows, return_counts=True)
        return int(values[counts.argmax()])

    def first_rows(self) -> NDArray[np.int64]:
        """For each entry, the number of rows before it in the publication, int64.

        Steps whose numbers are lacking between two published ones (files not downloaded) count as common ones.
        """
        lacking: NDArray[np.int64] = np.maximum(np.diff(self.step, prepend=self.step[:1]) - 1, 0) * self.common_rows()
        return np.cumsum(self.rows) - self.rows + np.cumsum(lacking)

    def name(self, entry: int) -> str:
        folder = self.folders[self.folder[entry]]
        return f"step {self.step[entry]}" + (f" of {folder}" if folder else "")


def read_catalog(root: str, files: Sequence[PublishedFile], threads: int = 8) -> Catalog:
    """Read the `step` column of every file (the column is small; the rows are not read)."""
    with ThreadPoolExecutor(threads) as pool:  # pyarrow releases the interpreter lock
        runs = list(pool.map(lambda file: step_runs(root, file.path), files))
    folders = tuple(dict.fromkeys(file.folder for file in files))
    pieces: dict[tuple[int, int], list[Piece]] = {}
    for number, (file, (steps, counts)) in enumerate(zip(files, runs, strict=True)):
        folder, row = folders.index(file.folder), 0
        for step, count in zip(steps.tolist(), counts.tolist(), strict=True):
            pieces.setdefault((folder, step), []).append((number, row, count))
            row += count
    keys = sorted(pieces)
    return Catalog(
        root,
        tuple(files),
        folders,
        np.array([folder for folder, _ in keys], np.int64),
        np.array([step for _, step in keys], np.int64),
        np.array([sum(count for _, _, count in pieces[key]) for key in keys], np.int64),
        tuple(tuple(pieces[key]) for key in keys),
    )
