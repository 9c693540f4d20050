"""What a source holds: its files, listed from the upstream or a mirror, sorted by path."""

from __future__ import annotations

import bisect
import itertools
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ettin_data.base.errors import ExitStatus, SourceError
from ettin_data.base.redact import redact
from ettin_data.base.units import size
from ettin_data.sources import formats, globs
from ettin_data.sources.access.transport import ask, filesystem, is_http, tag_of
from ettin_data.sources.base import Damaged, Source, SourceFile, TransportOptions, is_local, local_path, shown
from ettin_data.storage.phase import is_split_file


@dataclass(frozen=True)
class Survey:
    """A listing and what is wrong with it.

    Attributes:
        files: what there is to read, sorted by path; for MDS the shards that the indexes name, missing ones included
            (reading such a one gives a reject that says so).
        missing: names that must be there and are not: those that a glob spells out, shards that an index names.
        unmatched: globs, or single choices of their ranges, that match nothing.
        unlisted: MDS shards that no index names.
        holes: of a source that has to be complete, what ranges spell out and nothing matches.
        left_out: (why, file) of what lies there and is not read: hidden or unfinished, or not picked.
    """

    files: tuple[SourceFile, ...]
    missing: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    holes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, SourceFile], ...] = ()

    def said(self) -> str | None:
        """A sentence about what is left out, or None: how much of it for each reason, and the first names."""
        if not self.left_out:
            return None
        reasons: dict[str, list[SourceFile]] = {}
        for why, file in self.left_out:
            reasons.setdefault(why, []).append(file)
        words = [
            f"{len(files):,} {why} ({', '.join(shown(each.path) for each in files[:3])}{', …' if files[3:] else ''})"
            for why, files in reasons.items()
        ]
        total = sum(file.bytes for _, file in self.left_out)
        return f"{len(self.left_out):,} files, {size(total)}, are left out: {'; '.join(words)}"


def list_files(source: Source, *, transport: TransportOptions | None = None) -> list[SourceFile]:
    """The files of a source that are there, sorted by path; for MDS the shards that the indexes name.

    A single file that should be there and is not is the business of `check_source`. Raises `SourceError` for a glob
    that matches nothing, for a root that may not be read, and when the network stays down.
    """
    return list(listed(source, transport=transport).files)


def listed(source: Source, *, transport: TransportOptions | None = None) -> Survey:
    """The survey of a source that can be read; `list_files` says when it raises."""
    found = survey(source, transport=transport)
    for pattern in source.globs:
        if pattern in found.unmatched or not found.files:
            nothing = found.said() or "nothing is there"
            raise SourceError(
                f"source {source.key!r}: no file matches {pattern!r}"
                + (f" and is of a format that is read ({', '.join(source.pick)})" if source.pick else ""),
                where=redact(source.root),
                why=f"{len(found.files):,} files match its other globs" if found.files else nothing,
                remedy=_remedy(source, found.unlisted),
                status=ExitStatus.NOT_FOUND,
            )
    if found.holes:
        raise SourceError(
            f"source {source.key!r}: {len(found.holes):,} files of a range are missing: {', '.join(found.holes[:12])}",
            where=redact(source.root),
            remedy="bring them, or write the ranges so that they leave them out: {0..2,4}",
            status=ExitStatus.NOT_FOUND,
        )
    return found


def _remedy(source: Source, unlisted: tuple[str, ...]) -> str:
    if not any(sign in pattern for pattern in source.globs for sign in "*?[{"):
        return f"correct the path, or bring the file: {redact(source.root)}{source.globs[0]}"
    if not unlisted:
        return "check the root or the mirror (--sources-root), or drop the source"
    suffixes = [each for each in PurePosixPath(unlisted[0]).suffixes if not each[1:].isdigit()]
    return f"read the shards without an index: {redact(source.root)}**/*{''.join(suffixes)}"


