"""CSV and TSV to records, by pyarrow's reader: the first row names the columns, and each other row is a record.

The separator is the one of comma, tab, semicolon and bar that the first row has most of. Quotes may hold separators,
line ends and doubled quotes (RFC 4180). A row with more or fewer values than the first is a reject.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ettin_data.sources.base import Damaged, Reject
from ettin_data.sources.formats.columns import batch_records
from ettin_data.sources.formats.format import Format, Input, Items
from ettin_data.sources.ids import Ids

BLOCK_BYTES = 32 << 20
"""A row has to fit into two of them; a few are in memory at a time."""
_HEADER_BYTES = 1 << 20
_SEPARATORS = ",\t;|"
_MARK = b"\xef\xbb\xbf"


class _Stream(io.RawIOBase):
    """Blocks as a file. Where they end in `Damaged` it ends there, and keeps what was said and whether in a row."""

    def __init__(self, first: bytes, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._held, self._blocks = first, blocks
        self.damage: Exception | None = None
        self.in_a_row = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._held and self.damage is None:
                self._held = next(self._blocks)
        except StopIteration:
            return b""
        except Exception as error:  # is raised behind the rows that came before it
            self.damage = error
        taken = self._held if size < 0 else self._held[:size]
        self._held = self._held[len(taken) :]
        self.in_a_row = not taken.endswith(b"\n") if taken else self.in_a_row
        return taken


def read_rows_of_text(given: Input) -> Items:
    """Records and rejects of a file, in their order.

    Raises `Damaged` for a file without the text column, one with a row that is too long, and as its blocks do: a row
    that the damage cut is part of the damage.
    """
    head, names, separator = _header(given.blocks)
    if given.source.text_key not in names:
        raise Damaged("no_text_column", f"{given.source.text_key!r} is not among {', '.join(names)[:200]}")
    stream = _Stream(head, given.blocks)
    seen, held = 0, None
    try:
        for item in _rows(given, stream, names, separator):
            if held is not None:
                yield held
                seen += 1
            held = item
    except Damaged:  # of pyarrow, which gives whole rows
        if held is not None:
            yield held
        raise
    if held is not None and not (stream.damage and stream.in_a_row):
        yield held
        seen += 1
    if stream.damage is not None:
        if isinstance(stream.damage, Damaged):
            stream.damage.seen = seen
        raise stream.damage


def _rows(given: Input, stream: _Stream, names: Sequence[str], separator: str) -> Items:
    import pyarrow as pa
    from pyarrow import csv as rows

    source = given.source
    bad: list[Any] = []

    def skip(row: Any) -> str:
        bad.append(row)
        return "skip"

    wanted = [name for name in dict.fromkeys((source.text_key, source.id_key, "url")) if name in names]
    ids, position, seen = Ids(given.prefix), 0, 0
    try:
        reader = rows.open_csv(
            pa.PythonFile(stream, mode="r"),
            rows.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            rows.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=skip),
            rows.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, pa.binary()), check_utf8=False
            ),
        )
        for batch in reader:
            # What pyarrow skipped stands between the rows that it gives: both in their order, by their numbers.
            numbered = {row.number - 2: row for row in bad}
            bad.clear()
            given_rows = iter(batch_records(batch, position, given, ids))
            left = batch.num_rows
            while left or numbered:
                row = numbered.pop(position, None)
                if row is not None:
                    yield _wrong(row, position)
                elif left:
                    yield replace(next(given_rows), position=position)
                    left -= 1
                else:
                    break
                position += 1
                seen += 1
            bad += numbered.values()
    except pa.ArrowInvalid as error:
        raise _damaged(f"after {position:,} rows: {str(error)[:300]}", seen) from None
    for row in bad:
        yield _wrong(row, position)
        position += 1
        seen += 1


def _wrong(row: Any, position: int) -> Reject:
    detail = f"{row.actual_columns} values, the first row has {row.expected_columns}"
    return Reject(position, "wrong_number_of_values", detail, str(row.text)[:1000].encode("utf-8", "replace"))


def _damaged(detail: str, seen: int) -> Damaged:
    damage = Damaged("damaged_csv", detail)
    damage.seen = seen
    return damage


def _header(blocks: Iterator[bytes]) -> tuple[bytes, list[str], str]:
    """The beginning of the content, the names in its first row, and the separator."""
    head = b""
    while b"\n" not in head and len(head) < _HEADER_BYTES:
        block = next(blocks, None)
        if block is None:
            break
        head += block
    head = head.removeprefix(_MARK)
    line = head[:_HEADER_BYTES].lstrip(b"\r\n").decode("utf-8", "replace")
    first = line.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    names = next(csv.reader(io.StringIO(line, newline=""), delimiter=separator), [])
    return head, names, separator


FORMAT = Format(
    "csv",
    version=2,
    read=read_rows_of_text,
    suffixes=("csv", "tsv"),
    signed=False,
    yields=1,
    tokens_per_byte={"": 0.24, "gz": 0.62, "gzip": 0.62, "zst": 0.52, "zstd": 0.52, "bz2": 0.8, "xz": 0.8},
)
"""Rates: as of JSON Lines. A line end may stand inside of quotes, so no file is cut."""
