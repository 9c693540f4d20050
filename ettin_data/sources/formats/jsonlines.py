"""JSON Lines to records: one `orjson.loads` a line, the slow and forgiving way only for lines that it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from ettin_data.base import encodings
from ettin_data.sources.access import inflate
from ettin_data.sources.access.transport import byte_range, chunks
from ettin_data.sources.base import (
    BLANK_LINE,
    MIB,
    Damaged,
    ReadOptions,
    Record,
    Reject,
    Source,
    SourceFile,
    TransportOptions,
)
from ettin_data.sources.formats.format import Format, Input, Items
from ettin_data.sources.formats.record_text import text_problem, value_at
from ettin_data.sources.ids import Ids, scrub, usable

BOM = b"\xef\xbb\xbf"

_LINE_BLOCK = MIB // 4  # asked for at a time to finish a line


def read_lines(given: Input) -> Items:
    """Records and rejects of JSON Lines; every line is one or the other, blank lines included.

    Lines end at "\\n" only (a "\\r" before it is white space to JSON). Raises `Damaged` from the blocks: a line that
    the damage cut is part of the damage, and is not counted as a record.
    """
    text_key, id_key, options = given.source.text_key, given.source.id_key, given.options
    blocks = given.blocks if given.file.part is None else _lines_of_part(given)
    ids = Ids(given.prefix)
    position = 0
    try:
        for lines in _batches(blocks, options):
            batch = _records(lines, position, text_key, id_key, ids, options)
            position += len(lines)
            lines.clear()  # of a large record only the text is kept
            yield from batch
    except Damaged as damage:
        damage.seen = position
        raise


def _records(
    lines: list[Any], position: int, text_key: str, id_key: str, ids: Ids, options: ReadOptions
) -> list[Record | Reject]:
    """A record or reject for each line, the first of which is line `position` of the file."""
    loads = orjson.loads
    batch: list[Record | Reject] = []
    named: list[Record] = []  # those with an id of their own, and the ids
    names: list[str] = []
    dotted = "." in text_key or "." in id_key  # which may lead into a record
    for line in lines:
        try:
            row = loads(line)
            text = value_at(row, text_key) if dotted else row[text_key]
            if not text or text.isspace():
                raise ValueError
            metadata: dict[str, Any] = {}
            url = row.get("url")
            if url is None and type(inner := row.get("metadata")) is dict:
                url = inner.get("url")
            if type(url) is str:
                metadata["url"] = url
            raw_id = _id(row, id_key) if dotted else row.get(id_key)
            record = Record(text, raw_id, position, metadata)
            batch.append(record)
            if type(raw_id) is str and raw_id:
                named.append(record)
                names.append(raw_id)
            else:
                record.id = ids.replace(raw_id, position, metadata)
        except (ValueError, KeyError, TypeError, AttributeError):  # not a plain record: look closer
            item = _closer(line, position, text_key, id_key, ids, options)
            batch.append(item)
            if type(item) is Record and item.id != ids.fallback(position):
                named.append(item)
                names.append(item.id)
        position += 1
    ids.settle(named, names)
    return batch


def _closer(
    line: bytes | bytearray | Reject, position: int, text_key: str, id_key: str, ids: Ids, options: ReadOptions
) -> Record | Reject:
    """What is wrong with a line, or the record that it holds after repair."""
    if isinstance(line, Reject):
        line.position = position
        return line
    raw = bytes(line[: options.raw_bytes])
    if not line or line.isspace():
        return Reject(position, BLANK_LINE, f"{len(line)} bytes")
    try:
        row, repaired = _forgiving(bytes(line))
    except (ValueError, RecursionError) as error:
        return Reject(position, "bad_json", str(error)[:300], raw)
    if type(row) is not dict:
        return Reject(position, "record_not_object", f"a JSON {type(row).__name__}, not an object", raw)
    try:
        text = value_at(row, text_key)
    except KeyError:
        if position == 0 and (key := _wrapper(row, text_key)):
            detail = f"one JSON document, not JSON Lines; jq -c '.{key}[]' FILE"
            raise Damaged("json_document", detail) from None
        return Reject(position, "text_missing", scrub(f"keys: {', '.join(row)}"[:200]), raw)
    if problem := text_problem(text):
        return Reject(position, *problem, raw)
    metadata: dict[str, Any] = {"repaired": repaired} if repaired else {}
    if repaired == "utf8":
        metadata["looks_like"] = encodings.likely(raw)
    inner = row.get("metadata")
    url = row.get("url", inner.get("url") if type(inner) is dict else None)
    if type(url) is str:
        metadata["url"] = scrub(url)
    raw_id = _id(row, id_key)
    if not usable(raw_id):
        raw_id = ids.replace(raw_id, position, metadata)
    return Record(scrub(text), str(raw_id), position, metadata)


def _id(row: dict[str, Any], id_key: str) -> Any:
    try:
        return value_at(row, id_key)
    except KeyError:
        return None


def _wrapper(row: dict[str, Any], text_key: str) -> str | None:
    """The key of an object that holds the records themselves: `{"data": [{"text": …}, …]}`."""
    lists = (key for key, value in row.items() if type(value) is list and value and type(value[0]) is dict)
    return next((key for key in lists if text_key in row[key][0]), None)


def _forgiving(line: bytes) -> tuple[Any, str]:
    """Parse what orjson refuses: bad UTF-8 replaced, lone surrogates, NaN and a byte order mark accepted.

    Returns (value, what was repaired in its characters). Raises ValueError, RecursionError.
    """
    line = line.removeprefix(BOM)
    try:
        return orjson.loads(line), ""
    except orjson.JSONDecodeError:
        pass
    try:
        text, repaired = line.decode("utf-8"), ""
    except UnicodeDecodeError:
        text, repaired = line.decode("utf-8", "replace"), "utf8"
    return json.loads(text), repaired or ("surrogates" if "\\ud" in text.lower() else "")


def _batches(blocks: Iterator[bytes], options: ReadOptions) -> Iterator[list[Any]]:
    """Lines without their "\\n", a block's worth at a time; one over the limit is a `Reject` with its start."""
    limit, keep = options.max_record_bytes, options.raw_bytes
    held = bytearray()  # the unfinished last line of the blocks so far
    dropped = 0  # length of that line, once it is over the limit
    for block in blocks:
        newline = block.find(b"\n")
        if newline < 0:
            if dropped:
                dropped += len(block)
            else:
                held += block
                if len(held) > limit:
                    dropped, held = len(held), held[:keep]
            continue
        lines: list[Any] = block.split(b"\n")
        if len(block) > limit:
            lines = [line if len(line) <= limit else _too_long(len(line), line[:keep], limit) for line in lines]
        if dropped:
            lines[0] = _too_long(dropped + newline, held, limit)
        elif held:
            held += block[:newline]
            lines[0] = held if len(held) <= limit else _too_long(len(held), held[:keep], limit)
        held, dropped = bytearray(block[block.rfind(b"\n") + 1 :]), 0
        lines.pop()
        yield lines
    if dropped:
        yield [_too_long(dropped, held, limit)]
    elif held:
        lines, held = [held], bytearray()
        yield lines


