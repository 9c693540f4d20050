"""From a source's file to its bytes: local folders, HTTPS, the hub, S3 and GCS, all through fsspec.

A remote file comes in requests of `block_bytes`, each from where the last one ended, so that a broken transfer goes on
where it broke. A server that does not know Range is read in one request and, after a break, from the start again with
the known bytes passed over. What arrived is measured against the listing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any
from urllib.parse import urlsplit

from ettin_data.base import files
from ettin_data.base.errors import SourceError
from ettin_data.base.extras import need_for_url
from ettin_data.base.redact import redact
from ettin_data.sources.access.cache import cached
from ettin_data.sources.access.host_limit import slot
from ettin_data.sources.access.proxies import of_protocol
from ettin_data.sources.access.retry import Patience, refused
from ettin_data.sources.base import Damaged, Source, SourceFile, TransportOptions, is_local, local_path

CHUNK = 1 << 18
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def is_http(root: str) -> bool:
    """Whether a root is on a plain web server, which cannot be listed."""
    return root.startswith(("http://", "https://"))


def host_of(root: str) -> str:
    """What the limit on concurrent requests counts by: the host, or the service of an object store."""
    parts = urlsplit(root)
    return parts.netloc.rpartition("@")[2] if is_http(root) else parts.scheme


def filesystem(source: Source, options: TransportOptions, *, fresh: bool = False) -> tuple[Any, str]:
    """The fsspec file system of a source and its root in that file system's own form (ends in "/").

    `fresh` takes none that was made before, with its connections and credentials.

    Raises `SourceError` for a protocol that fsspec does not know, `MissingPackage` for one whose client is
    not installed.
    """
    import fsspec

    need_for_url(source.root)
    settings = dict(source.storage) | ({"skip_instance_cache": True} if fresh else {})
    if is_http(source.root):
        import aiohttp

        # aiohttp ends any transfer after 5 minutes by default, and would inflate a .gz that is served as an encoding.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=options.timeout_s, sock_read=options.timeout_s)
        settings.setdefault("client_kwargs", {"timeout": timeout, "auto_decompress": False})
    elif source.root.startswith(("s3://", "s3a://")):
        timeouts = {"read_timeout": options.timeout_s, "connect_timeout": options.timeout_s}
        settings["config_kwargs"] = timeouts | settings.get("config_kwargs", {})
    settings = of_protocol(source.root.partition("://")[0], settings)
    try:
        fs, root = fsspec.core.url_to_fs(source.root, **settings)
        if source.root.startswith("hf://"):
            root = _patiently(options, source.root, lambda: fs.resolve_path(root).unresolve())
    except (ImportError, ValueError) as error:
        raise SourceError(
            f"source {source.key!r} cannot be opened", where=redact(source.root), why=redact(error)
        ) from None
    return fs, root.rstrip("/") + "/"


def tag_of(info: dict[str, Any]) -> str | None:
    """What tells a file's content in the answer of a file system: an ETag, or the hash that the hub keeps."""
    tag = info.get("ETag") or info.get("etag") or (info.get("lfs") or {}).get("sha256") or info.get("blob_id")
    return str(tag).strip('"') if tag else None


def _patiently(options: TransportOptions, what: str, call: Any) -> Any:
    patience = Patience(options, what)
    while True:
        try:
            return call()
        except Exception as error:
            patience.failed(error)


def ask(source: Source, options: TransportOptions, call: Any) -> Any:
    """The answer of one small request (a listing, a HEAD, an index), with retries and a slot.

    Raises `Damaged` for what is not there or may not be read, `SourceError` when the network stays down.
    """

    def within() -> Any:
        with slot(host_of(source.root), options.per_host):
            return call()

    return _patiently(options, source.root, within)


def _ask_of_listed(source: Source, file: SourceFile, options: TransportOptions, call: Any) -> Any:
    """The answer to `call(file system, path)` about a file that was listed; refused, it is asked again by a fresh one.

    Raises `SourceError` when the network stays down or the file stays refused.
    """
    patience = Patience(options, source.root + file.path, listed=True)
    while True:
        try:
            fs, root = _connect(source, options, fresh=patience.failures > 0)
            with slot(host_of(source.root), options.per_host):
                return call(fs, root + file.path)
        except Exception as error:
            patience.failed(error)


def chunks(source: Source, file: SourceFile, options: TransportOptions) -> Iterator[bytes]:
    """The bytes of a file, or of its part, in order.

    Raises `Damaged` for a local file that is not there, may not be read, or is not what was listed. Of a network that
    is weather, not data: what was listed is asked for again, with fresh addresses and credentials, then `SourceError`.
    """
    if is_local(source.root):
        return _local(local_path(source.root) + file.path, file)
    if source.root.startswith(("gs://", "gcs://")):
        return _google(source, file, options)
    return _kept_or_remote(source, file, options)


def _kept_or_remote(source: Source, file: SourceFile, options: TransportOptions) -> Iterator[bytes]:
    """A remote file, out of the cache if there is one; see `chunks`."""
    if options.cache:
        listed = file.size if file.part is None else file.bytes
        return _measured(cached(remote(source, file, options), source, file, options), listed)
    return remote(source, file, options)


