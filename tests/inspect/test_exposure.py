"""Exposure against a plain count; texts against a plain search."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from progress_log import ProgressLog
from small_run import SmallRun
from test_trace import first_position, readings

from ettin_data.base.errors import OrderError
from ettin_data.executor import ExecutorOptions
from ettin_data.inspect import exposure
from ettin_data.inspect.contamination import Hit, find_texts, located
from ettin_data.inspect.exposure import across_phases, to_json
from ettin_data.inspect.lookup import open_phases


def plain_count(run: SmallRun) -> dict[tuple[str, int], dict[str, tuple[int, int, int, int]]]:
    """(id, tokens) -> phase -> (samples, tokens read, first step, last step)."""
    found: dict[tuple[str, int], dict[str, tuple[int, int, int, int]]] = defaultdict(dict)
    for phase in open_phases(run.folder):
        order = readings(phase)
        for docs in run.documents[phase.name].values():
            for doc in docs:
                for split, row, _, length in doc.pieces:
                    position = first_position(phase, split) + row
                    if position not in order:
                        continue
                    step = order[position][0]
                    samples, read, low, high = found[doc.id, len(doc.tokens)].get(phase.name, (0, 0, step, step))
                    now = (samples + 1, read + length, min(low, step), max(high, step))
                    found[doc.id, len(doc.tokens)][phase.name] = now
    return found


@pytest.mark.parametrize("bucket", [20_000_000, 50])
def test_exposure_is_a_plain_count(small_run: SmallRun, tmp_path: Path, monkeypatch, bucket: int) -> None:
    monkeypatch.setattr(exposure, "BUCKET_DOCUMENTS", bucket)
    phases = open_phases(small_run.folder)
    found = across_phases(phases, keep=10_000, write=tmp_path / "all.parquet")
    expected = plain_count(small_run)
    assert found.all_documents == len(expected)
    assert found.documents == dict(Counter(" + ".join(p) for p in expected.values()))
    assert found.documents["pretrain + decay"] == 10
    times = Counter(max(1, round(sum(row[1] for row in p.values()) / key[1])) for key, p in expected.items())
    assert found.times == dict(times)
    table = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert len(table) == sum(map(len, expected.values()))
    rows = sorted((r["tokens"], r["samples"], r["read"], r["first"], r["last"]) for r in table)
    assert rows == sorted((key[1], *row) for key, p in expected.items() for row in p.values())
    monkeypatch.setattr(exposure, "_SPLITS", 1)
    progress = ProgressLog()
    there = across_phases(phases, keep=10_000, options=ExecutorOptions(workers=2), progress=progress)
    shown = to_json(found, phases)
    assert to_json(there, phases) == shown
    assert [sum(work for work, _ in stage.steps) for stage in progress.stages] == [len(p.reader) for p in phases]
    json.dumps(shown)
    several = {key: p for key, p in expected.items() if len(p) > 1 or sum(row[1] for row in p.values()) / key[1] >= 1.5}
    assert len(shown["most_read"]) == len(several)
    for document in shown["most_read"]:
        for row in document["phases"]:
            samples, read, first, last = several[document["id"], document["tokens"]][row["phase"]]
            assert (row["samples"], row["first"], row["last"]) == (samples, first, last)
            assert row["times"] == pytest.approx(read / document["tokens"], abs=1e-4)
    often = [sum(row["times"] for row in document["phases"]) for document in shown["most_read"]]
    assert often == sorted(often, reverse=True)


@pytest.mark.parametrize("n", [1, 5, 13])
def test_texts_are_found_where_they_are(small_run: SmallRun, n: int) -> None:
    (phase,) = open_phases(small_run.folder, "pretrain")
    rng = np.random.default_rng(0)
    rows = [phase.reader.tokens(i)[1:-1] for i in range(len(phase.reader))]
    some = max(rows, key=len)
    texts = [
        np.concatenate([rng.integers(0, 50_000, 9).astype(np.uint16), some[5:30]]),  # partly there
        rng.integers(0, 50_000, 40).astype(np.uint16),  # not there, unless n is 1
        some[3:10],  # shorter than 13
        np.concatenate([rows[0][-3:], rows[1][:20]]),  # over the border of two samples
    ]

    def grams(tokens: np.ndarray) -> set[tuple[int, ...]]:
        return {tuple(tokens[i : i + n].tolist()) for i in range(len(tokens) - n + 1)}

    expected = []
    for number, text in enumerate(texts):
        for position in range(len(rows)):
            shared = len(grams(text) & grams(phase.reader.tokens(position)))
            if shared:
                expected.append(Hit(number, position, shared, len(grams(text))))
    expected.sort(key=lambda hit: (hit.text, -hit.grams, hit.position))
    assert find_texts(phase.folder / "train", texts, n=n) == expected
    assert any(hit.text == 0 for hit in expected) and any(hit.text == 3 for hit in expected)
    lines = located(phase, expected)
    order = readings(phase)
    assert [line["step"] for line in lines] == [order.get(hit.position, (None, 0))[0] for hit in expected]


def test_texts_by_workers_are_the_same(small_run: SmallRun) -> None:
    (phase,) = open_phases(small_run.folder, "decay")
    texts = [phase.reader.tokens(i)[3:40] for i in range(0, len(phase.reader), 5)]
    here = find_texts(phase.folder / "train", texts, n=8)
    assert len(here) >= len(texts)
    assert find_texts(phase.folder / "train", texts, n=8, options=ExecutorOptions(workers=2)) == here


def test_nothing_to_find(small_run: SmallRun) -> None:
    train = small_run.folder / "decay/train"
    assert find_texts(train, []) == [] and find_texts(train, [np.zeros(5, np.uint16)]) == []
    with pytest.raises(OrderError, match="0 tokens"):
        find_texts(train, [np.zeros(5, np.uint16)], n=0)
