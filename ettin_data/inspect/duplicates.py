"""What the search for copies has found in a finished phase: how much, of whom, in what clusters, and how truly.

The tables of the build are read as they lie, never made again (ARCHITECTURE 5.11). A phase that has keys and no tables
can be measured: the search is then made in a temporary folder, and nothing in the phase changes.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files, sealed_json, shapes
from ettin_data.base.draws import document_key, draws
from ettin_data.base.errors import EttinError, ExitStatus, OrderError, ShardError
from ettin_data.base.options import read_options
from ettin_data.base.progress import SILENT, Progress
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice, Near
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.dedup.tables import TWIN_ROW, TWIN_SPLIT
from ettin_data.executor import Executor, ExecutorOptions
from ettin_data.inspect.evaluation import pieces_of
from ettin_data.sources.base import SourceFile
from ettin_data.stages.pack import from_recipe
from ettin_data.storage import ledger
from ettin_data.storage.attributes import Attribute, read_attribute
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import COPIES, KEYS, POOLS, Phase, attribute_file, open_phase
from ettin_data.storage.records import read_run
from ettin_data.storage.split import document_places, read_marker
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

_SPLIT_BITS = np.int64(40)  # a document's number is that of its split, then its row
_ROW = (np.int64(1) << _SPLIT_BITS) - 1
Numbers = NDArray[np.int64]


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
            copies.append((np.int64(number) << _SPLIT_BITS) | rows)
            twins.append((columns[TWIN_SPLIT][rows].astype(np.int64) << _SPLIT_BITS) | columns[TWIN_ROW][rows])
            reasons.append(np.array(["", *split.table.reasons])[split.table.codes[rows]])
        return np.concatenate(copies), np.concatenate(twins), np.concatenate(reasons)

    def sources(self, numbers: Numbers) -> NDArray[np.str_]:
        """The source of each document."""
        names: NDArray[np.str_] = np.array([split.source for split in self.splits], str)[numbers >> _SPLIT_BITS]
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
    with tempfile.TemporaryDirectory(prefix="ettin-dedup-") as folder:
        paths = {split.name: Path(folder) / attribute_file(split.name) for split in splits}
        find_copies(Join(splits, choice, seed, Path(folder) / "join"), paths, workers, progress)
        found = tuple(Split(each.name, each.folder, each.folder, read_attribute(paths[each.name])) for each in splits)
        yield Search(choice, seed, found, True, True)


def _keyed(phase: Phase) -> tuple[list[KeyedSplit], DedupChoice, int]:
    """The splits of a phase that has keys, and the options that these allow."""
    names = [name.partition("/")[2] for name in phase.splits(POOLS)]
    markers = {name: read_marker(phase.folder / POOLS / name) for name in names}
    keys = [marker.made_from.get("keys") for marker in markers.values()]
    sketched = any(isinstance(each, dict) and each.get("values") for each in keys)
    choice = DedupChoice(near=Near() if sketched else None)
    run = read_run(phase)
    if not keys or any(each != choice.keys.made_from() for each in keys):
        raise OrderError(
            "this phase was built without the keys that copies are found by",
            where=phase.folder,
            remedy="build it again with `dedup` in its recipe, or with `validation_twins: near` to remove no copy but "
            "those of held-out documents; its pools get their keys without being tokenized again",
            status=ExitStatus.NOT_FOUND,
        )
    splits = []
    for name, marker in markers.items():
        folder = phase.folder / POOLS / name
        source, count = name.partition("/")[0], int(marker.tally["documents"])
        splits.append(KeyedSplit(name, source, folder, folder / KEYS, count, marker.digest))
    return splits, choice, int(run.recipe["seed"])


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


def matrix(search: Search, within: bool | None = None) -> list[dict[str, Any]]:
    """One row for each source of copies and source of twins: documents and tokens, by reason and in all.

    `share` is of all documents of the source in the pool; `tokens` are None where nobody counted those of copies.
    """
    shown = search.only(within)
    copies, twins, reasons = search.pairs
    copies, twins, reasons = copies[shown], twins[shown], reasons[shown]
    documents: dict[str, int] = defaultdict(int)
    for split in search.splits:
        documents[split.source] += len(split.table.codes) if split.table is not None else 0
    tokens = _tokens(search, copies) if search.tokens_known else None
    ours, theirs = search.sources(copies), search.sources(twins)
    rows = []
    for source, other in sorted(set(zip(ours.tolist(), theirs.tolist(), strict=True))):
        cell = (ours == source) & (theirs == other)
        by_reason = {}
        for reason in sorted(set(reasons[cell].tolist())):
            mask = cell & (reasons == reason)
            by_reason[reason] = {"documents": int(mask.sum()), "tokens": _sum(tokens, mask)}
        count = int(cell.sum())
        rows.append({
            "source": source, "copies_of": other, "documents": count, "tokens": _sum(tokens, cell),
            "share": count / documents[source], "reasons": by_reason,
        })  # fmt: skip
    return rows


def _sum(tokens: Numbers | None, mask: NDArray[np.bool_]) -> int | None:
    return None if tokens is None else int(tokens[mask].sum())


def _tokens(search: Search, numbers: Numbers) -> Numbers:
    found = np.zeros(len(numbers), np.int64)
    for split in np.unique(numbers >> _SPLIT_BITS).tolist():
        mine = numbers >> _SPLIT_BITS == split
        found[mine] = search.splits[split].documents["tokens"][numbers[mine] & _ROW]
    return found


@dataclass(frozen=True)
class Clusters:
    """Survivors and what was left out for them, the most copies first.

    Attributes:
        survivors: numbers of the documents, shape (clusters,).
        copies: of each, itself not counted.
    """

    survivors: Numbers
    copies: Numbers

    def histogram(self) -> dict[str, int]:
        """Copies of a survivor, in powers of two -> clusters."""
        power = np.frexp(self.copies.astype(np.float64))[1] - 1  # 1, 2-3, 4-7, …
        counts = zip(*np.unique(power, return_counts=True), strict=True)
        return {f"{2**p}-{2 ** (p + 1) - 1}" if p else "1": int(n) for p, n in counts}


def clusters(search: Search, within: bool | None = None) -> Clusters:
    """The clusters of a search. A twin that is left out itself stands for the one that it is left out for."""
    copies, twins, _ = search.pairs
    survivors = twins.copy()
    for _ in range(64):  # the way to the survivor halves each time
        at = np.searchsorted(copies, survivors)
        at[at == len(copies)] = 0
        gone = copies[at] == survivors if len(copies) else np.zeros(0, bool)
        if not gone.any():
            break
        survivors[gone] = survivors[at[gone]]
    else:
        raise ShardError("documents are left out for each other: the tables of copies are damaged")
    found, counts = np.unique(survivors[search.only(within)], return_counts=True)
    order = np.lexsort((found, -counts))
    return Clusters(found[order], counts[order].astype(np.int64))


def texts(search: Search, numbers: Numbers, vocabulary: Vocabulary) -> dict[int, AnyTokens]:
    """The text tokens of documents, by number, as far as they are in a pool.

    Copies that went before packing are in none. A tail that was too short to be a sample is missing.
    """
    found: dict[int, AnyTokens] = {}
    for number in np.unique(numbers >> _SPLIT_BITS).tolist():
        split, base = search.splits[number], number << int(_SPLIT_BITS)
        if split.folder is None or split.pool is None:
            continue
        rows = np.unique(numbers[numbers >> _SPLIT_BITS == number] & _ROW)
        in_pool = _rows_in_pool(split.folder, split.pool, rows)
        read = _tokens_of(split.pool, np.array(sorted(in_pool), np.int64), vocabulary)
        found.update({base + in_pool[row]: tokens for row, tokens in read.items()})
    return found


def _rows_in_pool(of: Path, pool: Path, rows: Numbers) -> dict[int, int]:
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


def _tokens_of(pool: Path, rows: Numbers, vocabulary: Vocabulary) -> dict[int, AnyTokens]:
    sample, document, start, length = pieces_of(pool)
    behind = np.cumsum(length) - length
    offset = behind - behind[np.searchsorted(sample, sample)]  # of each piece in the text of its sample
    pieces: dict[int, list[tuple[int, AnyTokens]]] = defaultdict(list)
    reader, framing = MdsReader(pool), (vocabulary.open, vocabulary.close)
    for at in np.flatnonzero(np.isin(document, rows)).tolist():
        stored = reader.tokens(int(sample[at]))
        text = stored[~np.isin(stored, framing)]  # text never becomes one of these
        pieces[int(document[at])].append((int(start[at]), text[offset[at] : offset[at] + length[at]]))
    return {row: np.concatenate([text for _, text in sorted(some, key=lambda p: p[0])]) for row, some in pieces.items()}


def documents_with(search: Search, document: str) -> list[int]:
    """Numbers of the documents of this phase that have an id. Raises `OrderError` where none has."""
    key = np.uint64(document_key(document))
    found = [
        (number << int(_SPLIT_BITS)) | row
        for number, split in enumerate(search.splits)
        if split.table is not None
        for row in np.flatnonzero(split.documents["key"] == key).tolist()
    ]
    if not found:
        raise OrderError(f"no document with the id {document!r} was looked at", status=ExitStatus.NOT_FOUND)
    return found


def explained(search: Search, number: int) -> dict[str, Any]:
    """Place and reason of a document, bands and estimated likeness, and its `twin`; None where it is no copy."""
    split, row = split_of(search, number)
    assert split.table is not None
    code = int(split.table.codes[row])
    said: dict[str, Any] = {**split.place(row), "reason": None, "twin": None}
    if code:
        columns = split.table.columns
        twin = (int(columns[TWIN_SPLIT][row]) << int(_SPLIT_BITS)) | int(columns[TWIN_ROW][row])
        other, its_row = split_of(search, twin)
        said |= {"reason": split.table.reasons[code - 1], "twin": {**other.place(its_row), "number": twin}}
        said |= {"bands": int(columns["bands"][row]), "likeness": float(columns["likeness"][row])}
    return said


def split_of(search: Search, number: int) -> tuple[Split, int]:
    """The split and the row of a document."""
    return search.splits[number >> int(_SPLIT_BITS)], number & int(_ROW)


def drawn(search: Search, within: bool | None, most: int) -> Mapping[str, tuple[Numbers, Numbers]]:
    """Reason -> copies and twins, of at most so many pairs of the search that a key draws."""
    shown = search.only(within)
    copies, twins, reasons = search.pairs
    copies, twins, reasons = copies[shown], twins[shown], reasons[shown]
    order = np.argsort(draws(copies.astype(np.uint64), search.seed, "precision of copies"), kind="stable")[:most]
    order.sort()
    return {
        reason: (copies[order][reasons[order] == reason], twins[order][reasons[order] == reason])
        for reason in sorted(set(reasons[order].tolist()))
    }
