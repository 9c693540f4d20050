"""The digests of a finished phase: a tree from its samples up to one root, and the hashes of the files beside them.

    sample      64-bit keys of its id and of its token ids: the leaves, kept in each split's `samples.parquet`
    split       SHA-256 over its leaves in order (`storage.split.samples_root`)
    source      digest of its splits' names and roots; a further pass (`books-dup`) is a source of its own here
    train, validation    digest of their sources' names and roots
    root        digest of train, validation and the order of the batches

The tree is over decoded samples: compression, shard size, time, machine and number of workers do not enter it, so two
laboratories compare one line, and a difference is walked down to the sample. Leaves are fast hashes: the root proves
that nothing went wrong, not that nobody forged it.

`digests.json` also names every marked split with the digest of its marker, and through the marker every byte in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ettin_data.base import files as disk
from ettin_data.base import sealed_json, shapes
from ettin_data.base.errors import ShardError
from ettin_data.base.shapes import FileDigest, Number, PlainName, Shape, Word
from ettin_data.storage.mds import check_inside
from ettin_data.storage.phase import INDEX, ORDER, ORDER_FILE, PARTS, POOLS, TRAIN, VALIDATION, Phase, parse_copy
from ettin_data.storage.split import Marker, combine_roots

VERSION = 1
FILES = (f"{TRAIN}/{INDEX}", f"{VALIDATION}/{INDEX}", f"{ORDER}/{ORDER_FILE}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A split as the tree knows it.

    Attributes:
        root: of its samples.
        marker: digest of its marker.
        samples, tokens: how many.
    """

    root: str
    marker: str
    samples: int
    tokens: int


class _Entry(Shape):
    root: Word
    marker: Word
    samples: Number
    tokens: Number


_Parts = dict[PlainName, dict[PlainName, _Entry]]


class _Body(Shape):
    phase: Word
    root: Word
    roots: dict[str, Word]
    files: dict[str, FileDigest]
    parts: dict[str, _Parts]


Splits = Mapping[str, Mapping[str, Entry]]
"""Source, or copy of one (`books-dup`) -> folder of the split -> entry."""


@dataclass(frozen=True)
class Digests:
    """What a finished phase consists of.

    Attributes:
        phase: its name.
        order: digest of the positions of the order index.
        parts: "pools", "train", "validation" -> splits.
        files: path -> {"bytes", "xxh3_64"}, of the files beside the splits: `FILES`, and each source's frozen listing.
    """

    phase: str
    order: str
    parts: Mapping[str, Splits]
    files: Mapping[str, Mapping[str, Any]]

    def copies(self, part: str) -> dict[str, list[str]]:
        """Source -> its folders in a part: the first pass over it, and further ones, in their order."""
        found: dict[str, list[str]] = {}
        for folder in self.parts[part]:
            found.setdefault(parse_copy(folder)[0], []).append(folder)
        return found

    def source_roots(self, part: str) -> dict[str, str]:
        """The digest of each source (or copy) of a part."""
        return {
            source: combine_roots({folder: entry.root for folder, entry in splits.items()})
            for source, splits in self.parts[part].items()
        }

    def roots(self) -> dict[str, str]:
        """The three digests that the root is made of."""
        return {
            TRAIN: combine_roots(self.source_roots(TRAIN)),
            VALIDATION: combine_roots(self.source_roots(VALIDATION)),
            "order": self.order,
        }

    @property
    def root(self) -> str:
        """The one line that two laboratories compare."""
        return combine_roots(self.roots())

    def entries(self) -> dict[str, Entry]:
        """`<part>/<source>/<folder>` -> entry, sorted by part and name."""
        return {
            f"{part}/{source}/{folder}": entry
            for part in PARTS
            for source, splits in self.parts[part].items()
            for folder, entry in splits.items()
        }

    def to_json(self) -> dict[str, Any]:
        parts = {
            part: {
                source: {folder: asdict(entry) for folder, entry in splits.items()}
                for source, splits in sources.items()
            }
            for part, sources in self.parts.items()
        }
        return {
            "version": VERSION,
            "phase": self.phase,
            "root": self.root,
            "roots": self.roots(),
            "files": {name: dict(digest) for name, digest in self.files.items()},
            "parts": parts,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any], where: object) -> Digests:
        """Raises `ShardError` when it is nothing of the kind, or its root is not the one of its tree."""
        try:
            if body["version"] != VERSION:
                raise ShardError(f"digests of version {body['version']!r:.40} is not {VERSION}", where=where)
            shapes.require(_Body, body)
            parts = {
                part: {
                    source: {folder: Entry(**entry) for folder, entry in splits.items()}
                    for source, splits in body["parts"][part].items()
                }
                for part in PARTS
            }
            digests = cls(body["phase"], body["roots"]["order"], parts, body["files"])
            claimed, roots = body["root"], body["roots"]
            for name in (*digests.files, *digests.entries()):
                check_inside(name, where)
        except (KeyError, TypeError, ValueError) as error:
            raise ShardError("not the digests of a phase", where=where, why=repr(error)) from error
        if digests.root != claimed or digests.roots() != roots:
            raise ShardError("the root is not that of the tree below it", where=where, why=f"{digests.root} is")
        return digests


def describe(
    phase: Phase, parts: Mapping[str, Mapping[str, Marker]], order: str, attributes: Sequence[str] = ()
) -> Digests:
    """The digests of a phase whose files are all in place.

    Args:
        parts: "pools", "train", "validation" -> `<source>/<folder>` -> marker.
        order: digest of the positions of the order index.
        attributes: their files, relative to the phase.
    """
    sources = sorted({name.partition("/")[0] for name in parts[POOLS]})
    listings = [phase.listing(source).relative_to(phase.folder).as_posix() for source in sources]
    names = (*FILES, *listings, *attributes)
    disk.sync_all([phase.folder / name for name in names])
    files = {name: disk.digest(phase.folder / name) for name in names}
    return grow(phase.name, parts, order, files)


def grow(
    phase: str,
    parts: Mapping[str, Mapping[str, Marker]],
    order: str,
    files: Mapping[str, Mapping[str, Any]],
) -> Digests:
    """The tree over markers; arguments as of `describe`."""
    tree: dict[str, dict[str, dict[str, Entry]]] = {part: {} for part in PARTS}
    for part in PARTS:
        for name, marker in sorted(parts[part].items()):
            source, _, split = name.partition("/")
            entry = Entry(marker.root, marker.digest, marker.samples, marker.tokens)
            tree[part].setdefault(source, {})[split] = entry
    return Digests(phase, order, tree, files)


def write_digests(phase: Phase, digests: Digests) -> str:
    """Write `digests.json`; returns the digest that it carries."""
    return sealed_json.write(phase.digests_json, digests.to_json())


def read_digests(path: Path) -> Digests:
    """Read a `digests.json`. Raises `OSError` when it cannot be read, or `ShardError` when it is damaged."""
    return Digests.from_json(sealed_json.read(path), path)
