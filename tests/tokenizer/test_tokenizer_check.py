"""A fast library that is wrong is found out: by the start-up test, or by the sample that the referee encodes again."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer import backends as tokenizer_backends
from ettin_data.tokenizer.backends import load, self_test
from ettin_data.tokenizer.encoder import BackendMismatch, Tokenizer, TokenizerFile
from ettin_data.tokenizer.vectors import PLAIN, SPECIAL


def broken_engine(tokenizer: Tokenizer, change: Callable[[dict], object]) -> tokenizer_backends.Engine:
    """The tokenizer's engine with a fastokens that was loaded from a changed JSON."""
    import fastokens

    config = json.loads(tokenizer.file.path.read_text(encoding="utf-8"))
    change(config)
    engine = load(tokenizer.file, tokenizer.backend, tokenizer.special_tokens_in_text)
    return replace(engine, fast=fastokens.Tokenizer.from_json_str(json.dumps(config)))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["added_tokens"].pop(),
        lambda config: config["added_tokens"][-84].update(special=False),
        lambda config: config.update(normalizer=None),
        lambda config: config["pre_tokenizer"].update(add_prefix_space=True),
        lambda config: config["model"]["merges"].remove("H ello"),
    ],
    ids=["added token", "special flag", "normalizer", "prefix space", "merge"],
)
def test_self_test_catches_a_wrong_library(tokenizer: Tokenizer, change: Callable[[dict], object]) -> None:
    failure = self_test(broken_engine(tokenizer, change).call_fast, special_tokens_in_text=False)
    assert failure is not None and "expected" in failure


@pytest.mark.parametrize("special_tokens_in_text", [False, True])
def test_self_test_passes_for_the_right_ones(tokenizer_file: TokenizerFile, special_tokens_in_text: bool) -> None:
    engine = load(tokenizer_file, "fastokens", special_tokens_in_text)
    assert self_test(engine.call_fast, special_tokens_in_text) is None
    assert self_test(engine.call_referee, special_tokens_in_text) is None
    assert len(PLAIN) >= 30 and len(SPECIAL) >= 4


@pytest.fixture
def subtly_wrong(tokenizer_file: TokenizerFile, monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    """A tokenizer whose fastokens passes the start-up test but exchanges two ids."""
    tokenizer = Tokenizer(tokenizer_file, "auto")

    def exchange(config: dict) -> None:
        vocabulary = config["model"]["vocab"]
        vocabulary["Ġprotein"], vocabulary["Ġproteins"] = vocabulary["Ġproteins"], vocabulary["Ġprotein"]

    engine = broken_engine(tokenizer, exchange)
    assert self_test(engine.call_fast, special_tokens_in_text=False) is None
    monkeypatch.setattr("ettin_data.tokenizer.encoder.load", lambda *_: engine)
    return tokenizer


def documents(n: int, bad: set[int]) -> tuple[list[str], list[str]]:
    return (
        [f"source/file.jsonl#{i}" for i in range(n)],
        [f"number {i} of the {'protein' if i in bad else 'texts'}" for i in range(n)],
    )


def test_a_difference_is_found_in_the_sample(subtly_wrong: Tokenizer) -> None:
    ids, texts = documents(50, bad={37})
    encoder = replace(subtly_wrong, check_rate=1.0).encoder(7, "arxiv-0001")
    with pytest.raises(BackendMismatch) as caught:
        encoder.encode(ids, texts)
    message = str(pickle.loads(pickle.dumps(caught.value)))
    assert "'source/file.jsonl#37', first at token" in message and "split arxiv-0001" in message
    np.testing.assert_array_equal(
        encoder.encode(ids[:37], texts[:37])[0], encoder.tokenizer.encode_batch(texts[:37])[0]
    )


def test_a_small_split_is_checked_at_its_end(subtly_wrong: Tokenizer) -> None:
    ids, texts = documents(20, bad=set(range(20)))
    encoder = replace(subtly_wrong, check_rate=0.0).encoder(7, "arxiv-0001")
    encoder.encode(ids, texts)
    assert encoder.checked == 0
    with pytest.raises(BackendMismatch):
        encoder.finish()


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), seed=st.integers(0, 5))
def test_the_sample_does_not_depend_on_batches(tokenizer_file: TokenizerFile, cuts: list[int], seed: int) -> None:
    ids, texts = documents(400, bad=set())
    limits = [0, *sorted(cuts), 400]

    def checked(limits: list[int], rate: float) -> list[str]:
        encoder = Tokenizer(tokenizer_file, "fastokens", check_rate=rate).encoder(seed, "s")
        seen: list[str] = []
        check = encoder._check

        def note(document_id: str, text: str, got: np.ndarray) -> None:
            seen.append(document_id)
            check(document_id, text, got)

        encoder._check = note  # type: ignore[method-assign]
        for a, b in pairwise(limits):
            encoder.encode(ids[a:b], texts[a:b])
        assert encoder.finish() == len(seen)
        return seen

    for rate in (0.0, 0.02):
        assert checked(limits, rate) == checked([0, 400], rate)
    assert len(checked(limits, 0.0)) == 1


def test_the_sample_has_the_asked_size(tokenizer_file: TokenizerFile) -> None:
    encoder = Tokenizer(tokenizer_file, "fastokens", check_rate=0.05).encoder(0, "s")
    encoder.encode(*documents(4000, bad=set()))
    assert 140 < encoder.finish() < 260  # 200 expected, standard deviation 14
    assert encoder.backend == "fastokens"


def test_the_sample_is_of_documents_with_text(subtly_wrong: Tokenizer) -> None:
    ids, texts = documents(60, bad={41})
    encoder = subtly_wrong.encoder(0, "s")
    encoder.encode(ids, [text if i == 41 else "" for i, text in enumerate(texts)])
    with pytest.raises(BackendMismatch, match="#41"):
        encoder.finish()
    encoder = subtly_wrong.encoder(0, "s")
    encoder.encode(ids, [""] * 60)
    assert encoder.finish() == 0


def test_the_referee_is_not_checked_against_itself(tokenizer_file: TokenizerFile) -> None:
    encoder = Tokenizer(tokenizer_file, "tokenizers", check_rate=1.0).encoder(0, "s")
    encoder.encode(*documents(10, bad=set()))
    assert encoder.finish() == 0 and encoder.backend == "tokenizers"


def test_an_empty_split_has_nothing_to_check(tokenizer: Tokenizer) -> None:
    encoder = tokenizer.encoder(0, "s")
    flat, offsets = encoder.encode([], [])
    assert flat.size == 0 and offsets.tolist() == [0] and encoder.finish() == 0


def test_an_unproven_version_is_not_used(tokenizer_file: TokenizerFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_backends, "FASTOKENS_VERSION", "0.0.1")
    load.cache_clear()
    try:
        described = Tokenizer(tokenizer_file).describe()
        assert described["backend"] == "tokenizers" and "proven is 0.0.1" in described["backend_note"]
        with pytest.raises(TokenizerError, match="fastokens cannot be used"):
            Tokenizer(tokenizer_file, "fastokens").encode_batch(["x"])
    finally:
        load.cache_clear()
