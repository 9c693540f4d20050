"""Nothing agrees without evidence: rows that are alike, rows that say too little, steps that are there again."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modernbert import CLS, PAD, SEP

from ettin_data.order.export import export_order
from ettin_data.order.index import OrderLaw, write_order
from ettin_data.order.proof.chance import Forms, arrangements, chance_text, log_chance
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order
from ettin_data.storage.mds import ShardWriter, write_index


def told(found: Verification) -> str:
    return "\n".join(to_lines(found))


def check(published, **settings) -> Verification:
    found = verify_order(Request(str(published.data), str(published.out), **settings))
    assert to_json(found)["verdict"] == found.verdict and told(found)
    return found


def test_a_folder_that_is_there_twice(published) -> None:
    shutil.copytree(published.out / "checkpoint_000001", published.out / "checkpoint_000004")
    found = check(published)
    assert found.verdict == "differs" and "steps 1 to 25 are of the law there more than once" in told(found)


def test_steps_that_a_second_file_repeats(published) -> None:
    first = published.files()[0]
    shutil.copy(first, first.with_name("steps_000090_to_000099.parquet"))
    assert check(published).verdict == "differs"


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda row, rng: [CLS],
        lambda row, rng: [CLS, SEP],
        lambda row, rng: [PAD] * 10,
        lambda row, rng: [],
        lambda row, rng: row[:2],
        lambda row, rng: row[:3],
        lambda row, rng: [*row[:2], SEP],
        lambda row, rng: [CLS, *rng.integers(0, 50_000, len(row) - 2).tolist(), SEP],
        lambda row, rng: [CLS, *[7] * 20, SEP],
    ],
)
def test_rows_that_say_nothing_never_agree(published, spoiled) -> None:
    rng = np.random.default_rng(0)
    published.rewrite([(file, step, spoiled(row, rng)) for file, step, row in published.rows()])
    for choice in ({}, {"infer": False}):
        assert check(published, **choice).exit_status in (1, 2)


def test_data_whose_samples_are_all_alike_prove_nothing(tmp_path) -> None:
    writer = ShardWriter(tmp_path / "train")
    (tmp_path / "train").mkdir()
    tokens = np.tile(np.array([CLS, *range(10, 30), SEP], np.uint16), 200)
    writer.write([f"{i}" for i in range(200)], tokens, np.arange(201) * 22)
    write_index(tmp_path / "train", writer.finish())
    write_order(tmp_path / "order", OrderLaw(21, 0, 200, 8), interval_steps=5, phase="pretrain")
    export_order(tmp_path / "order", tmp_path / "train", tmp_path / "out")
    found = verify_order(Request(str(tmp_path / "train"), str(tmp_path / "out")))
    assert (found.verdict, found.exit_status) == ("cannot tell", 2)
    assert "different 1 of 200 samples, 1 of 200 rows" in told(found) and "near 1" in told(found)


def test_one_step_of_all_the_data_proves_nothing_unless_its_rows_are_in_order(make) -> None:
    published = make(40, 40)
    assert check(published).verdict == "agrees"
    rows = published.rows()
    published.rewrite([rows[i] for i in np.random.default_rng(0).permutation(len(rows))])
    assert check(published).exit_status == 2


def test_what_an_agreement_states(published) -> None:
    found = check(published)
    assert "different 992 of 992 samples, 992 of 992 rows" in told(found)
    assert found.log_chance < -5000 and to_json(found)["log10_chance"] < -2000


@given(st.lists(st.integers(0, 5), min_size=6, max_size=8), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_the_chance_is_the_share_of_orders_that_agree(values: list[int], batch: int) -> None:
    """Counted out: of all orders of the rows, how many give each unit the same multiset."""
    from itertools import permutations

    units = [values[i : i + batch] for i in range(0, len(values), batch)]
    wanted = [sorted(unit) for unit in units]
    orders = list(permutations(values))
    agree = sum([sorted(order[i : i + batch]) for i in range(0, len(values), batch)] == wanted for order in orders)
    hashed = [np.array(unit, np.uint64) for unit in units]
    log = log_chance(len(values), len(values), sum(map(arrangements, hashed)), Forms.of(np.concatenate(hashed)), 1)
    assert np.exp(log) == pytest.approx(agree / len(orders))


def test_forms_are_counted_by_a_fair_sample() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 64, 300_000, np.uint64)
    parts = [values[:200_000], values[100_000:], values[:50_000]]
    forms = Forms.together([Forms.of(part) for part in parts])
    assert forms.rows == 450_000 and not forms.exact and abs(forms.different / 300_000 - 1) < 0.02
    assert abs(forms.counts.mean() - 1.5) < 0.02
    assert Forms.together([]).different == 0
    assert [chance_text(x) for x in (0.0, -3.0, -2302.585)] == ["near 1", "1 in 20", "1 in 10^1,000"]
