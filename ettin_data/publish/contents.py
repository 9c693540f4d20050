"""What of a run is published: the files that its digests name, and nothing that happens to lie beside them."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ettin_data.base import files
from ettin_data.base.errors import BuildError, ExitStatus, ShardError
from ettin_data.storage.digests import read_digests
from ettin_data.storage.phase import MARKER, POOLS, Phase, reject_log
from ettin_data.storage.records import read_run
from ettin_data.storage.split import read_marker

CHUNK = 64 << 20
"""Bytes of a part of a large object in a bucket, which its ETag depends on."""

_READ = 1 << 20


@dataclass(frozen=True)
class Content:
    """A file to be published.

    Attributes:
        path: there, parts with `/` between them.
        source: where it lies, or its bytes.
        size: in bytes.
        stated: its xxh3-64 as the digests of the run have it; None where they do not say it.
    """

    path: str
    source: Path | bytes
    size: int
    stated: str | None = None

    def hashes(self) -> Hashes:
        """Read it once. Raises `ShardError` if it is not what the digests of the run say."""
        found = Hashes.of(self.source)
        if self.stated is not None and found.xxh3_64 != self.stated:
            raise ShardError(
                "a file is damaged",
                where=self.source if isinstance(self.source, Path) else self.path,
                why=f"its xxh3-64 is {found.xxh3_64}, the run's digests say {self.stated}",
                remedy="`ettin-data verify` shows what else is, `ettin-data repair` makes it again",
            )
        return found


@dataclass(frozen=True)
class Hashes:
    """The digests by which the places where files are published know them, as hex but for `md5_base64`.

    Attributes:
        git: of the file as a blob of git.
        etags: what S3 may call it: MD5, or MD5 of the MD5s of parts of `CHUNK` bytes.
    """

    size: int
    sha256: str
    git: str
    md5_base64: str
    etags: tuple[str, str]
    xxh3_64: str

    @classmethod
    def of(cls, source: Path | bytes) -> Hashes:
        """Of a file or of bytes, in one pass."""
        size = len(source) if isinstance(source, bytes) else files.require_ordinary(source)
        whole = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size), hashlib.md5(), xxhash.xxh3_64()
        part, parts, read = hashlib.md5(), [], 0
        for piece in _pieces(source):
            for each in whole:
                each.update(piece)
            part.update(piece)
            read += len(piece)
            if read % CHUNK == 0:
                parts.append(part.digest())
                part = hashlib.md5()
        if read % CHUNK or not parts:
            parts.append(part.digest())
        sha256, git, md5, xxh3 = whole
        in_parts = f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"
        encoded = base64.b64encode(md5.digest()).decode()
        return cls(read, sha256.hexdigest(), git.hexdigest(), encoded, (md5.hexdigest(), in_parts), xxh3.hexdigest())


def _pieces(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        for begin in range(0, len(source), _READ):
            yield source[begin : begin + _READ]
        return
    with files.open_ordinary(source) as file:
        while piece := file.read(_READ):
            yield piece


def of_bytes(path: str, data: bytes) -> Content:
    return Content(path, data, len(data))


def contents_of(phase: Phase, whole: bool) -> Iterator[Content]:
    """The files of a finished phase below its name, in the order of their paths.

    Args:
        whole: with pools, rejects and what steps over whole sources say, so that a copy of it passes `verify`; without,
            what a trainer needs: train, validation, order and records.

    Raises:
        BuildError: its build has not ended. ShardError, OSError: its digests or a marker cannot be read.
    """
    read_run(phase)
    digests = read_digests(phase.digests_json)
    found: dict[str, tuple[Path, str | None]] = {}
    for path in (
        phase.run_json,
        phase.plan_json,
        phase.digests_json,
        phase.card,
        phase.copies_json,
        phase.decontamination_json,
    ):
        if path.exists():
            found[path.relative_to(phase.folder).as_posix()] = path, None
    attributes = phase.attribute("").relative_to(phase.folder).as_posix()
    for name, stated in digests.files.items():
        if whole or not name.startswith(f"{attributes}/"):
            found[name] = phase.folder / name, stated["xxh3_64"]
    for path in sorted(phase.order.iterdir()):
        if path.is_file() and path.suffix == ".parquet":
            found.setdefault(path.relative_to(phase.folder).as_posix(), (path, None))
    for name in digests.entries():
        if whole or not name.startswith(f"{POOLS}/"):
            found |= _split(phase, name)
    for name, (path, xxh3) in sorted(found.items()):
        yield Content(f"{phase.name}/{name}", path, files.require_ordinary(path), xxh3)


def _split(phase: Phase, name: str) -> dict[str, tuple[Path, str | None]]:
    folder = phase.folder / name
    marker = read_marker(folder)
    found: dict[str, tuple[Path, str | None]] = {f"{name}/{MARKER}": (folder / MARKER, None)}
    for output, stated in marker.outputs.items():
        found[f"{name}/{output}"] = folder / output, str(stated["xxh3_64"])
    if name.startswith(f"{POOLS}/") and marker.rejects is not None:
        log = reject_log(marker.source, marker.name)
        found[log] = phase.folder / log, str(marker.rejects["xxh3_64"])
    return found


def refuse_full_folders(contents: Sequence[Content], most: int) -> None:
    """Raise `BuildError` if a folder would hold more than `most` files and folders."""
    entries = {
        "/".join(parts[: n + 1])
        for content in contents
        for parts in [content.path.split("/")]
        for n in range(len(parts))
    }
    held = Counter(path.rpartition("/")[0] for path in entries)
    folder, number = max(held.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    if number > most:
        raise BuildError(
            f"the folder {folder} would hold {number:,} entries",
            why=f"the hub takes {most:,} in a folder",
            remedy="build with larger splits (--set split_bytes=...) or shards (--set shards.size_limit=...), "
            "or publish to a bucket",
            status=ExitStatus.USAGE,
        )
