"""Looking into a run: every row leads to its document, every document to its steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_run import Document, SmallRun

from ettin_data.base.errors import EttinError, OrderError, ShardError
from ettin_data.inspect.lookup import Phase, open_phases
from ettin_data.inspect.trace import document_to_json, step_to_json, trace_document, trace_step


def readings(phase: Phase) -> dict[int, tuple[int, int]]:
    """Position -> (step from 1, place), from the order read from end to end."""
    return {
        int(position): (k + 1, place)
        for k in range(phase.order.steps)
        for place, position in enumerate(phase.order.step(k))
    }


def first_position(phase: Phase, split: str) -> int:
    return next(s.first for s in phase.splits if s.name == split)


def test_phases_are_found_in_the_order_of_training(small_run: SmallRun) -> None:
    assert [phase.name for phase in open_phases(small_run.folder)] == ["pretrain", "decay"]
    assert [phase.name for phase in open_phases(small_run.folder / "decay")] == ["decay"]
    assert [phase.name for phase in open_phases(small_run.folder, "decay")] == ["decay"]
    with pytest.raises(OrderError, match="no phase 'extension' here"):
        open_phases(small_run.folder, "extension")


def test_a_phase_whose_build_has_not_ended_is_not_looked_into(small_run: SmallRun, tmp_path: Path) -> None:
    shutil.copytree(small_run.folder, tmp_path / "run")
    decay = tmp_path / "run" / "decay"
    (decay / "run.json").rename(decay / "plan.json")
    assert [phase.name for phase in open_phases(tmp_path / "run")] == ["pretrain"]
    for path, name in ((tmp_path / "run", "decay"), (decay, None)):
        with pytest.raises(OrderError, match="no finished phase"):
            open_phases(path, name)


@pytest.mark.parametrize("name", ["pretrain", "decay"])
def test_every_row_of_every_step_leads_to_its_document(small_run: SmallRun, name: str) -> None:
    (phase,) = open_phases(small_run.folder, name)
    known: dict[tuple[str, int], list[tuple[Document, int, int]]] = {}
    for docs in small_run.documents[name].values():
        for doc in docs:
            for split, row, start, length in doc.pieces:
                known.setdefault((split, row), []).append((doc, start, length))
    seen = 0
    for k in range(phase.order.steps):
        found = trace_step(phase, k + 1)
        assert found.checkpoint == phase.checkpoint(k)
        assert sum(found.sources.values()) == len(found.rows) == phase.order.batch
        for sample, position in zip(found.rows, phase.order.step(k), strict=True):
            assert sample.position == position
            expected = known[sample.split.name, sample.row]
            assert [(s.file, s.record, s.start, s.length, s.tokens) for s in sample.spans] == [
                (doc.file, doc.record, start, length, len(doc.tokens)) for doc, start, length in expected
            ]
            assert sample.id == expected[0][0].id
            body = np.concatenate([[50281, *doc.tokens[a : a + n], 50282] for doc, a, n in expected])
            np.testing.assert_array_equal(sample.tokens, body)
            seen += 1
    assert seen == phase.order.law.used


def test_a_rank_of_a_step(small_run: SmallRun) -> None:
    (phase,) = open_phases(small_run.folder, "pretrain")
    found = trace_step(phase, 3, rank=1, world=4, rows=2)
    np.testing.assert_array_equal(found.positions, phase.order.step(2)[1::4])
    assert len(found.rows) == 2
    for wrong in ({"step": 0}, {"step": 10_000}, {"step": 1, "rank": 1}, {"step": 1, "rank": 4, "world": 4}):
        with pytest.raises(OrderError):
            trace_step(phase, **wrong)


def test_every_document_leads_to_its_steps(small_run: SmallRun) -> None:
    phases = open_phases(small_run.folder)
    order = {phase.name: readings(phase) for phase in phases}
    for name, splits in small_run.documents.items():
        for doc in [docs[i] for docs in splits.values() for i in (0, len(docs) // 2, -1)]:
            found = [
                d
                for d in trace_document(phases, id=doc.id)
                if (d.file, d.record, d.tokens) == (doc.file, doc.record, len(doc.tokens))
            ]
            assert len(found) == 1
            for phase in phases:
                copies = [
                    piece
                    for docs in small_run.documents[phase.name].values()
                    for other in docs
                    if (other.file, other.record) == (doc.file, doc.record)
                    for piece in other.pieces
                ]
                expected = sorted(
                    (*order[phase.name].get(first_position(phase, split) + row, (10**9, 0)), start, length)
                    for split, row, start, length in copies
                )
                got = [
                    (s.step or 10**9, s.place or 0, s.span.start, s.span.length)
                    for s in found[0].sightings
                    if s.phase == phase.name
                ]
                assert sorted(got) == expected
                read = sum(length for step, _, _, length in expected if step < 10**9)
                assert found[0].times(phase.name) == pytest.approx(read / len(doc.tokens))
            assert name in {s.phase for s in found[0].sightings}


def test_ids_that_are_not_unique_give_every_document(small_run: SmallRun) -> None:
    found = trace_document(open_phases(small_run.folder), id="7")
    assert len(found) == 3 and len({(d.file, d.record) for d in found}) == 3


def test_by_url(small_run: SmallRun) -> None:
    doc = small_run.documents["decay"]["books/books_0000-x"][3]
    (found,) = trace_document(open_phases(small_run.folder), url=doc.url)
    assert (found.id, found.file, found.record) == (doc.id, doc.file, doc.record)
    assert {s.phase for s in found.sightings} == {"pretrain", "decay"}
    assert trace_document(open_phases(small_run.folder), url="https://example.org/nowhere") == []


class Words:
    """A tokenizer of numbers, so that a text is its tokens."""

    def encode_batch(self, texts):
        rows = [np.array(text.split(), np.uint16) for text in texts]
        return np.concatenate(rows), np.cumsum([0, *map(len, rows)])


def test_by_text(small_run: SmallRun) -> None:
    phases = open_phases(small_run.folder)
    for name, split, n in [("pretrain", "code/code_0000-x", 4), ("decay", "web/web_0000-x", 7)]:
        doc = small_run.documents[name][split][n]
        text = " ".join(map(str, doc.tokens.tolist()))
        (found,) = trace_document(phases, text=text, tokenizer=Words)
        assert (found.file, found.record) == (doc.file, doc.record)
    other = " ".join(map(str, [*doc.tokens[:-1].tolist(), 3]))
    assert trace_document(phases, text=other, tokenizer=Words) == []
    with pytest.raises(OrderError, match="one of an id"):
        trace_document(phases, id="1", url="2")


def test_every_document_is_found_by_its_text(small_run: SmallRun) -> None:
    """Short ones and long ones, alone in their samples, cut, and packed with others."""
    phases = open_phases(small_run.folder)
    for splits in small_run.documents.values():
        for doc in [doc for docs in splits.values() for doc in docs][::3]:
            found = trace_document(phases, text=" ".join(map(str, doc.tokens.tolist())), tokenizer=Words)
            assert (doc.file, doc.record) in [(f.file, f.record) for f in found]


def test_json_is_plain(small_run: SmallRun) -> None:
    (phase,) = open_phases(small_run.folder, "pretrain")
    step = json.loads(json.dumps(step_to_json(trace_step(phase, 2), lambda tokens: f"{len(tokens)} tokens")))
    assert len(step["rows"]) == 16 and step["rows"][0]["text"].endswith("tokens")
    (found,) = trace_document([phase], id="books-3")
    plain = json.loads(json.dumps(document_to_json(found, None)))
    assert plain["phases"]["pretrain"]["times"] == pytest.approx(found.times("pretrain"), abs=1e-4)
    assert len(plain["sightings"]) == len(found.sightings)


def test_a_ledger_or_order_that_does_not_fit_is_named(small_run: SmallRun, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(small_run.folder / "decay", tmp_path / "decay")
    ledgers = list((tmp_path / "decay/train").rglob("samples.parquet"))
    shutil.copy(ledgers[0], ledgers[1])
    with pytest.raises(ShardError, match="the ledger has"):
        for step in range(1, 5):
            trace_step(open_phases(tmp_path)[0], step)
    ledgers[1].unlink()
    with pytest.raises(EttinError, match="cannot be read"):
        trace_step(open_phases(tmp_path)[0], 1)
    shutil.rmtree(tmp_path / "decay/order")
    shutil.copytree(small_run.folder / "pretrain/order", tmp_path / "decay/order")
    with pytest.raises(OrderError, match="the order is of"):
        open_phases(tmp_path)