def _too_long(length: int, start: bytes | bytearray, limit: int) -> Reject:
    return Reject(-1, "record_too_long", f"a line of {length:,} bytes; the limit is {limit:,}", bytes(start))


def places(
    source: Source, file: SourceFile, head: bytes, wanted: Sequence[int], options: TransportOptions
) -> Iterable[int]:
    """Where a file may be cut: plain text anywhere, gzip and zstd where a member or frame begins, if it has many."""
    if not inflate.is_compressed(head):
        yield from wanted
    elif inflate.has_members(head) and any(inflate.members(head[1:], head)):
        for want in wanted:
            window = byte_range(source, file, want, want + inflate.WINDOW, options)
            at = next(inflate.members(window, head), None)
            if at is not None:
                yield want + at


def _lines_of_part(given: Input) -> Iterator[bytes]:
    """The content of the lines that begin in a part; the one that began before it is left to the part before."""
    source, file, options = given.source, given.file, given.options
    assert file.part is not None
    start, stop = file.part
    begun = start == 0  # else when the line that began before has ended
    for block in given.blocks:
        if not begun:
            begun = b"\n" in block
            block = block[block.find(b"\n") + 1 :] if begun else b""
        if block:
            yield block
    if not begun or stop == file.size:
        return
    transport = replace(options.transport, block_bytes=_LINE_BLOCK, cache=None)
    for block in inflate.content(chunks(source, replace(file, part=(stop, file.size)), transport), options)[1]:
        end = block.find(b"\n") + 1
        yield block[:end] if end else block
        if end:
            return


FORMAT = Format(
    "jsonl",
    version=2,
    read=read_lines,
    suffixes=("jsonl", "jsonlines", "ndjson", "json"),
    shy=("json",),  # as likely a table of statistics
    recognise=lambda head: head.removeprefix(BOM).lstrip().startswith(b"{"),
    signed=False,
    tokens_per_byte={"": 0.24, "gz": 0.62, "gzip": 0.62, "zst": 0.52, "zstd": 0.52, "bz2": 0.8, "xz": 0.8},
    cut=places,
)
"""Rates: plain text at 4.2 bytes a token; gz: Dolma v1.7; zst: Dolmino's DCLM part, 752B tokens in 1.5 TB."""
