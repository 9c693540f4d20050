"""The loader's edits: what they promise, and what upstream's loader does where it is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.order.loader_edits import CLS, PAD, SEP, Form, as_seen, canonical, edits, without_padding

BODY = st.lists(st.sampled_from([5, 6, 7, CLS, SEP]), max_size=12)
STORED = st.lists(st.integers(0, 50_000), max_size=12).map(lambda body: [CLS, *body, SEP])
KIND = st.sampled_from(["encoder", "decoder"])
LIMIT = st.integers(2, 14)


def array(tokens: list[int]) -> np.ndarray:
    return np.array(tokens, np.uint16)


@given(tokens=BODY, kind=KIND, limit=LIMIT)
@settings(max_examples=200, deadline=None)
def test_what_the_model_sees(tokens: list[int], kind, limit: int) -> None:
    stored = array(tokens)
    seen = as_seen(stored, kind, limit)
    assert stored.tolist() == tokens and seen.dtype == stored.dtype
    assert len(seen) <= limit and seen[0] == CLS
    assert kind == "decoder" or seen[-1] == SEP
    np.testing.assert_array_equal(as_seen(seen, kind, limit), seen)  # seen twice is seen once
    np.testing.assert_array_equal(canonical(seen, limit), canonical(stored, limit))
    done = edits(stored, kind, limit)
    kept = tokens[: len(tokens) - done.cut]
    assert seen.tolist() == [CLS] * done.cls_inserted + kept + [SEP] * done.sep_forced


@given(tokens=STORED, limit=LIMIT)
@settings(max_examples=100, deadline=None)
def test_a_stored_sample_only_loses_its_end(tokens: list[int], limit: int) -> None:
    """Design 5.2 samples: unchanged when they fit; else cut, with [SEP] put back for encoders only."""
    stored = array(tokens)
    if len(tokens) <= limit:
        assert as_seen(stored, "encoder", limit).tolist() == as_seen(stored, "decoder", limit).tolist() == tokens
        assert not edits(stored, "encoder", limit).cut
    else:
        assert as_seen(stored, "decoder", limit).tolist() == tokens[:limit]
        assert as_seen(stored, "encoder", limit).tolist() == [*tokens[: limit - 1], SEP]


@given(tokens=STORED, limit=LIMIT, pads=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_canonical_forgives_padding_and_framing(tokens: list[int], limit: int, pads: int) -> None:
    body = canonical(array(tokens))
    assert body.tolist() == tokens[1:-1]
    padded = array(tokens + [PAD] * pads)
    np.testing.assert_array_equal(canonical(padded), body)
    assert without_padding(padded).tolist() == tokens
    np.testing.assert_array_equal(canonical(array(tokens), limit), body[: limit - 2])


def test_canonical_forgives_nothing_else() -> None:
    row = array([CLS, 1, 2, 3, SEP])
    for other in ([CLS, 1, 2, 4, SEP], [CLS, 1, 2, SEP], [CLS, CLS, 1, 2, 3, SEP], [CLS, 1, PAD, 2, 3, SEP]):
        assert canonical(array(other)).tolist() != canonical(row).tolist()
    assert canonical(array([CLS, 1, 2, 4, SEP]), 4).tolist() == canonical(row, 4).tolist()  # both cut before it


def upstream(tokens: list[int], limit: int) -> list[int]:
    """What AnswerDotAI/ModernBERT's `NoStreamingDataset` gives, in words: front, end where it is missing, then cut."""
    if tokens[0] != CLS:
        tokens = [CLS, *tokens][:limit]
    if tokens[-1] != SEP:
        tokens = [*tokens[: limit - 1], SEP]
    return tokens[:limit]


@given(tokens=st.lists(st.sampled_from([5, 6, CLS, SEP]), min_size=1, max_size=12), limit=st.integers(3, 14))
@settings(max_examples=200, deadline=None)
def test_upstreams_loader_differs_in_the_last_token_of_a_cut_row_only(tokens: list[int], limit: int) -> None:
    theirs = upstream(tokens, limit)
    ours = as_seen(array(tokens), "encoder", limit).tolist()
    assert ours == theirs or (len(tokens) > limit and ours[:-1] == theirs[:-1])
    np.testing.assert_array_equal(canonical(array(theirs), limit), canonical(array(tokens), limit))


def test_forms() -> None:
    stored = array([CLS, 1, 2, 3, 4, SEP])
    assert Form().apply(stored) is stored
    assert Form("encoder", 4).apply(stored).tolist() == [CLS, 1, 2, SEP]
    assert Form("decoder", 4).apply(stored).tolist() == [CLS, 1, 2, 3]
    assert str(Form("decoder", 4)) == "as decoders see them at max_seq_len 4" and str(Form()) == "as stored"
    with pytest.raises(ValueError, match="no room"):
        as_seen(stored, "encoder", 1)
