"""Where texts may be cut: proved from the file, and then no cut changes an id."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile
from ettin_data.tokenizer.split_law import BETWEEN_LETTERS, WHOLE, law_of, portions

PARTS = [
    " ", "  ", "   ", "\n", "\n\n", "\n\n\n\n", "\t", "\t\t\t", "\u2581", "\u2581\u2581", "a", "dog", " lazy", "über",
    "日本", "12345", "'s", "<h1>", "<mask>", "<bos>", "[@BOS@]", "</td>", "\r\n", "\u0301", "\x00", "\ufeff", "😀",
    "x y", "The fox",
]  # fmt: skip
texts = st.lists(st.lists(st.sampled_from(PARTS) | st.text(max_size=2), max_size=60).map("".join), max_size=4)
KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "sentencepiece": made_up.sentencepiece,
    "GPT-4": made_up.byte_level,
    "GPT-2": lambda: made_up.byte_level(None),
}


@pytest.fixture(params=list(KINDS), scope="module")
def referee(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return made_up.opened(tmp_path_factory.mktemp("law"), KINDS[request.param](), backend="tokenizers")


def rows(encoded: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    return [encoded[0][a:b].tolist() for a, b in pairwise(encoded[1])]


@given(texts=texts, limit=st.integers(1, 40))
def test_pieces_have_the_ids_of_the_text(referee: Tokenizer, texts: list[str], limit: int) -> None:
    law = referee._engine.law
    assert law.cut is not None
    made: list[list[int]] = [[] for _ in texts]
    for group, owners in portions(texts, limit, law):
        for owner, ids in zip(owners, rows(referee.encode_batch(group)), strict=True):
            made[owner] += ids
    assert made == rows(referee.encode_batch(texts))


@given(texts=texts, limit=st.integers(1, 40))
def test_pieces_are_the_text_and_short(referee: Tokenizer, texts: list[str], limit: int) -> None:
    law = referee._engine.law
    assert all("".join(law.pieces(text, limit)) == text for text in texts)
    assert max(map(len, law.pieces("word word " * 100, limit))) <= limit + len("word ")


def test_what_is_proved_has_a_name() -> None:
    assert law_of(made_up.byte_level()) is law_of(made_up.byte_level(None)) is BETWEEN_LETTERS
    assert law_of(made_up.sentencepiece()).name == (
        "before spaces that follow something else, around runs of newlines, around runs of tabs"
    )


def changed(make: Callable[[], dict[str, Any]], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = make()
    change(content)
    return content


def adding(text: str, **flags: bool) -> Callable[[dict[str, Any]], object]:
    token = {"id": 5000, "content": text, "single_word": False, "lstrip": False, "rstrip": False}
    return lambda content: content["added_tokens"].append({**token, "normalized": False, "special": False, **flags})


@pytest.mark.parametrize("make", [made_up.sentencepiece, made_up.byte_level])
@pytest.mark.parametrize(
    "change",
    [
        adding("two words"),
        adding("end", rstrip=True),
        adding("start", lstrip=True),
        adding("lone", single_word=True),
        lambda content: content["model"].update(dropout=0.1),
        lambda content: content.update(normalizer={"type": "Lowercase"}),
        lambda content: content.update(pre_tokenizer={"type": "Whitespace"}),
    ],
    ids=["across", "swallows behind", "swallows before", "single word", "dropout", "normalizer", "pre-tokenizer"],
)
def test_nothing_is_proved_where_it_may_not_hold(make: Callable[[], dict[str, Any]], change: Any) -> None:
    content = changed(make, change)
    law = law_of(content)
    assert law is WHOLE or "spaces" not in law.name


def test_an_entry_across_a_place_takes_that_place_out() -> None:
    assert "spaces" not in law_of(made_up.sentencepiece(across=True)).name
    content = made_up.sentencepiece()
    content["model"]["vocab"]["x\n"] = 4999
    assert law_of(content).name == "before spaces that follow something else, around runs of tabs"
    content["model"]["ignore_merges"] = True
    assert law_of(content) is WHOLE


def test_modernberts_file_has_the_law_that_is_taken_for_it(tokenizer_file: TokenizerFile) -> None:
    content = json.loads(tokenizer_file.path.read_text(encoding="utf-8"))
    assert law_of(content) is BETWEEN_LETTERS


def test_a_long_text_is_encoded_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made_up.opened(tmp_path, made_up.sentencepiece())
    long = "".join(made_up.TEXT)
    whole = rows(tokenizer.encode_batch([long, "", "x"]))
    monkeypatch.setattr("ettin_data.tokenizer.backends.PORTION", 500)
    assert rows(tokenizer.encode_batch([long, "", "x"])) == whole
    assert whole == rows(tokenizer.with_backend("tokenizers").encode_batch([long, "", "x"]))
