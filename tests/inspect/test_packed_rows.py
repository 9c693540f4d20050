"""Looking into a phase as a loader packs it: steps, documents, pages and exposure against a model of the packer."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_run import SmallRun
from typer.testing import CliRunner

from ettin_data.base.draws import document_key
from ettin_data.base.errors import OrderError
from ettin_data.cli import main as cli
from ettin_data.inspect.exposure import across_phases
from ettin_data.inspect.lookup import Phase, open_phases
from ettin_data.inspect.trace import document_to_json, step_to_json, trace_document, trace_step
from ettin_data.inspect.view import page

sys.path.insert(0, str(Path(__file__).parents[1] / "order"))
from reference import packed_steps

WORDS = "modernbert-packed-v1:length=40,batch=16,world=2,micro=2"


@pytest.fixture(scope="module")
def phase(small_run: SmallRun) -> Phase:
    return open_phases(small_run.folder, "pretrain", WORDS)[0]


@pytest.fixture(scope="module")
def made(phase: Phase) -> list[list[list[int]]]:
    """The model's rows of each step."""
    return packed_steps(phase.packing.law, [len(phase.reader.tokens(i)) for i in range(len(phase))])


def test_a_step_shows_the_packers_rows(phase: Phase, made) -> None:
    assert phase.steps == len(made) > 2
    for number in (len(made), 1, 2, 1):  # forwards and back
        found = trace_step(phase, number)
        rows = [
            [sample.position for sample in found.rows[a:b]]
            for a, b in zip(found.packed[:-1], found.packed[1:], strict=True)
        ]
        assert rows == made[number - 1] and sum(found.sources.values()) == len(found.rows)
    halves = [trace_step(phase, 2, rank=rank, world=2) for rank in range(2)]
    assert [s.position for half in halves for s in half.rows] == [p for row in made[1] for p in row]
    few = trace_step(phase, 2, rows=3)
    assert [s.position for s in few.rows] == [p for row in made[1][:3] for p in row]
    assert step_to_json(few, None)["packed"] == list(few.packed) and step_to_json(few, None)["samples"] > len(few.rows)
    for bad in (0, len(made) + 1):
        with pytest.raises(OrderError, match="not in the order"):
            trace_step(phase, bad)
    with pytest.raises(OrderError, match="packed for 2 ranks"):
        trace_step(phase, 1, rank=0, world=3)


def test_every_document_leads_to_its_rows(small_run: SmallRun, phase: Phase, made) -> None:
    where = {p: (k, r) for k, step in enumerate(made, 1) for r, row in enumerate(step) for p in row}
    cuts = 0
    for docs in small_run.documents["pretrain"].values():
        for doc in docs[:10]:
            found = next(f for f in trace_document([phase], id=doc.id) if f.tokens == len(doc.tokens))
            assert len(found.sightings) >= len(doc.pieces)
            for s in found.sightings:
                assert (s.step, s.row) == where.get(s.sample.position, (None, None))
                assert s.cut == (max(len(s.sample.tokens) - 40, 0) if s.step else 0)
                cuts += s.cut > 0
            told = document_to_json(found, None)["sightings"]
            assert all(("row" in each) == (each["step"] is not None) for each in told)
    assert cuts > 3
    assert (
        "row"
        not in document_to_json(trace_document(open_phases(small_run.folder, "pretrain"), id=doc.id)[0], None)[
            "sightings"
        ][0]
    )


def test_a_page_has_the_rows_and_their_borders(phase: Phase, made) -> None:
    text = page(phase, 2, lambda tokens: " ".join(map(str, tokens.tolist())))
    heads = re.findall(r"row (\d+): (\d+) samples, (\d+) of 80 tokens; borders at ([\d ·]+)<", text)
    assert len(heads) == len(made[1]) and f"{len(made[1])} packed rows" in text and "max_seq_len 40" in text
    for (number, count, tokens, borders), row in zip(heads, made[1], strict=True):
        lengths = [min(len(phase.reader.tokens(p)), 40) for p in row]
        ends = [sum(lengths[:i]) for i in range(len(row) + 1)]
        assert (int(count), int(tokens)) == (len(row), ends[-1]) and borders.split(" · ") == list(map(str, ends))
        first = f"position {row[0]:,} · "
        assert text.index(f">row {number}: ") < text.index(first)


def test_exposure_counts_what_the_rows_hold(small_run: SmallRun, phase: Phase, made, tmp_path: Path) -> None:
    where = {p: k for k, step in enumerate(made, 1) for row in step for p in row}
    assert len(where) < len(phase)
    expected: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for docs in small_run.documents["pretrain"].values():
        for doc in docs:
            for split, row, _, length in doc.pieces:
                if step := where.get(phase_position(phase, split, row)):
                    expected.setdefault((document_key(doc.id), len(doc.tokens)), []).append((step, length))
    found = across_phases([phase], write=tmp_path / "all.parquet")
    assert found.all_documents == len(expected)
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert {(row["key"], row["tokens"]) for row in rows} == set(expected)
    for row in rows:
        steps, lengths = zip(*expected[row["key"], row["tokens"]], strict=True)
        assert (row["samples"], row["read"]) == (len(steps), sum(lengths))
        assert (row["first"], row["last"]) == (min(steps), max(steps))
    across_phases(open_phases(small_run.folder, "pretrain"), write=tmp_path / "plain.parquet")
    assert pq.read_table(tmp_path / "plain.parquet").to_pylist() != rows


def phase_position(phase: Phase, split: str, row: int) -> int:
    return next(s.first for s in phase.splits if s.name == split) + row


def test_on_the_command_line(small_run: SmallRun, tmp_path: Path, made) -> None:
    run = str(small_run.folder / "pretrain")

    def called(*words: str) -> str:
        done = CliRunner().invoke(cli.app, [*words, "--law", WORDS])
        assert done.exit_code == 0, done.output
        return done.output

    assert "row 1\n" in called("trace", run, "--step", "2", "--rows", "2")
    doc = small_run.documents["pretrain"][next(iter(small_run.documents["pretrain"]))][0].id
    assert re.search(r"row \d+ (whole|without its last \d+ tokens)|tail", called("trace", run, "--doc", doc))
    called("view", run, "--step", "2", "--out", str(tmp_path / "step.html"))
    assert "packed rows" in (tmp_path / "step.html").read_text()
    assert "documents read" in called("exposure", run)
    gone = CliRunner().invoke(cli.app, ["trace", run, "--step", str(len(made) + 1), "--law", WORDS])
    assert gone.exception.exit_status == 4 and f"steps 1 to {len(made)}" in str(gone.exception)
