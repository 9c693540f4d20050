"""Evidence for an inference: some published rows, and where their samples are in the data.

A row is found by the fingerprint of its canonical form, which is the same for a stored sample and for what the loader
made of it. Finding means reading data, so shards are read only until enough rows have been found: at full scale one
shard in a hundred gives enough evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws, generator
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor, Task, perform
from ettin_data.order.data import Data, fingerprint
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.published import iter_rows

ENOUGH = 2000
"""Rows found after which no further shard is read."""

_ROWS = 200_000
_SHARDS_A_JOB = 4
_CLEAR = 1000  # rows that should have been found in the shards read so far; when none was, none will be


@dataclass(frozen=True)
class Evidence:
    """Published rows and their places in the data.

    The arrays have one element for each pair of a row and a place, so a row whose sample is repeated has several.

    Attributes:
        row: number of the published row among those looked for.
        entry: catalog entry of the row.
        place: its place among the rows of the entry, from 0.
        position: a position in the local data that holds the same sample.
        looked_for: rows looked for. shards_read: shards that were read to find them.
    """

    row: NDArray[np.int64]
    entry: NDArray[np.int64]
    place: NDArray[np.int64]
    position: NDArray[np.int64]
    looked_for: int
    shards_read: int

    @property
    def found(self) -> int:
        """Rows that were found."""
        return len(np.unique(self.row))

    def thinned(self, rows: int) -> Evidence:
        """At most so many of the found rows, chosen by key."""
        found = np.unique(self.row)
        if len(found) <= rows:
            return self
        kept = found[np.argsort(draws(found.astype(np.uint64), "order evidence"))[:rows]]
        keep = np.isin(self.row, kept)
        return replace(
            self, row=self.row[keep], entry=self.entry[keep], place=self.place[keep], position=self.position[keep]
        )


@dataclass(frozen=True)
class _Probe:
    """Rows looked for: sorted fingerprints with the entry and place of each."""

    prints: NDArray[np.uint64]
    entry: NDArray[np.int64]
    place: NDArray[np.int64]
    cut: int | None


def find_evidence(
    catalog: Catalog,
    data: Data,
    sound: Callable[[int | None], bool],
    *,
    everything: bool = False,
    workers: Executor | None = None,
    progress: Progress = SILENT,
) -> Evidence:
    """Look for rows from the beginning, the middle and the end of a publication.

    Args:
        sound: whether samples cut at so many tokens can be told apart; if not at the longest row, they were not cut.
        everything: read all shards, not only until `ENOUGH` rows are found.
    """
    probe = _take_rows(catalog, data, sound)
    keys = np.sort(probe.prints)
    keys = keys[keys > 0]  # 0 is the fingerprint of a row without text, which equals nothing
    prints, positions = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    order = np.argsort(draws(np.arange(len(data.reader.infos), dtype=np.uint64), "order probe"))
    shards = [int(s) for s in order if data.here[s]]
    sizes, done = np.diff(data.reader.starts), 0
    while done < len(shards) and (everything or len(prints) < ENOUGH):
        expected = len(keys) * sizes[shards[:done]].sum() / max(len(data), 1)
        if len(prints) == 0 and expected > _CLEAR:
            break
        count = max(16, done)  # as many again as before
        todo = shards[done : done + count]
        groups = [tuple(todo[i : i + _SHARDS_A_JOB]) for i in range(0, len(todo), _SHARDS_A_JOB)]
        searches = [Search(data, numbers, keys, probe.cut) for numbers in groups]
        for found_prints, found_positions in search(searches, workers, progress, "looking for rows in the data"):
            prints, positions = np.append(prints, found_prints), np.append(positions, found_positions)
        done = min(done + count, len(shards))
    return _pair(probe, prints, positions, done)


def _take_rows(catalog: Catalog, data: Data, sound: Callable[[int | None], bool]) -> _Probe:
    """All rows of the first, middle and last files, and of as many others as give enough rows."""
    numbers = np.unique(catalog.runs[:, 0]).tolist()
    wanted = [numbers[0], numbers[len(numbers) // 2], numbers[-1]]
    wanted += generator("order probe files").permutation(numbers).tolist()
    # For each run the entry that it belongs to, and how many rows of the entry stand before it.
    entry_of = np.repeat(np.arange(len(catalog)), np.diff(catalog.bounds))
    before = np.cumsum(catalog.runs[:, 2]) - catalog.runs[:, 2]
    before -= before[catalog.bounds[:-1]][entry_of]
    words = data.loader.vocabulary
    # Each row has two fingerprints: of all its text, and of its text if it was cut at its own length, which counts for
    # rows of the greatest length only. So no row has to be kept until that is known.
    prints, cut_prints, lengths = list[int](), list[int](), list[int]()
    entries, places = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for file in dict.fromkeys(wanted):
        mine = np.flatnonzero(catalog.runs[:, 0] == file)
        mine = mine[np.argsort(catalog.runs[mine, 1])]
        firsts = catalog.runs[mine, 1]
        for batch in iter_rows(catalog.root, catalog.files[file].path, data.dtype, words.pad):
            numbers_here = np.arange(batch.first, batch.first + len(batch))
            run = np.searchsorted(firsts, numbers_here, "right") - 1
            entries.append(entry_of[mine[run]])
            places.append(before[mine[run]] + numbers_here - firsts[run])
            for i in range(len(batch)):
                row = batch.row(i)
                prints.append(fingerprint(row, words, None))
                lengths.append(len(row))
                closed = len(row) and row[-1] == words.close
                cut_prints.append(prints[-1] if closed else fingerprint(row, words, max(len(row), 2)))
            if len(prints) > _ROWS:
                break
        if len(prints) > _ROWS:
            break
    longest = max(lengths, default=0)
    cut = longest if sound(longest) else None
    chosen = np.where(np.array(lengths) == cut, np.array(cut_prints, np.uint64), np.array(prints, np.uint64))
    return _Probe(chosen, np.concatenate(entries), np.concatenate(places), cut)


@dataclass(frozen=True)
class Search:
    """Shards to look through for fingerprints (sorted keys) of canonical forms cut at `max_length`."""

    data: Data
    shards: tuple[int, ...]
    keys: NDArray[np.uint64]
    max_length: int | None


def search(
    searches: Sequence[Search], workers: Executor | None, progress: Progress, title: str
) -> list[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Fingerprints (uint64) and positions (int64) that each search found."""
    tasks = [Task(shards_name(job.shards), job) for job in searches]
    return perform(_search_shards, tasks, workers, progress, title=title)


