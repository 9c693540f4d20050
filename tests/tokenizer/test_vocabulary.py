"""What a tokenizer is to everything behind it: by role, from its file, through JSON and back."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile, resolve
from ettin_data.tokenizer.vocabulary import BERT, MODERNBERT, Frame, Vocabulary, read_vocabulary

BOS = Frame("<bos>", "<eos>", "<pad>", "<mask>")


def file_of(tokens: list[str], added: list[tuple[str, bool]], model: str = "BPE") -> str:
    """A `tokenizer.json` of these tokens, and of added ones (text, special) behind them."""
    vocab: Any = {token: i for i, token in enumerate(tokens)}
    if model == "Unigram":
        vocab = [[token, 0.0] for token in tokens]
    listed = [{"id": len(tokens) + i, "content": text, "special": special} for i, (text, special) in enumerate(added)]
    return json.dumps({"model": {"type": model, "vocab": vocab}, "added_tokens": listed})


GEMMA_LIKE = [("<pad>", True), ("<eos>", True), ("<bos>", True), ("<unk>", True), ("<mask>", False), ("  ", False)]


@pytest.mark.parametrize("model", ["BPE", "Unigram"])
def test_a_frame_gives_ids_by_role(model: str) -> None:
    found = read_vocabulary(file_of(["a", "b"], GEMMA_LIKE, model), "here", "0" * 64, replace(BOS, unknown="<unk>"))
    assert (found.open, found.close, found.pad, found.mask, found.unknown) == (4, 3, 2, 6, 5)
    assert found.size == 8 and found.dtype == "uint16" and found.name == "here"
    assert found.reserved == (2, 3, 4, 5, 6)  # the mask too, although its file does not mark it as special
    assert found.ordinary == (0, 2)


def test_modernberts_is_what_its_file_says(tokenizer_file: TokenizerFile) -> None:
    text = tokenizer_file.path.read_text(encoding="utf-8")
    assert read_vocabulary(text, MODERNBERT.name, MODERNBERT.digest, BERT) == MODERNBERT  # read, since a frame is given
    assert read_vocabulary(text, MODERNBERT.name, MODERNBERT.digest) == MODERNBERT  # known
    assert MODERNBERT.ordinary == (2, 50279)


@given(
    size=st.integers(1, 1 << 18),
    roles=st.lists(st.integers(0, 1 << 18), min_size=5, max_size=5, unique=True),
    more=st.sets(st.integers(0, 1 << 18), max_size=6),
)
def test_json_and_back(size: int, roles: list[int], more: set[int]) -> None:
    size = max(size, *roles, *more, 1) + 1
    words = Vocabulary("n", "d", size, *roles, tuple(sorted({*roles, *more})), BERT)  # type: ignore[arg-type]
    assert Vocabulary.from_json(json.loads(json.dumps(words.to_json()))) == words
    assert words.to_json()["dtype"] == ("uint16" if size <= 65_536 else "uint32")
    first, end = words.ordinary
    assert 0 <= first <= end <= size and not any(first <= id_ < end for id_ in words.reserved)


@pytest.mark.parametrize("change", [{"open": ...}, {"frame": {"open": "x"}}, {"reserved": 3}, {"frame": {"odd": "x"}}])
def test_what_is_no_vocabulary_is_refused(change: dict[str, Any]) -> None:
    values = {key: value for key, value in (MODERNBERT.to_json() | change).items() if value is not ...}
    with pytest.raises(TokenizerError, match="no vocabulary"):
        Vocabulary.from_json(values)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (replace(BOS, open="<b0s>"), r"no <b0s>[\s\S]*did you mean <bos>"),
        (replace(BOS, mask="[MASK]"), r"no \[MASK\]"),
        (replace(BOS, pad="<eos>"), "'<eos>' stands for both 'close' and 'pad'"),
        (None, r"no \[CLS\], \[SEP\], \[PAD\][\s\S]*tokenizer.frame: \{open: "),
    ],
)
def test_a_wrong_frame_is_refused(frame: Frame | None, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        read_vocabulary(file_of(["a"], GEMMA_LIKE), "here", "0" * 64, frame)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"vocab": {}}}', '{"model": {"vocab": 3}}'])
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer"):
        read_vocabulary(text, "here", "0" * 64)


# With the library


def save(folder: Path, special: tuple[str, ...], ordinary: tuple[str, ...] = (), words: tuple[str, ...] = ()) -> Path:
    """A byte-level BPE whose added tokens are these."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Library

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(["the quick brown fox jumps over the lazy dog. " * 50, *words], trainer)
    library.add_tokens([AddedToken(text, special=False, normalized=False) for text in ordinary])
    library.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def opened(path: Path, frame: Frame | None) -> Tokenizer:
    import hashlib

    return Tokenizer(resolve(str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest()), frame=frame)


def test_text_becomes_no_token_with_a_role(tmp_path: Path) -> None:
    """Gemma's file does not mark `<mask>` as special: the library alone would make a training mask of the text."""
    tokenizer = opened(save(tmp_path, ("<pad>", "<eos>", "<bos>"), ("<mask>", "<h1>")), BOS)
    words = tokenizer.vocabulary
    texts = ["a<mask>b", "<bos> the <eos><pad>", "<h1>"]
    ids, limits = tokenizer.encode_batch(texts)
    assert not set(ids[: limits[2]].tolist()) & set(words.reserved)
    assert ids[limits[2] :].tolist() == [words.size - 1]  # what has no role is vocabulary
    assert [tokenizer.decode(ids[a:b]) for a, b in itertools.pairwise(limits)] == texts
    assert tokenizer.decode([words.open, words.mask or 0, words.close]) == "<bos><mask><eos>"


def test_an_entry_that_text_becomes_has_no_role(tmp_path: Path) -> None:
    path = save(tmp_path, ("<pad>", "<eos>"))
    with pytest.raises(TokenizerError, match=r"the text 'the' becomes the token \d+"):
        _ = opened(path, Frame("the", "<eos>", "<pad>")).vocabulary


def test_the_vocabulary_says_where_the_tokenizer_can_be_had(tmp_path: Path) -> None:
    path = save(tmp_path, ("[CLS]", "[SEP]", "[PAD]"))
    words = opened(path, None).vocabulary
    assert words.name == str(path) and words.frame == Frame("[CLS]", "[SEP]", "[PAD]")
    assert resolve(words.name, sha256=words.digest).path == path
    assert asdict(words)["mask"] is None and words.ordinary == (3, words.size)
