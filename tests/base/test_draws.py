import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base import draws


def test_known_values():
    """Draws are part of the format: a change of these numbers changes every mix ever made."""
    assert draws.key64("ab", "c") != draws.key64("a", "bc")
    assert draws.key64("1") != draws.key64(1)
    assert draws.document_key("doc-1") == 0xC11D9F2DEEE2F041
    assert draws.key64("a", 1, b"x") == 0xD603F696DA02DF7C
    assert draws.draws(draws.document_keys(["doc-1"]), 42, "mix").tolist() == [0xD0B323B94AC60D8E]
    keys = draws.document_keys(["a", "b", "ü", ""])
    assert keys.dtype == np.uint64
    assert keys.tolist() == [draws.document_key(name) for name in ["a", "b", "ü", ""]]


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=200), st.text(max_size=5))
def test_draws_are_a_bijection(keys, purpose):
    drawn = draws.draws(np.array(keys, np.uint64), purpose)
    assert len(set(drawn.tolist())) == len(keys)


def test_draws_are_uniform_and_purposes_independent():
    keys = draws.document_keys([f"document {i}" for i in range(100_000)])
    first, second = (draws.draws(keys, 42, purpose) / 2.0**64 for purpose in ("mix", "validation"))
    assert abs(first.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert (np.histogram(first, 10)[0] > 9_500).all()