def shards_name(shards: Sequence[int]) -> str:
    """What messages call a task that reads these shards."""
    return f"shards {', '.join(map(str, shards))}"


def _search_shards(job: Search) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Fingerprints and positions of the samples of some shards that are among the keys."""
    prints, positions = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    starts = job.data.reader.starts
    for number in job.shards:
        begin, end = int(starts[number]), int(starts[number + 1])
        here = np.arange(begin, end)
        found = np.zeros(len(here), np.uint64)
        for i, tokens in job.data.tokens(here):
            found[i] = fingerprint(tokens, job.data.loader.vocabulary, job.max_length)
        hit = np.isin(found, job.keys)
        prints.append(found[hit])
        positions.append(here[hit])
    return np.concatenate(prints), np.concatenate(positions)


def _pair(probe: _Probe, prints: NDArray[np.uint64], positions: NDArray[np.int64], shards_read: int) -> Evidence:
    order = np.argsort(probe.prints, kind="stable")
    ordered = probe.prints[order]
    low, high = np.searchsorted(ordered, prints, "left"), np.searchsorted(ordered, prints, "right")
    counts = high - low
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = order[np.repeat(low, counts) + within]
    return Evidence(
        rows,
        probe.entry[rows],
        probe.place[rows],
        np.repeat(positions, counts),
        len(probe.prints),
        shards_read,
    )
