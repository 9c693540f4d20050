"""The data side of a verification: samples of an MDS folder by position, whole or in part, local or behind a URL.

`MdsReader` never writes, so a published set whose `index.json` claims zstd beside raw shards is safe with it. Behind a
URL (`hf://datasets/jhu-clsp/ettin-decay-data/train`) shards are fetched once, when first needed, into a cache folder
that mirrors the remote one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.draws import draws
from ettin_data.base.errors import OrderError, ShardError
from ettin_data.order.loader_edits import Form, Loader, canonical
from ettin_data.order.published import ACCESS, filesystem
from ettin_data.storage import records
from ettin_data.storage.mds import INDEX, MdsReader, Shard, ShardInfo
from ettin_data.storage.phase import Phase
from ettin_data.storage.records import RunRecord
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

_LAST = np.uint64(2**64 - 1)
_InForm = tuple[Shard, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Iterator[tuple[int, AnyTokens]]]


class Data:
    """Positions of one MDS index and their tokens.

    Args:
        root: a folder with an `index.json`, or an fsspec URL of one.
        cache: where shards behind a URL are kept; not used for a folder.
        loader: vocabulary of the samples and how they are edited; None takes those of the run that the folder is in,
            or else those of Ettin's published data.
        shards: read at most so many, which a key draws: more of them hold all that fewer do. None: all that are there.
        index: of the shards, instead of the folder's own `index.json`.
        forgiving: pass over samples that cannot be read, and remember them (`lost`), instead of raising `ShardError`.

    Attributes:
        broken: number of each damaged shard that was met -> its first row that cannot be read (-1: none can), and why.
            Known of what was read so far, in this process.
    """

    def __init__(
        self,
        root: str,
        cache: Path | None = None,
        loader: Loader | None = None,
        shards: int | None = None,
        index: Path | None = None,
        forgiving: bool = False,
    ) -> None:
        self.root, self.cache, self.shards, self.index, self.forgiving = str(root), cache, shards, index, forgiving
        self.broken, self._lost = dict[int, tuple[int, str]](), list[range]()
        system, path = filesystem(self.root)
        if "file" in system.protocol:
            self.reader = MdsReader(path, index=index)
        elif cache is None:
            raise OrderError("data behind a URL needs a folder to keep its shards", where=root, remedy="--cache FOLDER")
        else:
            self.reader = _RemoteReader(self.root, cache)
        self.loader = loader or Loader.of_run(run_of(self.reader.folder))

    def __len__(self) -> int:
        return len(self.reader)

    def __reduce__(self) -> tuple[Any, ...]:  # a worker opens the data itself
        return (_open_data, (self.root, self.cache, self.loader, self.shards, self.index, self.forgiving))

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        """Type of a token in the shards."""
        return np.dtype(self.reader.infos[0].columns["input_ids"].partition(":")[2] or "int64")

    @cached_property
    def here(self) -> NDArray[np.bool_]:
        """For each shard of the index, whether its file is there and may be read; shape (shards,), bool."""
        if isinstance(self.reader, _RemoteReader):
            there = self.reader.listed()
        else:
            # One listing for each folder: asking for 100,000 files one by one is slow on a network file system.
            names: dict[Path, set[str]] = {}
            there = np.array([_is_here(self.reader.folder, info, names) for info in self.reader.infos], dtype=bool)
        drawn = np.argsort(np.where(there, draws(np.arange(len(there), dtype=np.uint64), "order shards"), _LAST))
        there[drawn[self.shards :] if self.shards is not None else drawn[:0]] = False
        return there

    def present(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Which of these positions can be read: bool, same shape."""
        shards = np.searchsorted(self.reader.starts, positions.astype(np.int64), side="right") - 1
        present: NDArray[np.bool_] = self.here[shards]
        return present

    def lost(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these positions, all of which were asked for, could not be read: bool, same shape."""
        lost = np.zeros(positions.shape, bool)
        for each in self._lost:
            lost |= (positions >= each.start) & (positions < each.stop)
        return lost

    def _forgive(self, shard: int, error: ShardError, row: int = -1) -> None:
        """Remember that a sample, or a whole shard, cannot be read."""
        if not self.forgiving:
            raise error
        found = row, " ".join(str(error).split())
        self.broken[shard] = min(self.broken.get(shard, found), found)
        begin, end = (int(edge) for edge in self.reader.starts[shard : shard + 2])
        lost = range(begin, end) if row < 0 else range(begin + row, begin + row + 1)
        if lost not in self._lost:
            self._lost.append(lost)

    def tokens(self, positions: NDArray[np.integer[Any]]) -> Iterator[tuple[int, AnyTokens]]:
        """(i, tokens of positions[i]), in the order of the shards: each shard is visited once. All must be present."""
        for number, shard, rows, numbers in self._by_shard(positions):
            yield from self._samples(number, shard, rows, numbers)

    def _samples(
        self, number: int, shard: Shard, rows: NDArray[np.int64], numbers: NDArray[np.int64]
    ) -> Iterator[tuple[int, AnyTokens]]:
        for i, row in zip(numbers.tolist(), rows.tolist(), strict=True):
            try:
                tokens = shard.sample(row)[1]
            except ShardError as error:
                self._forgive(number, error, row)
                continue
            yield i, tokens

    def gather(self, positions: NDArray[np.integer[Any]], form: Form) -> tuple[AnyTokens, NDArray[np.int64]]:
        """The tokens of samples in that form, one after the other, and where each begins; shape (positions + 1,).

        Of a lost sample there are none.
        """
        rows: list[AnyTokens] = [np.zeros(0, self.dtype)] * len(positions)
        for shard, numbers, starts, ends, others in self._in_form(positions, form):
            counts = (ends - starts) // shard.dtype.itemsize
            for i, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
                rows[i] = np.frombuffer(shard._data, shard.dtype, count, start)
            for i, tokens in others:
                rows[i] = tokens
        return np.concatenate([np.zeros(0, self.dtype), *rows]), np.cumsum([0, *map(len, rows)])

    def hashes(self, positions: NDArray[np.integer[Any]], form: Form) -> NDArray[np.uint64]:
        """Hash of each sample in that form: uint64, shape of `positions`. All must be present; 0 for a lost one."""
        out = np.zeros(len(positions), np.uint64)
        digest = xxhash.xxh3_64_intdigest
        for shard, numbers, starts, ends, others in self._in_form(positions, form):
            data = memoryview(shard._data)
            pairs = zip(starts.tolist(), ends.tolist(), strict=True)
            out[numbers] = np.fromiter((digest(data[a:b]) for a, b in pairs), np.uint64, len(numbers))
            for i, tokens in others:
                out[i] = digest(tokens.data)
        return out

    def lengths(self, form: Form) -> NDArray[np.int64]:
        """Tokens of every sample in that form, shape (samples,), int64. All must be present."""
        out = np.zeros(len(self), np.int64)
        for shard, numbers, starts, ends, others in self._in_form(np.arange(len(self)), form):
            out[numbers] = (ends - starts) // shard.dtype.itemsize
            for i, tokens in others:
                out[i] = len(tokens)
        return out

    def _in_form(self, positions: NDArray[np.integer[Any]], form: Form) -> Iterator[_InForm]:
        """Samples in that form, shard by shard.

        Yields a shard; of the samples that the form leaves as they are stored the indices into `positions`, first bytes
        and end bytes; and of the others index and tokens.
        """
        for number, shard, rows, numbers in self._by_shard(positions):
            spans, none = token_spans(shard, rows), np.zeros(0, np.int64)
            as_is = np.zeros(len(rows), bool) if spans is None else _unchanged(shard, *spans, form)
            others = self._samples(number, shard, rows[~as_is], numbers[~as_is])
            starts, ends = (each[as_is] for each in spans) if spans is not None else (none, none)
            yield shard, numbers[as_is], starts, ends, ((i, form.apply(tokens)) for i, tokens in others)

    def _by_shard(
        self, positions: NDArray[np.integer[Any]]
    ) -> Iterator[tuple[int, Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """(its number, shard, rows in it, indices into positions), shard by shard, rows rising."""
        order = np.argsort(positions, kind="stable")
        ordered = positions[order].astype(np.int64)
        shards = np.searchsorted(self.reader.starts, ordered, side="right") - 1
        rows = ordered - self.reader.starts[shards]
        bounds = np.flatnonzero(np.diff(shards, prepend=-1, append=-1)).tolist()
        for begin, end in pairwise(bounds):
            number = int(shards[begin])
            try:
                shard = self.reader.shard(number)
            except ShardError as error:
                self._forgive(number, error)
                continue
            yield number, shard, rows[begin:end], order[begin:end]
            if 8 * (end - begin) > len(
                shard
            ):  # it is read from one end to the other: its pages need not stay in memory
                self.reader.close(number)


@lru_cache(maxsize=4)
def _open_data(*arguments: Any) -> Data:
    """Once for each worker: an index of 100,000 shards takes a second to read."""
    return Data(*arguments)


def run_of(folder: Path) -> RunRecord | None:
    """What `run.json` says of the phase that a folder of shards is in; None where no build of ours made it."""
    for place in (folder, *list(folder.absolute().parents)[:3]):  # train/, or a split in train/<source>/
        phase = Phase(place, place.name)
        if phase.run_json.is_file():
            return records.read_run(phase)
    return None


def _is_here(folder: Path, info: ShardInfo, names: dict[Path, set[str]]) -> bool:
    for name in (info.basename, info.zip_data["basename"] if info.zip_data else info.basename):
        path = folder / name
        if path.parent not in names:
            names[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name in names[path.parent]:
            return True
    return False


class _RemoteReader(MdsReader):
    """An `MdsReader` over a cache folder that fetches what it lacks."""

    def __init__(self, root: str, cache: Path) -> None:
        self.root = root
        cache.mkdir(parents=True, exist_ok=True)
        try:
            self._fetch(INDEX, cache / INDEX)
        except FileNotFoundError as error:
            raise OrderError("no data there", where=f"{root}/{INDEX}", why=error, remedy=ACCESS) from None
        super().__init__(cache)

    def listed(self) -> NDArray[np.bool_]:
        system, base = filesystem(self.root)
        found = {path[len(base) :].lstrip("/") for path in system.find(base)}
        return np.array([not found.isdisjoint(_names(info)) for info in self.infos], dtype=bool)

    def shard(self, number: int) -> Shard:
        if number not in self._open:
            names = _names(self.infos[number])
            if not any((self.folder / name).is_file() for name in names):
                self._fetch_first(names)
        return super().shard(number)

    def _fetch_first(self, names: list[str]) -> None:
        for name in names:
            try:
                return self._fetch(name, self.folder / name)
            except FileNotFoundError:
                continue
        raise ShardError("shard is missing", where=f"{self.root}/{names[0]}")

    def _fetch(self, name: str, to: Path) -> None:
        """Download, whole or not at all: a cut download is never taken for a shard."""
        if to.is_file():
            return
        system, base = filesystem(self.root)
        try:
            with files.replacing(to) as partial:
                system.get_file(f"{base}/{name}", str(partial))
        except FileNotFoundError:
            raise
        except Exception as error:  # every back end has its own errors
            raise OrderError(
                "the data cannot be fetched",
                where=f"{self.root}/{name}",
                why=f"{type(error).__name__}: {error}",
                remedy=ACCESS,
            ) from error


def _names(info: ShardInfo) -> list[str]:
    return [info.basename, *([info.zip_data["basename"]] if info.zip_data else [])]


def token_spans(shard: Shard, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """First and end byte of the tokens of samples, without a loop; None when the shard has not the usual two columns.

    Only for samples that are whole: anything unusual in one of them gives None, so that `Shard.sample` names it.
    """
    if list(shard.info.columns) != ["id", "input_ids"] or ":" not in shard.info.columns["input_ids"]:
        return None
    data = np.frombuffer(memoryview(shard._data), np.uint8)
    begins, ends = shard.offsets[rows].astype(np.int64), shard.offsets[rows + 1].astype(np.int64)
    if len(rows) == 0 or (ends - begins).min() < 8 + 2:
        return None
    sizes = data[begins[:, None] + np.arange(8)].view("<u4").astype(np.int64)
    arrays = begins + 8 + sizes[:, 0]
    if (arrays + sizes[:, 1] != ends).any() or (sizes[:, 1] < 2).any() or (data[arrays] >> 2 != 1).any():
        return None
    starts = arrays + 1 + np.array([1, 2, 4, 8])[data[arrays] & 3]
    return (starts, ends) if (starts < ends).all() else None


def _unchanged(shard: Shard, starts: NDArray[np.int64], ends: NDArray[np.int64], form: Form) -> NDArray[np.bool_]:
    """Which samples a form leaves as they are stored: bool."""
    data, width = np.frombuffer(memoryview(shard._data), np.uint8), shard.dtype.itemsize

    def token(at: NDArray[np.int64]) -> AnyTokens:
        return data[at[:, None] + np.arange(width)].view(shard.dtype)[:, 0]

    return form.keeps(token(starts), token(ends - width), (ends - starts) // width)


def hash_rows(values: AnyTokens, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """xxh3-64 of each `values[start:end]`: uint64, shape of `starts`."""
    width = values.dtype.itemsize
    data, digest = np.ascontiguousarray(values).data.cast("B"), xxhash.xxh3_64_intdigest
    pairs = zip((starts * width).tolist(), (ends * width).tolist(), strict=True)
    return np.fromiter((digest(data[a:b]) for a, b in pairs), np.uint64, len(starts))


def fingerprint(tokens: AnyTokens, vocabulary: Vocabulary, max_seq_len: int | None) -> int:
    """Hash of the canonical form: equal for a sample and for all that the loader makes of it; 0 without text."""
    text = canonical(tokens, vocabulary, max_seq_len)
    return xxhash.xxh3_64_intdigest(text.data) if len(text) else 0
