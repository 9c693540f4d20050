"""Batches of columns to records: what parquet, Arrow and CSV have in common once their bytes are read."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ettin_data.base import encodings
from ettin_data.sources.base import Record, Reject
from ettin_data.sources.formats.format import Input
from ettin_data.sources.formats.record_text import text_problem
from ettin_data.sources.ids import Ids

if TYPE_CHECKING:  # pyarrow takes a quarter of a second to import, and most commands read no columns
    import pyarrow as pa


def column_for(key: str, names: list[str]) -> str | None:
    """The column in which a key is: itself, or of a key with dots the one that holds its first part; None for none."""
    first = key.partition(".")[0]
    return key if key in names else first if first in names else None


def batch_records(batch: pa.RecordBatch, position: int, given: Input, ids: Ids) -> list[Record | Reject]:
    """The rows of a batch, the first of which is row `position` of the file. Raises what pyarrow raises."""
    source, limit = given.source, given.options.max_record_bytes
    texts, broken = column_values(batch, source.text_key, source.encoding)
    raw_ids, _ = column_values(batch, source.id_key)
    urls, _ = column_values(batch, "url")
    found: list[Record | Reject] = []
    named: list[Record] = []  # those with an id of their own, and the ids
    names: list[str] = []
    for row, text, raw_id, url in zip(itertools.count(position), texts, raw_ids, urls, strict=False):
        if type(text) is not str or not text or text.isspace():
            found.append(Reject(row, *(text_problem(text) or ("", ""))))
        elif len(text) > limit:
            found.append(Reject(row, "record_too_long", f"a text of {len(text):,} characters"))
        else:
            metadata: dict[str, Any] = {"url": url} if type(url) is str else {}
            record = Record(text, raw_id, row, metadata)
            found.append(record)
            if type(raw_id) is str and raw_id:
                named.append(record)
                names.append(raw_id)
            else:
                record.id = ids.replace(raw_id, row, metadata)
    for index, looks_like in broken.items():
        if isinstance(item := found[index], Record):
            item.metadata |= {"repaired": "utf8", "looks_like": looks_like}
    ids.settle(named, names)
    return found


def column_values(
    batch: pa.RecordBatch, name: str, encoding: str | None = None
) -> tuple[list[Any], dict[int, str | None]]:
    """A column as Python values (None for one that is not there), and the rows that were repaired.

    Bytes that are no UTF-8 are read in `encoding`, if there is one; else the rows say what they look like.
    """
    import pyarrow as pa

    column = _column(batch, name)
    if column is None:
        return [None] * batch.num_rows, {}
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        try:
            return column.to_pylist(), {}  # `to_numpy` would import pandas, as `base.columns` says
        except (UnicodeDecodeError, pa.ArrowException):
            column = column.cast(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())
    elif not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)):
        return _objects(column), {}
    values: list[Any] = []
    broken: dict[int, str | None] = {}
    for row, value in enumerate(column.to_pylist()):
        try:
            values.append(None if value is None else encodings.decoded(value, encoding or "utf-8"))
        except UnicodeDecodeError:
            values.append(value.decode("utf-8", "replace"))
            broken[row] = encodings.likely(value)
    return values, broken


def _column(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """A column, or of a name with dots what is inside of one that is a struct; None where there is none."""
    import pyarrow as pa

    if name in batch.schema.names:
        return batch.column(name)
    first, *inside = name.split(".")
    if not inside or first not in batch.schema.names:
        return None
    column = batch.column(first)
    for field in inside:
        if not pa.types.is_struct(column.type) or (number := column.type.get_field_index(field)) < 0:
            return None
        column = column.flatten()[number]  # as pyarrow.compute has it, whose import takes a tenth of a second
    return column


def _objects(column: pa.Array) -> list[Any]:
    """Values of any other type; one that Python cannot hold, such as a date after 9999, as a number or a word."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError, KeyError, TypeError):  # KeyError: a time zone that nobody knows
        return [_object(value) for value in column]


def _object(value: pa.Scalar) -> Any:
    import pyarrow as pa

    try:
        return value.as_py()
    except (OverflowError, ValueError, KeyError, TypeError):
        narrow = pa.types.is_date32(value.type) or pa.types.is_time32(value.type)
        try:
            return value.cast(pa.int32() if narrow else pa.int64()).as_py()
        except pa.ArrowException:
            return str(value.type)
