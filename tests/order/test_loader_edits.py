"""The loader's edits: what they promise, and what upstream's loader does where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modernbert import CLS, PAD, SEP, as_seen, form, loader
from record_kit import run_record

from ettin_data.base.errors import OrderError
from ettin_data.order.loader_edits import RULES, Form, Loader, canonical, without_padding
from ettin_data.tokenizer.vocabulary import MODERNBERT

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
    np.testing.assert_array_equal(canonical(seen, MODERNBERT, limit), canonical(stored, MODERNBERT, limit))
    done = loader(limit).edits(stored, kind)
    kept = tokens[: len(tokens) - done.cut]
    assert seen.tolist() == [CLS] * done.opened + kept + [SEP] * done.closed


@given(tokens=STORED, limit=LIMIT)
@settings(max_examples=100, deadline=None)
def test_a_stored_sample_only_loses_its_end(tokens: list[int], limit: int) -> None:
    """Design 5.2 samples: unchanged when they fit; else cut, with [SEP] put back for encoders only."""
    stored = array(tokens)
    if len(tokens) <= limit:
        assert as_seen(stored, "encoder", limit).tolist() == as_seen(stored, "decoder", limit).tolist() == tokens
        assert not loader(limit).edits(stored, "encoder").cut
    else:
        assert as_seen(stored, "decoder", limit).tolist() == tokens[:limit]
        assert as_seen(stored, "encoder", limit).tolist() == [*tokens[: limit - 1], SEP]


@given(tokens=STORED, limit=LIMIT, pads=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_canonical_forgives_padding_and_framing(tokens: list[int], limit: int, pads: int) -> None:
    body = canonical(array(tokens), MODERNBERT)
    assert body.tolist() == tokens[1:-1]
    padded = array(tokens + [PAD] * pads)
    np.testing.assert_array_equal(canonical(padded, MODERNBERT), body)
    assert without_padding(padded, PAD).tolist() == tokens
    np.testing.assert_array_equal(canonical(array(tokens), MODERNBERT, limit), body[: limit - 2])


def test_canonical_forgives_nothing_else() -> None:
    row = array([CLS, 1, 2, 3, SEP])
    for other in ([CLS, 1, 2, 4, SEP], [CLS, 1, 2, SEP], [CLS, CLS, 1, 2, 3, SEP], [CLS, 1, PAD, 2, 3, SEP]):
        assert canonical(array(other), MODERNBERT).tolist() != canonical(row, MODERNBERT).tolist()
    assert (
        canonical(array([CLS, 1, 2, 4, SEP]), MODERNBERT, 4).tolist() == canonical(row, MODERNBERT, 4).tolist()
    )  # both cut before it


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
    np.testing.assert_array_equal(
        canonical(array(theirs), MODERNBERT, limit), canonical(array(tokens), MODERNBERT, limit)
    )


def test_forms() -> None:
    stored = array([CLS, 1, 2, 3, 4, SEP])
    assert form().apply(stored) is stored
    assert form("encoder", 4).apply(stored).tolist() == [CLS, 1, 2, SEP]
    assert form("decoder", 4).apply(stored).tolist() == [CLS, 1, 2, 3]
    assert str(form("decoder", 4)) == "as decoders see them at max_seq_len 4" and str(form()) == "as stored"
    with pytest.raises(OrderError, match="no room"):
        as_seen(stored, "encoder", 1)


@given(tokens=BODY, kind=KIND, limit=LIMIT, rule=st.sampled_from(sorted(RULES)))
@settings(max_examples=300, deadline=None)
def test_every_rule_knows_what_it_leaves_alone(tokens: list[int], kind, limit: int, rule: str) -> None:
    stored, chosen = array(tokens), loader(limit, rule)
    seen = chosen.seen(stored, kind)
    assert len(seen) <= limit and seen.dtype == stored.dtype
    if tokens:
        first, last, lengths = stored[:1], stored[-1:], np.array([len(stored)])
        assert Form(kind, chosen).keeps(first, last, lengths).tolist() == [seen.tolist() == tokens]
    done = chosen.edits(stored, kind)
    assert len(seen) == len(tokens) - done.cut + done.opened + done.closed
    if rule == "as_stored":
        assert seen.tolist() == tokens[:limit] and not done.opened and not done.closed


def test_the_rule_is_the_runs() -> None:
    other = replace(MODERNBERT, digest="0" * 64, open=0, close=1, pad=2)
    run = run_record({}, vocabulary=other.to_json())
    run.recipe["loader"] = {"rule": "as_stored", "max_seq_len": 500}
    assert Loader.of_run(run) == Loader(other, "as_stored", 500)
    assert Loader.of_run(None) == loader()  # published data
    run.recipe["loader"]["rule"] = "etin"
    with pytest.raises(OrderError, match=r"no loader's rule 'etin'[\s\S]*did you mean ettin"):
        Loader.of_run(run)


def test_runs_from_before_they_said_it() -> None:
    for length, limit in ((8000, 7999), (1024, 1024)):
        run = run_record({}, length=length, vocabulary=None)
        del run.recipe["loader"]
        assert Loader.of_run(run) == loader(limit)
    with pytest.raises(OrderError, match="does not say which ids frame"):
        Loader.of_run(run_record({}, vocabulary=None, tokenizer={"sha256": "1" * 64}))
