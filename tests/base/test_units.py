import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base.errors import RecipeError
from ettin_data.base.units import count, duration, parse_bytes, parse_count, size


@pytest.mark.parametrize(
    ("text", "value"),
    [("837.2B", 837_200_000_000), ("5_000_000", 5_000_000), ("1.7T", 1_700_000_000_000), ("3e6", 3_000_000), (12, 12)],
)
def test_counts_as_people_write_them(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["", "many", "-5", "5X", "1.2.3", None, True, [1]])
def test_not_a_count(text):
    with pytest.raises(RecipeError, match="is not a count"):
        parse_count(text)


@given(st.integers(0, 10**15))
def test_a_plain_number_is_itself(number):
    assert parse_count(number) == parse_count(f"{number:,}") == parse_count(f"{number:_}") == number


@given(st.integers(0, 10**15))
def test_what_is_shown_can_be_read(number):
    assert abs(parse_count(count(number)) - number) <= 0.051 * 1000 ** ((len(str(number)) - 1) // 3) + 0.5


def test_sizes_and_times():
    assert parse_bytes("64MiB") == 1 << 26
    assert parse_bytes("1.5GB") == 1_500_000_000
    assert size(1 << 26) == "64.0 MiB"
    assert [duration(s) for s in (45, 200, 7500, 1_047_600)] == ["45s", "3m20s", "2h05m", "12d03h"]
