"""The packed law against a model of the packer (`reference.py`)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import packed_steps

from ettin_data.base.errors import OrderError
from ettin_data.order.laws import Packed, Samples, steps


def samples(lengths: list[int]) -> Samples:
    return Samples(np.array([len(lengths)], np.int64), np.array(lengths, np.int64))


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40) | st.integers(3, 8), max_size=300),
    world=st.sampled_from([1, 2, 3, 4, 8]),
    micro=st.integers(1, 3),
    rows=st.integers(1, 5),
    length=st.integers(4, 32),
    buffer=st.none() | st.integers(5, 60),
    warm=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4000)),
    seed=st.integers(0, 100),
    epoch=st.integers(0, 2),
    given_before=st.sampled_from([0, 17, 900]),
)
def test_the_law_is_the_packer(lengths, world, micro, rows, length, buffer, warm, seed, epoch, given_before):
    if warm and warm[0] >= rows:
        warm = None
    warmup = {} if warm is None else {"warmup_batch": warm[0] * micro, "warmup_tokens": warm[1], "given": given_before}
    law = Packed(length, world * micro * rows, world, micro, seed, epoch, buffer, **warmup)
    made = [[row.tolist() for row in step] for step in steps(law, samples(lengths))]
    assert made == packed_steps(law, lengths)
    used = [n for step in made for row in step for n in row]
    assert len(set(used)) == len(used)
    for step in made:
        for row in step:
            assert row and sum(min(lengths[n], length) for n in row) <= law.width
    assert [[row.tolist() for row in step] for step in steps(law, samples(lengths), 1, 3)] == made[1:3]


def test_the_base_models_phase_two_is_packed_densely() -> None:
    """The parameters of mmBERT base, scaled down in number only: nearly nothing is left free."""
    rng = np.random.default_rng(5)
    lengths = np.clip(rng.lognormal(6, 1.2, 4608 * 20), 20, 9000).astype(np.int64)
    law = Packed(8192, 4608, 8, 6)
    data = Samples(np.array([len(lengths)]), lengths)
    (one,) = steps(law, data, 0, 1)
    assert len(one) == 8 * 96 and law.width == 49_152
    held = np.array([np.minimum(lengths[row], 8192).sum() for row in one])
    assert held.max() <= law.width and held.mean() > 0.98 * law.width


def test_a_warm_up_grows_from_its_first_batch_to_the_whole() -> None:
    law = Packed(64, 96, 2, 4, warmup_batch=4, warmup_tokens=40_000)
    counts = [law.rows_after(tokens) for tokens in range(0, 30_000, 50)]
    assert counts[0] == 1 and counts[-1] == law.rows == 12 and counts == sorted(counts) and len(set(counts)) == 12


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"length": 0}, "length 0"),
        ({"length": 8, "batch": 9, "world": 2}, "gives no rows"),
        ({"length": 8, "batch": 8, "world": 2, "micro": 5}, "gives no rows"),
        ({"length": 8, "batch": 8, "world": 1, "micro": 1, "buffer": 4}, "buffer of 4"),
        ({"length": 8, "warmup_batch": 48}, "one of the two"),
        ({"length": 8, "warmup_batch": 50, "warmup_tokens": 9}, "warm-up from a batch of 50"),
        ({"length": 8, "warmup_batch": 576, "warmup_tokens": 9}, "warm-up from a batch of 576"),
    ],
)
def test_parameters_that_no_loader_takes(parameters, said: str) -> None:
    with pytest.raises(OrderError, match=said):
        Packed(**parameters)


def test_lengths_are_needed() -> None:
    for lengths in (None, np.ones(3, np.int64)):
        with pytest.raises(OrderError, match="length of each sample"):
            list(steps(Packed(8), Samples(np.array([5]), lengths)))