def survey(source: Source, *, transport: TransportOptions | None = None) -> Survey:
    """List a source, and say what should be there and is not. Raises `SourceError` as `list_files` does."""
    options = transport or TransportOptions()
    try:
        if (format := formats.of_root(source.root)) and format.list_files:
            return Survey(tuple(format.list_files(source, options)))
        found = {file.path: file for file in _candidates(source, options)}
        matched: dict[str, SourceFile] = {}
        missing: list[str] = []
        unmatched: list[str] = []
        holes: list[str] = []
        left: dict[str, str] = {}
        for pattern in source.globs:
            regex = globs.to_regex(pattern)
            hits = {path: file for path, file in found.items() if regex.fullmatch(path)}
            left |= {path: why for path in hits if (why := _left_out(source, pattern, path))}
            hits = {path: file for path, file in hits.items() if path not in left}
            matched |= hits
            if source.complete:
                holes += _holes(pattern, hits)
            if not hits:
                unmatched.append(pattern)
            elif globs.has_wildcard(pattern):
                unmatched += _empty_choices(pattern, list(hits))
            else:
                missing += [path for path in globs.expand(pattern) if path not in found]
        if source.pick:
            data = formats.most_certain(matched)
            left |= {path: "beside files of another format" for path in matched if path not in data}
            matched = {path: file for path, file in matched.items() if path in data}
        files, lost, others, beside = _without_indexes(source, matched, found, options)
    except Damaged as damage:
        raise SourceError(
            f"source {source.key!r} cannot be listed",
            where=redact(source.root),
            why=f"{damage.reason}: {damage.detail}",
            remedy=_access_hint(source),
        ) from None
    read = {file.path for file in files}
    if unnamed := sorted(shown(path) for path in read if shown(path) != path):
        raise SourceError(
            f"source {source.key!r}: {len(unnamed):,} file names are not UTF-8: {', '.join(unnamed[:12])}",
            where=redact(source.root),
            why="plans, ledgers and ids name files, and are UTF-8",
            remedy=f"rename them, if they are latin-1: convmv -r --notest -f latin1 -t utf8 {local_path(source.root)}",
        )
    unlisted = {path for path in found.keys() - read - matched.keys() if formats.is_indexed(path)}
    left |= dict.fromkeys(others, "an index of something else")
    left |= dict.fromkeys(beside, "the ledgers of a pool")
    left |= dict.fromkeys(unlisted & left.keys(), "in no index")
    return Survey(
        tuple(sorted(files, key=lambda file: file.path)),
        tuple(sorted({*missing, *lost})),
        tuple(unmatched),
        tuple(sorted(unlisted)),
        tuple(holes),
        tuple((why, found[path]) for path, why in sorted(left.items()) if path not in read),
    )


def _left_out(source: Source, pattern: str, path: str) -> str | None:
    """Why a file that a pattern matches is not read, or None."""
    parts, own = path.split("/"), pattern.split("/")
    for mark in "._":  # as shells, Spark, pyarrow and `datasets` have it: `._a.jsonl`, `_temporary/`, `.Trash-1000/`
        if any(part.startswith(mark) for part in parts) and not any(part.startswith(mark) for part in own):
            return "hidden or unfinished"
    if source.pick and not any(formats.FORMATS[name].in_folder(path) for name in source.pick):
        return "with a name of no format that is read"
    return None


def _holes(pattern: str, hits: Mapping[str, SourceFile]) -> list[str]:
    """What the ranges of a pattern spell out and no file matches."""
    spelled = globs.expand(pattern, ranges_only=True)
    if len(spelled) == 1:
        return []
    return [each for each in spelled if each not in hits and not any(map(globs.to_regex(each).fullmatch, hits))]


def _access_hint(source: Source) -> str:
    if source.root.startswith("hf://"):
        return "accept the terms of the data set on the hub, and set HF_TOKEN"
    if source.root.startswith("s3://"):
        return "set AWS credentials (the requester pays for this bucket)" if source.gated else "set AWS credentials"
    return "check the root or the mirror (--sources-root)"


def _empty_choices(pattern: str, hits: list[str]) -> list[str]:
    """The choices of a pattern with both ranges and wildcards that match nothing: a folder that is missing whole."""
    choices = globs.expand(pattern)
    if len(choices) == 1 or any("/" not in choice or "**" in choice for choice in choices):
        return []  # choices of a suffix, or below any folder: one of them may well be empty
    folders = {posixpath.dirname(path) for path in hits}
    return [choice for choice in choices if not any(map(globs.to_regex(posixpath.dirname(choice)).fullmatch, folders))]


def _candidates(source: Source, options: TransportOptions) -> Iterator[SourceFile]:
    """Every file below the folder that the globs share (for a web server: every name that they spell out)."""
    prefix = globs.fixed_prefix(source.globs)
    if is_local(source.root):
        yield from _walk(local_path(source.root), prefix)
        return
    if is_http(source.root):
        yield from _probe(source, options)
        return
    if source.shared is None:
        yield from _found(source, prefix, options)
        return
    key = (source.root, source.shared)
    if key not in _shared:
        while len(_shared) >= _MOST_SHARED:
            del _shared[next(iter(_shared))]
        _shared[key] = sorted(_found(source, source.shared, options), key=lambda file: file.path)
    files = _shared[key]
    first = bisect.bisect_left(files, prefix, key=lambda file: file.path)
    yield from itertools.takewhile(lambda file: file.path.startswith(prefix), itertools.islice(files, first, None))


