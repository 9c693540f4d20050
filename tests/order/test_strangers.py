"""A publication of which no row is in the data, or which can hardly be read, gets a verdict and a reason at once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modernbert import CLS, MASK, PAD, SEP
from random_data import write_data

from ettin_data.base.errors import OrderError
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order

RNG = np.random.default_rng(3)


def told(found: Verification) -> str:
    return "\n".join(to_lines(found))


def check(published, **settings) -> Verification:
    begin = time.process_time()  # not of the clock, which other work on the machine would make late
    found = verify_order(Request(str(published.data), str(published.out), **settings))
    assert to_json(found)["verdict"] == found.verdict and told(found)
    assert time.process_time() - begin < 5
    return found


def text(count: int) -> list[int]:
    return RNG.integers(0, 50_000, count).tolist()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (lambda: [2, *RNG.integers(5, 60_000, 30).tolist(), 1], "another tokenizer"),
        (lambda: [CLS, *text(9), SEP, CLS, *text(9), SEP, CLS, *text(9), SEP], "packed"),
        (lambda: [MASK if i % 3 == 0 else t for i, t in enumerate(text(40))], "masked"),
        (lambda: [CLS, *text(100), SEP], "longer than the samples of this data"),
        (lambda: [*[PAD] * 10, CLS, *text(20), SEP], "padded on the left"),
        (lambda: [CLS, *text(20), SEP], "of another phase"),
        (lambda: [CLS, *text(3), SEP], "too few to tell samples apart"),
        (list, "no tokens"),
        (lambda: [PAD] * 9, "no tokens"),
    ],
)
def test_rows_that_are_not_of_this_data(published, row, said: str) -> None:
    published.rewrite([(file, step, row()) for file, step, _ in published.rows()])
    found = check(published)
    assert (found.verdict, found.exit_status) == ("cannot tell", 2)
    headline = told(found).splitlines()[0]
    assert "none of 992 rows is in the data" in headline and said in headline


def test_ids_beyond_the_vocabulary_are_looked_for_nowhere(published) -> None:
    """Ids that the token type has room for and the vocabulary has not."""
    published.rewrite([(file, step, [*text(20), 51_000]) for file, step, _ in published.rows()])
    found = check(published)
    assert found.verdict == "cannot tell" and found.inference is not None
    assert (found.inference.evidence.shards_read, found.inference.evidence.searched) == (0, 1.0)
    assert "none of 992 rows is in the data; they are of another tokenizer: id 51,000" in told(found)


def test_rows_that_are_in_the_data_and_in_no_known_order(published) -> None:
    """Every law that is tried, and every place of a shard under it, costs little when nothing speaks for it."""
    rows = published.rows()
    mixed = [rows[i][2] for i in RNG.permutation(len(rows))]
    published.rewrite([(file, step, row) for (file, step, _), row in zip(rows, mixed, strict=True)])
    found = check(published, seeds=(21,))
    assert found.verdict == "differs" and "no law was found" in told(found)


def test_another_data_set_of_the_same_vocabulary(published, tmp_path: Path) -> None:
    write_data(tmp_path / "other", 1003, seed=9)
    found = verify_order(Request(str(tmp_path / "other"), str(published.out)))
    assert (found.verdict, found.exit_status) == ("cannot tell", 2) and "another data set" in told(found)


def test_one_broken_file_among_many(published) -> None:
    files = published.files()
    files[1].write_bytes(b"PAR1 no")
    files[4].write_bytes(b"<!doctype html><html>gated</html>")
    found = check(published)
    assert (found.verdict, found.exit_status) == ("agrees", 3)
    assert [Path(bad["path"]).name for bad in to_json(found)["bad_files"]] == [files[1].name, files[4].name]
    assert files[1].name in told(found) and len(found.checked) == 62 - 20


def test_pages_in_place_of_files_are_named(published) -> None:
    for path in published.files():
        path.write_bytes(b"<!doctype html><html>please sign in</html>")
    with pytest.raises(OrderError, match=r"no parquet file.*doctype html"):
        check(published)


@pytest.mark.parametrize("steps", [lambda n: np.zeros(n, np.int64), lambda n: np.full(n, 5)])
def test_all_rows_in_one_step(published, steps) -> None:
    for path in published.files():
        table = pq.read_table(path)
        pq.write_table(table.set_column(1, "step", pa.array(steps(len(table)))), path)
    found = check(published)
    assert found.exit_status in (1, 2)


@pytest.mark.parametrize("steps", [lambda s: s + 0.5, lambda s: s * 1e300, lambda s: s - 10.0**18])
def test_strange_step_numbers_have_a_verdict(published, steps) -> None:
    for path in published.files():
        table = pq.read_table(path)
        pq.write_table(table.set_column(1, "step", pa.array(steps(table["step"].to_numpy().astype(float)))), path)
    try:
        assert check(published).exit_status in (1, 2)
    except OrderError as error:
        assert "cannot be read" in str(error) or "step" in str(error)


def test_rows_in_any_order_of_their_steps(published) -> None:
    """Every row is a run of its own, and the columns stand the other way round."""
    for path in published.files():
        table = pq.read_table(path)
        order = np.random.default_rng(1).permutation(len(table))
        pq.write_table(table.take(order).select(["step", "input_ids"]), path)
    found = check(published)
    assert (found.verdict, found.exit_status) == ("agrees", 0)


def test_an_empty_folder_and_a_folder_of_pages(published, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(OrderError, match="no published order"):
        verify_order(Request(str(published.data), str(tmp_path / "none")))
    for path in published.files():
        path.write_bytes(b"<!doctype html><html>sign in</html>")
    with pytest.raises(OrderError, match="cannot be read"):
        check(published)
