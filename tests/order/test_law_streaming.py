"""The law of MosaicML's StreamingDataset against the library: each shuffle, any nodes, ranks and canonical nodes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import OrderError
from ettin_data.order.laws import Samples, Sequential, Streaming, steps
from ettin_data.order.laws.streaming import SHUFFLES
from ettin_data.storage.mds import ShardWriter, write_index

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def samples(sizes: list[int]) -> Samples:
    return Samples(np.array(sizes, np.int64))


@pytest.fixture(scope="module")
def referee(streaming):
    """What the library's own functions give to every rank, batch after batch: (nodes, ranks, batches, batch)."""
    from streaming.base.partition import get_partitions
    from streaming.base.shuffle import get_shuffle

    def ranks_of(law: Streaming, sizes: list[int], workers: int) -> np.ndarray:
        number, own = sum(sizes), law.batch // (law.nodes * law.ranks)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ids = get_partitions(
                "relaxed", number, law.canonical_nodes, law.nodes, law.ranks, workers, own, 0, law.nodes
            )
            if law.shuffle is not None:
                shuffle = get_shuffle(
                    law.shuffle, np.array(sizes), law.canonical_nodes, law.seed, law.epoch, law.block_size
                )
                ids = np.where(ids != -1, shuffle[ids], -1)
        return ids.transpose(0, 1, 3, 2, 4).reshape(law.nodes, law.ranks, -1, own)  # workers take turns

    return ranks_of


@settings(max_examples=250, deadline=None)
@given(
    sizes=SIZES,
    shuffle=st.sampled_from(SHUFFLES),
    seed=st.integers(0, 10_000),
    epoch=st.integers(0, 3),
    nodes=st.sampled_from([1, 2, 3, 4]),
    ranks=st.integers(1, 4),
    times=st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 4), (4, 1), (3, 1), (16, 1)]),
    own=st.integers(1, 6),
    workers=st.integers(1, 3),
    block=st.integers(2, 120),
)
def test_the_law_is_the_library(referee, sizes, shuffle, seed, epoch, nodes, ranks, times, own, workers, block):
    canonical = nodes * times[0] // times[1] if nodes % times[1] == 0 else nodes
    law = Streaming(own * nodes * ranks, shuffle, seed, epoch, nodes, ranks, canonical, block)
    try:
        expected = referee(law, sizes, workers)
    except ValueError:
        with pytest.raises(OrderError, match=r"no samples|too few"):
            list(steps(law, samples(sizes)))
        return
    made = list(steps(law, samples(sizes)))
    full = expected.transpose(2, 0, 1, 3)  # batch, node, rank, sample of it
    full = full[(full >= 0).all(axis=(1, 2, 3))]
    assert len(made) == len(full)
    world = nodes * ranks
    for step, of_ranks in zip(made, full.reshape(len(full), world, own), strict=True):
        for rank in range(world):
            assert step.positions[rank::world].tolist() == of_ranks[rank].tolist()
        assert len(step) == law.batch and all(len(row) == 1 for row in step)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_the_defaults_are_those_of_a_dataset(streaming, tmp_path: Path, shuffle: str | None) -> None:
    """The library's own dataset over real shards, as one rank reads it, in two epochs."""
    writer = ShardWriter(tmp_path)
    sizes, first = [37, 5, 80, 1, 44], 0
    shards = []
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).mkdir()
        writer = ShardWriter(tmp_path / str(number))
        ids = [str(n) for n in range(first, first + size)]
        writer.write(ids, np.ones(3 * size, np.uint16), np.arange(size + 1) * 3)
        shards += [info.moved(str(number)) for info in writer.finish()]
        first += size
    write_index(tmp_path, shards)
    extra = {"shuffle_algo": shuffle} if shuffle else {}
    dataset = streaming.StreamingDataset(local=str(tmp_path), shuffle=shuffle is not None, batch_size=8, **extra)
    for epoch in range(2):
        read = [int(sample["id"]) for sample in dataset]
        law = Streaming(8, shuffle, epoch=epoch)
        assert law.order(samples(sizes)).tolist() == read
        assert [n for step in steps(law, samples(sizes)) for n in step.positions.tolist()] == read[: len(read) // 8 * 8]


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(1, 8), st.integers(1, 5), st.booleans())
def test_no_shuffle_is_torchs_sampler(sizes, batch, world, drop_last):
    torch = pytest.importorskip("torch")
    law, number = Sequential(batch, world, drop_last), sum(sizes)
    order = law.order(samples(sizes))
    for rank in range(world):
        sampler = torch.utils.data.DistributedSampler(range(number), world, rank, shuffle=False, drop_last=drop_last)
        # torch asks for drop_last only where something would be left over, and then rounds up what is to stay
        assert order[rank::world].tolist() == list(sampler)[: len(order) // world]
    made = list(steps(law, samples(sizes), 1, 3))
    assert [step.positions.tolist() for step in made] == [
        order[k * batch : (k + 1) * batch].tolist() for k in range(1, 3) if (k + 1) * batch <= len(order)
    ]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"batch": 0}, "batch 0"),
        ({"batch": 8, "shuffle": "py1r"}, "py1"),
        ({"batch": 8, "ranks": 3}, "does not divide"),
        ({"batch": 12, "nodes": 3, "canonical": 4}, "neither divides"),
        ({"batch": 8, "shuffle": "py1br", "block": 1}, "block of 1"),
    ],
)
def test_parameters_that_no_dataset_takes(parameters, said: str) -> None:
    with pytest.raises(OrderError, match=said):
        Streaming(**parameters)


def test_no_samples() -> None:
    for law in (Streaming(4, "py1s"), Streaming(4), Sequential(4)):
        assert list(steps(law, samples([]))) == []
