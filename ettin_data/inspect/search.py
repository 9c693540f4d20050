"""A search for copies in a finished phase: its splits, and which document of them is left out for which.

The tables of the build are read as they lie, never made again (ARCHITECTURE 5.11). A phase that has keys and no tables
can be measured: the search is then made in a folder that goes with it, and nothing in the phase changes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import disk_errors, files, sealed_json, shapes
from ettin_data.base.errors import EttinError, ExitStatus, OrderError, ShardError
from ettin_data.base.options import read_options
from ettin_data.base.progress import SILENT, Progress
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.dedup.tables import TWIN_ROW, TWIN_SPLIT
from ettin_data.executor import Executor, ExecutorOptions, open_workers
from ettin_data.sources.base import SourceFile
from ettin_data.stages.pack import from_recipe
from ettin_data.storage import ledger
from ettin_data.storage.attributes import Attribute, read_attribute
from ettin_data.storage.keys import keyed_split
from ettin_data.storage.phase import COPIES, KEYS, POOLS, Phase, attribute_file, open_phase
from ettin_data.storage.records import read_run
from ettin_data.storage.split import document_places, read_marker

_SPLIT_BITS = np.int64(40)
_ROW = (np.int64(1) << _SPLIT_BITS) - 1

Numbers = NDArray[np.int64]
"""Documents: of each the number of its split, then its row."""


def document_number(split: int, row: int) -> int:
    """The number of a document."""
    return (split << int(_SPLIT_BITS)) | row


def numbered(split: int, rows: Numbers) -> Numbers:
    """The numbers of documents of one split."""
    return (np.int64(split) << _SPLIT_BITS) | rows


def splits_of(numbers: Numbers) -> Numbers:
    """The numbers of the documents' splits."""
    return numbers >> _SPLIT_BITS


def rows_of(numbers: Numbers) -> Numbers:
    """The rows of the documents in their splits."""
    return numbers & _ROW


class _Said(shapes.Shape):  # what is read of dedup.json
    options: dict[str, Any]
    splits: list[str]
    tables: dict[str, str]
    seed: int


@dataclass(frozen=True)
class Split:
    """A split as the tables number it.

    Attributes:
        name: in the tables, `<source>/<folder>`, behind `<run>/<phase>:` for one of an earlier phase.
        folder: with the ledger whose rows the tables mean; None where an earlier phase is not there any more.
        pool: folder with its samples.
        table: what was found; None for one of an earlier phase, which loses nothing.
    """

    name: str
    folder: Path | None
    pool: Path | None
    table: Attribute | None

    @property
    def source(self) -> str:
        return self.name.rpartition("/")[0]

    @cached_property
    def documents(self) -> ledger.Table:
        """Columns key, file, position and tokens of the ledger; empty where it is not there."""
        names = ["key", "file", "position", "tokens"]
        return ledger.read_table(self.folder, ledger.DOCUMENTS, names) if self.folder else {}

    @cached_property
    def tokens(self) -> Numbers:
        """Of each document, shape (documents,), as its pool counted them; 0 of one that is in no pool."""
        if self.folder is None or self.pool is None or self.folder == self.pool:
            return self.documents["tokens"]
        counted = ledger.read_table(self.pool, ledger.DOCUMENTS, ["tokens"])["tokens"]
        rows = np.arange(len(self.documents["key"]))
        tokens = np.zeros(len(rows), np.int64)
        for row, ours in rows_in_pool(self.folder, self.pool, rows).items():
            tokens[ours] = counted[row]
        return tokens

    def place(self, row: int) -> dict[str, Any]:
        """Source, upstream file and record (from 0) of a document; file and record None where they are not known."""
        where: dict[str, Any] = {"source": self.source, "file": None, "record": None}
        if self.folder is not None:
            inputs = read_marker(self.folder).inputs
            ledger.require_rows(self.folder / ledger.DOCUMENTS, self.documents["file"], len(inputs))
            where["file"] = SourceFile.described(inputs[int(self.documents["file"][row])]).name
            where["record"] = int(self.documents["position"][row])
        return where


@dataclass(frozen=True)
class Search:
    """A search for copies and what it has found.

    Attributes:
        choice: the options.
        seed: of the recipe.
        splits: by the numbers that tables call them.
        measured: whether it was made just now, and nothing left out by it.
        tokens_known: whether ledgers say the tokens of copies; not where they went before packing.
    """

    choice: DedupChoice
    seed: int
    splits: tuple[Split, ...]
    measured: bool
    tokens_known: bool

    @cached_property
    def pairs(self) -> tuple[Numbers, Numbers, NDArray[np.str_]]:
        """Each copy, the twin that it is left out for, and the reason, by copy; shape (copies,) each."""
        copies, twins, reasons = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, "<U16")]
        for number, split in enumerate(self.splits):
            if split.table is None:
                continue
            rows, columns = np.flatnonzero(split.table.codes), split.table.columns
            copies.append(numbered(number, rows))
            twins.append((columns[TWIN_SPLIT][rows].astype(np.int64) << _SPLIT_BITS) | columns[TWIN_ROW][rows])
            reasons.append(np.array(["", *split.table.reasons])[split.table.codes[rows]])
        return np.concatenate(copies), np.concatenate(twins), np.concatenate(reasons)

    def sources(self, numbers: Numbers) -> NDArray[np.str_]:
        """The source of each document."""
        names: NDArray[np.str_] = np.array([split.source for split in self.splits], str)[splits_of(numbers)]
        return names

    def only(self, within: bool | None) -> NDArray[np.bool_]:
        """Mask of the pairs of one source (True), of two (False; an earlier phase's is another one), or all (None)."""
        copies, twins, _ = self.pairs
        return np.ones(len(copies), bool) if within is None else (self.sources(copies) == self.sources(twins)) == within


