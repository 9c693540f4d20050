"""Packed publications: proved under their own law, masked or not, found by inference, and faults in them named."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modernbert import CLS, MASK, PAD, SEP, form
from random_data import write_data, write_rows
from reference import mask_rows, packed_steps
from typer.testing import CliRunner

from ettin_data.base.errors import OrderError
from ettin_data.cli import main as cli
from ettin_data.order.export import export_law
from ettin_data.order.laws import Packed, law_named
from ettin_data.order.proof.outcome import Request
from ettin_data.order.proof.packed_rows import verify_packed
from ettin_data.order.published import file_name, folder_name
from ettin_data.storage.mds import MdsReader

LAW = Packed(40, 16, 2, 2, seed=12345)
WORDS = "modernbert-packed-v1:length=40,batch=16,world=2,micro=2,seed=12345"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    write_data(folder / "train", 1503)
    return folder / "train"


@pytest.fixture
def out(data: Path, tmp_path: Path) -> Path:
    export_law(
        LAW, data, tmp_path / "out", phase="pretrain", form=form("decoder", 40), interval_steps=20, steps_per_file=5
    )
    return tmp_path / "out"


def change(path: Path, edit) -> None:
    """Rewrite a file with rows and steps that an edit has made of them."""
    table = pq.read_table(path)
    rows, steps = edit(table["input_ids"].to_pylist(), table["step"].to_pylist())
    lists, numbers = pa.array(rows, pa.list_(pa.uint16())), pa.array(steps, pa.uint64())
    pq.write_table(pa.table({"input_ids": lists, "step": numbers}), path)


def mask(out: Path, share: float) -> None:
    rng = np.random.default_rng(7)

    def edit(rows, steps):
        made = []
        for row in rows:
            row = np.array(row)
            drawn = (rng.random(len(row)) < share) & (row != CLS) & (row != SEP)
            kind = rng.random(len(row))
            row = np.where(drawn & (kind < 0.8), MASK, row)
            row = np.where(drawn & (kind >= 0.8) & (kind < 0.9), rng.integers(0, 50_000, len(row)), row)
            made.append(row.tolist())
        return made, steps

    for path in sorted(out.rglob("*.parquet")):
        change(path, edit)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.05])
def test_it_agrees_under_its_own_law(data: Path, out: Path, share: float) -> None:
    if share:
        mask(out, share)
    found = verify_packed(Request(str(data), str(out), law=WORDS))
    assert (found.verdict, found.exit_status) == ("agrees", 0), found.to_lines()
    assert len(found.steps) > 20 and (found.masking is None) == (share == 0)
    path = sorted(out.rglob("*.parquet"))[-1]
    path.unlink()
    partial = verify_packed(Request(str(data), str(out), law=WORDS))
    assert (partial.verdict, partial.exit_status) == ("agrees", 3)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_it_is_found_among_plausible_laws(data: Path, out: Path, share: float) -> None:
    if share:
        mask(out, share)
    found = verify_packed(Request(str(data), str(out)))
    assert (found.verdict, found.exit_status) == ("explained", 1)
    assert (found.law.seed, found.law.world, found.law.width) == (12345, 2, 80) and found.tried > 1


@pytest.mark.parametrize("world", [1, 2, 8])
@pytest.mark.parametrize("warm", ["", ",warmup_batch=2,warmup_tokens=12000"])
def test_what_a_model_of_the_packer_gives_agrees(data: Path, tmp_path: Path, world: int, warm: str) -> None:
    """Made without the law, its export or its steps; as it is, and with tokens drawn of rows and their padding."""
    words = f"modernbert-packed-v1:length=40,batch=32,world={world},micro=2,seed=12345{warm}"
    reader = MdsReader(data)
    lengths = [len(reader.tokens(i)) for i in range(len(reader))]
    made = packed_steps(law_named(words, 32), lengths)
    rows = [[np.concatenate([reader.tokens(i)[:40] for i in row]).tolist() for row in step] for step in made]
    numbers = [number for number, step in enumerate(rows, 1) for _ in step]
    path = tmp_path / f"out/{folder_name('pretrain', 1)}/{file_name(1, 100)}"
    flat = [row for step in rows for row in step]
    padded = [row + [PAD] * (80 - len(row)) for row in flat]
    for share, saved in ((0.0, flat), (0.0, padded), (0.3, padded)):
        saved = mask_rows(saved, share, np.random.default_rng(1)) if share else saved
        write_rows(path, saved, numbers)
        found = verify_packed(Request(str(data), str(tmp_path / "out"), law=words))
        assert (found.verdict, found.exit_status) == ("agrees", 0), found.to_lines()
        assert len(found.steps) > 10 and (len({len(step) for step in rows}) > 1) == bool(warm)
        write_rows(path, [*saved[:5], saved[-1], *saved[6:]], numbers)
        found = verify_packed(Request(str(data), str(tmp_path / "out"), law=words))
        wrong = [step.name.split()[1] for step in found.steps if not step.agrees]
        assert found.verdict == "differs" and wrong == [str(numbers[5])]


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_a_sample_more_or_less_shows_in_masked_padding(data: Path, tmp_path: Path, share: float) -> None:
    """A row of much padding, with one more sample of some tokens, and without its last one."""
    reader, law = MdsReader(data), law_named(WORDS, 16)
    made = packed_steps(law, [len(reader.tokens(i)) for i in range(len(reader))])
    step, row = min(
        ((s, r) for s, rows in enumerate(made) for r in range(len(rows))),
        key=lambda at: sum(len(reader.tokens(i)) for i in made[at[0]][at[1]]),
    )
    held = [reader.tokens(i).tolist() for i in made[step][row]]
    assert 80 - sum(map(len, held)) >= 8 and len(held) > 1
    more = [*held, [CLS, 11, 12, 13, SEP]]
    path = tmp_path / f"out/{folder_name('pretrain', 1)}/{file_name(1, 100)}"
    for faulty, agrees in ((held, True), (more, False), (held[:-1], False)):
        rows = [[np.concatenate([reader.tokens(i) for i in r]).tolist() for r in rows] for rows in made]
        rows[step][row] = [token for sample in faulty for token in sample]
        padded = [r + [PAD] * (80 - len(r)) for rows in rows for r in rows]
        numbers = [number for number, rows in enumerate(made, 1) for _ in rows]
        write_rows(path, mask_rows(padded, share, np.random.default_rng(2)), numbers)
        found = verify_packed(Request(str(data), str(tmp_path / "out"), law=WORDS))
        assert [s.name.split()[1] for s in found.steps if not s.agrees] == ([] if agrees else [str(step + 1)])


def exchange(rows, steps):
    rows[0], rows[-1] = rows[-1], rows[0]
    return rows, steps


def turn(rows, steps):
    """The first two samples of a row change places."""
    row = rows[3]
    second = row.index(CLS, 1)
    third = [*row, CLS].index(CLS, second + 1)
    rows[3] = row[second:third] + row[:second] + row[third:]
    return rows, steps


def drop(rows, steps):
    return rows[1:], steps[1:]


def alter(rows, steps):
    rows[2][5] = (rows[2][5] + 1) % 50_000
    return rows, steps


@pytest.mark.parametrize(("fault", "steps"), [(exchange, 2), (turn, 1), (drop, 1), (alter, 1)])
def test_a_fault_is_named_where_it_is(data: Path, out: Path, fault, steps: int) -> None:
    change(sorted(out.rglob("*.parquet"))[1], fault)
    found = verify_packed(Request(str(data), str(out), law=WORDS))
    assert (found.verdict, found.exit_status) == ("differs", 1)
    wrong = [step.name for step in found.steps if not step.agrees]
    assert len(wrong) == steps and wrong[0].startswith("step 6 ")
    assert any("step 6 " in line for line in found.to_lines())


@pytest.mark.parametrize("other", ["seed=12346", "world=4", "world=2,buffer=20", "world=2,length=39"])
def test_another_packed_law_never_agrees(data: Path, out: Path, other: str) -> None:
    words = "modernbert-packed-v1:batch=16,micro=2,seed=12345,length=40"
    kept = [w for w in words.partition(":")[2].split(",") if w.partition("=")[0] not in other]
    found = verify_packed(Request(str(data), str(out), law=f"modernbert-packed-v1:{','.join([*kept, other])}"))
    assert found.verdict == "differs"


def test_rows_that_no_law_packed_so(data: Path, out: Path) -> None:
    """Every row is made of the same samples, and step by step the rows are others'."""
    draws = random.Random(5)

    def shuffled(rows, steps):
        return draws.sample(rows, len(rows)), steps

    for path in sorted(out.rglob("*.parquet")):
        change(path, shuffled)
    assert verify_packed(Request(str(data), str(out), batch=16)) is None


def test_on_the_command_line(data: Path, out: Path) -> None:
    command = ["order", "verify", "--data", str(data), "--published", str(out), "--seeds", "21"]
    done = CliRunner().invoke(cli.app, [*command, "--law", WORDS])
    assert done.exit_code == 0 and "AGREES" in done.output and "world 2" in done.output
    found = CliRunner().invoke(cli.app, command)
    assert found.exit_code == 1 and "modernbert-packed-v1" in found.output and "seed 12345" in found.output


def test_lengths_of_all_samples_are_needed(data: Path, out: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(data, tmp_path / "part")
    next((tmp_path / "part").rglob("*.mds")).unlink()
    with pytest.raises(OrderError, match="lengths of all samples"):
        verify_packed(Request(str(tmp_path / "part"), str(out), law=WORDS))
