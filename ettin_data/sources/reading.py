"""One file of a source to its records: what it really holds is decided by content, its name is a hint."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator

from ettin_data.errors import SourceError
from ettin_data.sources import inflate, parquet
from ettin_data.sources.base import Damaged, ReadOptions, Record, Reject, Source, SourceFile, is_local, local_path
from ettin_data.sources.jsonlines import read_lines
from ettin_data.sources.mds import looks_like_mds
from ettin_data.sources.token_shards import load_decoder, read_token_shard
from ettin_data.sources.transport import chunks

_decoder = functools.lru_cache(maxsize=4)(load_decoder)


def read_file(source: Source, file: SourceFile, *, options: ReadOptions | None = None) -> Iterator[Record | Reject]:
    """Stream the records of one file, in order and in bounded memory.

    The law: every record of the file comes either as a `Record` or as a `Reject`; whatever ends the file early comes as
    one more `Reject` with `whole_file` set, whose position says how many records were seen before.

    Raises `SourceError` for a bad record or file if `options.on_bad` is "stop" (the same message), and, always, for
    what is no fault of the data: a network that stays down after all retries, a tokenizer that cannot be found.
    """
    options = options or ReadOptions()
    stop = options.on_bad == "stop"
    seen = 0
    try:
        for item in _read(source, file, options):
            if stop and type(item) is Reject:
                raise _stopped(source, file, item)
            seen += 1
            yield item
    except Damaged as damage:
        reject = Reject(seen, damage.reason, damage.detail, whole_file=True)
        if stop:
            raise _stopped(source, file, reject) from None
        yield reject


def _stopped(source: Source, file: SourceFile, reject: Reject) -> SourceError:
    place = f"{source.key}: {file.path}" + (f", after record {reject.position}" if reject.whole_file else "")
    return SourceError(
        f"{reject.reason}: {reject.detail}",
        where=place if reject.whole_file else f"{place}, record {reject.position}",
        remedy="repair the file, or let bad input go to rejects/ (on_bad: reject)",
    )


def _read(source: Source, file: SourceFile, options: ReadOptions) -> Iterator[Record | Reject]:
    prefix = f"{source.key}/{file.path}"
    raw = chunks(source, file)
    first, raw = inflate.peek(raw)
    head, blocks = inflate.content(raw, options)
    if not head:
        raise Damaged("empty_file", "0 bytes" if not first else "nothing inside the compression")
    if head.startswith(parquet.MAGIC):
        if is_local(source.root) and first.startswith(parquet.MAGIC):
            yield from parquet.read_parquet(
                local_path(source.root) + file.path, prefix, source.text_key, source.id_key, options
            )
            return
        with tempfile.NamedTemporaryFile(prefix="ettin-data-") as spool:  # its footer is at the end: no streaming
            for block in blocks:
                spool.write(block)
            spool.flush()
            yield from parquet.read_parquet(spool.name, prefix, source.text_key, source.id_key, options)
        return
    named_mds = ".mds" in file.path.rpartition("/")[2]
    if looks_like_mds(head) if source.format == "mds" or named_mds else False:
        decoder = _decoder(source.tokenizer) if source.tokenizer else None
        yield from read_token_shard(blocks, prefix, source, decoder, options)
        return
    if problem := _not_data(head):
        raise Damaged(*problem)
    yield from read_lines(blocks, prefix, source.text_key, source.id_key, options)


def _not_data(head: bytes) -> tuple[str, str] | None:
    """(reason, detail) for content that is no data at all."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")):
        return "html_instead_of_data", head[:120].decode("utf-8", "replace")
    if head.startswith(b"version https://git-lfs"):
        return "lfs_pointer", head[:130].decode("utf-8", "replace")
    if name := inflate.unsupported(head):
        return "unsupported_format", f"{name} content"
    if not head.strip(b"\0"):
        return "not_data", "zero bytes only"
    return None