@contextmanager
def opened(
    phase: Phase, measure: bool, workers: Executor | ExecutorOptions | None = None, progress: Progress = SILENT
) -> Iterator[Search]:
    """The search of a finished phase, from its tables; with `measure` one that is made now where there are none.

    Raises `OrderError` where there is neither a table nor a key to measure by.
    """
    if phase.copies_json.exists():
        yield _read(phase)
        return
    splits, choice, seed = _keyed(phase)
    if not measure:
        raise OrderError(
            "nobody has looked for copies in this phase",
            where=phase.folder,
            why="it has keys, by which they can be found, and its recipe has no `dedup`",
            remedy="--measure looks now, and leaves everything as it is",
            status=ExitStatus.NOT_FOUND,
        )
    with (
        disk_errors.explained(phase.folder),
        open_workers(workers, phase.folder) as at_work,
        _work(phase, at_work) as work,
    ):
        paths = {split.name: work / attribute_file(split.name) for split in splits}
        find_copies(Join(splits, choice, seed, work / "join"), paths, at_work, progress)
        found = tuple(
            Split(each.name, each.folder, phase.folder / POOLS / each.name, read_attribute(paths[each.name]))
            for each in splits
        )
    yield Search(choice, seed, found, True, True)


@contextmanager
def _work(phase: Phase, workers: Executor | None) -> Iterator[Path]:
    """A folder for a search: this machine's temporary one, or where workers on other machines see it, too."""
    if workers is None:
        with tempfile.TemporaryDirectory(prefix="ettin-dedup-") as name:
            yield Path(name)
        return
    folder = files.private_folder(phase.folder, COPIES)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keyed(phase: Phase) -> tuple[list[KeyedSplit], DedupChoice, int]:
    """The splits of a phase that has keys, and the options that these allow."""
    names = [name.partition("/")[2] for name in phase.splits(POOLS)]
    for choice in (DedupChoice(), DedupChoice(near=None)):
        wanted, splits = choice.keys.made_from(), []
        for name in names:
            source, _, folder = name.partition("/")
            keyed = keyed_split(phase.pool(source, folder), phase.keyed(source, folder), wanted)
            if keyed is None:
                break
            rows, marker = keyed
            count = int(marker.tally["documents"])
            splits.append(KeyedSplit(name, source, rows, rows / KEYS, count, marker.digest))
        if splits and len(splits) == len(names):
            return splits, choice, int(read_run(phase).recipe["seed"])
    raise OrderError(
        "this phase was built without the keys that copies are found by",
        where=phase.folder,
        remedy="--keys makes them, by one more reading of the text, and leaves the phase as it is; to leave copies "
        "out, build it again with `dedup` in its recipe",
        status=ExitStatus.NOT_FOUND,
    )


def _read(phase: Phase) -> Search:
    said = sealed_json.read(phase.copies_json)
    try:
        shapes.require(_Said, said)
    except ValueError as error:
        raise ShardError("what was said of copies is damaged", where=phase.copies_json, why=error) from error
    choice = read_options(DedupChoice, said["options"], "dedup")
    packed = from_recipe(read_run(phase).recipe["pack"]).strategy.several
    earlier = dict(_earlier(choice))
    splits = []
    for name in said["splits"]:
        place, colon, own = name.rpartition(":")
        other = earlier.get(place) if colon else phase
        source, _, folder = own.partition("/")
        table, pool = None, other.pool(source, folder) if other else None
        if not colon:
            path = phase.attribute(COPIES) / attribute_file(name)
            try:
                digest = files.digest(path)["xxh3_64"]
            except OSError as error:
                raise ShardError("a table of copies cannot be read", where=path, why=error) from error
            if digest != said["tables"].get(attribute_file(name)):
                raise ShardError(
                    "a table of copies is not as it was written", where=path, why=f"its digest is {digest}"
                )
            table = read_attribute(path)
        rows = phase.keyed(source, folder) if packed and not colon else pool
        splits.append(Split(name, rows, pool, table))
    return Search(choice, said["seed"], tuple(splits), False, not packed)


def _earlier(choice: DedupChoice) -> Iterator[tuple[str, Phase]]:
    for path in choice.earlier:
        try:
            phase = open_phase(Path(path))
        except EttinError:  # moved or removed since: what it says is not needed, only shown
            continue
        yield f"{phase.folder.parent.name}/{phase.name}", phase


def split_of(search: Search, number: int) -> tuple[Split, int]:
    """The split and the row of a document."""
    return search.splits[number >> int(_SPLIT_BITS)], number & int(_ROW)


def rows_in_pool(of: Path, pool: Path, rows: Numbers) -> dict[int, int]:
    """Row in the pool -> row in the ledger of the tables."""
    if of == pool:
        return {row: row for row in rows.tolist()}
    inputs = read_marker(pool).inputs
    ours, theirs = (
        document_places(inputs, ledger.read_table(each, ledger.DOCUMENTS, ["file", "position"])) for each in (of, pool)
    )
    wanted = {int(place): row for place, row in zip(ours[rows].tolist(), rows.tolist(), strict=True)}
    at = np.flatnonzero(np.isin(theirs, ours[rows])).tolist()
    return {row: wanted[int(theirs[row])] for row in at}
