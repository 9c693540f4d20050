"""The order law and its index: against numpy, against a real torch loader, and when something is wrong with it."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import BuildError, OrderError
from ettin_data.order.index import OrderIndex, OrderLaw, interval_steps, permutation, position_dtype, write_order


def numpy_order(n: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64DXSM(seed)).permutation(n)


@given(n=st.integers(0, 5000), seed=st.integers(0, 2**40), epoch=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_permutation_is_numpys(n: int, seed: int, epoch: int) -> None:
    ours = permutation(n, seed, epoch)
    assert ours.dtype == np.uint32
    np.testing.assert_array_equal(ours, numpy_order(n, seed + epoch))


def test_permutation_of_a_million_is_numpys() -> None:
    np.testing.assert_array_equal(permutation(1_000_003, 21), numpy_order(1_000_003, 21))


def test_positions_above_32_bits_get_64() -> None:
    assert position_dtype(2**32) == np.uint32
    assert position_dtype(2**32 + 1) == np.uint64


@given(samples=st.integers(1, 400), batch=st.integers(1, 40), every=st.integers(2, 20), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_index_holds_the_law(tmp_path_factory, samples: int, batch: int, every: int, seed: int) -> None:
    folder = tmp_path_factory.mktemp("index") / "order"
    if samples < batch:
        with pytest.raises(OrderError, match="do not fill one batch"):
            OrderLaw(seed, 0, samples, batch)
        return
    law = OrderLaw(seed, 0, samples, batch)
    info = write_order(folder, law, interval_steps=every, phase="pretrain", data_digest="d")
    index = OrderIndex.open(folder)
    assert index.info == info
    expected = numpy_order(samples, seed)[: samples // batch * batch]
    read = [index.step(k) for k in range(index.steps)]
    np.testing.assert_array_equal(np.concatenate(read), expected)
    assert info.digest == hashlib.sha256(expected.astype("<u4").tobytes()).hexdigest()
    table = pq.read_table([folder / i.file for i in info.intervals])
    np.testing.assert_array_equal(table["sample"].to_numpy(), expected)
    np.testing.assert_array_equal(table["step"].to_numpy(), np.arange(len(expected)) // batch + 1)
    index.check()


def test_row_groups_and_intervals_of_the_real_batch_size(tmp_path: Path) -> None:
    law = OrderLaw(21, 0, 4608 * 700 + 17, 4608)
    write_order(tmp_path / "order", law, interval_steps=300)
    index = OrderIndex.open(tmp_path / "order")
    expected = law.permutation()
    for k in (0, 226, 227, 228, 299, 300, 455, 599, 600, 699):
        np.testing.assert_array_equal(index.step(k), expected[k * 4608 : (k + 1) * 4608])
    assert [index.interval_of(k) for k in (0, 299, 300, 699)] == [1, 1, 2, 3]
    footer = pq.read_metadata(tmp_path / "order/interval_000001.parquet")
    assert footer.num_row_groups == 2 and footer.serialized_size < 1000


@pytest.mark.parametrize("world", [1, 2, 4, 8, 3, 7])
@pytest.mark.parametrize(("samples", "batch"), [(256, 16), (250, 16), (997, 24), (100, 10), (301, 9)])
def test_ranks_read_what_a_torch_loader_reads(tmp_path: Path, world: int, samples: int, batch: int) -> None:
    """A DataLoader over a DistributedSampler of the same law, rank by rank and row by row."""
    from torch.utils.data import DataLoader
    from torch.utils.data.distributed import DistributedSampler

    class Sampler(DistributedSampler):
        def __iter__(self):
            order = numpy_order(len(self.dataset), self.seed + self.epoch)[: self.total_size]
            return iter(order[self.rank : self.total_size : self.num_replicas].tolist())

    write_order(tmp_path / "order", OrderLaw(21, 1, samples, batch), interval_steps=5)
    index = OrderIndex.open(tmp_path / "order")
    steps = index.law.steps_for(world)
    assert steps == index.steps or batch % world
    for rank in range(world):
        sampler = Sampler(range(samples), world, rank, seed=21, drop_last=True)
        sampler.set_epoch(1)
        ours = [index.rank(k, rank, world) for k in range(steps)]
        if batch % world == 0:
            loader = DataLoader(range(samples), batch_size=batch // world, sampler=sampler, drop_last=True)
            theirs = [batch.numpy() for batch in loader]
            assert len(theirs) == steps
            for k in range(steps):
                np.testing.assert_array_equal(ours[k], theirs[k])
                np.testing.assert_array_equal(ours[k], index.step(k)[rank::world])
        else:  # the steps cut the rank's stream unevenly; the stream is the same
            stream = [int(i) for i in DataLoader(range(samples), batch_size=1, sampler=sampler)]
            np.testing.assert_array_equal(np.concatenate(ours), stream[: sum(map(len, ours))])
    for k in range(steps):  # and the ranks together read the step, each sample once
        together = np.concatenate([index.rank(k, rank, world) for rank in range(world)])
        np.testing.assert_array_equal(np.sort(together), np.sort(index.step(k)))


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    write_order(tmp_path / "order", OrderLaw(21, 0, 100, 10), interval_steps=4)
    index = OrderIndex.open(tmp_path / "order")
    with pytest.raises(OrderError, match="step 11 is not in the order"):
        index.step(10)
    with pytest.raises(OrderError, match="rank 4 of 4"):
        index.rank(0, 4, 4)
    with pytest.raises(OrderError, match="not whole for 8 ranks"):
        index.rank(9, 0, 8)
    with pytest.raises(OrderError, match="no finished order"):
        OrderIndex.open(tmp_path)
    with pytest.raises(OrderError, match="interval of 0 steps"):
        write_order(tmp_path / "order", OrderLaw(21, 0, 100, 10), interval_steps=0)


def test_an_unknown_law_is_refused(tmp_path: Path) -> None:
    write_order(tmp_path / "order", OrderLaw(21, 0, 100, 10), interval_steps=4)
    path = tmp_path / "order/order.json"
    path.write_text(path.read_text().replace("ettin-v1", "ettin-v2"))
    with pytest.raises(OrderError, match="ettin-v2"):
        OrderIndex.open(tmp_path / "order")


@pytest.mark.parametrize("offset", [5, 300, -200])
def test_a_flipped_byte_is_found(tmp_path: Path, offset: int) -> None:
    write_order(tmp_path / "order", OrderLaw(21, 0, 1000, 10), interval_steps=50)
    path = tmp_path / "order/interval_000002.parquet"
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(OrderError, match=r"interval_000002\.parquet"):
        OrderIndex.open(tmp_path / "order").check()


def test_a_rewritten_file_is_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    """Another program's parquet holds the same rows, which `check` does not take for the same bytes."""
    write_order(tmp_path / "order", OrderLaw(21, 0, 1000, 10), interval_steps=50)
    expected = OrderIndex.open(tmp_path / "order").step(49).copy()
    first, second = tmp_path / "order/interval_000001.parquet", tmp_path / "order/interval_000002.parquet"
    pq.write_table(pq.read_table(first), first, compression="zstd", row_group_size=333)
    second.unlink()
    index = OrderIndex.open(tmp_path / "order")
    np.testing.assert_array_equal(index.step(49), expected)
    with pytest.raises(OrderError, match="is damaged"):
        index.check()
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(OrderError, match="cannot be read"):
        OrderIndex.open(tmp_path / "order").step(0)
    with pytest.raises(OrderError, match=r"interval_000002\.parquet of the order index is missing"):
        index.step(60)