def byte_range(source: Source, file: SourceFile, start: int, stop: int, options: TransportOptions) -> bytes:
    """The bytes [start, stop) of a file, fewer at its end, past the cache. Raises as `chunks` does."""
    part = replace(file, part=(start, min(stop, file.size)))
    return b"".join(chunks(source, part, replace(options, cache=None)))


@contextmanager
def as_path(source: Source, file: SourceFile, blocks: Iterator[bytes], plain: bool) -> Iterator[str]:
    """A path that holds `blocks`, the content of a file: the file itself where it can be, else a temporary copy.

    For formats that keep their table of contents at the end. `plain` says that no compression was taken off.
    """
    if plain and is_local(source.root):
        path = local_path(source.root) + file.path
        _checked_size(path, file.size)
        yield path
        _checked_size(path, file.size)
        return
    with tempfile.NamedTemporaryFile(prefix="ettin-data-") as spool:
        for block in blocks:
            spool.write(block)
        spool.flush()
        yield spool.name


def _checked_size(path: str, listed: int) -> None:
    size = os.path.getsize(path)
    if 0 <= listed != size:
        raise Damaged("size_mismatch", f"{size:,} bytes are there, {listed:,} were listed")


def _local(path: str, file: SourceFile) -> Iterator[bytes]:
    """A local file, see `chunks`."""
    try:
        files.require_ordinary(path)  # opening a pipe would wait for ever
        with open(path, "rb", buffering=0) as handle:
            yield from _measured(handle, file.size) if file.part is None else _part(handle, file.size, *file.part)
    except files.NotOrdinary as error:
        raise Damaged("not_a_file", str(error)) from None
    except FileNotFoundError:
        raise Damaged("file_missing", os.path.basename(path) + " is not there") from None
    except PermissionError as error:
        raise Damaged("permission_denied", error.strerror or "permission denied") from None
    except OSError as error:
        raise Damaged("unreadable", error.strerror or str(error)) from None


def _measured(handle: IO[bytes], listed: int) -> Iterator[bytes]:
    """An open file up to its listed size; one that has grown or shrunk since is not what was listed."""
    left = listed if listed >= 0 else 1 << 62
    with handle:
        while chunk := handle.read(min(CHUNK, left)) if left else b"":
            left -= len(chunk)
            yield chunk
        if listed >= 0 and left:
            raise Damaged("size_mismatch", f"{listed - left:,} bytes are there, {listed:,} were listed")
        if listed >= 0 and handle.read(1):
            size = os.fstat(handle.fileno()).st_size
            raise Damaged("size_mismatch", f"the file has grown from {listed:,} to {size:,} bytes")


def _part(handle: IO[bytes], listed: int, start: int, stop: int) -> Iterator[bytes]:
    """A part of an open file; see `_measured`."""
    size = os.fstat(handle.fileno()).st_size
    if size != listed:
        raise Damaged("size_mismatch", f"{size:,} bytes are there, {listed:,} were listed")
    handle.seek(start)
    while start < stop and (chunk := handle.read(min(CHUNK, stop - start))):
        start += len(chunk)
        yield chunk
    if start < stop:
        raise Damaged("size_mismatch", f"the file ended at byte {start:,} while it was read; {listed:,} were listed")


def remote(source: Source, file: SourceFile, options: TransportOptions) -> Iterator[bytes]:
    """The bytes of a remote file, or of its part, in order, resumed where a transfer breaks; see `chunks`."""
    host = host_of(source.root)
    patience = Patience(options, source.root + file.path, listed=True)
    start, stop = file.part or (0, file.size)  # the end is -1 where the size is not known
    at = start
    connected: tuple[Any, str] | None = None
    while stop < 0 or at < stop:
        end = at + options.block_bytes if stop < 0 else min(at + options.block_bytes, stop)
        held: list[bytes] = []  # a range is held until it is there, so that a slot is not kept while it is worked on
        failure: Exception | None = None
        ranged = True
        try:
            fs, root = connected = connected or _connect(source, options, fresh=patience.failures > 0)
            path = root + file.path
            with slot(host, options.per_host):
                if is_http(source.root):
                    stream = _http_range(fs, path, at, end, file)
                    ranged = next(stream) is not None
                else:
                    stream = _store_range(fs, path, at, end, file, first=at == start)
                for chunk in stream:
                    if file.part is not None and not ranged:  # of all that the server sends
                        chunk = chunk[: stop - at]
                    patience.progress(len(chunk))
                    at += len(chunk)
                    if ranged:
                        held.append(chunk)
                    else:
                        yield chunk
                    if file.part is not None and not ranged and at == stop:
                        break
        except _PastTheEnd:
            return
        except Exception as error:
            failure = error
        yield from held
        if failure is None and at < min(end, stop):
            failure = EOFError(f"the transfer ended after {at:,} of {stop:,} bytes")
        if failure is not None:
            patience.failed(failure)
            if refused(failure):
                connected = None
        elif stop < 0 and (not ranged or at < end):
            return
    if 0 <= file.size < at:
        raise SourceError(
            f"{at:,} bytes of {file.name} came, {file.size:,} were listed",
            where=redact(source.root),
            remedy="start again; if the file has changed for good, accept it with --relist",
        )


