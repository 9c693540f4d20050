"""What somebody may have written into the files of a run: every field of every JSON and parquet file, one at a time."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RAW = "\u0001raw\u0001"
Place = tuple[str | int, ...]

DEEP = "[" * 10_000 + "]" * 10_000
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a word": "x",
    "a path": "../../../../etc/passwd",
    "an escape": "\x1b]0;title\x07\u202e[/x]\x00",
    "a long word": "x" * 1_000_000,
    "nothing": "",
    "zero": 0,
    "a fraction": 0.5,
    "negative": -1,
    "31 bits": 1 << 31,
    "62 bits": 1 << 62,
    "huge": 10**30,
    "a list": [],
    "an object": {},
    "200,000 entries": [0] * 200_000,
    "200,000 members": {f"k{i}": i for i in range(200_000)},
}
TEXTS = {"NaN": "NaN", "infinite": "1e400", "minus infinite": "-Infinity", "10,000 deep": DEEP, "half": '"\\ud800"'}
"""What `json.dumps` would not write."""

OTHERS: dict[str, Callable[[Any], Any]] = {
    "one more": lambda value: value + (1 if isinstance(value, int) else value[:1]),
    "twice": lambda value: value * 2,
    "backwards": lambda value: value[::-1],
    "one fewer": lambda value: value - 1 if isinstance(value, int) else value[:-1],
    "as a word": str,
    "in a list": lambda value: [value],
    "renamed": lambda value: {f"{name}x": each for name, each in value.items()},
    "mixed up": lambda value: dict(zip(value, [*list(value.values())[1:], *list(value.values())[:1]], strict=True)),
}
"""What is made of the value that is there, where it can be."""


@dataclass(frozen=True)
class Mutation:
    """One change of one file: where, which kind, and whether a value is another one then."""

    file: str
    place: str
    kind: str
    data: bytes
    changes: bool

    def __str__(self) -> str:
        return f"{self.file} {self.place}: {self.kind}"


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """The place of every value in a JSON value, the whole first."""
    yield at
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in members:
        yield from places(each, (*at, name))


def mutate_json(path: Path, name: str, rng: np.random.Generator, sealed: bool) -> Mutation:
    """One field changed at random; the file carries the digest of its own text where it did, if `sealed`."""
    data = path.read_bytes()
    body = json.loads(data)
    seal = body.pop("self", None)
    every = list(places(body))
    while True:
        place = every[int(rng.integers(len(every)))]
        kind = str(rng.choice([*VALUES, *TEXTS, *OTHERS, "missing"]))
        changed, raw = _changed(copy.deepcopy(body), place, kind)
        if changed is not None:
            break
    indent, ordered = 1 if seal or name.startswith("order/") else None, name.endswith("index.json")
    text = json.dumps(changed, indent=indent, sort_keys=ordered)
    text = text.replace(json.dumps(RAW), raw)
    if seal and text.endswith("\n}"):
        head = text[: -len("\n}")].encode()
        seal = hashlib.sha256(head).hexdigest() if sealed else seal
        text = f'{head.decode()},\n "self": "{seal}"\n}}\n'
    differs = _loaded(text) != _loaded(data.decode()) if sealed else text.encode() != data
    return Mutation(name, _shown(place), kind, text.encode(), differs)


def _loaded(text: str) -> Any:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(body, dict):
        body.pop("self", None)
    return body


def _shown(place: Place) -> str:
    return ".".join(map(str, place)) or "(all)"


def _changed(body: Any, place: Place, kind: str) -> tuple[Any, str]:
    """The body with another value at a place, and the text that stands for `RAW`; None where that cannot be."""
    parent = body
    for part in place[:-1]:
        parent = parent[part]
    value = parent[place[-1]] if place else body
    raw = TEXTS.get(kind, "")
    if kind == "missing":
        if not place:
            return None, ""
        del parent[place[-1]]
        return body, ""
    try:
        new = VALUES[kind] if kind in VALUES else RAW if kind in TEXTS else OTHERS[kind](value)
    except (TypeError, AttributeError, ValueError):
        return None, ""
    if new is value or (type(new) is type(value) and new == value):
        return None, ""
    if not place:
        return new, raw
    parent[place[-1]] = new
    return body, raw


# ---------------------------------------------------------------------------------------------------------------------
# parquet

COLUMNS: dict[str, Callable[[pa.ChunkedArray], Any]] = {
    "words": lambda column: pa.array([str(value) for value in column.to_pylist()]),
    "fractions": lambda column: pa.array(np.array(column.to_pylist(), float) + 0.5),
    "not a number": lambda column: pa.array(np.full(len(column), np.nan)),
    "nulls": lambda column: pa.array([None, *column.to_pylist()[1:]], column.type),
    "lists": lambda column: pa.array([[value] for value in column.to_pylist()]),
    "objects": lambda column: pa.array([{"a": value} for value in column.to_pylist()]),
    "narrow": lambda column: pa.array(np.array(column.to_pylist(), np.uint64).astype(np.int8)),
    "negative": lambda column: _first(column, -1),
    "huge": lambda column: _first(column, np.iinfo(column.type.to_pandas_dtype()).max),
    "one more": lambda column: _first(column, int(column[0].as_py()) + 1),
    "last is 31 bits": lambda column: _last(column, (1 << 31) - 1),
}
TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "no rows": lambda table: table.slice(0, 0),
    "a row fewer": lambda table: table.slice(0, len(table) - 1),
    "a row more": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "backwards": lambda table: table.take(np.arange(len(table))[::-1]),
    "200,000 rows": lambda table: table.take(np.arange(200_000) % max(len(table), 1)),
    "a column more": lambda table: table.append_column("more", pa.array(np.zeros(len(table)))),
    "row groups": lambda table: table,
}
FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "cut": lambda data: data[: len(data) // 2],
    "magic": lambda data: b"PAR1" + data[4:-8] + b"\xff\xff\xff\x7fPAR1",
    "doubled": lambda data: data + data,
}


def _first(column: pa.ChunkedArray, value: int) -> pa.Array:
    kind = pa.int64() if value < 0 and "uint" in str(column.type) else column.type
    return pa.array([value, *column.to_pylist()[1:]], kind)


def _last(column: pa.ChunkedArray, value: int) -> pa.Array:
    return pa.array([*column.to_pylist()[:-1], value], column.type)


def mutate_parquet(path: Path, name: str, rng: np.random.Generator) -> Mutation:
    """A column, the rows, or the bytes of a table changed at random."""
    data, table = path.read_bytes(), pq.read_table(path, partitioning=None)
    while True:
        kind = str(rng.choice([*COLUMNS, *TABLES, *FILES, "a flipped byte", "missing", "renamed"]))
        at = int(rng.integers(table.num_columns))
        column = table.column_names[at]
        try:
            changed = _changed_file(data, table, kind, at, rng)
        except (pa.ArrowException, ValueError, TypeError, IndexError, OverflowError):
            continue
        if changed is not None and changed != data:
            return Mutation(name, column, kind, changed, True)


def _changed_file(data: bytes, table: pa.Table, kind: str, at: int, rng: np.random.Generator) -> bytes | None:
    if kind in FILES:
        return FILES[kind](data)
    if kind == "a flipped byte":
        flipped = bytearray(data)
        flipped[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        return bytes(flipped)
    if kind == "missing":
        changed = table.remove_column(at)
    elif kind == "renamed":
        changed = table.rename_columns([f"{name}x" if i == at else name for i, name in enumerate(table.column_names)])
    elif kind in TABLES:
        changed = TABLES[kind](table)
    else:
        changed = table.set_column(at, table.column_names[at], COLUMNS[kind](table.column(at)))
    sink = pa.BufferOutputStream()
    pq.write_table(changed, sink, row_group_size=3 if kind == "row groups" else None)
    return sink.getvalue().to_pybytes()
