"""Decoding by a table of bytes gives what the tokenizer itself gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from ettin_data.sources.formats.mds import decoder as decoding
from ettin_data.sources.formats.mds.decoder import load_decoder


@pytest.fixture(scope="module")
def byte_level(tokenizer_file):
    return load_decoder(str(tokenizer_file.path))


@given(data=st.data())
def test_any_ids_decode_as_the_tokenizer_decodes_them(byte_level, data):
    """Low ids are single bytes and short tokens, whose sequences are mostly no valid UTF-8."""
    ids = data.draw(st.lists(st.one_of(st.integers(0, 400), st.integers(0, byte_level.size - 1)), max_size=40))
    assert byte_level.token_bytes is not None
    assert byte_level.text(np.array(ids, np.int64)) == byte_level.tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64])
def test_long_documents_are_decoded_in_portions(byte_level, monkeypatch, dtype):
    """A character whose bytes lie in two portions is whole."""
    ids = byte_level.tokenizer.encode("naïve café \U0001f642 日本語 " * 5, add_special_tokens=False).ids
    for portion in (1, 2, 3, 7, len(ids)):
        monkeypatch.setattr(decoding, "_PORTION", portion)
        assert byte_level.text(np.array(ids, dtype)) == byte_level.tokenizer.decode(ids, skip_special_tokens=False)


def test_another_kind_of_tokenizer_is_asked_itself(tmp_path):
    tokenizer = Tokenizer(models.BPE(vocab={"▁a": 0, "b": 1}, merges=[]))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    decoder = load_decoder(str(tmp_path))
    assert decoder.token_bytes is None
    assert decoder.text(np.array([0, 1, 0])) == "ab a"
