"""JSON that others may have written: how large, how deep and how much it is, is known before it is parsed.

A parser makes some 70 bytes of the three of `[],`, and calls itself for every bracket, and so does whatever looks at
the result. What passes here can be held in memory, walked by recursion, written again and printed. Numbers are finite
and of a size that arithmetic takes; text is Unicode, without halves of surrogate pairs, which no file can be named by.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from ettin_data.base.files import MOST_TEXT

DEEPEST = 64
MOST_VALUES = 1 << 24
"""The index of 100,000 shards has 3 million; so many empty lists take 1.2 GB."""

_LONG_NUMBER = b"0" * 19
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE, _OPENS, _CLOSES = 2, 1, -1
_MARKS = np.zeros(256, np.int8)
_MARKS[list(b'"')], _MARKS[list(b"[{")], _MARKS[list(b"]}")] = _QUOTE, _OPENS, _CLOSES


def parse(data: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises `ValueError` for what is no JSON, or beyond the bounds."""
    if len(data) > MOST_TEXT:
        raise ValueError(f"{len(data):,} bytes of JSON, at most {MOST_TEXT:,} are read")
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if values > MOST_VALUES:
        raise ValueError(f"JSON of up to {values:,} values, at most {MOST_VALUES:,} are read")
    if (deep := _depth(data)) > DEEPEST:
        raise ValueError(f"JSON nested {deep:,} deep, at most {DEEPEST} are read")
    whole = _integer if _LONG_NUMBER in data.translate(_ZEROS) else None
    value = json.loads(data.decode("utf-8"), parse_constant=_refused, parse_float=_finite, parse_int=whole)
    if _HALF.search(data):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a half raises `UnicodeEncodeError`, a `ValueError`
    return value


def _depth(data: bytes) -> int:
    """How deep lists and objects are nested in a JSON text: brackets outside of strings, counted without parsing."""
    if b"\\" in data:  # from left to right, so that what is left of `\\\\"` ends a string, and of `\\"` nothing is left
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = _MARKS[np.frombuffer(data, np.uint8)]
    marks = marks[marks != 0]  # only quotes and brackets, in their order
    quotes = marks == _QUOTE
    outside = np.cumsum(quotes) % 2 == 0
    return int(np.cumsum(np.where(outside & ~quotes, marks, 0)).max(initial=0))


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > 39:  # digits of what 128 bits hold
        raise ValueError(f"the number {text[:40]}… is too large")
    return int(text)
