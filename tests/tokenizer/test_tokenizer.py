"""Encoding: the same ids from both libraries, the published ids, and a difference never goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import subprocess
import sys
import unicodedata
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer import backends as tokenizer_backends
from ettin_data.tokenizer import files as tokenizer_files
from ettin_data.tokenizer.backends import offsets_of
from ettin_data.tokenizer.encoder import (
    MODERNBERT_SHA256,
    Tokenizer,
    TokenizerFile,
    resolve,
)
from ettin_data.tokenizer.split_law import BETWEEN_LETTERS, portions
from ettin_data.tokenizer.vectors import PLAIN
from ettin_data.tokenizer.vocabulary import MODERNBERT

CLS, SEP, PAD, MASK, UNK = 50281, 50282, 50283, 50284, 50280
LITERALS = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "<|endoftext|>", "<|padding|>"]
# What breaks tokenizers: marks that compose and reorder, Hangul, exclusions from composition, every kind of white
# space, runs of spaces around the longest token, parts of added tokens, contractions, digits, joiners, the last planes.
FRAGMENTS = [
    *LITERALS, "[unused0]", "[unused82]", "[unused83]", "|||IP_ADDRESS|||", "|||", "[", "]", "<|", "MASK]",
    " ", "  ", " " * 23, " " * 24, " " * 25, " " * 49, "\n", "\r\n", "\n\n\n", "\t",
    "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\u200d", "\ufe0f", "\u200b", "\ufeff", "\ufffd", "\x00", "\x7f",
    "a", "b", "the", " word", "x_y", "http://", "=>", "Ġ", "Â", "'s", "'LL", "'ve", "’s", "0", "12345", "٣", "½", "Ⅷ",
    "e\u0301", "\u0301", "\u0323", "\u0344", "\u0958", "\u212b", "\u1100\u1161\u11a8", "\uac00\u11a8", "q\u0307\u0323",
    "ﬁ", "ß", "İ", "ı", "ſ", "日本", "ก็", "नमस्ते", "مرحبا", "👩‍👩‍👧", "🇩🇪", "😊",
    "\U000110ba", "\U0001d15e", "\U0010ffff", "\U0002f800",
]  # fmt: skip
tricky = st.lists(st.sampled_from(FRAGMENTS) | st.text(st.characters(codec="utf-8"), max_size=3), max_size=40).map(
    "".join
)
batches = st.lists(tricky, max_size=6)


def rows(encoded: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    flat, offsets = encoded
    return [flat[a:b].tolist() for a, b in pairwise(offsets)]


@pytest.fixture(params=[False, True], ids=["plain", "special"], scope="module")
def both(request: pytest.FixtureRequest, tokenizer_file: TokenizerFile) -> tuple[Tokenizer, Tokenizer]:
    """fastokens and the referee, for each way to treat special tokens in text."""
    fast = Tokenizer(tokenizer_file, "fastokens", special_tokens_in_text=request.param)
    return fast, fast.with_backend("tokenizers")


# The same ids


@settings(max_examples=150, deadline=None)
@given(texts=batches)
def test_both_backends_agree(both: tuple[Tokenizer, Tokenizer], texts: list[str]) -> None:
    fast, referee = both
    assert rows(fast.encode_batch(texts)) == rows(referee.encode_batch(texts))


def test_both_backends_agree_on_every_entry_of_the_vocabulary(both: tuple[Tokenizer, Tokenizer]) -> None:
    fast, referee = both
    words = referee.decode_batch([[id_] for id_ in range(MODERNBERT.size)])
    texts = [f"{word}\n{word}b" for word in words]
    for ours, theirs in zip(fast.encode_batch(texts), referee.encode_batch(texts), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=200, deadline=None)
@given(texts=batches)
def test_form_of_the_result(tokenizer: Tokenizer, texts: list[str]) -> None:
    for backend in (tokenizer, tokenizer.with_backend("tokenizers")):
        flat, offsets = backend.encode_batch(texts)
        assert flat.dtype == np.uint16 and offsets.dtype == np.int64
        assert offsets.shape == (len(texts) + 1,) and offsets[0] == 0 and offsets[-1] == len(flat)
        assert rows((flat, offsets)) == [backend.encode_batch([text])[0].tolist() for text in texts]


@settings(max_examples=300, deadline=None)
@given(text=tricky)
def test_decoding_gives_the_nfc_form(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode_batch([text])[0]) == unicodedata.normalize("NFC", text)


@settings(max_examples=300, deadline=None)
@given(text=tricky)
def test_text_never_becomes_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    special = {1, 50279, UNK, CLS, SEP, PAD, MASK}
    assert special.isdisjoint(tokenizer.encode_batch([text])[0].tolist())


def test_special_tokens_in_text_on_demand(both: tuple[Tokenizer, Tokenizer]) -> None:
    for tokenizer in both:
        got = rows(tokenizer.encode_batch(LITERALS))
        single = [[CLS], [SEP], [PAD], [MASK], [UNK], [50279], [1]]
        assert (got == single) == tokenizer.special_tokens_in_text
        assert tokenizer.decode_batch(got) == LITERALS


# Published ids


def test_published_vectors(shared: Path, both: tuple[Tokenizer, Tokenizer]) -> None:
    checked = 0
    for vector in json.loads((shared / "tokenizer" / "vectors.json").read_text()):
        texts = [vector[key] for key in ("text", "text_pair") if key in vector]
        for tokenizer in both:
            if not tokenizer.special_tokens_in_text and any(name in text for name in LITERALS for text in texts):
                continue
            encoded = rows(tokenizer.encode_batch(texts))
            template = [CLS] + [i for row in encoded for i in [*row, SEP]]
            assert (template if vector["add_special_tokens"] else encoded[0]) == vector["ids"], vector["text"]
            checked += 1
    assert checked >= 2 * 150


def test_start_up_vectors_are_backed_by_published_ones(shared: Path) -> None:
    published = {
        v["text"]: v["ids"]
        for v in json.loads((shared / "tokenizer" / "vectors.json").read_text())
        if isinstance(v["text"], str) and not v["add_special_tokens"]
    }
    backed = [text for text, ids in PLAIN if published.get(text) == ids]
    assert len(backed) >= 4
    assert all(published[text] == ids for text, ids in PLAIN if text in published)


def test_facts_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    assert tokenizer.digest == MODERNBERT_SHA256
    assert tokenizer.vocabulary == replace(MODERNBERT, name=tokenizer.file.name)
    assert MODERNBERT.size == 50368
    assert (MODERNBERT.open, MODERNBERT.close, MODERNBERT.pad) == (CLS, SEP, PAD)
    assert (MODERNBERT.mask, MODERNBERT.unknown, MODERNBERT.dtype) == (MASK, UNK, "uint16")
    assert rows(tokenizer.encode_batch(["a  b", " " * 25 + "x", "[unused82]"])) == [
        [66, 50276, 67],
        [50254, 1269],
        [50367],
    ]
    assert rows(tokenizer.encode_batch([])) == [] and rows(tokenizer.encode_batch([""])) == [[]]
    assert tokenizer.decode([CLS, 12092, SEP]) == "[CLS]Hello[SEP]"


# Bounded portions


@settings(max_examples=300, deadline=None)
@given(texts=batches, limit=st.integers(1, 60))
def test_pieces_have_the_ids_of_the_text(both: tuple[Tokenizer, Tokenizer], texts: list[str], limit: int) -> None:
    for tokenizer in both:
        groups = list(portions(texts, limit, BETWEEN_LETTERS))
        totals = np.zeros(len(texts), np.int64)
        flat: list[int] = []
        for group, owners in groups:
            ids, offsets = tokenizer.encode_batch(group)
            flat += ids.tolist()
            np.add.at(totals, owners, np.diff(offsets))
        assert rows((np.array(flat, np.uint16), offsets_of(totals))) == rows(tokenizer.encode_batch(texts))


@given(
    text=st.lists(st.sampled_from(["a", "Z", " ", "\n", "b c", "é", "'", "[MASK]", "\u0301", "7"]), max_size=80).map(
        "".join
    ),
    limit=st.integers(1, 20),
)
def test_pieces_cover_the_text_and_stay_short(text: str, limit: int) -> None:
    assert "".join(BETWEEN_LETTERS.pieces(text, limit)) == text
    assert max(map(len, BETWEEN_LETTERS.pieces("word " * 100, limit))) <= limit + len("word ")


def test_texts_over_the_portion_are_encoded_whole(
    monkeypatch: pytest.MonkeyPatch, both: tuple[Tokenizer, Tokenizer]
) -> None:
    texts = ["", "x" * 3000, "one two\nthree " * 500, "日本 " * 900, "", "end"]
    expected = [rows(tokenizer.encode_batch(texts)) for tokenizer in both]
    monkeypatch.setattr(tokenizer_backends, "PORTION", 1000)
    assert [rows(tokenizer.encode_batch(texts)) for tokenizer in both] == expected


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["fastokens", "tokenizers"])
def test_memory_stays_bounded_for_a_huge_document(tokenizer_file: TokenizerFile, backend: str) -> None:
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile\n"
        "t = Tokenizer(TokenizerFile(Path(sys.argv[1]), sys.argv[2], ''), sys.argv[3]); t.encode_batch(['warm up'])\n"
        "text = 'def function(argument):\\n    return argument + 12345  # remark\\n' * 300_000\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "flat, _ = t.encode_batch([text])\n"
        "print(len(text), len(flat), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    command = [sys.executable, "-c", program, str(tokenizer_file.path), tokenizer_file.sha256, backend]
    characters, tokens, mebibytes = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert characters > 18_000_000 and tokens > 3_000_000
    assert mebibytes < 250


# Bad input


@pytest.mark.parametrize("backend", ["fastokens", "tokenizers"])
def test_lone_surrogates_are_named(tokenizer: Tokenizer, backend: str) -> None:
    encoder = tokenizer.with_backend(backend)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"text 1 holds a lone surrogate, U\+D800 at character 2"):
        encoder.encode_batch(["fine", "no\ud800t", "fine"])
    with pytest.raises(TypeError, match="text 1 is of type bytes"):
        encoder.encode_batch(["fine", b"bytes"])  # type: ignore[list-item]
    assert rows(encoder.encode_batch(["Hello world"])) == [[12092, 1533]]


def test_bad_arguments_are_refused(tokenizer_file: TokenizerFile) -> None:
    with pytest.raises(TokenizerError, match="unknown backend 'quick'"):
        Tokenizer(tokenizer_file, "quick")  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match=r"check_rate 1\.5"):
        Tokenizer(tokenizer_file, check_rate=1.5)


# Another tokenizer


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A small tokenizer that a user trained."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    own = tokenizers.Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["[PAD]", "[CLS]", "[SEP]"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    own.train_from_iterator(["the cat sat on the mat " * 20], trainer)
    own.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_another_tokenizer_needs_its_digest_and_is_proved(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETTIN_DATA_CACHE", str(trained / "cache"))
    with pytest.raises(TokenizerError, match="not the tokenizer") as caught:
        resolve(str(trained))
    digest = str(caught.value).split("its sha256 is ")[1][:64]
    assert MODERNBERT_SHA256 in str(caught.value) and str(trained) in str(caught.value)
    tokenizer = Tokenizer(resolve(str(trained), sha256=digest))
    words = tokenizer.vocabulary
    assert (words.pad, words.open, words.close, words.mask) == (0, 1, 2, None)
    assert words.size < 400 and tokenizer.active_backend == "fastokens" and tokenizer.dtype == np.uint16
    assert tokenizer.decode(tokenizer.encode_batch(["the [SEP] mat"])[0]) == "the [SEP] mat"
    assert tokenizer.with_backend("fastokens").describe()["backend_note"].startswith("proven: fastokens")


def test_large_vocabularies_take_uint32(tmp_path: Path) -> None:
    import tokenizers
    from tokenizers import models, pre_tokenizers

    words = {word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(70_000))])}
    own = tokenizers.Tokenizer(models.WordLevel(words, unk_token="w0"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.save(str(tmp_path / "tokenizer.json"))
    digest = hashlib.sha256((tmp_path / "tokenizer.json").read_bytes()).hexdigest()
    tokenizer = Tokenizer(resolve(str(tmp_path), sha256=digest))
    flat, _ = tokenizer.encode_batch(["w69999"])
    assert flat.dtype == np.uint32 and flat.tolist() == [70_002]


@pytest.mark.parametrize("text", ['{"version": "1.0"}', "not JSON"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    tokenizer = Tokenizer(resolve(str(path), sha256=hashlib.sha256(text.encode()).hexdigest()))
    with pytest.raises(TokenizerError, match="no tokenizer"):
        _ = tokenizer.vocabulary


def test_a_tokenizer_without_special_tokens_is_refused(trained: Path) -> None:
    content = (trained / "tokenizer.json").read_text().replace("[SEP]", "[END]")
    (trained / "tokenizer.json").write_text(content)
    tokenizer = Tokenizer(resolve(str(trained), sha256=hashlib.sha256(content.encode()).hexdigest()))
    with pytest.raises(TokenizerError, match=r"no \[SEP\]"):
        _ = tokenizer.vocabulary


# Processes


def _encode_elsewhere(tokenizer: Tokenizer) -> list[list[int]]:
    return rows(tokenizer.encode_batch(["Hello world"] * 3))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_other_processes_encode_too(tokenizer: Tokenizer, start: str) -> None:
    for backend in (tokenizer, tokenizer.with_backend("tokenizers")):
        here = _encode_elsewhere(backend)  # loaded before the fork: nothing may hang after it
        with multiprocessing.get_context(start).Pool(1) as pool:
            assert pool.apply_async(_encode_elsewhere, (backend,)).get(timeout=60) == here


def test_import_is_light() -> None:
    program = (
        "import sys, ettin_data.tokenizer.encoder\n"
        "print({'torch', 'transformers', 'huggingface_hub', 'tokenizers', 'fastokens', 'ray'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "set()\n"
    )


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    for name in ("ETTIN_DATA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TokenizerError, match="no home folder") as raised:
        tokenizer_files.cache_folder()
    assert "ETTIN_DATA_CACHE" in str(raised.value.remedy)
    monkeypatch.setenv("ETTIN_DATA_CACHE", str(tmp_path))
    assert tokenizer_files.cache_folder() == tmp_path
