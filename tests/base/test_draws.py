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


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 2**62), min_size=1, max_size=200))
def test_no_two_records_of_a_file_have_the_same_key(file, positions):
    at = np.array(sorted(positions), np.int64)
    assert len(set(draws.place_keys(np.full(len(at), file, np.uint64), at).tolist())) == len(at)


def test_the_keys_of_places_are_known():
    """They decide who is held out: another key is another mix, whose format has to be raised."""
    files, positions = np.array([0, 0, 2**64 - 1], np.uint64), np.array([0, 1, 1], np.int64)
    assert draws.place_keys(files, positions).tolist() == [0, 16294208416658607535, 16490336266968443936]
