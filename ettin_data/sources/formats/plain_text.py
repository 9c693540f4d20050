"""Plain text and Markdown: a file is a document. Its id is its path, or what stands before it in a compressed name."""

from __future__ import annotations

from typing import Any

from ettin_data.base import encodings
from ettin_data.sources.base import Record, Reject
from ettin_data.sources.formats.format import Format, Input, Items
from ettin_data.sources.formats.record_text import text_problem

_MARK = "\ufeff"


def read_text(given: Input) -> Items:
    """The one record or reject of a file. Raises `Damaged` where the file cannot be read to its end."""
    limit, data = given.options.max_record_bytes, bytearray()
    length = 0
    for block in given.blocks:
        length += len(block)
        data += block if length <= limit else b""
    if length > limit:
        raw = bytes(data[: given.options.raw_bytes])
        yield Reject(0, "record_too_long", f"a file of {length:,} bytes; the limit is {limit:,}", raw)
        return
    metadata: dict[str, Any] = {}
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        metadata = {"repaired": "utf8", "looks_like": encodings.likely(bytes(data))}
    text = text.removeprefix(_MARK)
    if problem := text_problem(text):
        yield Reject(0, *problem)
    else:
        yield Record(text, given.prefix, 0, metadata)


FORMAT = Format(
    "txt",
    version=2,
    read=read_text,
    suffixes=("txt", "text", "md", "markdown"),
    signed=False,
    plain=True,
    yields=2,
    tokens_per_byte={"": 0.24, "gz": 0.62, "gzip": 0.62, "zst": 0.62, "zstd": 0.62, "bz2": 0.8, "xz": 0.8},
)
"""Rates: as of the texts in JSON Lines."""
