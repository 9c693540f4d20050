"""Masked rows in any order get their samples: all of them, no stranger does, and the work is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modernbert import CLS, MASK, SEP
from reference import mask_rows

from ettin_data.order.proof import pairing
from ettin_data.order.proof.masking import Masking, Pairs, Tokens, compare_pairs
from ettin_data.order.proof.pairing import match, pair


def flat(parts) -> Tokens:
    ends = np.cumsum([len(part) for part in parts])
    return Tokens(np.concatenate(parts).astype(np.uint16), np.append(0, ends[:-1]), ends)


def stored(rng: np.random.Generator, count: int, shortest: int, longest: int) -> list[list[int]]:
    lengths = rng.integers(shortest - 2, longest - 1, count).tolist()
    return [[CLS, *rng.integers(0, 50_000, n).tolist(), SEP] for n in lengths]


@pytest.mark.parametrize("share", [0.3, 0.15, 0.05])
def test_every_short_row_of_many_gets_a_sample(share: float) -> None:
    """Where a row of which much is hidden could take the only sample of another one."""
    rng = np.random.default_rng(1)
    samples = stored(rng, 8000, 5, 10)
    rows = mask_rows([samples[i] for i in rng.permutation(8000)], share, rng)
    pairs = pair(flat(rows), flat(samples), Masking(share, MASK))
    assert np.array_equal(np.sort(pairs.rows), np.arange(8000))
    assert np.array_equal(np.sort(pairs.samples), np.arange(8000))
    assert pairs.weak.sum() < 2 * Masking(share, MASK).weak(np.array([len(row) for row in rows]))


def test_strangers_among_many_rows_get_none() -> None:
    rng = np.random.default_rng(2)
    samples = stored(rng, 4000, 5, 40)
    rows = [samples[i] for i in rng.permutation(4000)]
    strange = [i for i, row in enumerate(rows) if len(row) > 16][::200]
    for i in strange:
        rows[i] = [CLS, *rng.integers(0, 50_000, len(rows[i]) - 2).tolist(), SEP]
    pairs = pair(flat(mask_rows(rows, 0.3, rng)), flat(samples), Masking(0.3, MASK))
    assert np.setdiff1d(np.arange(4000), pairs.rows).tolist() == strange


def test_short_rows_of_other_data_are_not_taken_for_masked_ones() -> None:
    """Of four tokens of text, one of which is hidden, a row might be any sample; not all of them can be so."""
    rng = np.random.default_rng(3)
    samples, others = stored(rng, 300, 6, 6), stored(rng, 300, 6, 6)
    right, wrong = (flat(mask_rows(rows, 0.3, rng)) for rows in (samples, others))
    assert len(pair(right, flat(samples), Masking(0.3, MASK)).rows) == 300
    assert len(pair(wrong, flat(samples), Masking(0.3, MASK)).rows) < 10


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(-3, 9)), min_size=1, max_size=40))
def test_as_many_rows_as_can_be_are_matched(edges: list[tuple[int, int, int]]) -> None:
    edges = list({(row, sample): (row, sample, evidence) for row, sample, evidence in edges}.values())
    rows, samples, evidence = (np.array(each) for each in zip(*edges, strict=True))
    found = match(Pairs(rows, samples, rows, rows, evidence))
    assert len(set(found.rows.tolist())) == len(set(found.samples.tolist())) == len(found.rows)
    assert set(zip(found.rows.tolist(), found.samples.tolist(), strict=True)) <= {edge[:2] for edge in edges}
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        """Kuhn's algorithm."""
        for _, sample, _ in (edge for edge in edges if edge[0] == row and edge[1] not in seen):
            seen.add(sample)
            if sample not in taken or place(taken[sample], seen):
                taken[sample] = row
                return True
        return False

    assert len(found.rows) == sum(place(row, set()) for row in set(rows.tolist()))


def test_a_short_row_of_which_much_was_hidden_is_its_sample_and_no_other() -> None:
    """Ten tokens of text: three are left, three are others and four the mask, and the closing token is another one."""
    row = [CLS, MASK, MASK, MASK, 18143, 8900, 38892, 26901, 7484, 33805, MASK, 49559]
    sample = [CLS, 6592, 41642, 17974, 18143, 8900, 27990, 11863, 9891, 33805, 36392, SEP]
    garbage = [CLS, *range(900, 910), SEP]
    for stored, found in ((sample, 1), (garbage, 0), ([*sample[:4], *garbage[4:]], 0)):
        assert len(pair(flat([row]), flat([stored]), Masking(0.3, MASK)).rows) == found


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

    monkeypatch.setattr(pairing, "compare_pairs", counted)
    pairs = pair(flat(rows), flat(stored), Masking(0.3, MASK))
    assert sum(compared) < 70 * count and len(pairs.rows) == count
    assert (order[pairs.rows] == pairs.samples).mean() > 0.999
