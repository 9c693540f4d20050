"""The join against a plain reading of its rule; the same tables whatever does the work, and after any stop."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import key_kit
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import ShardError
from ettin_data.dedup import arrays, groups, runs, sketch
from ettin_data.dedup.groups import repeated
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice, Near
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.executor import ExecutorOptions, open_workers
from ettin_data.storage.attributes import read_attribute
from ettin_data.storage.keys import Keys, read_keys

BANDS, ROWS = 3, 2
NEAR = Near(bands=BANDS, rows=ROWS)
BYTES = st.integers(0, 3)
ROW = st.tuples(st.integers(0, 6), st.lists(BYTES, min_size=BANDS * ROWS, max_size=BANDS * ROWS), st.integers(0, 4))
SOURCES = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.lists(ROW, max_size=9), min_size=1, max_size=3), min_size=1
)
CHOICES = st.builds(
    DedupChoice,
    exact=st.booleans(),
    url=st.booleans(),
    near=st.one_of(st.just(NEAR), st.just(NEAR.model_copy(update={"verify": 0.6}))),
    priority=st.permutations("abc").map(lambda names: list(names)[:2]),
    across=st.sampled_from([["source", "phase"], []]),
)


def keys_of(rows: Sequence[tuple[int, list[int], int]]) -> tuple[Keys, list[str]]:
    """Keys of few different values, so that much is shared, and the URLs."""
    keys = np.zeros((len(rows), 16 + BANDS * ROWS), np.uint8)
    for number, (text, found, _) in enumerate(rows):
        keys[number, 15] = text
        keys[number, 16:] = found
    return keys, [f"u{url}" if url else "" for _, _, url in rows]


def splits_of(folder: Path, sources: dict[str, list[list[tuple[int, list[int], int]]]]) -> list[KeyedSplit]:
    made = []
    for source, splits in sorted(sources.items()):
        for number, rows in enumerate(splits):
            keys, urls = keys_of(rows)
            split = key_kit.write_keyed(folder / source / f"s{number}", source, keys, urls)
            made.append(split)
    return made


def tables_of(join: Join, folder: Path, workers: int = 0) -> dict[str, bytes]:
    paths = {split.name: folder / f"{split.name}.parquet" for split in join.splits}
    with open_workers(ExecutorOptions(workers=workers) if workers else None) as opened:
        find_copies(join, paths, opened)
    return {name: path.read_bytes() for name, path in paths.items()}


def plain(splits: Sequence[KeyedSplit], choice: DedupChoice, seed: int) -> dict[tuple[str, int], tuple[str, str, int]]:
    """(split, row) of each document that goes -> reason, and the twin, document by document."""
    everyone = []
    for place, split in enumerate(splits):
        keys = read_keys(split.keys, BANDS * ROWS)
        urls = runs.ledger.read_table(split.folder, "documents.parquet", ["url_key"])["url_key"]
        for row, rank in enumerate(runs.ranks(split, choice, seed).tolist()):
            everyone.append(((rank, place, row), split, keys[row], int(urls[row])))
    everyone.sort(key=lambda each: each[0])
    near, gone = choice.near, {}
    for number, (me, split, keys, url) in enumerate(everyone):
        found = []
        tried = [0] * BANDS
        for other, twin, theirs, their_url in everyone[:number]:
            if "source" not in choice.across and twin.source != split.source:
                continue
            here = (twin.name, other[2])
            if choice.exact and keys[:16].tobytes() == theirs[:16].tobytes():
                found.append((0, "same_text", here))
            if choice.url and url and url == their_url:
                found.append((1, "same_url", here))
            if near is None or not keys[16:].any() or not theirs[16:].any():
                continue
            like = sketch.likeness(keys[None, 16:], theirs[None, 16:])[0]
            for band in range(BANDS):
                if (keys[16:] == theirs[16:])[band * ROWS : (band + 1) * ROWS].all():
                    tried[band] += 1
                    if near.verify is None or (like >= near.verify and tried[band] <= groups._TRIED):
                        found.append((2, "near_copy", here))
        if found:
            best = min(found, key=lambda each: each[0])  # the first of the strongest reason is the best-ranked
            gone[split.name, me[2]] = (best[1], *best[2])
    return gone


def said(splits: Sequence[KeyedSplit], folder: Path) -> dict[tuple[str, int], tuple[str, str, int]]:
    """As `plain`, from the tables."""
    gone = {}
    for split in splits:
        table = read_attribute(folder / f"{split.name}.parquet")
        for row in np.flatnonzero(table.codes).tolist():
            twin = splits[int(table.columns["twin_split"][row])].name
            gone[split.name, row] = (table.reasons[table.codes[row] - 1], twin, int(table.columns["twin_row"][row]))
    return gone


@given(
    sources=SOURCES,
    choice=CHOICES,
    seed=st.integers(0, 5),
    sizes=st.tuples(st.integers(1, 40), st.sampled_from([20, 40, 100])),
)
@settings(max_examples=25, deadline=None)
def test_a_document_goes_if_and_only_if_a_better_one_shares_something(
    sources: dict[str, list[list[tuple[int, list[int], int]]]], choice: DedupChoice, seed: int, sizes: tuple[int, int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = splits_of(folder / "pools", sources)
        join = Join(splits, choice, seed, folder / "join", *sizes)
        tables_of(join, folder / "tables")
        assert said(splits, folder / "tables") == plain(splits, choice, seed)


@given(sources=SOURCES, choice=CHOICES, seed=st.integers(0, 5))
@settings(max_examples=12, deadline=None)
def test_a_source_of_lower_rank_changes_nothing_for_the_others(
    sources: dict[str, list[list[tuple[int, list[int], int]]]], choice: DedupChoice, seed: int
) -> None:
    choice = choice.model_copy(update={"priority": ["a", "b", "c"]})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = splits_of(folder / "pools", sources)
        lowest = max(sources)
        fewer = [split for split in splits if split.source != lowest]
        tables_of(Join(splits, choice, seed, folder / "join"), folder / "all")
        if fewer:
            tables_of(Join(fewer, choice, seed, folder / "join-fewer"), folder / "fewer")
            everyone = said(splits, folder / "all")
            assert said(fewer, folder / "fewer") == {
                document: twin for document, twin in everyone.items() if document[0].split("/")[0] != lowest
            }


@pytest.fixture
def many(tmp_path: Path) -> list[KeyedSplit]:
    """Six splits of 300 documents, with clusters of all sizes."""
    rng = np.random.default_rng(3)
    made = []
    for source in "ab":
        for number in range(3):
            keys = rng.integers(0, 256, (300, 16 + 112), np.uint8)
            for row in range(0, 300, 2):  # half of them are copies of a few, in the text or in some bands
                like = np.random.default_rng(int(rng.integers(0, 40))).integers(0, 256, 128, np.uint8)
                keys[row, 16 if row % 4 else 0 :] = like[16 if row % 4 else 0 :]
                keys[row, 16 + 8 * int(rng.integers(1, 14)) :] = 7
            made.append(key_kit.write_keyed(tmp_path / source / f"s{number}", source, keys))
    return made


@pytest.mark.parametrize("workers", [1, 2])
def test_tables_are_the_same_bytes_whatever_does_the_work(many: list[KeyedSplit], tmp_path: Path, workers: int) -> None:
    join = Join(many, DedupChoice(), 42, tmp_path / "one", 400, 500)
    expected = tables_of(join, tmp_path / "here")
    assert len(set(expected.values())) > 1
    other = dataclasses.replace(join, work=tmp_path / "two", run_documents=10_000, part_documents=10_000)
    assert tables_of(other, tmp_path / "there", workers) == expected


def test_there_are_never_so_many_jobs_that_looking_into_each_other_is_their_work(
    many: list[KeyedSplit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = Join(many, DedupChoice(), 42, tmp_path / "one", 300, 100)
    assert [(len(join.runs()), join.runs()[0].parts)] == [(6, 32)]
    expected = tables_of(join, tmp_path / "here")
    monkeypatch.setattr("ettin_data.dedup.join.MOST", 2)
    assert [(len(join.runs()), join.runs()[0].parts)] == [(2, 2)]
    assert tables_of(dataclasses.replace(join, work=tmp_path / "two"), tmp_path / "there") == expected


def test_a_search_that_was_stopped_goes_on_and_trusts_no_output_of_another_job(
    many: list[KeyedSplit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join = Join(many, DedupChoice(), 42, tmp_path / "join", 600, 1000)
    expected = tables_of(join, tmp_path / "first")
    outputs = sorted(path for path in join.work.iterdir() if not path.name.endswith(".json"))
    made = []
    real = arrays.HashedFile
    monkeypatch.setattr(arrays, "HashedFile", lambda path: made.append(path) or real(path))
    assert tables_of(join, tmp_path / "again") == expected and not made, "what is there is not made again"
    for damage in ("missing", "cut", "changed", "swapped"):
        made.clear()
        one, other = outputs[0], outputs[1]
        if damage == "missing":
            one.unlink()
        elif damage == "cut":
            one.write_bytes(one.read_bytes()[:-8])
        elif damage == "changed":
            data = bytearray(one.read_bytes())
            data[len(data) // 2] ^= 1
            one.write_bytes(data)
        else:
            for suffix in ("", ".json"):
                pair = [each.with_name(each.name + suffix) for each in (one, other)]
                held = pair[0].read_bytes()
                shutil.copyfile(pair[1], pair[0])
                pair[1].write_bytes(held)
        assert tables_of(join, tmp_path / damage) == expected
        assert len(made) == (2 if damage == "swapped" else 1)


def test_keys_that_do_not_fit_their_documents_are_refused(many: list[KeyedSplit], tmp_path: Path) -> None:
    shutil.copyfile(many[0].keys, tmp_path / "kept")
    many[0].keys.unlink()
    with key_kit.KeysWriter(many[0].keys, 112) as file:
        file.add(read_keys(tmp_path / "kept", 112)[:-1])
    with pytest.raises(ShardError, match="299 keys for 300 documents"):
        tables_of(Join(many, DedupChoice(), 42, tmp_path / "join"), tmp_path / "tables")
    with pytest.raises(ShardError, match="cannot be read"):
        read_keys(many[1].keys, 96)


@given(st.lists(st.integers(0, 12).map(lambda n: n << 60 | n), max_size=60))
@settings(max_examples=100, deadline=None)
def test_repeated_keys_are_all_found(keys: list[int]) -> None:
    places, _ = repeated(np.array(keys, np.uint64))
    found = set(places.tolist())
    assert found >= {place for place, key in enumerate(keys) if keys.count(key) > 1}
