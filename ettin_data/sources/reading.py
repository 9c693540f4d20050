"""One file of a source to its records: what it really holds is decided by content, its name is a hint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ettin_data.base import encodings
from ettin_data.base.errors import SourceError
from ettin_data.base.redact import redact
from ettin_data.sources import formats
from ettin_data.sources.access import inflate
from ettin_data.sources.access.transport import chunks
from ettin_data.sources.base import Damaged, Loss, ReadOptions, Record, Reject, Source, SourceFile
from ettin_data.sources.formats.format import Format, Input, Items
from ettin_data.sources.formats.record_text import stripped

_HEAD = 1 << 13
"""Bytes asked for at a time, of the start of a large file, to see its format when a part of it is read."""
_HOLE = bytes(512)
"""A block of a disk, the smallest; no text has so many zero bytes one behind the other."""
_WITHOUT_SIZE = ("empty_file", "html_instead_of_data", "truncated", "lfs_pointer")
"""Reasons of damage after which the size of a file is not that of what it held."""
_POINTED = re.compile(r"\bsize (\d+)")


def read_file(source: Source, file: SourceFile, *, options: ReadOptions | None = None) -> Iterator[Record | Reject]:
    """Stream the records of one file, in order and in bounded memory.

    The law: every record of the file comes either as a `Record` or as a `Reject`; whatever ends the file early comes as
    one more `Reject` with `whole_file` set, whose position says how many records were seen before.

    Raises `SourceError` for a bad record or file if `options.on_bad` is "stop" (the same message), and, always, for
    what is no fault of the data: a network that stays down after all retries, a full disk, a tokenizer that is missing.
    """
    options = options or ReadOptions()
    try:
        items = _read(source, file, options)
        yield from items if options.on_bad == "reject" else _until_bad(items, source, file)
    except Damaged as damage:
        reject = Reject(damage.seen, damage.reason, redact(damage.detail), loss=_loss(file, damage))
        if options.on_bad == "stop":
            raise _stopped(source, file, reject) from None
        yield reject
    except OSError as error:  # of this machine: the temporary folder or the cache
        raise SourceError(
            f"{file.name} of {source.key!r} cannot be read", where=redact(source.root), why=error
        ) from None


def _loss(file: SourceFile, damage: Damaged) -> Loss:
    """What a damage costs, as far as the file itself tells."""
    pointed = _POINTED.search(damage.detail) if damage.reason == "lfs_pointer" else None
    if pointed:
        return Loss(unread=int(pointed[1]))
    if damage.lost is not None or damage.reason in _WITHOUT_SIZE or not damage.sized or file.bytes == 0:
        return Loss(damage.lost)
    read = min(damage.at, file.bytes) if damage.seen else 0
    return Loss(None, read, file.bytes - read)


def _until_bad(items: Iterator[Record | Reject], source: Source, file: SourceFile) -> Iterator[Record | Reject]:
    for item in items:
        if isinstance(item, Reject):
            raise _stopped(source, file, item)
        yield item


def _stopped(source: Source, file: SourceFile, reject: Reject) -> SourceError:
    place = f"after {reject.position:,} records" if reject.whole_file else f"record {reject.position}"
    return SourceError(
        f"{reject.reason}: {reject.detail}",
        where=f"{source.key}: {file.name}, {place}",
        remedy="repair the file, or let bad input go to rejects/",
    )


def _read(source: Source, file: SourceFile, options: ReadOptions) -> Items:
    format, given = _opened(source, file, options)
    items = format.read(given)
    return stripped(items) if options.strip_starcoder_markers else items


def _opened(source: Source, file: SourceFile, options: ReadOptions) -> tuple[Format, Input]:
    """A file ready to be read, and the format that its content says. Raises `Damaged` for what is no data."""
    if format := formats.of_root(source.root):
        return format, Input(source, file, options, iter(()))
    if file.part is None:
        stored = chunks(source, file, options.transport)
    else:  # its own bytes do not say the format: the first ones of the file do
        transport = replace(options.transport, block_bytes=_HEAD, cache=None)
        stored = chunks(source, replace(file, part=(0, file.size)), transport)
    first, stored = inflate.peek(stored)
    head, blocks = inflate.content(stored, options)
    if not head and formats.as_text(head, source, file) is None:
        for _ in blocks:  # an error behind nothing at all is still the better reason
            pass
        raise Damaged("empty_file", "nothing inside the compression" if first else "0 bytes")
    if source.encoding and not formats.certain(head):
        head, blocks = inflate.peek(encodings.transcoded(blocks, source.encoding))
    if file.part is not None:
        blocks = _content(source, file, options)
    format, compressed = formats.of_content(head, source, file), inflate.is_compressed(first)
    if not format.signed:  # a text
        blocks = _up_to_a_hole(blocks, sized=not compressed)
    return format, Input(source, file, options, blocks, compressed)


def _up_to_a_hole(blocks: Iterator[bytes], sized: bool) -> Iterator[bytes]:
    """Blocks of a text. Raises `Damaged` at a run of zero bytes, in whose place a disk or a copy has lost what was
    written: any number of records, of which as lines only one would be missed. `sized`: nothing was compressed."""
    place = 0
    for block in blocks:
        at = block.find(_HOLE) if b"\0" in block else -1
        if at >= 0:
            yield block[:at]
            detail = f"zero bytes from byte {place + at:,} of the text on, which were never written or are lost"
            damage = Damaged("zero_bytes", detail, sized=sized)
            damage.at = place + at
            raise damage
        yield block
        place += len(block)


def _content(source: Source, file: SourceFile, options: ReadOptions) -> Iterator[bytes]:
    """The content of a part, of which nothing is fetched before it is asked for."""
    yield from inflate.content(chunks(source, file, options.transport), options)[1]
