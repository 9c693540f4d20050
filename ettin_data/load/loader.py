"""A `DataLoader` over a phase in its order that can be stopped and resumed at any sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset, Sampler

from ettin_data.load.dataset import Item, OrderedDataset, rank_places, require_rank

Batch = dict[str, Any]


class _Places(Sampler[list[int]]):
    """Places of the order in batches, for one rank."""

    def __init__(self, end: int, batch_size: int, rank: int, world: int) -> None:
        self.end, self.batch_size, self.rank, self.world = end, batch_size, rank, world
        self.start = 0

    def __len__(self) -> int:
        return -(-len(rank_places(self.end, self.start, self.rank, self.world)) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        mine = rank_places(self.end, self.start, self.rank, self.world)
        return (list(mine[at : at + self.batch_size]) for at in range(0, len(mine), self.batch_size))


class SampleLoader(DataLoader[Batch]):
    """Batches of one rank, in order, read ahead by worker processes.

    Its state is one number, the samples that all ranks together have been given, so it can be loaded by a loader of
    another batch size, world or number of workers; every sample is read once.

    Args:
        dataset: the phase in its order.
        batch_size: samples of a batch of this rank.
        collate: a list of items to a batch, such as `collate.Packed()`.
        rank, world: this process of all that train.
        workers: processes that read ahead; 0 reads in this one.
        options: of torch's `DataLoader`, such as `pin_memory`, but those that decide what is read.
    """

    def __init__(
        self,
        dataset: OrderedDataset,
        batch_size: int,
        collate: Callable[[list[Item]], Batch],
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        **options: Any,
    ) -> None:
        require_rank(rank, world)
        self._places = _Places(len(dataset), batch_size, rank, world)
        self._next = 0
        self._ordered = dataset
        super().__init__(
            cast("Dataset[Batch]", dataset),  # the collator makes batches of its items
            batch_sampler=self._places,
            collate_fn=collate,
            num_workers=workers,
            **options,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._next = self._places.start
        step = self._places.batch_size * self._places.world
        for batch in super().__iter__():
            self._next = min(self._next + step, len(self._ordered))
            yield batch
        self._places.start = 0  # what was resumed is at its end; the next pass is a whole one

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, after the batch that was given last."""
        return self._ordered.state(self._next)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind a state; the next iteration begins there. Raises `OrderError` if it is of another order."""
        self._places.start = self._next = self._ordered.place_of(state)
