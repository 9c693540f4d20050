"""One file of a source to its records: what it really holds is decided by content, its name is a hint."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from ettin_data.base.errors import SourceError
from ettin_data.base.redact import redact
from ettin_data.sources import parts
from ettin_data.sources.access import inflate
from ettin_data.sources.access.transport import as_path, chunks
from ettin_data.sources.base import Damaged, ReadOptions, Record, Reject, Source, SourceFile
from ettin_data.sources.formats import content, hub_rows
from ettin_data.sources.formats.decoder import load_decoder
from ettin_data.sources.formats.jsonlines import read_lines
from ettin_data.sources.formats.mds import looks_like_mds
from ettin_data.sources.formats.token_shards import read_token_shard

_decoder = functools.lru_cache(maxsize=4)(load_decoder)


def read_file(source: Source, file: SourceFile, *, options: ReadOptions | None = None) -> Iterator[Record | Reject]:
    """Stream the records of one file, in order and in bounded memory.

    The law: every record of the file comes either as a `Record` or as a `Reject`; whatever ends the file early comes as
    one more `Reject` with `whole_file` set, whose position says how many records were seen before.

    Raises `SourceError` for a bad record or file if `options.on_bad` is "stop" (the same message), and, always, for
    what is no fault of the data: a network that stays down after all retries, a full disk, a tokenizer that is missing.
    """
    options = options or ReadOptions()
    items = _read(source, file, options)
    try:
        yield from items if options.on_bad == "reject" else _until_bad(items, source, file)
    except Damaged as damage:
        reject = Reject(damage.seen, damage.reason, redact(damage.detail), whole_file=True)
        if options.on_bad == "stop":
            raise _stopped(source, file, reject) from None
        yield reject
    except OSError as error:  # of this machine: the temporary folder or the cache
        raise SourceError(
            f"{file.name} of {source.key!r} cannot be read", where=redact(source.root), why=error
        ) from None


def _until_bad(items: Iterator[Record | Reject], source: Source, file: SourceFile) -> Iterator[Record | Reject]:
    for item in items:
        if isinstance(item, Reject):
            raise _stopped(source, file, item)
        yield item


def _counted(items: Iterator[Record | Reject]) -> Iterator[Record | Reject]:
    """The items; damage that ends them says how many there were."""
    seen = 0
    try:
        for item in items:
            seen += 1
            yield item
    except Damaged as damage:
        damage.seen = seen
        raise


def _stopped(source: Source, file: SourceFile, reject: Reject) -> SourceError:
    place = f"after {reject.position:,} records" if reject.whole_file else f"record {reject.position}"
    return SourceError(
        f"{reject.reason}: {reject.detail}",
        where=f"{source.key}: {file.name}, {place}",
        remedy="repair the file, or let bad input go to rejects/",
    )


def _read(source: Source, file: SourceFile, options: ReadOptions) -> Iterator[Record | Reject]:
    if hub_rows.is_rows(source.root):
        yield from _counted(hub_rows.read_rows(source, file, options))
        return
    if file.part is not None:
        yield from _read_part(source, file, options)
        return
    prefix = f"{source.key}/{file.path}"
    first, raw = inflate.peek(chunks(source, file, options.transport))
    head, blocks = inflate.content(raw, options)
    if not head:
        for _ in blocks:  # an error behind nothing at all is still the better reason
            pass
        raise Damaged("empty_file", "nothing inside the compression" if first else "0 bytes")
    if head.startswith(content.PARQUET):
        from ettin_data.sources.formats.parquet import read_parquet

        with as_path(source, file, blocks, first.startswith(content.PARQUET)) as path:
            yield from read_parquet(path, prefix, source.text_key, source.id_key, options)
        return
    if problem := content.not_data(head):
        raise Damaged(*problem)
    if looks_like_mds(head):
        decoder = _decoder(source.tokenizer) if source.tokenizer else None
        yield from _counted(read_token_shard(blocks, prefix, source, decoder, options))
        return
    if source.format == "mds":
        raise Damaged("not_mds", f"no MDS header: {head[:16]!r}")
    yield from read_lines(blocks, prefix, source.text_key, source.id_key, options)


def _read_part(source: Source, file: SourceFile, options: ReadOptions) -> Iterator[Record | Reject]:
    """The same of a part of a large file, which `parts.cut` has looked at."""
    prefix = f"{source.key}/{file.name}"
    if parts.is_parquet(source, file, options.transport):
        from ettin_data.sources.formats.parquet import read_parquet

        with parts.parquet_path(source, file, options.transport) as path:
            yield from read_parquet(path, prefix, source.text_key, source.id_key, options, file.part)
        return
    yield from read_lines(parts.line_blocks(source, file, options), prefix, source.text_key, source.id_key, options)
