"""Parquet to records: only the text, id and url columns are read, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ettin_data.sources.base import Damaged, ReadOptions, Record, Reject
from ettin_data.sources.ids import Ids, usable
from ettin_data.sources.texts import strip_starcoder, text_problem

BATCH_ROWS = 1024


def read_parquet(path: str, prefix: str, text_key: str, id_key: str, options: ReadOptions) -> Iterator[Record | Reject]:
    """Records and rejects of a parquet file, row by row; other columns are ignored, whatever they are.

    The text column may be string, large_string, string_view, binary or a dictionary of those; the scores' types and
    the codec do not matter. Raises `Damaged` for a file without the text column or one that cannot be read on.
    """
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        names = file.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged("damaged_parquet", str(error)[:300]) from None
    if text_key not in names:
        rows = file.metadata.num_rows
        raise Damaged("no_text_column", f"{text_key!r} is not among {', '.join(names)[:200]}; {rows:,} rows lost")
    columns = list(dict.fromkeys(n for n in (text_key, id_key, "url") if n in names))
    known = Ids(prefix)
    position = 0
    batches = file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Damaged("damaged_parquet", f"after {position:,} rows: {str(error)[:300]}") from None
        if batch is None:
            return
        texts, broken = _values(batch.column(text_key))
        ids = _values(batch.column(id_key))[0] if id_key in columns else [None] * len(texts)
        urls = _values(batch.column("url"))[0] if "url" in columns else [None] * len(texts)
        items: list[Record | Reject] = []
        named: list[Record] = []
        for row, (text, raw_id, url) in enumerate(zip(texts, ids, urls, strict=True)):
            if type(text) is not str or not text or text.isspace():
                reason, detail = text_problem(text) or ("", "")
                items.append(Reject(position, reason, detail))
            elif len(text) > options.max_record_bytes:
                items.append(Reject(position, "record_too_long", f"a text of {len(text):,} characters"))
            else:
                metadata: dict[str, Any] = {}
                if type(url) is str:
                    metadata["url"] = url
                if broken and row in broken:
                    metadata["repaired"] = "utf8"
                if options.strip_starcoder_markers:
                    text = strip_starcoder(text)
                if usable(raw_id):
                    named.append(Record(text, raw_id, position, metadata))
                    items.append(named[-1])
                else:
                    items.append(Record(text, known.replace(raw_id, position, metadata), position, metadata))
            position += 1
        known.settle(named)
        yield from items


def _values(column: pa.Array) -> tuple[list[Any], frozenset[int]]:
    """A column as Python values, and the rows whose bytes were not UTF-8 and were decoded with replacement."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        try:
            return column.to_numpy(zero_copy_only=False).tolist(), frozenset()
        except (UnicodeDecodeError, pa.ArrowException):
            column = column.cast(pa.binary() if not pa.types.is_large_string(kind) else pa.large_binary())
            kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        values, broken = [], set()
        for row, value in enumerate(column.to_pylist()):
            try:
                values.append(None if value is None else value.decode("utf-8"))
            except UnicodeDecodeError:
                values.append(value.decode("utf-8", "replace"))
                broken.add(row)
        return values, frozenset(broken)
    return column.to_pylist(), frozenset()
