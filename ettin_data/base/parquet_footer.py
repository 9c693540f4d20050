"""The footer of a parquet file, read without pyarrow.

To ask pyarrow for what a footer says of a column ends the process where that is damaged in some ways, or encrypted:
an exception of C++ that nobody catches. Reading the columns themselves fails in order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

MAGIC = b"PAR1"
TAIL = 8  # bytes at the end of a file: length of the footer, and the magic number
FOOTER_BYTES = 1 << 24
"""Of a footer of ours: some 100,000 row groups of a few columns."""

_DEEPEST = 16
_GROUPS, _COLUMNS, _ROWS, _METADATA, _PATH = 4, 1, 3, 3, 3  # numbers of fields in parquet.thrift
_OF_A_COLUMN = (4, 5, 6, 7, 9)  # codec, num_values, total_uncompressed_size, total_compressed_size, data_page_offset
_DICTIONARY = 11  # dictionary_page_offset, which need not be there; some writers say 0


@dataclass(frozen=True)
class Column:
    """A column of a row group as the footer has it.

    Attributes:
        codec: of its pages, 0 is none.
        values: in it.
        size, stored: bytes of its pages, and as they are stored.
        page: where its first page of data begins.
        dictionary: where the page of its dictionary begins, 0 if it has none.
    """

    codec: int
    values: int
    size: int
    stored: int
    page: int
    dictionary: int

    @property
    def begin(self) -> int:
        """Where the first of its bytes is in the file."""
        return min(self.page, self.dictionary or self.page)


@dataclass(frozen=True)
class Group:
    """A row group as the footer has it."""

    rows: int
    columns: Mapping[str, Column]


def footer(file: IO[bytes], most: int = FOOTER_BYTES) -> list[Group]:
    """The row groups of a parquet file, whose footer has at most so many bytes.

    Raises:
        OSError, ValueError: it cannot be read, or is no parquet file.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(TAIL, size), os.SEEK_END)
    tail = file.read(TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC:
        file.seek(0)
        raise ValueError(f"no parquet file, or one that was cut: it begins with {file.read(16)!r}, ends with {tail!r}")
    if length > min(size - TAIL, most):
        raise ValueError(f"a footer of {length:,} bytes in a file of {size:,}")
    file.seek(-TAIL - length, os.SEEK_END)
    try:
        groups = _Compact(file.read(length)).struct(0).get(_GROUPS, [])
        return [Group(group[_ROWS], dict(map(_column, group[_COLUMNS]))) for group in groups]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"its footer is damaged: {error!r:.80}") from None


def _column(chunk: dict[int, Any]) -> tuple[str, Column]:
    known = chunk[_METADATA]
    found = Column(*[*(known[field] for field in _OF_A_COLUMN), known.get(_DICTIONARY, 0)])
    if min(found.codec, found.values, found.size, found.stored, found.begin) < 0:
        raise ValueError("its footer is damaged: a number is negative")
    return b".".join(known[_PATH]).decode(), found


class _Compact:
    """Reads Thrift's compact protocol, in which footers are, into plain values: a struct is field number -> value."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._bytes(1)[0]:
            number = number + (head >> 4) if head >> 4 else self._number()
            fields[number] = self._value(head & 15, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("its footer is nested too deep")
        if kind in (1, 2):  # true and false of a field are its type
            return kind == 1
        if kind == 3:
            return self._bytes(1)[0]
        if kind in (4, 5, 6):
            return self._number()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._bytes(1)[0]
            size = head >> 4 if head >> 4 < 15 else self._varint()
            if head & 15 in (1, 2):
                return list(self._bytes(size))
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        if kind == 12:
            return self.struct(depth)
        raise ValueError(f"its footer has a value of type {kind}")

    def _bytes(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._data):
            raise ValueError("its footer ends early")
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._bytes(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("its footer has a number of more than 64 bits")

    def _number(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
