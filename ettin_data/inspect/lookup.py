"""A finished phase opened for looking into: position <-> split <-> document <-> upstream file, position <-> step.

Everything is read where it lies (ledgers beside the shards, the order index), only what a question needs, and nothing
is kept or written. Reading the keys of all documents of a run of ten million samples takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base.errors import ExitStatus, OrderError, ShardError
from ettin_data.order.index import OrderIndex
from ettin_data.order.law import Positions
from ettin_data.order.laws import Rows
from ettin_data.order.loader_edits import Loader
from ettin_data.order.packed_order import PackedOrder, law_of
from ettin_data.order.published import folder_name, in_training_order
from ettin_data.sources.base import SourceFile
from ettin_data.storage import ledger, records
from ettin_data.storage import split as markers
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import open_phase, phases_in
from ettin_data.storage.records import RunRecord
from ettin_data.storage.split import Marker
from ettin_data.tokenizer.vocabulary import AnyTokens

_THREADS = 8
_AT_ONCE = 4096  # samples that are looked up together when all are gone through
T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """One split folder of `train/`: its path, and the positions [first, end) of its samples in the train index."""

    folder: Path
    name: str
    first: int
    end: int

    @property
    def source(self) -> str:
        """The folder of the source, such as `books` or, for a second pass, `books-dup`."""
        return self.name.partition("/")[0]

    def marker(self) -> Marker:
        return _marker(self.folder)


@lru_cache(maxsize=512)
def _marker(folder: Path) -> Marker:
    return markers.read_marker(folder)


@dataclass(frozen=True)
class Span:
    """Part of a document in a sample: text tokens [start, start + length) of the `tokens` of the document.

    `document` is its row in the split's ledger, `file` the upstream file as the source lists it (or its part,
    `SourceFile.name`), `record` the ordinal of the record in that, from 0. Upstream ids are not unique; the two are.
    """

    document: int
    key: int
    file: str
    record: int
    start: int
    length: int
    tokens: int


@dataclass(frozen=True)
class Sample:
    """A sample and where it comes from; `spans` has more than one element when documents are packed together."""

    position: int
    split: Split
    row: int
    id: str
    tokens: AnyTokens
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Documents:
    """Some documents of one split: their rows in its ledger, rising."""

    split: Split
    rows: NDArray[np.int64]


class Phase:
    """A finished phase with its shards and its order open.

    Args:
        law: of a loader that packs rows (`PackedOrder.of`), whose steps are meant; None: those of the order index.

    Raises:
        BuildError, OrderError, ShardError: the folder is not one.
    """

    def __init__(self, folder: Path, law: str | None = None) -> None:
        self.place = open_phase(folder)
        self.folder = self.place.folder
        self.order = OrderIndex.open(self.place.order)
        self.name = self.order.info.phase or self.place.name
        self.reader = MdsReader(self.place.train)
        self.order.check_samples(len(self.reader))
        self._law = law

    def __len__(self) -> int:
        """Samples of `train/`."""
        return len(self.reader)

    def __iter__(self) -> Iterator[Sample]:
        """All samples with their documents, in the order of the shards."""
        for begin in range(0, len(self), _AT_ONCE):
            yield from self.samples(range(begin, min(begin + _AT_ONCE, len(self))))

    def step(self, number: int) -> list[Sample]:
        """The samples of a step (from 0), in the order of the batch. Raises `OrderError` beyond the last step."""
        return self.samples(self.rows_of(number).positions.tolist())

    @cached_property
    def packing(self) -> PackedOrder | None:
        """The steps as a loader packs them, where a law of that was named. Raises `OrderError` for one that is none."""
        return PackedOrder.of(self._law, self.order, self.place.train, self.loader) if self._law else None

    @property
    def steps(self) -> int:
        """How many there are."""
        return self.order.steps if self.packing is None else self.packing.steps

    def rows_of(self, number: int, rank: int | None = None, world: int = 1) -> Rows:
        """The rows of a step (from 0), or what one rank reads of it; a row is a sample unless a loader packs them.

        Raises `OrderError` when there is no such step or rank.
        """
        if self.packing is not None:
            rows = self.packing.step(number)
            return rows if rank is None else rows.of_rank(rank, world)
        positions = self.order.step(number) if rank is None else self.order.rank(number, rank, world)
        return Rows(positions, np.arange(len(positions) + 1))

    def readings(self) -> Iterator[tuple[Positions, NDArray[np.int64]]]:
        """All positions in reading order, some at a time, and the step (from 0) of each."""
        if self.packing is not None:
            for number, rows in enumerate(self.packing):
                yield rows.positions, np.full(len(rows.positions), number)
            return
        begin = 0
        for chunk in self.order.chunks():
            yield chunk, np.arange(begin, begin + len(chunk), dtype=np.int64) // self.order.batch
            begin += len(chunk)

    @cached_property
    def splits(self) -> list[Split]:
        """The split folders in the order of the index."""
        splits: list[Split] = []
        for number, info in enumerate(self.reader.infos):
            name = str(PurePosixPath(info.basename).parent)
            first, end = int(self.reader.starts[number]), int(self.reader.starts[number + 1])
            if splits and splits[-1].name == name:
                splits[-1] = Split(splits[-1].folder, name, splits[-1].first, end)
            else:
                splits.append(Split(self.place.train / name, name, first, end))
        return splits

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """First position of each split, int64."""
        return np.array([split.first for split in self.splits], np.int64)

    def split_of(self, positions: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Number of the split of each position."""
        return np.searchsorted(self.firsts, positions.astype(np.int64), side="right") - 1

    def sources_of(self, positions: NDArray[np.integer[Any]]) -> list[str]:
        """Source folder of each position."""
        return [self.splits[number].source for number in self.split_of(positions).tolist()]

    @cached_property
    def run(self) -> RunRecord | None:
        """What `run.json` says; None for shards that no build of ours has made."""
        return records.read_run(self.place) if self.place.run_json.exists() else None

    @cached_property
    def loader(self) -> Loader:
        """The vocabulary of the samples, and what the loader makes of them, as `run.json` says."""
        return Loader.of_run(self.run)

    def checkpoint(self, step: int) -> str:
        """Published name of the checkpoint interval that holds a step (from 0)."""
        if self.packing is not None:
            return folder_name(self.name, step // self.order.info.interval_steps + 1)
        return folder_name(self.name, self.order.interval_of(step))

    def samples(self, positions: Iterable[int]) -> list[Sample]:
        """The samples at these positions with their documents, in the order given."""
        wanted = np.array(list(positions), np.int64)
        numbers = self.split_of(wanted)
        found: dict[int, Sample] = {}

        def read(number: int) -> None:
            split = self.splits[number]
            for position, spans in _spans(split, wanted[numbers == number]):
                name, tokens = self.reader.sample(position)
                found[position] = Sample(position, split, position - split.first, name, tokens, spans)

        in_threads(read, np.unique(numbers).tolist())
        return [found[position] for position in wanted.tolist()]

    def documents_with(self, column: str, value: int) -> list[Documents]:
        """The documents whose ledger has this value in a column: `key`, `url_key` or `tokens`."""

        def look(split: Split) -> Documents:
            values = ledger.read_table(split.folder, ledger.DOCUMENTS, [column])[column]
            return Documents(split, np.flatnonzero(values == values.dtype.type(value)))

        return [found for found in in_threads(look, self.splits) if len(found.rows)]

    def documents_of_sample(self, tokens: AnyTokens) -> list[Documents]:
        """The documents of the samples that are stored as just these tokens, by the hashes in the ledger."""
        dtype = self.reader.shard(0).dtype
        value = np.uint64(xxhash.xxh3_64_intdigest(np.ascontiguousarray(tokens, dtype).data))

        def look(split: Split) -> Documents:
            rows = np.flatnonzero(ledger.read_table(split.folder, ledger.SAMPLES, ["content"])["content"] == value)
            if len(rows):
                rows = np.unique(ledger.read_table(split.folder, ledger.SAMPLES, ["document"])["document"][rows])
            return Documents(split, rows)

        return [found for found in in_threads(look, self.splits) if len(found.rows)]

    def begins_of(self, documents: Documents) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """Positions of the samples that start with one of these documents, which one, and how much of it they hold.

        A document that begins inside a packed sample has none.
        """
        table = ledger.read_table(documents.split.folder, ledger.SAMPLES, ["document", "start", "length"])
        rows = np.flatnonzero((table["start"] == 0) & np.isin(table["document"], documents.rows))
        return documents.split.first + rows, table["document"][rows], table["length"][rows]

    def positions_of(self, documents: Documents) -> NDArray[np.int64]:
        """Positions of all samples that hold a part of these documents; rising, int64."""
        return documents.split.first + _samples_of(documents.split, documents.rows)

    def steps_of(self, positions: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Step (from 0) and place in it of each position, int64; step -1 for a sample of the tail that is not read."""
        if len(positions) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if self.packing is not None:
            at = positions.astype(np.int64)
            return self.packing.places.step[at].astype(np.int64), self.packing.places.place[at].astype(np.int64)
        index = self.order.indices_of(positions)
        return np.where(index < 0, -1, index // self.order.batch), np.where(index < 0, -1, index % self.order.batch)


def in_threads(fn: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """`fn` of each item, in order; reading parquet releases the interpreter lock."""
    items = list(items)
    if len(items) < 2:
        return [fn(item) for item in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(fn, items))


def _samples_of(split: Split, documents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the split's samples that hold a part of these documents; rising, int64."""
    first = ledger.read_table(split.folder, ledger.SAMPLES, ["document"])["document"]
    rows = np.flatnonzero(np.isin(first, documents))
    if (split.folder / ledger.SEGMENTS).exists():
        segments = ledger.read_table(split.folder, ledger.SEGMENTS, ["sample", "document"])
        rows = np.union1d(rows, segments["sample"][np.isin(segments["document"], documents)])
    return rows.astype(np.int64)


def _spans(split: Split, positions: NDArray[np.int64]) -> list[tuple[int, tuple[Span, ...]]]:
    """(position, its parts of documents) for some positions of a split."""
    documents = ledger.read_table(split.folder, ledger.DOCUMENTS, ["key", "file", "position", "tokens"])
    samples = ledger.read_table(split.folder, ledger.SAMPLES, ["document", "start", "length"])
    packed = (split.folder / ledger.SEGMENTS).exists()
    segments = ledger.read_table(split.folder, ledger.SEGMENTS) if packed else None
    inputs = [SourceFile.described(entry).name for entry in split.marker().inputs]
    if len(samples["document"]) != split.end - split.first:
        raise ShardError(
            f"the ledger has {len(samples['document']):,} samples, the shards have {split.end - split.first:,}",
            where=split.folder,
            remedy="build the split again",
        )

    ledger.require_rows(split.folder / ledger.SAMPLES, samples["document"], len(documents["key"]))
    ledger.require_rows(split.folder / ledger.DOCUMENTS, documents["file"], len(inputs))
    if segments is not None:
        ledger.require_rows(split.folder / ledger.SEGMENTS, segments["document"], len(documents["key"]))

    def span(document: int, start: int, length: int) -> Span:
        return Span(
            document=document,
            key=int(documents["key"][document]),
            file=inputs[documents["file"][document]],
            record=int(documents["position"][document]),
            start=start,
            length=length,
            tokens=int(documents["tokens"][document]),
        )

    found = []
    for position in positions.tolist():
        row = position - split.first
        spans = [span(*(int(samples[name][row]) for name in ("document", "start", "length")))]
        if segments is not None:
            for i in np.flatnonzero(segments["sample"] == row).tolist():
                spans.append(span(*(int(segments[name][i]) for name in ("document", "start", "length"))))
        found.append((position, tuple(spans)))
    return found


def open_phases(run: Path, phase: str | None = None, law: str | None = None) -> list[Phase]:
    """The finished phases of a run folder, in the order of training; a phase's own folder is taken as well."""
    there = phases_in(run)
    found = [p for p in there if p.finished and (phase in (None, p.name) or p.folder == Path(run))]
    if not found:
        begun = [p.name for p in there if phase in (None, p.name)]
        if not begun:
            names = ", ".join(p.name for p in there)
            raise OrderError(
                f"no phase {phase!r} here", where=run, remedy=f"name one of {names}", status=ExitStatus.NOT_FOUND
            )
        raise OrderError(
            f"no finished phase{f' {phase!r}' if phase else ''} here",
            where=run,
            why=f"the build of {', '.join(begun)} has not ended",
            remedy="the command that built it continues; `ettin-data status` shows how far it is",
            status=ExitStatus.INCOMPLETE,
        )
    return [Phase(place.folder, law) for place in in_training_order(found)]


def open_as_read(run: Path, phase: str | None = None, law: str | None = None) -> list[Phase]:
    """As `open_phases`, with the steps that a loader reads: by the law that is named, or that a phase's recipe says."""
    opened = open_phases(run, phase)
    return [Phase(each.folder, law_of(law, records.read_run(each.place))) for each in opened]
