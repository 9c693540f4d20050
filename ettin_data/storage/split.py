"""The marker of a finished split, `split.json`: what it was made from, how, and the hash of everything it holds.

A split is built in a private folder and renamed into place; the marker is the last file written before that. A folder
without a marker, with one that is damaged or has another fingerprint than the expected one, or with a file that was
changed after its marker was written, is not a finished split.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from ettin_data.base import draws, files, sealed_json, shapes
from ettin_data.base.errors import BuildError, ShardError
from ettin_data.base.shapes import Counter, FileDigest, Number, PlainName, Shape, Word
from ettin_data.storage.ledger import Ledger, Table, require_rows
from ettin_data.storage.mds import ShardInfo, index_text
from ettin_data.storage.phase import DOCUMENTS, INDEX, MARKER, is_split_file

VERSION = 2
_ROOT = b"ettin-split-1"
_AT_ONCE = 1 << 20  # leaves: a split of millions of samples has no room for copies of its ledger
_RENAMES = 10  # tries to put a folder in place while others do the same
NOT_FINISHED = "not a finished split: it has no marker"


@dataclass(frozen=True)
class Marker:
    """What a finished split says of itself.

    Attributes:
        name: the split's name, without the layout.
        source: key of the source.
        fingerprint: digest of everything that decides the content (`fingerprint`).
        made_from: that everything, readable: inputs, options, tokenizer, code version.
        inputs: the upstream files in the order of the ledger's `file` numbers: path, size, etag and, where the file
            is of this machine, the xxh3-64 of its bytes.
        tally: counts (`stages.batches.Tally`).
        samples, tokens: of the shards; tokens with framing.
        root: digest of the decoded samples (`samples_root`).
        outputs: file name -> {"bytes", "xxh3_64"}, every file of the folder but the marker.
        rejects: the same of the split's reject log, which lies in `rejects/`; None where nothing was rejected.
        code: `base.modules.code_digest` of what made it. It decides nothing: the versions in `made_from` do. But a
            build says that it takes splits of other code for its own, and can be told to make them again.
    """

    name: str
    source: str
    fingerprint: str
    made_from: Mapping[str, Any]
    inputs: list[dict[str, Any]]
    tally: Mapping[str, Any]
    samples: int
    tokens: int
    root: str
    code: str
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rejects: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """What `split.json` holds."""
        return {"version": VERSION, **{each.name: getattr(self, each.name) for each in fields(self)}}

    @property
    def cut_from_pool(self) -> Mapping[str, Any]:
        """What a split that was cut from one of the pool was made from; nothing for a pool's own, and its links."""
        return self.made_from if "pool" in self.made_from else {}

    @cached_property
    def digest(self) -> str:
        """The digest that `split.json` carries, which stands for every byte of the folder.

        To make it takes longer than all else that is done for a small split, so it travels with the marker.
        """
        return sealed_json.digest(sealed_json.seal(self.to_json()))


class _Input(Shape):
    path: Annotated[str, Field(max_length=4096)]
    size: Annotated[int, Field(ge=-1, le=shapes.MOST)]
    etag: Word | None
    part: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    xxh3_64: Word | None = None


class _Loss(Shape):
    lost: Number | None
    read: Number
    unread: Number | None


class _Lost(Shape):
    file: str
    reason: str
    detail: str
    seen: Number
    bytes: Annotated[int, Field(ge=-1, le=shapes.MOST)]
    loss: _Loss


class _Measured(Shape):  # as `stages.filters.measured` gives it
    threshold: float
    at_least: bool
    bins: dict[Annotated[str, Field(pattern=r"^\d+(\.\d+)?(e[+-]\d+)?$")], Number]


class _Stats(Shape):
    total: float
    n: float
    min: float
    max: float


class _Step(Shape):  # what it counted, by label
    __pydantic_extra__: dict[str, int | float | _Stats]
    measured: dict[str, _Measured] = {}
    items: dict[str, Number] = {}


class _PoolTally(Shape):
    records: Number
    documents: Number
    rejected: Counter
    filtered: Counter
    damaged: Counter
    lost: list[_Lost] = []
    noted: Counter
    tokens_in: Number
    text_tokens: Number
    skipped: Counter
    samples: Number
    tokens: Number
    checked_documents: Number
    steps: dict[str, _Step]
    backend: Word
    fallback: str | None


class _CutTally(Shape):
    documents: Number
    samples: Number


