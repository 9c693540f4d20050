"""`rule: components`: one document of all that are connected stays, as a union-find and datatrove's clusters say."""

from __future__ import annotations

import pydoc_data.topics
import random
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import key_kit
import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature, minhash
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import BuildError
from ettin_data.dedup import join as joining
from ettin_data.dedup import runs
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.keys import text_keys
from ettin_data.dedup.options import DedupChoice, Near
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.dedup.sketch import band_keys, has_sketch
from ettin_data.storage.attributes import read_attribute
from ettin_data.storage.keys import TEXT_BYTES, Keys, read_keys

ROW = st.tuples(st.integers(0, 9), st.lists(st.integers(0, 3), min_size=6, max_size=6))
CHOICE = DedupChoice(near=Near(rule="components"), priority=["b"])


def found(splits: list[KeyedSplit], choice: DedupChoice, folder: Path, size: int = 1000) -> bytes:
    join = Join(splits, choice, 3, folder / f"join{size}", size, size)
    paths = {split.name: folder / f"tables{size}/{split.name}.parquet" for split in splits}
    find_copies(join, paths)
    return b"".join(paths[split.name].read_bytes() for split in splits)


def survivors(splits: list[KeyedSplit], folder: Path) -> list[int]:
    """Of each document the one that it is left out for, or itself, all numbered in a row."""
    starts = np.cumsum([0, *(split.documents for split in splits)])
    stays: list[int] = []
    for number, split in enumerate(splits):
        table = read_attribute(folder / f"{split.name}.parquet")
        own = starts[number] + np.arange(split.documents)
        twin = starts[table.columns["twin_split"]] + table.columns["twin_row"]
        stays += np.where(table.codes > 0, twin, own).tolist()
    return stays


class Sets:
    """Union-find, as simple as it can be."""

    def __init__(self, count: int) -> None:
        self.above = list(range(count))

    def root(self, one: int) -> int:
        while self.above[one] != one:
            one = self.above[one]
        return one

    def join(self, one: int, other: int) -> None:
        self.above[self.root(one)] = self.root(other)


@given(st.lists(st.lists(ROW, min_size=1, max_size=12), min_size=1, max_size=4), st.sampled_from([8, 1000]))
@settings(max_examples=4, deadline=None)
def test_the_best_ranked_of_each_component_stays(rows: list[list[tuple[int, list[int]]]], size: int) -> None:
    choice = CHOICE.model_copy(update={"near": Near(rule="components", bands=3, rows=2)})
    with tempfile.TemporaryDirectory() as name:
        folder, splits = Path(name), []
        for number, each in enumerate(rows):
            keys = np.zeros((len(each), 16 + 6), np.uint8)
            for row, (text, values) in enumerate(each):
                keys[row, 15], keys[row, 16:] = text, values
            source = "ab"[number % 2]
            splits.append(key_kit.write_keyed(folder / f"{number}", source, keys))
        found(splits, choice, folder, size=size)
        keys = np.concatenate([read_keys(split.keys, 6) for split in splits])
        ranks = np.concatenate([runs.ranks(split, choice, 3) for split in splits])
        sets = Sets(len(keys))
        for one in range(len(keys)):
            for other in range(one):
                bands = (keys[one, 16:] == keys[other, 16:]).reshape(3, 2).all(axis=1)
                sketched = keys[one, 16:].any() and keys[other, 16:].any()
                if keys[one, 15] == keys[other, 15] or (sketched and bands.any()):
                    sets.join(one, other)
        best: dict[int, int] = {}
        for one in sorted(range(len(keys)), key=lambda n: (int(ranks[n]), n)):
            best.setdefault(sets.root(one), one)
        assert survivors(splits, folder / f"tables{size}") == [best[sets.root(one)] for one in range(len(keys))]


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """The documentation of Python's language in pieces; every third has a copy with each fortieth word changed, and
    that has one in its turn, so that components are more than the copies of one text."""
    rng, texts = random.Random(5), list[str]()
    for text in list(pydoc_data.topics.topics.values())[:40]:
        words = text.split()
        for begin in range(0, len(words) - 60, 250):
            texts.append(" ".join(words[begin : begin + 250]))
            for _ in range(2 if len(texts) % 3 == 0 else 0):
                texts.append(
                    " ".join(f"x{rng.randrange(999)}" if rng.random() < 0.025 else w for w in texts[-1].split())
                )
    return texts


