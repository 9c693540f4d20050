"""A finished phase as torch data sets: `[i]` is the sample that the order index reads at place i.

The order is the phase's own or any other index of it, so a loader must not shuffle. Place i belongs to rank i % world,
as the order law has it (ARCHITECTURE 5.6); the samples at the end that the ranks cannot share evenly are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ettin_data.base.errors import EttinError, OrderError
from ettin_data.load.samples import SampleDataset
from ettin_data.order.index import OrderIndex
from ettin_data.order.loader_edits import Form, FormKind, Loader
from ettin_data.storage import records
from ettin_data.storage.phase import open_phase

Item = dict[str, Any]
"""`input_ids` int64 (n,), `sample` (its position in train/index.json), where samples hold several documents
`cu_seqlens` int32 (documents + 1,), from 0 to n."""


class OrderedDataset(Dataset[Item]):
    """The samples of a finished phase by their place in the order, from 0; as many as its whole steps have.

    Opened lazily: a copy in a worker process maps the files itself. A loader that takes `order.batch` of them at a
    time, and does not shuffle, reads the steps.

    Args:
        path: folder of the phase.
        form: samples "stored", or as the phase's loader gives them to an "encoder" or a "decoder".
        order: folder of another index of the same samples.

    Raises:
        BuildError, OrderError, ShardError: there is no finished phase, or the order is not one of its samples.
    """

    def __init__(self, path: str | Path, form: FormKind = "stored", order: str | Path | None = None) -> None:
        place = open_phase(Path(path))
        run = records.read_run(place) if place.run_json.exists() else None
        self.samples = SampleDataset(place.train)
        self.order = OrderIndex.open(order or place.order)
        self.order.check_samples(len(self.samples))
        self.order.check_data(place.train)
        self.form = Form(form, Loader.of_run(run))

    def __len__(self) -> int:
        return self.order.law.used

    def __getitem__(self, place: int) -> Item:
        if not 0 <= place < len(self):
            raise IndexError(f"place {place} of {len(self):,} in the order")
        step, row = divmod(int(place), self.order.batch)
        position = int(self.order.step(step)[row])
        stored = self.samples[step, position].tokens
        tokens = self.form.apply(stored)
        item = {"input_ids": torch.from_numpy(tokens.astype(np.int64)), "sample": position}
        borders = self.samples.borders(position)
        if borders is not None:
            opened = self.form.kind != "stored" and self.form.loader.edits(stored, self.form.kind).opened
            item["cu_seqlens"] = torch.from_numpy(_within(borders, len(tokens), opened))
        return item

    def stream(self, batch_size: int = 1, rank: int = 0, world: int = 1) -> OrderedStream:
        """The samples of a rank one after the other, for loaders that want an `IterableDataset`."""
        return OrderedStream(self, batch_size, rank, world)

    def state(self, place: int) -> dict[str, Any]:
        """What a loader saves that has read everything before this place of the order, on all ranks together."""
        return {"sample": place, "order": self.order.info.digest}

    def place_of(self, state: Mapping[str, Any]) -> int:
        """The place that such a state goes on at. Raises `OrderError` if it is of another order."""
        place, shared = int(state["sample"]), self.order.info.shared_with(state["order"])
        if not 0 <= place <= shared:
            raise OrderError(
                f"the state is of the order {state['order']}, not of {self.order.info.digest}",
                where=self.order.folder,
                why="the same place would mean other samples",
                remedy="open the phase with the order of the state (order=…), or begin again",
            )
        return place


def _within(borders: np.ndarray[Any, np.dtype[np.int32]], length: int, opened: bool) -> Any:
    """Borders of the documents after the loader's edits: one token more in front, or fewer at the end."""
    inner = borders[1:-1] + opened
    return np.concatenate([[0], inner[inner < length], [length]]).astype(np.int32)


class OrderedStream(IterableDataset[Item]):
    """The samples of one rank, in order, shared out among the workers of a loader.

    Worker w of W gives the batches w, w + W, …, and torch takes a batch of each worker in turn. So the batches are
    those of a loader without workers, if `batch_size` is the loader's own.

    The state is that of the process that asks. In one process it is a place, and fits any number of ranks. Workers ask
    for themselves under torchdata's `StatefulDataLoader`; their state is refused where there are not as many.
    """

    def __init__(self, dataset: OrderedDataset, batch_size: int = 1, rank: int = 0, world: int = 1) -> None:
        require_rank(rank, world)
        self.dataset, self.batch_size, self.rank, self.world = dataset, batch_size, rank, world
        self._start = 0  # place in the order at which the workers began to share
        self._given = 0  # samples that this worker has given since

    def __len__(self) -> int:
        return (len(self.dataset) - self._start) // self.world

    def __iter__(self) -> Iterator[Item]:
        worker, workers = _worker()
        mine = rank_places(len(self.dataset), self._start, self.rank, self.world)
        blocks = (mine[at : at + self.batch_size] for at in range(0, len(mine), self.batch_size))
        own = [place for number, block in enumerate(blocks) if number % workers == worker for place in block]
        first, self._given = self._given, 0
        for self._given, place in enumerate(own[first:], first + 1):
            yield self.dataset[place]
        self._start = self._given = 0

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: to be loaded by a stream of the same order."""
        worker, workers = _worker()
        if workers == 1:
            return self.dataset.state(self._start + self._given * self.world)
        state = self.dataset.state(self._start)
        return {**state, "given": self._given, "of": [worker, workers, self.batch_size, self.rank, self.world]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; the next iteration begins there.

        Raises `OrderError` if it is of another order, or of a worker that is not this one.
        """
        self._start, self._given = self.dataset.place_of(state), int(state.get("given", 0))
        now = [*_worker(), self.batch_size, self.rank, self.world]
        if "of" in state and list(state["of"]) != now:
            raise OrderError(
                f"the state is of worker, workers, batch size, rank, world {list(state['of'])}, here are {now}",
                why="each worker has its own state, and reads its own batches",
                remedy="resume with as many workers and ranks, or use `ettin_data.torch_loader`, whose state fits any",
            )


def _worker() -> tuple[int, int]:
    """Number of this worker of the loader, and how many there are; (0, 1) in the process of the loader."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)


def require_rank(rank: int, world: int) -> None:
    """Raise `EttinError` unless there is such a rank."""
    if not 0 <= rank < world:
        raise EttinError(f"rank {rank} of {world} does not exist", why=f"ranks are 0 to {world - 1}")


def rank_places(end: int, start: int, rank: int, world: int) -> range:
    """The places of the order that a rank reads from `start` on; all ranks have equally many."""
    each = max(end - start, 0) // world
    return range(start + rank, start + rank + each * world, world)