class _Marker(Shape):
    """What every marker says; more of it follows from whether it is of a pool or cut from one."""

    name: PlainName
    source: PlainName
    fingerprint: Word
    made_from: dict[str, Any]
    inputs: list[_Input]
    samples: Number
    tokens: Number
    root: Word
    code: Word
    outputs: dict[PlainName, FileDigest]
    rejects: FileDigest | None


class _OfPool(_Marker):
    tally: _PoolTally


def _as_cut(value: list[Any]) -> list[Any]:
    purpose, limit, before, number = value
    words = isinstance(purpose, list) and all(isinstance(part, int | str) for part in purpose)
    numbers = [limit, number, *(before if isinstance(before, list) else ())]
    if not words or len(numbers) != 4 or not all(type(n) is int and 0 <= n < 1 << 64 for n in numbers):
        raise ValueError("not the purpose, limit and end of a cut")
    return value


_Cut = Annotated[list[Any], AfterValidator(_as_cut)]


class _MadeFromPool(Shape):
    format: Number
    pool: Word
    pool_root: Word
    cut: _Cut | None
    also: list[_Cut] = []
    held_out: _Cut | Word | None
    left_out: dict[PlainName, Word] = {}


class _CutFromPool(_Marker):
    made_from: _MadeFromPool  # type: ignore[assignment]
    tally: _CutTally