def clusters(folder: Path, config: MinhashConfig) -> dict[int, int]:
    """datatrove's second and third stage: document -> cluster, of those that have copies."""
    for bucket in range(config.num_buckets):
        MinhashDedupBuckets(str(folder / "sigs"), str(folder / "dups"), config=config).run(
            None, bucket, config.num_buckets
        )
    MinhashDedupCluster(str(folder / "dups"), str(folder / "out"), config, save_cluster_id=True).run()
    return dict(struct.iter_unpack("<2I", (folder / "out/000000.clusters").read_bytes()))


def test_components_are_datatroves_clusters_of_the_same_bands(corpus: list[str], tmp_path: Path) -> None:
    split = key_kit.write_texts(tmp_path / "web/s", "web", corpus, CHOICE.keys)
    sketched = read_keys(split.keys, 112)[:, TEXT_BYTES:]
    long = np.flatnonzero(has_sketch(sketched))
    for band in range(14):
        keys = band_keys(sketched, range(14), 8)[band][long] >> np.uint64(4)  # it takes hashes below 2^61 - 1
        rows = np.array(sorted(zip(keys.tolist(), long.tolist(), strict=True)), [("key", "<u8"), ("row", "<u4")])
        path = tmp_path / f"sigs/bucket_{band:03d}/00000.minhash.sig"
        path.parent.mkdir(parents=True)
        path.write_bytes(rows.tobytes())
    theirs = clusters(tmp_path, MinhashConfig(num_buckets=14, hashes_per_bucket=1))
    assert len(theirs) > len(corpus) / 3
    near = CHOICE.model_copy(update={"exact": False})
    tables = found([split], near, tmp_path, size=100)
    stays = survivors([split], tmp_path / "tables100")
    ours = {row: survivor for row, survivor in enumerate(stays) if Counter(stays)[survivor] > 1}
    assert ours.keys() == theirs.keys()
    pairs = {(ours[row], theirs[row]) for row in ours}
    assert len(pairs) == len(set(ours.values())) == len(set(theirs.values())), "the same documents in each"
    local = found([split], near.model_copy(update={"near": Near()}), tmp_path, size=99)
    assert local != tables
    left = {row for row, stay in enumerate(survivors([split], tmp_path / "tables99")) if row != stay}
    assert left <= {row for row, stay in enumerate(stays) if row != stay}, "the local rule never leaves out more"


def test_as_many_are_left_out_as_by_datatroves_own_sketches(
    corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ByBlanks:  # instead of spaCy's English words; its rules for signs are applied before
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    monkeypatch.setattr(minhash, "load_word_tokenizer", lambda language: ByBlanks())
    # Not xxhash, its default: datatrove gives it text, which xxhash 4 refuses.
    config = MinhashConfig(num_buckets=14, hashes_per_bucket=8, n_grams=5, hash_config=HashConfig(hash_fc="sha1"))

    def documents() -> Iterator[Document]:
        yield from (Document(text, str(number)) for number, text in enumerate(corpus))

    MinhashDedupSignature(str(tmp_path / "sigs"), config).run(documents())
    theirs = clusters(tmp_path, config)
    split = key_kit.write_texts(tmp_path / "web/s", "web", corpus, CHOICE.keys)
    found([split], CHOICE, tmp_path)
    ours = survivors([split], tmp_path / "tables1000")
    gone = len(theirs) - len(set(theirs.values()))
    assert gone > 50 and abs(sum(row != stay for row, stay in enumerate(ours)) - gone) <= 0.03 * gone


def test_tables_do_not_depend_on_the_jobs_and_too_many_documents_are_refused(
    corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: Keys = text_keys(corpus, CHOICE.keys)
    splits = [
        key_kit.write_keyed(tmp_path / f"s{n}", "ab"[n % 2], keys[n * 100 : n * 100 + 100])
        for n in range(len(keys) // 100)
    ]
    assert found(splits, CHOICE, tmp_path) == found(splits, CHOICE, tmp_path, size=150)
    monkeypatch.setattr(joining, "MOST_DOCUMENTS", 99)
    with pytest.raises(BuildError, match="at most 99"):
        found(splits, CHOICE, tmp_path, size=40)
