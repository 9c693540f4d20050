"""Evidence for an inference: some published rows, and where their samples are in the data.

A row is found by the fingerprint of its canonical form, which is the same for a stored sample and for what the loader
made of it; a masked one by the windows of it that survived (`masking.py`). Finding means reading data, so shards are
read only until enough rows have been found: at full scale one shard in a hundred gives enough evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws, generator
from ettin_data.base.ngrams import Needles
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor, Task, perform
from ettin_data.order.data import Data, fingerprint
from ettin_data.order.loader_edits import UNCUT, Form
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.explanation import Reading
from ettin_data.order.proof.masking import Masking, Tokens, compare_pairs, votes, windows
from ettin_data.order.published import Rows, iter_rows
from ettin_data.tokenizer.vocabulary import AnyTokens

ENOUGH = 2000
"""Rows found after which no further shard is read."""

_ROWS = 100_000
_NEXT_TO_NONE = 0.02  # share of the rows that a few short ones may be
_MASKED_ROWS = 40_000
_FILES = 16  # of which rows are taken at least, where there are as many
_SHARDS_A_JOB = 4
_SAMPLES = 1 << 14  # whose tokens are held at a time
_WINDOWS = 2  # that a masked row and a sample have in common at least
WIDTH = 5
"""Tokens of a window by which a masked row is looked for in the whole data."""

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
        looked_for: rows looked for. shards_read: shards that were read to find them; searched: their share of the data.
    """

    row: NDArray[np.int64]
    entry: NDArray[np.int64]
    place: NDArray[np.int64]
    position: NDArray[np.int64]
    looked_for: int
    shards_read: int
    searched: float

    @property
    def found(self) -> int:
        """Rows that were found."""
        return len(np.unique(self.row))

    @property
    def complete(self) -> bool:
        """Whether nearly all rows that were looked for are in the data."""
        return self.found > 0.9 * self.looked_for * self.searched

    @property
    def strangers(self) -> bool:
        """Whether next to none of them are, so that what is found is chance."""
        return self.found <= _NEXT_TO_NONE * self.looked_for * self.searched

    def thinned(self, rows: int) -> Evidence:
        """At most so many of the found rows, chosen by key."""
        found = np.unique(self.row)
        if len(found) <= rows:
            return self
        kept = found[np.argsort(draws(found.astype(np.uint64), "order evidence"))[:rows]]
        return self._only(np.isin(self.row, kept))

    def of(self, first: int, end: int) -> Evidence:
        """The rows of the entries from `first` on, before `end`."""
        return self._only((self.entry >= first) & (self.entry < end))

    def _only(self, keep: NDArray[np.bool_]) -> Evidence:
        return replace(
            self, row=self.row[keep], entry=self.entry[keep], place=self.place[keep], position=self.position[keep]
        )


@dataclass(frozen=True)
class _Probe:
    """Rows looked for: keys that samples have too, the row that each key is of, and the entry and place of each row."""

    keys: NDArray[np.uint64]
    owners: NDArray[np.int64]
    entry: NDArray[np.int64]
    place: NDArray[np.int64]
    cut: int | None


def find_evidence(
    catalog: Catalog,
    data: Data,
    sound: Callable[[int | None], bool],
    masking: Masking | None = None,
    *,
    everything: bool = False,
    workers: Executor | None = None,
    progress: Progress = SILENT,
) -> Evidence:
    """Look for rows from the beginning, the middle and the end of a publication.

    Args:
        sound: whether samples cut at so many tokens can be told apart; if not at the longest row, they were not cut.
        masking: how the rows were masked, if they were.
        everything: read all shards, not only until `ENOUGH` rows are found.
    """
    probe = _take_masked(catalog, data) if masking else _take_rows(catalog, data, sound)
    keys = np.unique(probe.keys)
    found, positions = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    order = np.argsort(draws(np.arange(len(data.reader.infos), dtype=np.uint64), "order probe"))
    shards = [int(s) for s in order if data.here[s] and len(keys)]
    sizes, done = np.diff(data.reader.starts), 0
    while done < len(shards) and (everything or len(np.unique(positions)) < ENOUGH):
        expected = len(probe.entry) * sizes[shards[:done]].sum() / max(len(data), 1)
        if len(positions) == 0 and expected > _CLEAR:
            break
        count = max(16, done)  # as many again as before
        todo = shards[done : done + count]
        groups = [tuple(todo[i : i + _SHARDS_A_JOB]) for i in range(0, len(todo), _SHARDS_A_JOB)]
        searches = [Search(data, numbers, keys, probe.cut, masking is not None) for numbers in groups]
        for more, where in search(searches, workers, progress, "looking for rows in the data"):
            found, positions = np.append(found, more), np.append(positions, where)
        done = min(done + count, len(shards))
    row, position = owners_of(probe.keys, probe.owners, found, positions, masking is not None)
    searched = float(sizes[shards[:done]].sum() / max(len(data), 1)) if len(keys) else 1.0  # nothing can be anywhere
    return Evidence(row, probe.entry[row], probe.place[row], position, len(probe.entry), done, searched)


