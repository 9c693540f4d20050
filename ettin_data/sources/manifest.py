"""The manifest: a source's listing, frozen beside a run, so that a build reads what was planned or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import Field

from ettin_data.base import bounded_json, shapes
from ettin_data.base import files as disk
from ettin_data.base.errors import SourceError
from ettin_data.base.redact import redact
from ettin_data.base.shapes import Shape, Word
from ettin_data.sources.base import Source, SourceFile

VERSION = 1
SHOWN = 12


@dataclass(frozen=True)
class Manifest:
    """A frozen listing: which source, where, under which globs, and its files sorted by path.

    Of a large file there are the parts (`sources.parts`), as they came of a `part_bytes` (None: every file is whole).
    """

    key: str
    root: str
    globs: tuple[str, ...]
    files: tuple[SourceFile, ...]
    part_bytes: int | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.bytes for file in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 of what the listing says: of one line of path, size and ETag, and ends of a part, for each file."""
        lines = ("\t".join(map(str, _row(file))) + "\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


_Size = Annotated[int, Field(ge=-1, le=shapes.MOST)]


class _Body(Shape):
    version: int
    source: Word
    root: str
    globs: list[str]
    digest: Word
    part_bytes: shapes.Number | None = None
    files: list[list[str | _Size]]


@dataclass(frozen=True)
class ManifestDiff:
    """How a listing differs from a manifest: paths that came and went, and (path, what changed) pairs."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def lines(self) -> list[str]:
        """The difference as `+ path`, `- path`, `~ path: what`, sorted by path."""
        rows = [(path, f"+ {path}") for path in self.added] + [(path, f"- {path}") for path in self.removed]
        rows += [(path, f"~ {path}: {what}") for path, what in self.changed]
        return [line for _, line in sorted(rows)]


def _row(file: SourceFile) -> list[str | int]:
    return [file.path, file.size, file.etag or "", *(file.part or ())]


def freeze(source: Source, files: Sequence[SourceFile], part_bytes: int | None = None) -> Manifest:
    """The manifest of a listing. Secrets in the root (credentials, signatures) are left out."""
    ordered = tuple(sorted(files, key=lambda file: (file.path, file.part or ())))
    return Manifest(source.key, redact(source.root), source.globs, ordered, part_bytes)


def text(manifest: Manifest) -> bytes:
    """A manifest as JSON: the same bytes for the same listing."""
    body = {
        "version": VERSION,
        "source": manifest.key,
        "root": manifest.root,
        "globs": list(manifest.globs),
        "digest": manifest.digest,
        "bytes": manifest.bytes,
        "part_bytes": manifest.part_bytes,
        "files": [_row(file) for file in manifest.files],
    }
    return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def load_manifest(path: Path | str) -> Manifest:
    """Read a manifest. Raises `SourceError` for one that is damaged, edited or of another version."""
    try:
        body = bounded_json.parse(disk.read(path))
        shapes.require(_Body, body)
        if body["version"] != VERSION:
            raise ValueError(f"version {body['version']!r}; this program writes {VERSION}")
        files = tuple(
            SourceFile(str(name), int(size), str(etag) or None, (int(part[0]), int(part[1])) if part else None)
            for name, size, etag, *part in body["files"]
        )
        manifest = Manifest(body["source"], body["root"], tuple(body["globs"]), files, body.get("part_bytes"))
        if manifest.digest != body["digest"]:
            raise ValueError("its files do not fit its digest")
        return manifest
    except (OSError, ValueError, IndexError) as error:
        raise SourceError("a manifest cannot be read", where=path, why=error, remedy="plan again") from None


def compare_listings(manifest: Manifest, files: Sequence[SourceFile]) -> ManifestDiff:
    """How a new listing differs; a size or an ETag that one of them does not know is not a difference."""
    old = {file.path: file for file in manifest.files}
    new = {file.path: file for file in files}
    changed = []
    for path in sorted(old.keys() & new.keys()):
        before, now = old[path], new[path]
        if before.size != now.size and min(before.size, now.size) >= 0:
            changed.append((path, f"{before.size:,} bytes then, {now.size:,} now"))
        elif before.etag and now.etag and before.etag != now.etag:
            changed.append((path, f"ETag {before.etag} then, {now.etag} now"))
    return ManifestDiff(tuple(sorted(new.keys() - old.keys())), tuple(sorted(old.keys() - new.keys())), tuple(changed))


def require_same(manifest: Manifest, source: Source, files: Sequence[SourceFile]) -> None:
    """Refuse a source that is not what the manifest froze: `SourceError` with the difference."""
    if redact(source.root) != manifest.root or source.globs != manifest.globs:
        raise SourceError(
            f"source {source.key!r} points elsewhere than when this run was planned",
            where=redact(source.root),
            why=f"planned with {manifest.root} {' '.join(manifest.globs)}",
            remedy="build with the root that it was planned with, or plan a new run",
        )
    if difference := compare_listings(manifest, files):
        raise changed_since(source, difference)


def changed_since(source: Source, difference: ManifestDiff) -> SourceError:
    """The refusal of a source that is not what it was when a run was planned."""
    lines = difference.lines()
    more = [f"… and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return SourceError(
        f"source {source.key!r} changed since this run was planned: {len(difference.added):,} files came, "
        f"{len(difference.removed):,} went, {len(difference.changed):,} changed",
        where=redact(source.root),
        why="\n       ".join(lines[:SHOWN] + more),
        remedy="bring the old state back (a pinned revision, a mirror), accept the new one with --relist, "
        "or plan a new run",
    )
