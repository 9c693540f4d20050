"""Stored samples for torch: one by its position, and the positions of each step for one rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from ettin_data.base.errors import ShardError
from ettin_data.order.index import OrderIndex
from ettin_data.order.packed_order import PackedOrder
from ettin_data.storage.mds import MdsReader, import_streaming
from ettin_data.tokenizer.vocabulary import AnyTokens

ReaderName = Literal["mmap", "streaming"]
Key = tuple[int, int] | tuple[int, int, int]
"""Step (from 0), position in train/index.json, and where rows are packed the row of the rank in the step."""


class Sample(NamedTuple):
    """One stored sample, asked for by one step (counted from 0)."""

    step: int
    position: int  # in train/index.json
    tokens: AnyTokens  # as stored, shape (n,), uint16 or uint32
    row: int | None = None  # in the step, from 0, where the loader packs several into each


@dataclass
class SampleDataset(Dataset[Sample]):
    """Random access to stored samples. Opened lazily, so that a copy in a worker process maps the files itself.

    Args:
        folder: holds `index.json`.
        reader: "mmap" (this package's) or "streaming" (MosaicML's `StreamingDataset`, indexed).
    """

    folder: Path
    reader: ReaderName = "mmap"

    @cached_property
    def index(self) -> MdsReader:
        return MdsReader(self.folder)

    @cached_property
    def _tokens(self) -> Callable[[int], AnyTokens]:
        if self.reader == "mmap":
            return self.index.tokens
        for info in self.index.infos:
            if info.compression and (self.folder / info.basename).exists():
                raise ShardError(
                    "this folder cannot be read through streaming",
                    where=self.folder / info.basename,
                    why="its index claims a compression while the raw shard is there: streaming would delete the shard",
                    remedy="use the reader 'mmap', or set `compression` and `zip_data` to null in the index",
                )
        streaming = import_streaming()
        dataset = streaming.StreamingDataset(local=str(self.folder), shuffle=False, batch_size=1)
        return lambda position: dataset[position]["input_ids"]

    @property
    def packed(self) -> bool:
        """Whether a sample may hold several documents (strategies `best_fit` and `concat`)."""
        return any("cu_seqlens" in info.columns for info in self.index.infos)

    def borders(self, position: int) -> NDArray[np.int32] | None:
        """Where the documents of a sample begin and end, from 0 to its length; None where samples hold one."""
        number, row = self.index.locate(position)
        if "cu_seqlens" not in self.index.infos[number].columns:
            return None
        borders: NDArray[np.int32] = self.index.shard(number).column(row, "cu_seqlens")
        return borders

    def __len__(self) -> int:
        return len(self.index)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "reader": self.reader}

    def __getitem__(self, key: Key) -> Sample:
        step, position, *row = key
        try:
            return Sample(step, position, self._tokens(position), *row)
        except ShardError as error:
            error.add_note(f"in step {step + 1}, sample {position}")
            raise


class OrderSampler(Sampler[list[Key]]):
    """What each step reads, for one rank of `world`, from `start` up to `stop` (steps from 0), by an order index, or as
    a loader packs it."""

    def __init__(
        self, order: OrderIndex | PackedOrder, rank: int = 0, world: int = 1, start: int = 0, stop: int | None = None
    ) -> None:
        self.order, self.rank, self.world, self.start, self.stop = order, rank, world, start, stop

    def __iter__(self) -> Iterator[list[Key]]:
        if isinstance(self.order, PackedOrder):
            made = self.order.law.steps(self.order.samples, self.start, self.stop)
            for step, rows in enumerate(made, self.start):
                mine = enumerate(rows.of_rank(self.rank, self.world))
                yield [(step, position, number) for number, row in mine for position in row.tolist()]
            return
        whole = self.order.law.steps_for(self.world)
        for step in range(self.start, whole if self.stop is None else min(self.stop, whole)):
            yield [(step, position) for position in self.order.rank(step, self.rank, self.world).tolist()]
