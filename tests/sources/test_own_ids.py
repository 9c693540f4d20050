"""Users' own shards of token ids: text beside them is preferred, padding comes off, their vocabulary has to show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import source_kit as kit
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

CLS, SEP, PAD = 50281, 50282, 50283
COLUMNS = {"id": "str", "input_ids": "ndarray:uint16"}


def tokens_of(folder: Path, rows: list[dict[str, Any]], columns: dict[str, str] = COLUMNS) -> list[list[int]]:
    records, rejects = kit.read_bytes(folder, "shard.00000.mds", kit.mds_shard(columns, rows))
    assert not rejects
    return [record.tokens.tolist() for record in records if record.tokens is not None]


plain_ids = st.lists(st.integers(2, 50_000), min_size=1, max_size=20)
few = st.integers(0, 3)


@given(st.lists(st.tuples(plain_ids, few, few, st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_padding_comes_off(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    """Left, right, around or inside of the frame; with the mask too, whatever id stands for padding there."""
    rows = [([7], 0, 0, True, True), *rows]  # one row is framed
    padded, masked = [], []
    for number, (ids, left, right, opened, closed) in enumerate(rows):
        framed = [CLS] * opened + ids + [SEP] * closed
        padded.append({"id": str(number), "input_ids": [PAD] * left + framed + [PAD] * right})
        zeros = {"input_ids": [0] * left + framed + [0] * right}
        masked.append({"id": str(number), **zeros, "attention_mask": [0] * left + [1] * len(framed) + [0] * right})
    folder = tmp_path_factory.mktemp("ids")
    assert tokens_of(folder, padded) == [ids for ids, *_ in rows]
    assert tokens_of(folder, masked, COLUMNS | {"attention_mask": "ndarray:int64"}) == [ids for ids, *_ in rows]


def test_padding_where_it_cannot_be(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "input_ids": [CLS, 5, 6, SEP, PAD]},
        {"id": "b", "input_ids": [CLS, 5, PAD, 6, SEP]},
        {"id": "c", "input_ids": [PAD, PAD]},
        {"id": "d", "input_ids": [CLS, 7, PAD, SEP]},
    ]
    records, rejects = kit.read_bytes(tmp_path, "shard.00000.mds", kit.mds_shard(COLUMNS, rows))
    assert [r.tokens.tolist() for r in records if r.tokens is not None] == [[5, 6], [7]]
    assert kit.reasons(rejects) == ["padding_inside", "text_empty"] and "[PAD]" in rejects[0].detail


def test_padding_behind_packed_documents_is_none(tmp_path: Path) -> None:
    rows = [{"id": "a", "input_ids": [CLS, 1, SEP, CLS, 2, SEP, PAD, PAD], "cu_seqlens": [0, 3, 6, 8]}]
    assert tokens_of(tmp_path, rows, COLUMNS | {"cu_seqlens": "ndarray:int32"}) == [[1], [2]]


@pytest.mark.parametrize("own", [False, True])
def test_a_text_is_preferred_to_ids(own: bool, llama: tuple[str, Tokenizer], tmp_path: Path) -> None:
    """Whatever they are of: of another vocabulary, of none, or of that of the named tokenizer."""
    columns = {"text": "str", "input_ids": "ndarray:int32", "indices": "ndarray:int32"}
    rows = [{"text": f"row {n}", "input_ids": ids, "indices": [[0, 1]]} for n, ids in enumerate(([101, 7592], [-1]))]
    source, file = kit.one_file(tmp_path, "shard.00000.mds", kit.mds_shard(columns, rows))
    records, rejects = kit.read(*(replace(source, tokenizer=llama[0]) if own else source, file))
    assert [(r.text, r.tokens) for r in records] == [("row 0", None), ("row 1", None)] and not rejects


@given(st.lists(plain_ids, min_size=1, max_size=80))
def test_ids_that_nothing_shows_to_be_of_the_vocabulary_are_refused(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    rows = [{"id": str(n), "input_ids": [101, *ids, 102]} for n, ids in enumerate(documents)]
    records, [reject] = kit.read_bytes(folder, "shard.00000.mds", kit.mds_shard(COLUMNS, rows))
    assert not records and reject.whole_file and reject.reason == "vocabulary_unknown"
    assert "ModernBERT" in reject.detail and "sources.own.tokenizer" in reject.detail
    rows[0]["input_ids"] = [CLS, *documents[0]]
    assert len(tokens_of(folder, rows)) == len(rows)


def test_the_remedy_helps(llama: tuple[str, Tokenizer], tmp_path: Path) -> None:
    """A named tokenizer gives the texts; padding comes off there too, of rows and behind the documents of packs."""
    path, tokenizer = llama
    bos, eos = tokenizer.token_to_id(kit.BOS), tokenizer.token_to_id(kit.EOS)
    ids = tokenizer.encode("the quick fox", add_special_tokens=False).ids
    rows = [{"input_ids": row} for row in (ids, [eos, eos, bos, *ids, eos], [bos, *ids, eos, eos, eos])]
    data = kit.mds_shard({"input_ids": "ndarray:uint16"}, rows)
    records, rejects = kit.read(*kit.one_file(tmp_path, "a.mds", data, tokenizer=path))
    assert [record.text for record in records] == ["the quick fox"] * 3 and not rejects
    pack = {"input_ids": [bos, *ids, eos, eos, eos], "indices": [[0, len(ids) + 2]]}
    data = kit.mds_shard({"input_ids": "ndarray:uint16", "indices": "ndarray:uint16"}, [pack])
    [record], rejects = kit.read(*kit.one_file(tmp_path, "b.mds", data, tokenizer=path))
    assert record.text == "the quick fox" and not rejects


def test_columns_that_only_help_may_be_unreadable(tmp_path: Path) -> None:
    rows = [{"id": "a", "input_ids": [CLS, 5, SEP], "attention_mask": "?"}]
    data = kit.mds_shard(COLUMNS | {"attention_mask": "str"}, rows).replace(b'"str"', b'"pkl"', 1)
    [record], rejects = kit.read_bytes(tmp_path, "shard.00000.mds", data)
    assert record.tokens is not None and record.tokens.tolist() == [5] and not rejects
