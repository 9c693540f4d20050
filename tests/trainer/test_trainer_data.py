"""Reading, order, masking, packing: each a function of step and sample."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modernbert import CLS, MASK, PAD, SEP, as_seen, loader

from ettin_data.base.errors import ShardError
from ettin_data.load.samples import OrderSampler, Sample, SampleDataset
from ettin_data.order.index import OrderIndex
from ettin_data.tokenizer.vocabulary import MODERNBERT
from ettin_data.trainer.data import IGNORED, Collator, group_by_tokens, make_loader, mask, shift

tokens_of = st.lists(st.sampled_from([1, 5, 300, 50279, 50281, 50282, 50283, 50284, 50300]), min_size=1, max_size=80)


# ---------------------------------------------------------------------------------------------------------------------
# masking and shifting


@given(tokens=tokens_of, ratio=st.floats(0, 1), seed=st.integers(0, 99))
def test_masking_keeps_special_tokens_and_can_be_undone(tokens, ratio, seed):
    original = np.array(tokens, np.int32)
    read, labels = mask(original, ratio, np.random.default_rng(seed), MODERNBERT)
    chosen = labels != IGNORED
    assert (read[~chosen] == original[~chosen]).all() and (labels[chosen] == original[chosen]).all()
    assert not np.isin(original[chosen], MODERNBERT.reserved).any()
    assert not np.isin(read[chosen], np.setdiff1d(MODERNBERT.reserved, [MASK])).any()
    assert read.dtype == labels.dtype == np.int32


def test_masking_shares():
    original = np.random.default_rng(0).integers(2, 50279, 200_000).astype(np.int32)
    read, labels = mask(original, 0.3, np.random.default_rng(1), MODERNBERT)
    chosen = labels != IGNORED
    assert chosen.mean() == pytest.approx(0.3, abs=0.005)
    assert (read[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.005)
    assert (read[chosen] == original[chosen]).mean() == pytest.approx(0.1, abs=0.005)


def test_shift_stops_at_the_end_of_each_document():
    tokens = np.array([CLS, 5, SEP, CLS, 6, 7, SEP], np.int32)
    assert shift(tokens, np.array([3])).tolist() == [5, SEP, IGNORED, 6, 7, SEP, IGNORED]
    assert shift(tokens[:3], np.zeros(0, np.int64)).tolist() == [5, SEP, IGNORED]


# ---------------------------------------------------------------------------------------------------------------------
# batches


def make_samples(lengths: list[int], step: int = 3) -> list[Sample]:
    random = np.random.default_rng(sum(lengths))
    return [
        Sample(step, 10 + i, np.array([CLS, *random.integers(300, 900, n), SEP], np.uint16))
        for i, n in enumerate(lengths)
    ]


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=9),
    layout=st.sampled_from(["packed", "padded"]),
    kind=st.sampled_from(["encoder", "decoder"]),
    limit=st.integers(1, 300),
    score=st.sampled_from([1.0, 0.4]),
)
def test_a_batch_holds_each_sample_as_the_loader_edits_it(lengths, layout, kind, limit, score):
    samples = make_samples(lengths)
    step = Collator(kind, loader(40), layout=layout, batch_tokens=limit, score=score)(samples)
    assert [p for b in step.batches for p in b.positions.tolist()] == [s.position for s in samples]
    stored = iter(samples)
    for batch in step.batches:
        restored = np.where((batch.labels != IGNORED) & (kind == "encoder"), batch.labels, batch.tokens)
        outside = np.ones(len(batch.tokens), bool)
        for start, length in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True):
            assert restored[start : start + length].tolist() == as_seen(next(stored).tokens, kind, 40).tolist()
            assert {start, start + length} <= set(batch.cu_seqlens.tolist())
            outside[start : start + length] = False
        assert (batch.tokens[outside] == PAD).all() and (batch.labels[outside] == IGNORED).all()
        assert (batch.labels[batch.scored] != IGNORED).all()
        assert len(batch.positions) == 1 or len(batch.tokens) <= limit
        assert score < 1 or len(batch.scored) == (batch.labels != IGNORED).sum()


def test_what_a_sample_becomes_depends_on_step_and_sample_only():
    """Not on the samples beside it, so neither on world size nor on packing; another step masks it differently."""
    samples = make_samples([50, 30, 40])
    collate = Collator("encoder", loader(1024), key=(21, "pretrain"), score=0.5)
    together, alone = collate(samples).batches[0], collate([samples[1]]).batches[0]
    part = slice(together.starts[1], together.starts[1] + together.lengths[1])
    assert together.tokens[part].tolist() == alone.tokens.tolist()
    assert together.labels[part].tolist() == alone.labels.tolist()
    inside = (together.scored >= part.start) & (together.scored < part.stop)
    assert (together.scored[inside] - part.start).tolist() == alone.scored.tolist()
    other_step = collate([samples[1]._replace(step=4)]).batches[0]
    assert other_step.labels.tolist() != alone.labels.tolist()


@given(st.lists(st.integers(1, 100), min_size=1, max_size=20), st.integers(1, 300))
def test_groups_cover_everything_in_order_within_the_limit(lengths, limit):
    for layout, size in (("packed", sum), ("padded", lambda group: max(group) * len(group))):
        groups = group_by_tokens(lengths, limit, layout)
        assert [i for group in groups for i in group] == list(range(len(lengths)))
        assert all(len(group) == 1 or size([lengths[i] for i in group]) <= limit for group in groups)


# ---------------------------------------------------------------------------------------------------------------------
# order


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_ranks_together_read_each_step_once(phase, world):
    order = OrderIndex.open(phase / "order")
    ranks = [list(OrderSampler(order, rank, world)) for rank in range(world)]
    for step in range(order.steps):
        union = [key for rank in ranks for key in rank[step]]
        assert len(union) == order.batch and {k for k, _ in union} == {step}
        assert sorted(position for _, position in union) == sorted(order.step(step).tolist())


@pytest.mark.parametrize("world", [1, 2])
def test_starting_at_any_step_gives_the_rest(phase, world):
    order = OrderIndex.open(phase / "order")
    whole = list(OrderSampler(order, 1 % world, world))
    for start in range(order.steps + 1):
        sampler = OrderSampler(order, 1 % world, world, start)
        assert list(sampler) == whole[start:]
    assert list(OrderSampler(order, 0, 1, 2, 4)) == list(OrderSampler(order))[2:4]


# ---------------------------------------------------------------------------------------------------------------------
# dataset and loader


def same(a, b) -> bool:
    pairs = [(x, y) for p, q in zip(a.batches, b.batches, strict=True) for x, y in zip(p, q, strict=True)]
    return a.step == b.step and all(np.array_equal(x, y) for x, y in pairs)


def test_workers_change_nothing(phase):
    order, dataset = OrderIndex.open(phase / "order"), SampleDataset(phase / "train")
    sampler, collate = OrderSampler(order, start=1), Collator("encoder", loader(1024))
    alone = list(make_loader(dataset, sampler, collate))
    helped = list(make_loader(dataset, sampler, collate, workers=2))
    assert len(alone) == order.steps - 1 and all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_streaming_reads_the_same_samples(streaming, phase):
    ours, theirs = SampleDataset(phase / "train"), SampleDataset(phase / "train", "streaming")
    for position in (0, 7, len(ours) - 1):
        a, b = ours[2, position], theirs[2, position]
        assert a.tokens.tolist() == b.tokens.tolist() and (a.step, a.position) == (b.step, b.position)


def test_streaming_is_refused_where_it_would_delete_shards(phase):
    path = phase / "train" / "index.json"
    index = json.loads(path.read_text())
    index["shards"][1]["compression"] = "zstd"
    path.write_text(json.dumps(index))
    with pytest.raises(ShardError, match="streaming would delete"):
        SampleDataset(phase / "train", "streaming")[0, 0]


def test_a_dataset_travels_to_a_worker_closed(phase):
    dataset = SampleDataset(phase / "train")
    first = dataset[0, 0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 500 and copy[0, 0].tokens.tolist() == first.tokens.tolist()


def test_two_readers_of_one_folder_leave_nothing_behind(phase):
    def files() -> set[Path]:
        return set(phase.rglob("*")) | set(Path("/dev/shm").glob("*"))

    before = files()
    readers = [SampleDataset(phase / "train") for _ in range(2)]
    assert readers[0][0, 5].tokens.tolist() == readers[1][0, 5].tokens.tolist()
    assert {path for path in files() - before if str(path).startswith(str(phase))} == set()


def test_a_damaged_sample_is_named(phase):
    shard = next((phase / "train").rglob("*.mds"))
    data = bytearray(shard.read_bytes())
    data[-1000:] = bytes(1000)
    shard.write_bytes(data)
    dataset = SampleDataset(phase / "train")
    with pytest.raises(ShardError, match=r"step 5, sample \d+"):
        for position in range(len(dataset)):
            dataset[4, position]
