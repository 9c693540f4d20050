"""Packing: conservation, framing and limits as properties; the published layout by example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base import draws
from ettin_data.stages.batches import Tally, TokenRows
from ettin_data.stages.pack import backfill, best_fit, choose, concat, strategies
from ettin_data.stages.pack.framing import Framing
from ettin_data.stages.pack.step import Pack

CLS, SEP = 50281, 50282
STRATEGIES = tuple(strategies())
LENGTHS = st.lists(st.one_of(st.integers(1, 40), st.integers(1, 700)), min_size=1, max_size=60)


def chosen(strategy, min_length=32, always_skip=8, window=2_000):
    return choose(strategy, {"min_length": min_length, "always_skip": always_skip, "window": window})


def rows(lengths, first=0):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.concatenate([(np.arange(n) + 1000 * (first + d)) % 50_000 for d, n in enumerate(lengths)])
    n = len(lengths)
    return TokenRows(
        [f"doc{first + d}" for d in range(n)], np.zeros(n, np.int32), np.arange(n), np.zeros(n, np.uint64),
        tokens.astype(np.uint16), offsets,
    )  # fmt: skip


def run(strategy, lengths, batch=17, **changes):
    tally = Tally()
    batches = [rows(lengths[i : i + batch], i) for i in range(0, len(lengths), batch)]
    samples = list(Pack(chosen(strategy, **changes), Framing(64, CLS, SEP), 42, "source", tally).run(batches))
    return samples, tally, batches


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(lengths=LENGTHS)
def test_laws(strategy, lengths):
    batches_of_samples, tally, batches = run(strategy, lengths)
    documents = [b.tokens[b.offsets[i] : b.offsets[i + 1]] for b in batches for i in range(len(b.ids))]
    assert tally.tokens_in == sum(lengths)
    assert tally.tokens_in == tally.text_tokens + sum(tally.skipped.values())
    covered = [np.zeros(n, int) for n in lengths]
    stored = 0
    for samples in batches_of_samples:
        segments = {i: [] for i in range(len(samples.ids))}
        for i in range(len(samples.ids)):
            segments[i].append(tuple(int(samples.rows[k][i]) for k in ("document", "start", "length")))
        if samples.segments is not None:
            for s, *rest in zip(*(samples.segments[k].tolist() for k in ("sample", "document", "start", "length"))):
                segments[s].append(tuple(rest))
        for i, name in enumerate(samples.ids):
            tokens = samples.tokens[samples.offsets[i] : samples.offsets[i + 1]]
            stored += len(tokens)
            assert 3 <= len(tokens) <= 64
            assert tokens[0] == CLS and tokens[-1] == SEP
            assert name == f"doc{segments[i][0][0]}"
            texts = []
            for document, start, length in segments[i]:
                assert length > 0
                covered[document][start : start + length] += 1
                texts.append(documents[document][start : start + length])
            text = tokens[(tokens != CLS) & (tokens != SEP)]
            np.testing.assert_array_equal(text, np.concatenate(texts))
            if samples.cu_seqlens is not None:
                bounds = samples.cu_seqlens[i]
                assert bounds[0] == 0 and bounds[-1] == len(tokens) and len(bounds) == len(texts) + 1
                assert (tokens[bounds[1:] - 1] == SEP).all()
    assert stored == tally.tokens
    assert all(c.max() <= 1 for c in covered), "a token was duplicated"
    assert sum(int((c == 0).sum()) for c in covered) == sum(tally.skipped.values())
    chosen_one = chosen(strategy)
    assert (tally.skipped == {}) or chosen_one.longest_loss
    assert (batches_of_samples[0].segments is not None) == chosen_one.strategy.several
    for document in covered:
        tail = np.flatnonzero(document)[-1] + 1
        assert document[:tail].all() and len(document) - tail <= chosen_one.longest_loss, (
            "only a short tail may be lost"
        )


@given(LENGTHS, st.integers(0, 2**32))
def test_backfill_as_published(lengths, seed):
    lengths = np.array(lengths)
    uniform = draws.draws(np.arange(len(lengths), dtype=np.uint64), seed)
    cut = backfill.cut_backfill(lengths, lambda: uniform, 64, chosen("backfill").options)
    pieces, skipped = cut.pieces, sum(cut.skipped.values())
    body = 62
    for document, n in enumerate(lengths.tolist()):
        mine = pieces.document == document
        sizes, starts = pieces.length[mine].tolist(), pieces.start[mine].tolist()
        full, tail = divmod(n, body)
        assert starts[0] == 0
        assert all(start + size == following for start, size, following in zip(starts, sizes, starts[1:]))
        if full == 0 or tail == 0 or tail >= 32:
            assert sizes == [body] * full + [tail] * (tail > 0)
        elif tail < 8:
            assert sizes == [body] * full
        else:
            assert sizes[:-2] == [body] * (full - 1)
            assert tail <= sizes[-1] < body and sum(sizes[-2:]) == body + tail and sizes[-2] > 0
    assert skipped == sum(n % body for n in lengths.tolist() if n > body and 0 < n % body < 8)


def test_borrowing_covers_its_whole_range():
    """0 to length - 3 - tail, ends included."""
    n, tail = 20_000, 10
    uniform = draws.draws(np.arange(n, dtype=np.uint64), "range")
    pieces = backfill.cut_backfill(np.full(n, 62 + tail), lambda: uniform, 64, chosen("backfill").options).pieces
    borrowed = pieces.length[1::2] - tail
    assert (borrowed.min(), borrowed.max()) == (0, 62 - tail - 1)
    assert abs(borrowed.mean() - (62 - tail - 1) / 2) < 0.5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batches_do_not_matter(strategy):
    """The same samples however the reader happened to batch the documents (packing windows are by tokens)."""
    lengths = np.random.default_rng(7).integers(1, 300, 200).tolist()
    changes = {"window": 10**9}
    one, _, _ = run(strategy, lengths, batch=7, **changes)
    other, _, _ = run(strategy, lengths, batch=200, **changes)
    tokens = [np.concatenate([s.tokens for s in samples]) for samples in (one, other)]
    np.testing.assert_array_equal(*tokens)


@given(st.lists(st.integers(2, 64), min_size=1, max_size=300))
def test_best_fit_bins(sizes):
    bins = best_fit.best_fit(np.array(sizes), 64)
    assert sorted(item for members in bins for item in members) == list(range(len(sizes)))
    fill = sorted(sum(sizes[item] for item in members) for members in bins)
    assert fill[-1] <= 64
    assert len(fill) < 2 or fill[0] + fill[1] > 64, "two bins would have fitted in one"


def test_best_fit_fills_sequences():
    """At least 99.9% of the sequences' room, with the lengths of web text."""
    lengths = np.random.default_rng(1).lognormal(6, 1.2, 40_000).astype(int) + 1
    sizes = best_fit.every(lengths, 1022).length + 2
    bins = best_fit.best_fit(sizes, 1024)
    assert sizes.sum() / (len(bins) * 1024) > 0.999


@given(LENGTHS)
def test_concat_leaves_room_only_at_the_end(lengths):
    cut = concat.cut_concat(np.array(lengths), lambda: None, 64, chosen("concat").options)
    fill = [1 + sum(int(cut.pieces.length[p]) + 1 for p in members) for members in cut.samples]
    assert all(size in (63, 64) for size in fill[:-1])