def fingerprint(made_from: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of what decides a split's content."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()


class SamplesRoot:
    """One digest of a split's decoded samples, in order: of ids and token ids alone, not of compression or shards."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256(_ROOT)

    def add(self, leaves: NDArray[np.uint64]) -> None:
        """More leaves, shape (n, 2), uint64 (`sample_leaves`)."""
        self._digest.update(np.ascontiguousarray(leaves, "<u8"))

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def samples_root(ledger: Ledger) -> str:
    """The `SamplesRoot` of a ledger's samples."""
    root = SamplesRoot()
    for begin in range(0, len(ledger.samples["document"]), _AT_ONCE):
        root.add(sample_leaves(ledger, begin, begin + _AT_ONCE))
    return root.hexdigest()


def sample_leaves(ledger: Ledger, begin: int = 0, end: int | None = None) -> NDArray[np.uint64]:
    """The leaf of each sample, or of those in [begin, end), shape (n, 2), uint64.

    A leaf is the key of the sample's id (`document_key`) and the xxh3-64 of its token bytes.
    """
    documents = ledger.samples["document"][begin:end]
    keys = ledger.documents["key"][documents] if len(documents) else np.zeros(0, np.uint64)
    content = ledger.samples["content"][begin:end]
    return np.stack([keys.astype(np.uint64, copy=False), content.astype(np.uint64, copy=False)], axis=1)


def document_places(inputs: Sequence[Mapping[str, Any]], documents: Table) -> NDArray[np.uint64]:
    """The identity of each document of a split, shape (n,), uint64: its upstream file and its position there.

    The part of a large file that is an input of its own counts as a file, known by its first byte.

    Args:
        inputs: of the split's marker.
        documents: columns `file` and `position` of its ledger.

    Raises:
        ShardError: the ledger names files that are not among the inputs.
    """
    require_rows(Path(DOCUMENTS), documents["file"], len(inputs))
    files_of = [draws.key64("file", entry["path"], (entry.get("part") or [0])[0]) for entry in inputs]
    return draws.place_keys(np.array(files_of, np.uint64)[documents["file"]], documents["position"])


def leaves_root(leaves: NDArray[np.uint64]) -> str:
    """The `SamplesRoot` of all leaves of a split, shape (n, 2), uint64."""
    root = SamplesRoot()
    root.add(leaves)  # in place: a split of millions of samples has no room for copies
    return root.hexdigest()


def combine_roots(roots: Mapping[str, str]) -> str:
    """The digest of named digests, in the order of their names: how splits make a source, and sources a mix."""
    digest = hashlib.sha256(b"ettin-node-1")
    for name, root in sorted(roots.items()):
        digest.update(f"{name}\0{root}\n".encode())
    return digest.hexdigest()


def publish(
    temporary: Path,
    final: Path,
    marker: Marker,
    shards: list[ShardInfo],
    written: Mapping[str, Mapping[str, Any]] | None = None,
) -> Marker:
    """Write the marker of what lies in a private folder, and put it in place.

    Shards, their index and what `written` names (file -> `files.digest`) were hashed when they were written, so that
    what a disk returns is not taken for what it was given. Everything is on the disk before the rename, so that a
    machine that dies afterwards leaves a whole split.
    """
    known = {**(written or {}), INDEX: files.digest_of(index_text(shards))}
    for shard in shards:
        stored = shard.zip_data or {"basename": shard.basename, "bytes": shard.bytes, "hashes": shard.hashes}
        known[stored["basename"]] = {"bytes": stored["bytes"], "xxh3_64": stored["hashes"]["xxh3_64"]}
    outputs = {}
    for path in sorted(temporary.iterdir()):
        outputs[path.name] = known.get(path.name) or files.digest(path)
    marker = replace(marker, outputs=outputs)
    text = sealed_json.seal(marker.to_json())
    (temporary / MARKER).write_bytes(text)  # nobody sees it before the rename
    marker.__dict__["digest"] = sealed_json.digest(text)  # as `cached_property` keeps it
    files.sync_all([*(temporary / name for name in outputs), temporary / MARKER, temporary])
    put_in_place(temporary, final, marker)
    return marker


def put_in_place(temporary: Path, final: Path, marker: Marker) -> None:
    """Rename a private folder that is complete, with `marker` in it, to its final name.

    A task that was given up (a node that could not be reached for a while) may finish beside its second attempt. The
    two hold the same bytes, so that what the first has put there stays; another split, or what is left of one, is
    replaced. Where folders cannot be renamed, the files are copied, the marker last: nobody trusts a folder without it.

    Raises:
        BuildError: something that is not ours stands there.
    """
    files.open_to_others(temporary)
    old = temporary.with_name(f"{temporary.name}.old")
    for _ in range(_RENAMES):
        try:
            os.rename(temporary, final)  # fails if a folder that is not empty stands there
        except OSError as error:
            if error.errno not in (*files.NO_FOLDER_RENAME, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            refused = error.errno
        else:
            files.sync(final.parent)
            return
        if _stands(final, marker):
            files.remove_folder(temporary)
            return
        try:
            _refuse_foreign(final)
            if refused in files.NO_FOLDER_RENAME:
                files.copy_folder(temporary, final, MARKER)
                return
            os.rename(final, old)
        except FileNotFoundError:
            continue
        files.remove_folder(old)
    raise BuildError("a finished split cannot be put in place", where=final, why="something else keeps appearing there")


def _refuse_foreign(final: Path) -> None:
    if final.is_symlink():
        raise BuildError(
            "a link stands where a split is to go, and what it leads to is not that split",
            where=final,
            why=f"it leads to {os.readlink(final)}, and nothing behind a link is removed",
            remedy="remove the link",
        )
    if not (final / MARKER).is_file():
        files.require_only(final, is_split_file)


def _stands(final: Path, marker: Marker) -> bool:
    try:
        return problem(final, marker.fingerprint) is None and read_marker(final).digest == marker.digest
    except (ShardError, FileNotFoundError):  # another attempt has just moved it away
        return False


def read_marker(folder: Path) -> Marker:
    """The marker of a folder. Raises `ShardError` when it is missing, damaged, of another version or names a path."""
    path = Path(folder) / MARKER
    try:
        body = sealed_json.read(path)
        if (version := body.pop("version")) != VERSION:
            raise ShardError(f"the marker of the split has version {version!r:.80}, not {VERSION}", where=path)
        is_cut = isinstance(body["made_from"], dict) and "pool" in body["made_from"]
        shapes.require(_CutFromPool if is_cut else _OfPool, body)
        return Marker(**body)
    except (FileNotFoundError, NotADirectoryError):
        raise ShardError(NOT_FINISHED, where=folder) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{MARKER} is damaged", where=path, why=error) from error
    except OSError as error:  # of the disk, or no ordinary file
        raise ShardError(f"{MARKER} cannot be read", where=path, why=error) from error


def problem(folder: Path, expected: str) -> str | None:
    """Why a folder cannot be used as the finished split with this fingerprint, or None.

    The marker is the last file written, so a file with a later time of change was touched afterwards and is hashed
    again; others are only looked at. What leaves no trace in times (a disk that forgets) is `verify`'s to find.
    """
    folder = Path(folder)
    try:
        marker = read_marker(folder)
        finished = os.stat(folder / MARKER).st_mtime_ns
    except ShardError as error:
        return error.what
    if marker.fingerprint != expected:
        return "made from other inputs or options"
    for name, output in marker.outputs.items():
        try:
            status = os.stat(folder / name)
        except OSError:
            return f"{name} is missing"
        if status.st_size != output["bytes"]:
            return f"{name} has {status.st_size:,} bytes, not {output['bytes']:,}"
        if status.st_mtime_ns > finished and not files.is_still(folder / name, output, folder / MARKER):
            return f"{name} was changed after the split was finished"
    return None
