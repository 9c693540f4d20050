"""JSON files that carry the digest of their own text, so that a change of one byte anywhere in them shows.

The last member of the object is `"self": "<SHA-256>"`, taken over every byte before it. A digest of the parsed content
would not see a changed blank, `1e-05` written as `1E-05`, or a swapped pair of members; this one sees every byte, and
the file stays ordinary JSON that anything can read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ettin_data.base import bounded_json, files
from ettin_data.base.errors import ShardError

_SEAL = re.compile(rb',\n "self": "([0-9a-f]{64})"\n\}\n')
_MANY = 100
_SEAL_BYTES = len(b',\n "self": ""\n}\n') + 64


def seal(body: Mapping[str, Any]) -> bytes:
    """The text of a file that holds `body` (not empty, without a member `self`) and its digest."""
    if not body or "self" in body:
        raise ValueError("a sealed object has members, and `self` is not one of them")
    members = (f"{json.dumps(name)}: {_indented(value)}" for name, value in body.items())
    text = ("{\n " + ",\n ".join(members)).encode()
    return text + f',\n "self": "{hashlib.sha256(text).hexdigest()}"\n}}\n'.encode()


def unseal(data: bytes, where: object) -> dict[str, Any]:
    """The object without its digest. Raises `ShardError` when the text is not what was sealed, or is no JSON."""
    head, found = data[:-_SEAL_BYTES], _SEAL.fullmatch(data[-_SEAL_BYTES:])
    if found is None or hashlib.sha256(head).hexdigest() != found[1].decode():
        raise ShardError(
            f"{Path(str(where)).name} is damaged", where=where, why="its text does not have the digest at its end"
        )
    try:
        body: dict[str, Any] = bounded_json.parse(data)
        del body["self"]
    except (ValueError, TypeError, KeyError) as error:  # a seal proves that nothing changed, not who wrote it
        raise ShardError(f"{Path(str(where)).name} is damaged", where=where, why=error) from error
    return body


def digest(data: bytes) -> str:
    """The digest that a sealed text carries; it stands for the whole file. `data` is the text or its end."""
    found = _SEAL.fullmatch(data[-_SEAL_BYTES:])
    if found is None:
        raise ValueError("not a sealed text")
    return found[1].decode()


def write(path: Path, body: Mapping[str, Any]) -> str:
    """Seal `body` into a file: atomic, and on the disk when this returns. A file that is the same is left alone.

    Returns its digest.
    """
    data = seal(body)
    if not (path.is_file() and path.read_bytes() == data):
        files.write(path, data)
    return digest(data)


def read(path: Path) -> dict[str, Any]:
    """What a sealed file holds. Raises `OSError` when it cannot be read, or `ShardError` when it is damaged."""
    try:
        return unseal(files.read(path), path)
    except files.NotOrdinary as error:
        raise ShardError(f"{Path(path).name} cannot be read", where=path, why=error) from error


def _indented(value: Any) -> str:
    """A member as `json.dumps` with `indent=1` has it; of long lists and text in a tenth of its time."""
    if isinstance(value, str) and len(value) > _MANY and value.isascii() and "\x7f" not in value:
        return orjson.dumps(value).decode()
    if isinstance(value, list) and len(value) > _MANY and all(type(each) in (str, int) for each in value):
        return "[\n  " + json.dumps(value, separators=(",\n  ", ":"))[1:-1] + "\n ]"
    return json.dumps(value, indent=1, default=_plain).replace("\n", "\n ")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a JSON file")