def test_bytes_depend_on_the_law_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_order(tmp_path / name, OrderLaw(21, 0, 5000, 16), interval_steps=100, phase="decay", data_digest="x")
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_rewriting_replaces_an_index_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "order"
    write_order(folder, OrderLaw(21, 0, 1000, 10), interval_steps=1)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BuildError, match=r"'notes.txt' is in the way"):
        write_order(folder, OrderLaw(22, 0, 1000, 10), interval_steps=50)
    (folder / "notes.txt").rename(tmp_path / "notes.txt")
    write_order(folder, OrderLaw(22, 0, 1000, 10), interval_steps=50)
    assert sorted(p.name for p in folder.iterdir()) == [
        "interval_000001.parquet",
        "interval_000002.parquet",
        "order.json",
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "order"]
    assert json.loads((folder / "order.json").read_text())["seed"] == 22


def test_an_index_travels_to_workers_and_folders(tmp_path: Path) -> None:
    write_order(tmp_path / "order", OrderLaw(21, 0, 1000, 10), interval_steps=50)
    index = OrderIndex.open(tmp_path / "order")
    index.step(3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(index)).step(3), index.step(3))
    shutil.move(tmp_path / "order", tmp_path / "moved")
    np.testing.assert_array_equal(OrderIndex.open(tmp_path / "moved").step(99), index.law.permutation()[990:])


@pytest.mark.parametrize("count", [0, 1, 5, 16, 17, 900])
def test_where_positions_stand(tmp_path: Path, count: int) -> None:
    write_order(tmp_path / "order", OrderLaw(21, 0, 1003, 10), interval_steps=30)
    index = OrderIndex.open(tmp_path / "order")
    positions = np.random.default_rng(count).integers(0, 1003, count)
    inverse = np.argsort(index.law.permutation())
    expected = np.where(inverse[positions] < 1000, inverse[positions], -1)
    np.testing.assert_array_equal(index.indices_of(positions), expected)
    tail = index.law.permutation()[1000:]
    assert index.indices_of(tail).tolist() == [-1, -1, -1]


def test_intervals_by_tokens() -> None:
    law = OrderLaw(21, 0, 2_800_000_000, 4608)
    assert interval_steps(8.5e9, 1_704_700_000_000, law) == 3030
    assert interval_steps(1, 10**12, law) == 1
