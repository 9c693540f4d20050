"""Index, export and a real torch loader of the same law agree row by row, in every rank."""

from __future__ import annotations

import numpy as np
import pytest
from modernbert import as_seen, form
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from ettin_data.storage.mds import MdsReader

LIMIT = 50


class LawSampler(DistributedSampler):
    """torch's sampler with the order law in place of `torch.randperm`, as ModernBERT has it."""

    def __iter__(self):
        generator = np.random.Generator(np.random.PCG64DXSM(self.seed + self.epoch))
        order = generator.permutation(len(self.dataset))[: self.total_size]
        return iter(order[self.rank : self.total_size : self.num_replicas].tolist())


class Samples(Dataset):
    """A map-style data set of what an encoder sees."""

    def __init__(self, folder) -> None:
        self.reader = MdsReader(folder)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, position: int) -> list[int]:
        return as_seen(self.reader.tokens(position), "encoder", LIMIT).tolist()


@pytest.mark.parametrize(("samples", "batch"), [(128, 16), (203, 16), (203, 24), (203, 10), (101, 7)])
def test_index_export_and_loader_agree_row_by_row(make, samples: int, batch: int) -> None:
    published = make(samples, batch, length=64, form=form("encoder", LIMIT), interval=4)
    index, dataset = published.index, Samples(published.data)
    exported: dict[int, list[list[int]]] = {}
    for _, step, row in published.rows():
        exported.setdefault(step, []).append(row)
    assert sorted(exported) == list(range(1, index.steps + 1))
    assert any(len(dataset.reader.tokens(i)) > LIMIT for i in range(samples))
    for world in (1, 2, 4, 8):
        steps = index.law.steps_for(world)
        for rank in range(world):
            sampler = LawSampler(dataset, world, rank, seed=21, drop_last=True)
            if batch % world == 0:
                size = batch // world
                loader = DataLoader(dataset, size, sampler=sampler, drop_last=True, collate_fn=list)
                read = list(loader)
                assert len(read) == steps == index.steps
            else:  # steps cut this rank's stream into parts of batch // world or one more
                stream = iter(DataLoader(dataset, 1, sampler=sampler, collate_fn=lambda rows: rows[0]))
                read = [[next(stream) for _ in index.rank(k, rank, world)] for k in range(steps)]
            for k in range(steps):
                first = (rank - k * batch) % world
                assert exported[k + 1][first::world] == read[k]
                assert [dataset[int(i)] for i in index.rank(k, rank, world)] == read[k]
