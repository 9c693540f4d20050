"""Packs of another vocabulary: documents come out whole, or in pieces that say so, and never two as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import source_kit as kit
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer


def packed_shard(tokenizer: Tokenizer, packs: list[list[list[int]]]) -> bytes:
    """A shard of packed samples: each a list of pieces."""
    columns = {"domain": "str", "input_ids": "ndarray:uint32", "indices": "ndarray:uint32", "length": "uint64"}
    rows = []
    for pieces in packs:
        ends = np.cumsum([len(piece) for piece in pieces])
        indices = [[end - len(piece), end] for end, piece in zip(ends, pieces, strict=True)]
        rows.append(
            {
                "domain": "d",
                "input_ids": [i for piece in pieces for i in piece],
                "indices": indices,
                "length": int(ends[-1]),
            }
        )
    return kit.mds_shard(columns, rows)


class Bin:
    """One buffer of ProLong's packing tool (datatools, `pack.py`): documents end to end, cut at `length`."""

    def __init__(self, length: int, least: int, again: list[int]) -> None:
        self.length, self.least, self.again = length, least, again
        self.held: list[list[int]] = []

    @property
    def room(self) -> int:
        return self.length - sum(map(len, self.held))

    def add(self, document: list[int]) -> Iterator[list[list[int]]]:
        """The packs that a document fills; `least` tokens of a rest are kept, the rest of fewer is dropped."""
        self.held.append(document)
        while self.room <= 0:
            cut = len(self.held[-1]) + self.room
            yield [*self.held[:-1], self.held[-1][:cut]] if cut else self.held[:-1]
            rest = self.held[-1][cut:]
            rest = [*self.again, *rest] if rest and rest[:1] != self.again else rest
            self.held = [rest] if len(rest) >= max(self.least, 1) else []


def pack(
    documents: list[list[int]],
    length: int,
    bos: int,
    eos: int,
    *,
    least: int = 1,
    bins: int = 1,
    bos_again: bool = False,
) -> list[list[list[int]]]:
    """All packs of that tool: BOS and EOS around documents, into the bin with the least room that is enough."""
    all_bins = [Bin(length, least, [bos] if bos_again else []) for _ in range(bins)]
    packs: list[list[list[int]]] = []
    for document in documents:
        framed = [bos, *document, eos]
        fitting = [each for each in all_bins if each.room >= len(framed)]
        room = min(each.room for each in fitting) if fitting else max(each.room for each in all_bins)
        packs += next(each for each in all_bins if each.room == room).add(framed)
    return packs


texts_of_packs = st.lists(st.text(min_size=1, max_size=120).filter(lambda t: not t.isspace()), min_size=2, max_size=12)


@settings(deadline=None, max_examples=40)
@given(texts_of_packs, st.integers(20, 90))
def test_packed_documents_are_put_together_again(
    llama: tuple[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int
) -> None:
    """Whatever the pack borders cut, the documents of one stream without drops come out whole."""
    path, tokenizer = llama
    bos, eos = tokenizer.token_to_id(kit.BOS), tokenizer.token_to_id(kit.EOS)
    texts = ["ab", "c", *texts]  # the first sample holds two documents
    encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    tail = [0] * length * 2  # fills the last pack, whose rest is not written
    data = packed_shard(tokenizer, pack([*encoded, tail], length, bos, eos))
    source, file = kit.one_file(tmp_path_factory.mktemp("p"), "shard.00000.mds", data, tokenizer=path)
    records, rejects = kit.read(source, file)
    assert rejects == []
    assert [record.text for record in records[:-1]] == texts
    assert all("cut" not in record.metadata for record in records[:-1])
    assert len({record.id for record in records}) == len(records)


@settings(deadline=None, max_examples=80)
@given(
    st.integers(3, 25).flatmap(lambda n: st.lists(st.integers(1, 150), min_size=n, max_size=n)),
    st.integers(20, 60),
    st.sampled_from([1, 2, 16, 1000]),
    st.integers(1, 4),
    st.booleans(),
)
def test_no_document_is_made_of_two(
    llama: tuple[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory, sizes: list[int], length: int, least: int,
    bins: int, again: bool,
) -> None:  # fmt: skip
    """Rests dropped, in another bin, or with a BOS: every token comes out, none beside one of another document."""
    path, tokenizer = llama
    bos, eos = tokenizer.token_to_id(kit.BOS), tokenizer.token_to_id(kit.EOS)
    letters = [tokenizer.encode(letter, add_special_tokens=False).ids[0] for letter in "abcdefghijklmnopqrstuvwxyz"]
    documents = [[letter] * size for letter, size in zip(letters, sizes, strict=False)]
    packs = pack(documents, length, bos, eos, least=least, bins=bins, bos_again=again)
    source, file = kit.one_file(
        tmp_path_factory.mktemp("p"), "shard.00000.mds", packed_shard(tokenizer, packs), tokenizer=path
    )
    if not packs:
        return
    records, rejects = kit.read(source, file)
    assert not rejects and all(len(set(record.text)) == 1 for record in records)
    written = Counter(id_ for samples in packs for piece in samples for id_ in piece if id_ not in (bos, eos))
    assert sum(len(record.text) for record in records) == written.total()
    for record in records:  # what is not whole says so; in another bin a rest with a BOS looks like a document
        whole = sizes["abcdefghijklmnopqrstuvwxyz".index(record.text[0])]
        assert len(record.text) == whole or "cut" in record.metadata or (again and bins > 1)


def test_pieces_that_may_not_belong_together_are_kept_and_marked(llama: tuple[str, Tokenizer], tmp_path: Path) -> None:
    """Samples of one single piece each (`…-65536` folders): the next may be another document."""
    path, tokenizer = llama
    bos, eos = tokenizer.token_to_id(kit.BOS), tokenizer.token_to_id(kit.EOS)
    long = tokenizer.encode("a long document that is cut " * 20, add_special_tokens=False).ids
    other = tokenizer.encode("the end of another", add_special_tokens=False).ids
    data = packed_shard(tokenizer, [[[bos, *long[:30]]], [[bos, *long[30:60]]], [[bos, *other, eos]]])
    records, rejects = kit.read(*kit.one_file(tmp_path, "shard.00000.mds", data, tokenizer=path))
    assert [record.metadata.get("cut") for record in records] == ["tail", "both", "head"] and not rejects
    assert records[2].text == "the end of another"
    assert [record.id for record in records] == [f"own/shard.00000.mds#{n}:0" for n in range(3)]


def test_a_cut_character_leaves_no_broken_bytes(llama: tuple[str, Tokenizer], tmp_path: Path) -> None:
    path, tokenizer = llama
    ids = tokenizer.encode("smile \U0001f600", add_special_tokens=False).ids
    data = packed_shard(tokenizer, [[ids[:-1]]])
    [record], _ = kit.read(*kit.one_file(tmp_path, "shard.00000.mds", data, tokenizer=path))
    assert (record.text, record.metadata["cut"]) == ("smile ", "both")