def _connect(source: Source, options: TransportOptions, fresh: bool) -> tuple[Any, str]:
    """The file system of a source; a fresh one asks again for addresses, tokens and credentials."""
    try:
        return filesystem(source, options, fresh=fresh)
    except Damaged as damage:  # the hub's answer to what the revision is
        raise PermissionError(damage.detail) from None


def _google(source: Source, file: SourceFile, options: TransportOptions) -> Iterator[bytes]:
    """A file of Google's store; see `chunks`.

    An object that is stored with `Content-Encoding: gzip` is inflated on its way, and then comes whole, without ranges
    and not with the size that was listed (cloud.google.com/storage/docs/transcoding). It goes to a temporary file.
    """
    info = _ask_of_listed(source, file, options, lambda fs, path: fs.info(path))
    encoding = info.get("contentEncoding")
    if encoding in (None, "", "identity"):
        yield from _kept_or_remote(source, file, options)
        return
    if file.part is not None or encoding != "gzip":
        what, place = f"stored with Content-Encoding: {encoding}", f"{source.root}**"
        raise Damaged("content_encoding", f"{what}; gcloud storage objects update {place} --clear-content-encoding")
    if file.etag and (etag := tag_of(info)) and etag != file.etag:
        raise Damaged("changed_upstream", f"ETag {etag} came, {file.etag} was listed")

    def fetch(fs: Any, path: str) -> None:
        try:
            fs.get_file(path, spool)
        except TypeError:  # gcsfs loses the status of a download that is refused
            raise OSError("the store refused a download") from None

    with tempfile.TemporaryDirectory(prefix="ettin-data-") as folder:  # newer gcsfs removes what it could not fetch
        spool = os.path.join(folder, "object")
        _ask_of_listed(source, file, options, fetch)
        with open(spool, "rb", buffering=0) as handle:
            yield from _measured(handle, -1)


class _PastTheEnd(Exception):
    """A range starts where the file ends: that is how one of unknown size ends."""


class NotAsListed(PermissionError):
    """What would come is not what was listed: a stale copy, or a file that has changed."""


def _http_range(fs: Any, url: str, at: int, end: int, file: SourceFile) -> Iterator[Any]:
    """First True (a range) or None (the server sends all), then the bytes of a web server's file from `at`."""
    headers = {"Range": f"bytes={at}-{end - 1}", "Accept-Encoding": "identity"}
    try:
        handle = fs.open(url, "rb", block_size=0, size=1, headers=headers)  # a size, or fsspec asks for it first
    except Exception as error:
        if getattr(error, "status", None) == 416:
            raise _PastTheEnd from None
        raise
    with handle:
        answer = handle.r
        etag = str(answer.headers.get("ETag", "")).strip('"')
        if file.etag and etag and etag != file.etag:
            raise NotAsListed(f"ETag {etag} came, {file.etag} was listed")
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200 and length.isdigit() and 0 <= file.size != int(length):
            raise OSError(f"the server sends {int(length):,} bytes, {file.size:,} were listed")  # a page that explains
        match = _RANGE.fullmatch(answer.headers.get("Content-Range", "")) if answer.status == 206 else None
        if match and match[3] != "*" and 0 <= file.size != int(match[3]):
            raise NotAsListed(f"the server has {int(match[3]):,} bytes, {file.size:,} were listed")
        if answer.status == 206 and (match is None or int(match[1]) != at):
            raise OSError(f"asked for bytes from {at}, the server answers {answer.headers.get('Content-Range')!r}")
        yield True if match else None
        skip = 0 if match else at
        while chunk := handle.read(CHUNK):
            if skip:
                passed = min(skip, len(chunk))
                skip -= passed
                chunk = chunk[passed:]
            if chunk:
                yield chunk


def _store_range(fs: Any, path: str, at: int, end: int, file: SourceFile, first: bool) -> Iterator[bytes]:
    """One range of a file of the hub or an object store; the first one sees that the file is the one."""
    size = file.size if file.size >= 0 else int(fs.info(path)["size"])
    end = min(end, size)
    if at >= end:
        raise _PastTheEnd
    hub = type(fs).__name__ == "HfFileSystem"
    if first and file.etag and not hub:  # of the hub, the revision is pinned
        fs.invalidate_cache(path)
        etag = tag_of(fs.info(path))
        if etag and etag != file.etag:
            raise NotAsListed(f"ETag {etag} came, {file.etag} was listed")
    if hub:  # its cat_file would ask for the size again
        with fs.open(path, "rb", block_size=end - at, cache_type="none", size=size) as handle:
            handle.seek(at)
            block = handle.read(end - at)
    else:
        block = fs.cat_file(path, start=at, end=end)
    if len(block) != end - at:  # nobody sends a part of what was asked for, but a page that explains may be shorter
        raise OSError(f"asked for {end - at:,} bytes, {len(block):,} came")
    for start in range(0, len(block), CHUNK):
        yield block[start : start + CHUNK]
