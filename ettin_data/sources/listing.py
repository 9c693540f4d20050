"""What a source holds: its files, listed from the upstream or a mirror, sorted by path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import orjson

from ettin_data.errors import SourceError
from ettin_data.sources import globs
from ettin_data.sources.base import Source, SourceFile, is_local, local_path
from ettin_data.sources.redact import redact
from ettin_data.sources.transport import filesystem

MAX_REQUESTS = 8


def list_files(source: Source) -> list[SourceFile]:
    """The files of a source that are there, sorted by path; for MDS the shards that the indexes name.

    A file that an upstream should have and has not is the business of `check`; a glob that matches nothing is a
    `SourceError`.
    """
    patterns = [globs.to_regex(pattern) for pattern in source.globs]
    found = {file.path: file for file in _candidates(source)}
    for pattern, regex in zip(source.globs, patterns, strict=True):
        if not any(regex.fullmatch(path) for path in found):
            raise SourceError(
                f"source {source.key!r}: no file matches {pattern!r}",
                where=redact(source.root),
                why=f"{len(found):,} files are there" if found else "nothing is there",
                remedy="check the root or the mirror (--sources-root), or drop the source",
            )
    files = [file for path, file in found.items() if any(regex.fullmatch(path) for regex in patterns)]
    return sorted(_shards(source, files, found), key=lambda file: file.path)


def _candidates(source: Source) -> Iterator[SourceFile]:
    prefix = globs.fixed_prefix(source.globs)
    if is_local(source.root):
        yield from _walk(local_path(source.root), prefix)
    elif source.root.startswith(("http://", "https://")):
        yield from _probe(source)
    else:
        fs, root = filesystem(source)
        try:
            entries = fs.find(root + prefix, detail=True)
        except FileNotFoundError:
            return
        for name, info in entries.items():
            if name.startswith(root):
                etag = info.get("ETag") or info.get("etag") or info.get("blob_id")
                size = info.get("size")
                yield SourceFile(name[len(root) :], -1 if size is None else int(size), etag and str(etag).strip('"'))


def _walk(root: str, prefix: str) -> Iterator[SourceFile]:
    """The files under a folder; links are followed, a folder that was already entered is not entered again."""
    entered: set[str] = set()
    todo = [os.path.join(root, prefix)]
    while todo:
        folder = todo.pop()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            path = os.path.relpath(entry.path, root).replace(os.sep, "/")
            try:
                if entry.is_dir():
                    todo.append(entry.path)
                else:
                    yield SourceFile(path, entry.stat().st_size)
            except OSError:  # a link that leads nowhere or to itself: reading it will say so
                yield SourceFile(path, -1)


def _probe(source: Source) -> Iterator[SourceFile]:
    """The files of a plain web server, which cannot be listed: each name is asked for."""
    names = []
    for pattern in source.globs:
        if globs.has_wildcard(pattern):
            raise SourceError(
                f"source {source.key!r}: {pattern!r} cannot be listed over HTTP",
                where=redact(source.root),
                remedy="write the names as ranges, such as {0000..0099}",
            )
        names += globs.expand(pattern)
    fs, root = filesystem(source)

    def ask(name: str) -> SourceFile | None:
        try:
            info = fs.info(root + name)
        except FileNotFoundError:
            return None
        size = info.get("size")
        etag = info.get("ETag")
        return SourceFile(name, -1 if size is None else int(size), etag and etag.strip('"'))

    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        yield from (file for file in pool.map(ask, names) if file is not None)


def _shards(source: Source, files: list[SourceFile], found: dict[str, SourceFile]) -> Iterator[SourceFile]:
    """Every `index.json` replaced by the shards that it names; a shard named twice (merged indexes) comes once."""
    seen: set[str] = set()
    for file in files:
        if file.path.rpartition("/")[2] != "index.json":
            if file.path not in seen:
                seen.add(file.path)
                yield file
            continue
        folder = file.path[: -len("index.json")]
        for shard in _index(source, file):
            raw, packed = shard.get("raw_data") or {}, shard.get("zip_data") or {}
            names = [(folder + str(part["basename"]), part.get("bytes", -1)) for part in (raw, packed) if part]
            # The raw file wins: published indexes claim compressed files that were unpacked and removed.
            there = next((found[name] for name, _ in names if name in found), None)
            if there is None and names:
                there = SourceFile(*names[-1])
            if there is not None and there.path not in seen:
                seen.add(there.path)
                yield there


def _index(source: Source, file: SourceFile) -> list[dict]:
    try:
        if is_local(source.root):
            with open(local_path(source.root) + file.path, "rb") as handle:
                raw = handle.read()
        else:
            fs, root = filesystem(source)
            raw = fs.cat_file(root + file.path)
        shards = orjson.loads(raw)["shards"]
        return [shard for shard in shards if (shard.get("raw_data") or {}).get("basename")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"source {source.key!r}: an MDS index cannot be read", where=redact(source.root) + file.path, why=error
        ) from None