_MOST_SHARED = 4
_shared: dict[tuple[str, str], list[SourceFile]] = {}
"""Listings of whole families of sources, of this process: some thousand languages cost one, and not one each."""


def _found(source: Source, prefix: str, options: TransportOptions) -> Iterator[SourceFile]:
    """Every file below a folder of a remote root."""
    fs, root = filesystem(source, options)
    try:
        entries = ask(source, options, lambda: fs.find(root + prefix, detail=True, refresh=True))
    except Damaged as damage:
        if damage.reason == "file_missing":
            return
        raise
    for name, info in entries.items():
        if name.startswith(root):
            size = info.get("size")
            yield SourceFile(name[len(root) :], -1 if size is None else int(size), tag_of(info))


def _walk(root: str, prefix: str) -> Iterator[SourceFile]:
    """The files under a folder; links are followed, but a folder is never entered again below itself (a loop)."""
    todo = [(os.path.join(root, prefix), frozenset[str]())]
    while todo:
        folder, above = todo.pop()
        real = os.path.realpath(folder)
        if real in above:
            continue
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            raise Damaged("permission_denied", os.path.relpath(folder, root)) from None
        for entry in entries:
            path = os.path.relpath(entry.path, root).replace(os.sep, "/")
            try:
                found = entry.stat()
            except OSError:  # a link that leads nowhere or to itself: reading it will say so
                yield SourceFile(path, -1)
                continue
            if stat.S_ISDIR(found.st_mode):
                todo.append((entry.path, above | {real}))
            else:
                yield SourceFile(path, found.st_size if stat.S_ISREG(found.st_mode) else -1)


def _probe(source: Source, options: TransportOptions) -> Iterator[SourceFile]:
    """The files of a plain web server, which cannot be listed: each name is asked for."""
    for pattern in source.globs:
        if globs.has_wildcard(pattern):
            raise SourceError(
                f"source {source.key!r}: {pattern!r} cannot be listed over HTTP",
                where=redact(source.root),
                remedy="write the names as ranges, such as {0000..0099}",
            )
    fs, root = filesystem(source, options)

    def asked(name: str) -> dict[str, Any]:
        info: dict[str, Any] = fs.info(root + name)
        if info.get("mimetype") == "text/html" and not name.endswith((".html", ".htm")):
            # of a network that wants a log-in, or a server in maintenance: its size would be frozen as the file's
            raise PermissionError(f"a web page comes for {name}")
        return info

    def one(name: str) -> SourceFile | None:
        try:
            info = ask(source, options, lambda: asked(name))
        except Damaged as damage:
            if damage.reason == "file_missing":
                return None
            raise
        size = info.get("size")
        return SourceFile(name, -1 if size is None else int(size), tag_of(info))

    names = [name for pattern in source.globs for name in globs.expand(pattern)]
    with ThreadPoolExecutor(min(options.per_host, 16)) as pool:
        yield from (file for file in pool.map(one, names) if file is not None)


def _without_indexes(
    source: Source, matched: Mapping[str, SourceFile], found: Mapping[str, SourceFile], options: TransportOptions
) -> tuple[list[SourceFile], list[str], list[str], list[str]]:
    """The matched files, every index replaced by what it names; the names that are missing; indexes of something else.

    A file that several indexes name (merged indexes) comes once. Of a user's folder the ledgers of a pool, which
    lie beside its indexes, are left out, and come last.
    """
    files: dict[str, SourceFile] = {}
    missing: list[str] = []
    others: list[str] = []
    plain: list[SourceFile] = []
    folders: set[str] = set()
    for path, file in matched.items():
        index = formats.index_of(path)
        if index is None:
            plain.append(file)
            continue
        read = index.files(source, file, found, options)
        if read is None:
            others.append(path)
            continue
        folders.add(posixpath.dirname(path))
        files |= {each.path: each for each in read[0]}
        missing += read[1]
    beside = {
        file.path
        for file in plain
        if source.pick and posixpath.dirname(file.path) in folders and is_split_file(posixpath.basename(file.path))
    }
    files |= {file.path: file for file in plain if file.path not in beside}
    return list(files.values()), missing, others, sorted(beside - files.keys())
