"""The first jobs of the join: the keys of some splits, sorted by what they are compared in.

All documents are numbered, split after split. A run is some neighbouring splits; its output has the keys and the rank
of each document, and for each kind of key (the text, the URL, each band) the keys with the documents that have them, in
as many parts as there are jobs behind: a part has the keys that agree in their lowest bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import draws
from ettin_data.base.errors import ShardError
from ettin_data.dedup import arrays, sketch
from ettin_data.dedup.options import DedupChoice, Near
from ettin_data.storage import ledger
from ettin_data.storage.attributes import AttributeFile, excluded_documents
from ettin_data.storage.keys import TEXT_BYTES, Keys, read_keys
from ettin_data.storage.split import document_places, fingerprint, read_marker

VERSION = 1
"""Raised when other documents are found to be copies, or others of them stay."""

TEXT, URL, NEAR = "same_text", "same_url", "near_copy"
"""Why a document is not taken, the strongest first."""

_OF_OTHERS = 255  # priority of a source that the recipe does not rank; the earlier phases have 0
_DRAWN = np.uint64(8)
_BANDS_AT_ONCE = 4


@dataclass(frozen=True)
class KeyedSplit:
    """A finished split as the search for copies sees it.

    Attributes:
        name: unique: `<source>/<folder>`, behind `<phase>:` for one of an earlier phase.
        source: its key.
        folder: with ledger and marker.
        keys: its keys file.
        documents: rows of both.
        digest: of its marker, which stands for all of it.
        left_out: attributes that leave documents out, which are then nobody's twins.
        taken: of an earlier phase, the split of its `train/`, whose documents alone are looked at; None for our own.
    """

    name: str
    source: str
    folder: Path
    keys: Path
    documents: int
    digest: str
    left_out: tuple[AttributeFile, ...] = ()
    taken: Path | None = None

    def made_from(self) -> list[Any]:
        """What decides its part in the join."""
        return [self.name, self.documents, self.digest, [file.digest for file in self.left_out], self.taken is not None]


def kinds(choice: DedupChoice) -> list[str]:
    """The reason that each kind of key gives: the text, the URL, then the bands, as far as they are asked for."""
    bands = choice.near.bands if choice.near else 0
    return [*([TEXT] if choice.exact else []), *([URL] if choice.url else []), *([NEAR] * bands)]


def ranks(split: KeyedSplit, choice: DedupChoice, seed: int) -> NDArray[np.uint64]:
    """The rank of each document of a split, shape (documents,), uint64; the lowest of several copies stays.

    By priority of the source, then by a draw keyed by the seed and the document's place upstream. Of equal ranks the
    document with the lower number is the better.
    """
    priority = _OF_OTHERS
    if split.taken is not None:
        priority = 0
    elif split.source in choice.priority:
        priority = 1 + choice.priority.index(split.source)
    documents = ledger.read_table(split.folder, ledger.DOCUMENTS, ["file", "position"])
    drawn = draws.draws(document_places(read_marker(split.folder).inputs, documents), seed, "copies", split.source)
    return (np.uint64(priority) << np.uint64(56)) | (drawn >> _DRAWN)


@dataclass(frozen=True)
class RunJob:
    """One run.

    Attributes:
        path: of its output.
        splits: whose documents it has, in this order.
        base: number of its first document.
        choice, seed: of the recipe.
        parts: a power of two, how many parts each kind of key is cut into.
    """

    path: Path
    splits: tuple[KeyedSplit, ...]
    base: int
    choice: DedupChoice
    seed: int
    parts: int

    @property
    def documents(self) -> int:
        return sum(split.documents for split in self.splits)

    @property
    def digest(self) -> str:
        """Of all that decides the output."""
        return fingerprint({
            "version": VERSION, "base": self.base, "parts": self.parts, "seed": self.seed,
            "splits": [split.made_from() for split in self.splits],
            "choice": self.choice.finds(), "keys": asdict(self.choice.keys),
        })  # fmt: skip

    def output(self) -> arrays.Arrays:
        """What the run has left; see `sort_run`."""
        return arrays.Arrays(self.path, self.digest)


def sort_run(job: RunJob) -> None:
    """Make the output of a run: `keys` (documents, width), `rank` (documents,), and for each kind k its parts.

    `key_k` (uint64) and `row_k` (uint32, of the run) are the keys and who has them; part p is from `begin_k[p]` to
    before `begin_k[p + 1]`. Documents that are left out, without a URL or with a short text are in no part.
    """
    arrays.make_once(job.path, job.digest, lambda: _sorted(job))


def _sorted(job: RunJob) -> Iterator[tuple[str, arrays.Array]]:
    keys = np.empty((job.documents, TEXT_BYTES + job.choice.keys.values), np.uint8)
    rank, url = (np.empty(job.documents, np.uint64) for _ in range(2))
    there, begin = np.empty(job.documents, bool), 0
    for split in job.splits:
        mine = slice(begin, begin + split.documents)
        begin = mine.stop
        rank[mine], url[mine], there[mine] = _read(split, job, keys[mine])
    apart = None  # mixed into every key, where sources are not compared
    if "source" not in job.choice.across:
        of_source = [draws.key64("copies within", split.source) for split in job.splits]
        apart = np.repeat(np.array(of_source, np.uint64), [split.documents for split in job.splits])
    yield "keys", keys
    yield "rank", rank
    found, near = keys[:, TEXT_BYTES:], job.choice.near
    bands = _band_keys(found, near) if near is not None else iter(())
    every, long = (np.flatnonzero(mask).astype(np.uint32) for mask in (there, there & sketch.has_sketch(found)))
    for number, kind in enumerate(kinds(job.choice)):
        if kind == TEXT:
            column, row = keys[:, :8].copy().view("<u8").reshape(-1).astype(np.uint64, copy=False), every
        elif kind == URL:
            column, row = url, every[url[every] != 0]
        else:
            column, row = next(bands), long
        if apart is not None:
            column = column ^ apart
        if len(row) < len(column):
            column = column[row]
        begins = np.array([0, len(row)])
        if job.parts > 1:
            part = (column & np.uint64(job.parts - 1)).astype(np.uint16)
            order = np.argsort(part, kind="stable")
            column, row = column[order], row[order]
            begins = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=job.parts))])
        yield f"key_{number}", column
        yield f"row_{number}", row
        yield f"begin_{number}", begins


def _band_keys(found: sketch.Sketches, near: Near) -> Iterator[NDArray[np.uint64]]:
    """The keys of each band, in turn: made of several at a time, since a look at a sketch costs as much as a key."""
    for begin in range(0, near.bands, _BANDS_AT_ONCE):
        yield from sketch.band_keys(found, range(begin, min(begin + _BANDS_AT_ONCE, near.bands)), near.rows)


def _read(split: KeyedSplit, job: RunJob, keys: Keys) -> tuple[arrays.Array, arrays.Array, arrays.Array]:
    """Rank, URL, and whether it takes part, of each document of a split; its keys go into `keys`."""
    read_keys(split.keys, job.choice.keys.values, keys)
    documents = ledger.read_table(split.folder, ledger.DOCUMENTS, ["file", "position", "url_key"])
    if len(documents["file"]) != split.documents:
        raise ShardError(f"{split.documents:,} keys for {len(documents['file']):,} documents", where=split.folder)
    there = ~excluded_documents(split.left_out, split.documents)
    if split.taken is not None:
        inputs = read_marker(split.folder).inputs
        taken = ledger.read_table(split.taken, ledger.DOCUMENTS, ["file", "position"])
        there &= np.isin(document_places(inputs, documents), document_places(inputs, taken))
    return ranks(split, job.choice, job.seed), documents["url_key"], there
