"""Masked rows are matched to their samples at every share, and what else is wrong with them is still found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modernbert import CLS, MASK, SEP, form
from reference import mask_rows

from ettin_data.order.proof import masking
from ettin_data.order.proof.masking import Masking, Tokens, compare_pairs, pair
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
    tokens, masks, others = np.sum([r.changes for r in found.checked], axis=0)
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


@pytest.mark.parametrize("share", [0.15, 0.05])
def test_rows_in_another_order_inside_two_folders_that_hold_all_data(make, share: float) -> None:
    published = mask(make(800, 16, length=64, form=form("encoder", 50)), share)
    rows, rng = published.rows(), np.random.default_rng(3)
    for begin in (0, 400):
        tokens = [rows[begin + i][2] for i in rng.permutation(400)]
        rows[begin : begin + 400] = [(*row[:2], each) for row, each in zip(rows[begin:], tokens, strict=False)]
    published.rewrite(rows)
    found = check(published)
    assert found.verdict == "explained" and "folders are exact" in told(found), told(found)
    assert [(r.unit.start, r.unit.stop) for r in found.checked] == [(0, 400), (400, 800)]


@pytest.mark.parametrize("seed", [22, 9176])
def test_another_seed_and_another_shard_order_of_masked_rows(make, seed: int) -> None:
    published = mask(make(800, 16, length=64, form=form("encoder", 64), seed=seed), 0.3)
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


def test_a_short_row_of_which_much_was_hidden_is_its_sample_and_no_other() -> None:
    """Ten tokens of text: three are left, three are others and four the mask, and the closing token is another one."""
    row = [CLS, MASK, MASK, MASK, 18143, 8900, 38892, 26901, 7484, 33805, MASK, 49559]
    sample = [CLS, 6592, 41642, 17974, 18143, 8900, 27990, 11863, 9891, 33805, 36392, SEP]
    garbage = [CLS, *range(900, 910), SEP]
    for stored, found in ((sample, 1), (garbage, 0), ([*sample[:4], *garbage[4:]], 0)):
        sides = [Tokens(np.array(each, np.uint16), np.zeros(1, np.int64), np.array([12])) for each in (row, stored)]
        assert len(pair(sides[0], sides[1], Masking(0.3, MASK)).rows) == found


@given(
    st.integers(0, 2**32),
    st.sampled_from([0.05, 0.15, 0.3, 0.4]),
    st.lists(st.integers(2, 90), min_size=1, max_size=40),
)
def test_every_row_gets_its_sample(seed: int, share: float, lengths: list[int]) -> None:
    """Except for rows so short that nothing of them is left."""
    rng = np.random.default_rng(seed)
    stored = [[CLS, *rng.integers(0, 50_000, n).tolist(), SEP] for n in lengths]
    order = rng.permutation(len(stored))
    rows = mask_rows([stored[i] for i in order], share, rng)

    def flat(parts: list[list[int]]) -> Tokens:
        ends = np.cumsum([len(part) for part in parts])
        return Tokens(np.concatenate(parts).astype(np.uint16), np.append(0, ends[:-1]), ends)

    pairs = pair(flat(rows), flat(stored), Masking(share, MASK))
    assert len(set(pairs.rows.tolist())) == len(set(pairs.samples.tolist())) == len(pairs.rows)
    of = dict(zip(pairs.rows.tolist(), pairs.samples.tolist(), strict=True))
    for row, sample in enumerate(order.tolist()):
        if lengths[sample] > 20:
            assert of[row] == sample


@pytest.mark.parametrize("length", [12, 40])
def test_the_work_of_pairing_grows_with_the_rows_and_not_with_their_pairs(monkeypatch, length: int) -> None:
    """Rows of one length in any order, as in a folder whose rows are mixed: few candidates, and the right ones."""
    rng, count = np.random.default_rng(length), 4000
    stored = np.full((count, length), CLS)
    stored[:, 1:-1], stored[:, -1] = rng.integers(0, 50_000, (count, length - 2)), SEP
    order, compared = rng.permutation(count), list[int]()
    rows = np.array(mask_rows(stored[order].tolist(), 0.3, rng))

    def counted(rows: Tokens, samples: Tokens, pairs: tuple[np.ndarray, np.ndarray], masking: Masking):
        compared.append(len(pairs[0]))
        return compare_pairs(rows, samples, pairs, masking)

    monkeypatch.setattr(masking, "compare_pairs", counted)
    starts = np.arange(count) * length
    sides = [Tokens(side.astype(np.uint16).ravel(), starts, starts + length) for side in (rows, stored)]
    pairs = pair(sides[0], sides[1], Masking(0.3, MASK))
    assert sum(compared) < count + count + masking._BRUTE // 8 and len(pairs.rows) > 0.999 * count
    assert (order[pairs.rows] == pairs.samples).mean() > 0.999
