"""JSON of others: what is within the bounds comes as `json` gives it, and nothing beyond them is parsed."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base import bounded_json

TEXT = st.text(st.characters(codec="utf-8")) | st.sampled_from(['"', "\\", "[[[", '\\"]', "}{", "\\\\"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 100), 1 << 100) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def depth(value: object) -> int:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if members is None else 1 + max(map(depth, members), default=0)


@given(JSON, st.booleans())
def test_what_is_json_is_read_as_json_reads_it(value: object, plain: bool) -> None:
    data = json.dumps(value, ensure_ascii=plain).encode()
    assert bounded_json.parse(data) == value
    assert bounded_json._depth(data) == depth(value)  # brackets in strings are none


BEYOND = {
    "10,000 deep": b"[" * 10_000 + b"]" * 10_000,
    "as deep, and not closed": b'{"a":' * 300_000,
    "just too deep": b"[" * 65 + b"]" * 65,
    "20 million values": b"[" + b"[]," * 20_000_000 + b"[]]",
    "no number": b"[NaN]",
    "infinite": b"[-Infinity]",
    "infinite by its exponent": b'{"a": 1e400}',
    "60 digits": b"[" + b"9" * 60 + b"]",
    "5,000 digits": b"[" + b"9" * 5000 + b"]",
    "half a pair": b'["\\ud800"]',
    "not UTF-8": b'["\xff"]',
    "nothing": b"",
}


@pytest.mark.parametrize("data", BEYOND.values(), ids=BEYOND.keys())
def test_what_is_beyond_the_bounds_is_refused_at_once(data: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError):
        bounded_json.parse(data)
    assert time.monotonic() - started < 5


def test_the_bounds_themselves_are_within() -> None:
    deep = b"[" * 64 + b"]" * 64
    assert json.dumps(bounded_json.parse(deep)).encode() == deep
    assert bounded_json.parse(str((1 << 127) - 1).encode()) == (1 << 127) - 1
