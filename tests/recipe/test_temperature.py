"""The temperature law: the total is met to the token, and nothing depends on who comes first."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ettin_data.base.errors import BuildError
from ettin_data.recipe.temperature import Member, allot
from ettin_data.sources.languages import published, sizes

counts = st.integers(0, 1 << 45) | st.integers(0, 20)
members = st.lists(st.tuples(counts, counts), min_size=1, max_size=30).map(
    lambda pairs: [Member(f"m{number:02}", *pair) for number, pair in enumerate(pairs)]
)
taus = st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]) | st.floats(0, 2)
passes = st.sampled_from([1.0, 0.5, 2.0, 4.5])


def most(given: list[Member], max_passes: float) -> int:
    return sum(int(member.available * max_passes) for member in given if member.weight)


@example([Member("a", 1, 24137856), Member("b", 274877906938, 0)], 1.75, 1.0, 1.0)  # the sum forgets the small one
@given(members, taus, passes, st.floats(0, 1))
def test_the_total_is_exact_and_no_cap_is_passed(given: list[Member], tau: float, passes: float, part: float) -> None:
    total = int(most(given, passes) * part)
    done = allot(given, total, tau, passes)
    assert sum(done.targets.values()) == total
    for share in done.shares:
        assert 0 <= share.target <= share.limit == int(share.available * passes)
        assert share.why is None or share.target in (0, share.limit)
        if share.why is None and share.target < share.limit:
            assert abs(share.target - share.uncapped) <= 1 + 1e-9 * share.uncapped


@given(members, taus, passes, st.floats(0, 1))
def test_more_weight_never_gives_less(given: list[Member], tau: float, passes: float, part: float) -> None:
    alike = [replace(member, available=given[0].available) for member in given]
    shares = sorted(allot(alike, int(most(alike, passes) * part), tau, passes).shares, key=lambda share: share.weight)
    for less, more in pairwise(shares):
        assert less.target <= more.target or less.weight == more.weight


@given(members, taus, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(
    given: list[Member], tau: float, part: float, shuffle: random.Random
) -> None:
    total = int(most(given, 1) * part)
    other = list(given)
    shuffle.shuffle(other)
    assert allot(given, total, tau) == allot(other, total, tau)


@given(members, taus, passes)
def test_everything_can_be_taken_and_not_one_token_more(given: list[Member], tau: float, passes: float) -> None:
    total = most(given, passes)
    assert all(s.target == s.limit for s in allot(given, total, tau, passes).shares if s.weight)
    with pytest.raises(BuildError, match=r"1 too few[\s\S]*raise max_passes"):
        allot(given, total + 1, tau, passes)


def test_known_numbers() -> None:
    large, small = Member("large", 10_000, 1_000_000), Member("small", 100, 30)
    proportional = allot([large, small], 1010, 1.0)
    assert proportional.targets == {"large": 1000, "small": 10}
    flat = allot([large, small], 100, 0.0)
    assert flat.targets == {"large": 70, "small": 30}
    assert [share.why for share in flat.shares] == [None, "all 30 tokens are taken"]
    assert allot([large, small], 1100, 0.5).targets == {"large": 1070, "small": 30}
    twice = allot([large, small], 1100, 0.5, max_passes=2)
    assert twice.targets == {"large": 1040, "small": 60} and twice.shares[1].passes == 2.0
    assert allot([Member("none", 0, 50), large], 7, 0.0).targets == {"large": 7, "none": 0}


@pytest.mark.parametrize(
    ("given", "tau", "passes", "said"),
    [
        ([Member("a", 1, 1), Member("a", 2, 2)], 0.5, 1.0, "'a' stands there twice"),
        ([Member("a", -1, 1)], 0.5, 1.0, "a has weight -1"),
        ([Member("a", 1, 1)], -0.5, 1.0, r"temperature of -0\.5"),
        ([Member("a", 1, 1)], float("nan"), 1.0, "temperature of nan"),
        ([Member("a", 1, 1)], 0.5, 0.0, r"max_passes 0\.0"),
        ([], 0.5, 1.0, "more than the 0 members have"),
    ],
)
def test_what_cannot_be_allotted_is_said(given: list[Member], tau: float, passes: float, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        allot(given, 1, tau, passes)


def test_mmberts_published_counts_follow_it() -> None:
    """Computed from FineWeb2's words, as `facts/mmbert.md` found by hand: 48 of the 59 languages are within 5%."""
    words, true = sizes("words"), published()["pretrain"]
    names = sorted(set(words) & set(true))
    done = allot([Member(name, words[name], 1 << 50) for name in names], sum(true[name] for name in names), 0.7)
    off = sorted(done.targets[name] / true[name] for name in names)
    middle = off[len(off) // 2]
    assert len(names) == 59 and sum(abs(each / middle - 1) <= 0.05 for each in off) >= 48


def test_a_thousand_languages_take_a_moment() -> None:
    done = allot([Member(name, size, size) for name, size in sizes("words").items()], 10**12, 0.3)
    assert sum(done.targets.values()) == 10**12
