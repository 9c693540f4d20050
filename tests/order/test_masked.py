"""Masked rows are matched to their samples at every share, and what else is wrong with them is still found."""

from __future__ import annotations

import numpy as np
import pytest
from modernbert import CLS, MASK, SEP, form
from reference import mask_rows

from ettin_data.order.proof import probe
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order


def check(published, **settings) -> Verification:
    return verify_order(Request(str(published.data), str(published.out), **settings))


def told(found: Verification) -> str:
    return "\n".join(to_lines(found))


def kinds(found: Verification) -> dict[str, int]:
    return {difference["kind"]: difference["rows"] for difference in to_json(found)["differences"]}


def mask(published, share: float, seed: int = 0):
    rows, rng = published.rows(), np.random.default_rng(seed)
    masked = mask_rows([row for _, _, row in rows], share, rng)
    published.rewrite([(file, step, row) for (file, step, _), row in zip(rows, masked, strict=True)])
    return published


@pytest.fixture(params=[0.3, 0.15, 0.05])
def masked(make, request):
    return mask(make(800, 16, length=64, form=form("encoder", 50)), request.param), request.param


def test_masked_rows_agree_and_the_share_is_stated(masked) -> None:
    published, share = masked
    found = check(published)
    assert (found.verdict, found.exit_status) == ("agrees", 0), told(found)
    assert sum(r.matched for r in found.checked) == 800 and (found.form.kind, found.max_length) == ("encoder", 50)
    tokens, masks, others, _ = np.sum([r.changes for r in found.checked], axis=0)
    assert abs(masks / tokens / 0.8 - share) < 0.02 and abs(others / tokens - share / 10) < 0.005
    assert "a single changed token cannot be told from that" in told(found)


def test_faults_show_in_masked_rows(masked) -> None:
    published, _ = masked
    rows = published.rows()
    long = [i for i, (_, _, row) in enumerate(rows) if len(row) > 40]
    a, b, c, d = long[3], long[60], long[120], long[200]
    rows[a], rows[b] = (*rows[a][:2], rows[b][2]), (*rows[b][:2], rows[a][2])
    rows[c] = (*rows[c][:2], [CLS, *range(100, 138), SEP])
    del rows[d]
    published.rewrite(rows)
    found = check(published)
    assert (found.verdict, found.exit_status) == ("differs", 1)
    assert kinds(found)["other_step"] == 2 and kinds(found)["unknown"] == 1
    assert f"the law has it in step {rows[b][1]}" in told(found)


def test_rows_in_another_order_inside_a_step(masked) -> None:
    published, _ = masked
    rows, rng = published.rows(), np.random.default_rng(1)
    for begin in range(0, 800, 16):
        rows[begin : begin + 16] = [rows[begin + i] for i in rng.permutation(16)]
    published.rewrite(rows)
    found = check(published)
    assert found.exit_status == 0 and "not recognised" in told(found)


@pytest.mark.parametrize(("share", "looked_for"), [(0.3, 40_000), (0.05, 40_000), (0.3, 150)])
def test_rows_in_another_order_inside_two_folders_that_hold_all_data(
    make, monkeypatch, share: float, looked_for: int
) -> None:
    monkeypatch.setattr(probe, "_MASKED_ROWS", looked_for)  # fewer than the first folder has
    published = mask(make(800, 16, length=64, form=form("encoder", 50)), share)
    rows, rng = published.rows(), np.random.default_rng(3)
    for begin in (0, 400):
        tokens = [rows[begin + i][2] for i in rng.permutation(400)]
        rows[begin : begin + 400] = [(*row[:2], each) for row, each in zip(rows[begin:], tokens, strict=False)]
    published.rewrite(rows)
    found = check(published)
    assert found.verdict == "explained" and "folders are exact" in told(found), told(found)
    assert [(r.unit.start, r.unit.stop) for r in found.checked] == [(0, 400), (400, 800)]


def test_another_seed_and_another_shard_order_of_masked_rows(make) -> None:
    published, seed = mask(make(800, 16, length=64, form=form("encoder", 64), seed=22), 0.3), 22
    found = check(published)
    assert found.verdict == "explained" and f"another seed: {seed}" in told(found), told(found)
    published.shuffle_shards()
    found = check(published)
    assert found.verdict == "explained" and "another shard order" in told(found), told(found)


def test_masked_rows_of_other_data_do_not_agree(make) -> None:
    published = mask(make(400, 16), 0.3)
    rng = np.random.default_rng(2)
    rows = [
        (file, step, [t if t in (CLS, SEP, MASK) else int(rng.integers(50_000)) for t in row])
        for file, step, row in published.rows()
    ]
    published.rewrite(rows)
    found = check(published)
    assert found.exit_status == 2 and "they were masked" in told(found)
