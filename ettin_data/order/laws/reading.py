"""What all laws share: what they know of the data, and the rows of a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError
from ettin_data.order.law import Positions


@dataclass(frozen=True)
class Samples:
    """What a loader knows of the data before it reads any of it.

    Attributes:
        sizes: samples of each shard in the order of the index, shape (shards,), int64.
        lengths: tokens of each sample as the loader passes it on, shape (samples,), integers; None where nobody asks.
    """

    sizes: NDArray[np.int64]
    lengths: NDArray[np.integer] | None = None  # type: ignore[type-arg]

    @property
    def number(self) -> int:
        return int(self.sizes.sum())


@dataclass(frozen=True)
class Rows:
    """The rows of one step.

    Attributes:
        positions: of the samples, row after row, shape (n,).
        bounds: row i is `positions[bounds[i]:bounds[i + 1]]`, shape (rows + 1,), int64; without packing it has one.
        ranks: the rows of rank r are [ranks[r], ranks[r + 1]), where a law has them one after the other; else empty.
    """

    positions: Positions
    bounds: NDArray[np.int64]
    ranks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[Positions]:
        return (self.positions[a:b] for a, b in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True))

    def of_rank(self, rank: int, world: int) -> Rows:
        """What one process of `world` reads: the rows of the law's ranks rank, rank + world, …

        Raises `OrderError` where the law's ranks cannot be divided among so many.
        """
        count = len(self.ranks) - 1
        if not 0 <= rank < world or count % world:
            raise OrderError(
                f"rank {rank} of {world} does not exist", why=f"the rows are packed for {count} ranks, from 0"
            )
        rows = [row for r in range(rank, count, world) for row in range(self.ranks[r], self.ranks[r + 1])]
        parts = [self.positions[self.bounds[row] : self.bounds[row + 1]] for row in rows]
        bounds = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return Rows(np.concatenate([self.positions[:0], *parts]), bounds, (0, len(rows)) if world == count else ())


class Law(Protocol):
    """Parameters of a loader, and what it reads with them. `name` ends with the version of the law.

    `needs_lengths`: whether it asks for the lengths of the samples.
    """

    name: ClassVar[str]
    needs_lengths: ClassVar[bool]

    def steps(self, samples: Samples, first: int = 0, last: int | None = None) -> Iterator[Rows]:
        """The steps [first, last) of an epoch, from 0; to its end without `last`."""


class Reading:
    """A law that is a reading order cut into batches: rank r of R takes its elements r, r + R, r + 2R, …"""

    name: ClassVar[str]
    needs_lengths: ClassVar[bool] = False
    batch: int

    def order(self, samples: Samples) -> Positions:
        """The positions in reading order; some twice, where the loader fills up a batch or a rank."""
        raise NotImplementedError

    def read(self, number: int) -> int:
        """How long the order of so many samples is."""
        raise NotImplementedError

    def steps(self, samples: Samples, first: int = 0, last: int | None = None) -> Iterator[Rows]:
        """As `Law.steps`; a batch that is not full is no step."""
        order, bounds = self.order(samples), np.arange(self.batch + 1)
        count = len(order) // self.batch
        for step in range(first, count if last is None else min(last, count)):
            yield Rows(order[step * self.batch : (step + 1) * self.batch], bounds)


def steps(law: Law, samples: Samples, first: int = 0, last: int | None = None) -> Iterator[Rows]:
    """The rows of the steps [first, last) under a law, counted from 0.

    Raises:
        OrderError: the parameters make no loader, or need lengths that are not given.
    """
    return law.steps(samples, first, last)


def require(law: object, **counts: int) -> None:
    """Raise `OrderError` unless each of these parameters is at least 1."""
    for name, value in counts.items():
        if value < 1:
            raise OrderError(f"{name.replace('_', ' ')} {value} is none", where=type(law).__name__, why="at least 1")
