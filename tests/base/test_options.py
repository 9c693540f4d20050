"""Options as a recipe writes them: every refusal names the key, the value and what may have been meant."""

from __future__ import annotations

from typing import Any

import pytest

from ettin_data.base import options
from ettin_data.base.errors import RecipeError
from ettin_data.base.options import Bytes, Count, Options


class Inner(Options):
    rate: float = 0.5


class Some(Options):
    window: Count = 5
    limit: Bytes = 1 << 20
    inner: Inner = Inner()
    many: dict[str, Inner] = {}
    maybe: Inner | None = None
    rows: list[Inner] = []


def test_values_and_defaults():
    read = options.read_options(Some, {"window": "16M", "limit": "64MiB", "many": {"a": {"rate": 1}}}, "some")
    assert (read.window, read.limit, read.inner.rate, read.many["a"].rate) == (16_000_000, 1 << 26, 0.5, 1)
    assert options.read_options(Some, {}, "some") == Some()


@pytest.mark.parametrize(
    ("values", "where", "parts"),
    [
        ({"windw": 1}, "some.windw", ["did you mean window"]),
        ({"kindd": 1}, "some.kindd", ["did you mean kind"]),
        ({"window": "lots"}, "some.window", ["'lots'", "837.2B"]),
        ({"window": -1}, "some.window", ["-1"]),
        ({"limit": 0}, "some.limit", ["0"]),
        ({"inner": {"rat": 1}}, "some.inner.rat", ["did you mean rate"]),
        ({"maybe": {"rat": 1}}, "some.maybe.rat", ["did you mean rate"]),
        ({"rows": [{"rat": 1}]}, "some.rows.0.rat", ["did you mean rate"]),
        ({"many": {"a": {"rat": 1}}}, "some.many.a.rat", ["did you mean rate"]),
        ({"inner": {"rate": []}, "windw": 1}, "some.", ["1 more problem"]),
        (["window"], "some", ["['window']", "mapping"]),
    ],
)
def test_refusals(values: Any, where: str, parts: list[str]):
    with pytest.raises(RecipeError) as error:
        options.read_options(Some, values, "some", also=("kind",))
    assert str(error.value.where).startswith(where)
    for part in (where, *parts):
        assert part in str(error.value)