def owners_of(
    keys: NDArray[np.uint64],
    owners: NDArray[np.int64],
    found: NDArray[np.uint64],
    positions: NDArray[np.int64],
    masked: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and the positions where their keys were found; of masked rows, whose windows are common, only the best."""
    position, row, shared = votes(found, positions, keys, owners)
    if masked:
        most = np.zeros(int(row.max(initial=-1)) + 1, np.int64)
        np.maximum.at(most, row, shared)
        kept = (shared == most[row]) & (shared >= _WINDOWS)
        row, position = row[kept], position[kept]
    return row, position


def locate(
    rows: Sequence[AnyTokens],
    data: Data,
    shards: Sequence[int],
    reading: Reading,
    *,
    workers: Executor | None = None,
    progress: Progress = SILENT,
) -> list[list[int]]:
    """For each of some rows the positions, in some shards, of the samples that it is in that reading."""
    words, masking = data.loader.vocabulary, reading.masking
    flat = Tokens.of(rows)
    if masking:
        keys, owners = windows(flat, WIDTH)
    else:
        keys = np.fromiter((fingerprint(row, words, reading.cut) for row in rows), np.uint64, len(rows))
        owners = np.flatnonzero(keys)
        keys = keys[owners]
    wanted = np.unique(keys)
    groups = [tuple(shards[i : i + _SHARDS_A_JOB]) for i in range(0, len(shards) if len(wanted) else 0, _SHARDS_A_JOB)]
    searches = [Search(data, numbers, wanted, reading.cut, masking is not None) for numbers in groups]
    found, positions = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for more, where in search(searches, workers, progress, "looking for known samples"):
        found, positions = np.append(found, more), np.append(positions, where)
    row, position = owners_of(keys, owners, found, positions, masking is not None)
    if masking:
        places, number = np.unique(position, return_inverse=True)
        values, offsets = data.gather(places, reading.form)
        pairs = compare_pairs(flat, Tokens(values, offsets[:-1], offsets[1:]), (row, number), masking)
        row, position = pairs.rows, places[pairs.samples]
    places_of: list[list[int]] = [[] for _ in rows]
    for i, place in zip(row.tolist(), position.tolist(), strict=True):
        places_of[i].append(place)
    return places_of


@dataclass(frozen=True)
class _Batch:
    """Rows of a file, with the entry and the place in it of each."""

    rows: Rows
    entry: NDArray[np.int64]
    place: NDArray[np.int64]


def _batches(catalog: Catalog, data: Data, most: int) -> Iterator[_Batch]:
    """Some `most` rows of all folders: of the first, the middle and the last file, one of each folder, and of others.

    Files come in a keyed order, and as many rows of each as let all folders, and several files, have a share.
    """
    numbers = np.unique(catalog.runs[:, 0])
    others = generator("order probe files").permutation(numbers)
    folders = np.array([catalog.files[number].folder for number in others])
    one_of_each = np.sort(np.unique(folders, return_index=True)[1])
    wanted = [numbers[0], numbers[len(numbers) // 2], numbers[-1], *others[one_of_each], *others]
    share = most // max(min(len(numbers), _FILES), len(one_of_each)) + 1
    # For each run the entry that it belongs to, and how many rows of the entry stand before it.
    entry_of = np.repeat(np.arange(len(catalog)), np.diff(catalog.bounds))
    before = np.cumsum(catalog.runs[:, 2]) - catalog.runs[:, 2]
    before -= before[catalog.bounds[:-1]][entry_of]
    taken = 0
    for file in dict.fromkeys(int(number) for number in wanted):
        mine = np.flatnonzero(catalog.runs[:, 0] == file)
        mine = mine[np.argsort(catalog.runs[mine, 1])]
        firsts, end = catalog.runs[mine, 1], int(catalog.runs[mine[-1], 1:].sum())
        start = max(0, end - share) if file == numbers[-1] else 0
        path, words = catalog.files[file].path, data.loader.vocabulary
        for rows in iter_rows(catalog.root, path, data.dtype, words.pad, start, min(start + share, end)):
            numbers_here = np.arange(rows.first, rows.first + len(rows))
            run = np.searchsorted(firsts, numbers_here, "right") - 1
            yield _Batch(rows, entry_of[mine[run]], before[mine[run]] + numbers_here - firsts[run])
            taken += len(rows)
        if taken > most:
            return


def _take_rows(catalog: Catalog, data: Data, sound: Callable[[int | None], bool]) -> _Probe:
    words = data.loader.vocabulary
    # Each row has two fingerprints: of all its text, and of its text if it was cut at its own length, which counts for
    # rows of the greatest length only. So no row has to be kept until that is known.
    prints, cut_prints, lengths = list[NDArray[np.uint64]](), list[NDArray[np.uint64]](), list[NDArray[np.int64]]()
    entries, places = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for batch in _batches(catalog, data, _ROWS):
        entries.append(batch.entry)
        places.append(batch.place)
        rows = [batch.rows.row(i) for i in range(len(batch.rows))]
        rows = [row if row.max(initial=0) < words.size else row[:0] for row in rows]  # no sample has such an id
        whole = np.fromiter((fingerprint(row, words, None) for row in rows), np.uint64, len(rows))
        cut_here = whole.copy()
        for i, row in enumerate(rows):
            if len(row) and row[-1] != words.close:
                cut_here[i] = fingerprint(row, words, max(len(row), 2))
        prints.append(whole)
        cut_prints.append(cut_here)
        lengths.append(batch.rows.ends - batch.rows.starts)
    length = np.concatenate(lengths)
    longest = int(length.max(initial=0))
    cut = longest if sound(longest) else None
    keys = np.where(length == (-1 if cut is None else cut), np.concatenate(cut_prints), np.concatenate(prints))
    owners = np.flatnonzero(keys)  # 0 is the fingerprint of a row without text, which equals nothing
    return _Probe(keys[owners], owners, np.concatenate(entries), np.concatenate(places), cut)


def _take_masked(catalog: Catalog, data: Data) -> _Probe:
    keys, owners = list[NDArray[np.uint64]](), list[NDArray[np.int64]]()
    entries, places, rows = list[NDArray[np.int64]](), list[NDArray[np.int64]](), 0
    for batch in _batches(catalog, data, _MASKED_ROWS):
        entries.append(batch.entry)
        places.append(batch.place)
        found, owner = windows(Tokens(batch.rows.values, batch.rows.starts, batch.rows.ends), WIDTH)
        keys.append(found)
        owners.append(owner + rows)
        rows += len(batch.rows)
    return _Probe(np.concatenate(keys), np.concatenate(owners), np.concatenate(entries), np.concatenate(places), None)


@dataclass(frozen=True)
class Search:
    """Shards to look through for keys (sorted): fingerprints of forms cut at `cut`, or windows of masked rows."""

    data: Data
    shards: tuple[int, ...]
    keys: NDArray[np.uint64]
    cut: int | None
    masked: bool = False


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
    """Keys and positions of the samples of some shards that are among the keys."""
    found, positions = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    starts, needles = job.data.reader.starts, Needles(job.keys)
    form = Form("encoder", replace(job.data.loader, max_seq_len=UNCUT))
    for number in job.shards:
        for begin in range(int(starts[number]), int(starts[number + 1]), _SAMPLES):
            here = np.arange(begin, min(begin + _SAMPLES, int(starts[number + 1])))
            if job.masked:
                values, offsets = job.data.gather(here, form)
                keys, owner = windows(Tokens(values, offsets[:-1], offsets[1:]), WIDTH)
            else:
                keys, owner = np.zeros(len(here), np.uint64), np.arange(len(here))
                for i, tokens in job.data.tokens(here):
                    keys[i] = fingerprint(tokens, job.data.loader.vocabulary, job.cut)
            at, _ = needles.find(keys)
            found.append(keys[at])
            positions.append(here[owner[at]])
    return np.concatenate(found), np.concatenate(positions)
