"""The order law `ettin-v1-appended`: an order goes on after samples were added to the data (ARCHITECTURE 5.6).

The samples that an earlier order was of are still there, in the same sequence, among others. Its whole steps come
first, unchanged but for the positions, which now count in the larger index; then the rest, the samples that filled no
step and those that were added, in a keyed order of their own. Each addition is a stage, from 0:

    rest of stage j  = the samples that were there at that stage and are in no step yet, in the order of the index
    it is read as    rest[numpy.random.Generator(PCG64DXSM([s + e, j])).permutation(len(rest))], in whole steps

For stage 0 that is `ettin-v1`, since numpy makes of [s, 0] what it makes of s. A step never changes when more is added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import bounded_parquet
from ettin_data.order.law import OrderLaw, Positions, permutation

APPENDED, APPENDED_VERSION = "ettin-v1-appended", 1


@dataclass(frozen=True)
class Earlier:
    """An order that goes on in a longer one.

    Attributes:
        samples: that it was of.
        digest, data_digest: what its `order.json` said.
        runs: where those samples are now: positions [begin, end), rising, shape (runs, 2), int64.
    """

    samples: int
    digest: str
    data_digest: str
    runs: NDArray[np.int64] = field(compare=False, repr=False)

    def positions(self) -> NDArray[np.int64]:
        """Of its samples in the present index, rising, shape (samples,): sample i of then is at [i]."""
        return np.concatenate([np.zeros(0, np.int64), *(np.arange(begin, end) for begin, end in self.runs.tolist())])


@dataclass(frozen=True)
class AppendedLaw(OrderLaw):
    """An `OrderLaw` whose first steps are those of earlier orders, the first one first.

    Raises `OrderError` as `OrderLaw` does, `ValueError` when the earlier orders are not each within the next.
    """

    known: ClassVar[tuple[str, int]] = (APPENDED, APPENDED_VERSION)
    name: str = APPENDED
    version: int = APPENDED_VERSION
    earlier: tuple[Earlier, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = [each.samples for each in self.earlier] + [self.samples]
        if not self.earlier or sizes != sorted(sizes) or sizes[0] < self.batch:
            raise ValueError(f"orders of {sizes} samples do not follow each other")
        for each in self.earlier:
            edges, lengths = each.runs.reshape(-1), np.diff(each.runs)
            rising = (np.diff(edges) >= 0).all() and (lengths > 0).all() and edges[0] >= 0 and edges[-1] <= self.samples
            if not rising or lengths.sum() != each.samples:
                raise ValueError(f"the places of {each.samples:,} earlier samples are none")

    @property
    def plain(self) -> OrderLaw:
        """The law of the same samples without a past."""
        return OrderLaw(self.seed, self.epoch, self.samples, self.batch)

    def used_by(self, earlier: Earlier) -> int:
        """How many samples, from the first step on, are those of an earlier order in its order."""
        return earlier.samples // self.batch * self.batch

    def permutation(self) -> Positions:
        order = np.empty(self.samples, self.dtype)
        taken = np.zeros(self.samples, bool)
        read = 0
        for stage, each in enumerate([*self.earlier, None]):
            if each is None:
                rest, whole = np.flatnonzero(~taken), self.samples
            else:
                there = each.positions()
                rest, whole = there[~taken[there]], self.used_by(each)
            drawn = rest[permutation(len(rest), self.seed, self.epoch, stage)[: whole - read]]
            order[read:whole] = drawn
            taken[drawn] = True
            read = whole
        return order

    def digest_of(self, earlier: Earlier, positions: Positions) -> str:
        """The digest of an earlier order, from the positions of this one: equal to what it was if the order goes on."""
        then = np.searchsorted(earlier.positions(), positions[: self.used_by(earlier)])
        return positions_digest([then.astype(OrderLaw(0, 0, earlier.samples, self.batch).dtype)])


def positions_digest(chunks: Iterable[Positions]) -> str:
    """SHA-256 of positions in reading order, little-endian in their dtype."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def as_runs(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rising positions as runs [begin, end), shape (runs, 2)."""
    if len(positions) == 0:
        return np.zeros((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    firsts = np.concatenate([[0], breaks])
    lasts = np.concatenate([breaks, [len(positions)]]) - 1
    return np.stack([positions[firsts], positions[lasts] + 1], axis=1)


def write_runs(file: Any, earlier: Sequence[Earlier]) -> None:
    """The runs of all earlier orders as parquet: `order` (from 0), `begin`, `end`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = np.repeat(np.arange(len(earlier)), [len(each.runs) for each in earlier])
    runs = np.concatenate([each.runs for each in earlier])
    columns = {"order": numbers.astype(np.int32), "begin": runs[:, 0], "end": runs[:, 1]}
    pq.write_table(pa.table(columns), file, compression="zstd", store_schema=False)


def read_earlier(path: Path, said: Sequence[Mapping[str, Any]]) -> tuple[Earlier, ...]:
    """The earlier orders that an `order.json` lists, with their runs from the file beside it.

    Raises:
        ValueError: the file is not what it should be.
    """
    import pyarrow as pa

    try:
        with bounded_parquet.opened(path, {"order", "begin", "end"}) as file:
            table = file.read(["order", "begin", "end"])
        number, begin, end = (bounded_parquet.integers(table[name], np.dtype(np.int64)) for name in table.column_names)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path.name}: {(str(error).splitlines() or ['?'])[0]}") from error
    runs = np.stack([begin, end], axis=1)
    return tuple(
        Earlier(each["samples"], each["digest"], each["data_digest"], runs[number == i]) for i, each in enumerate(said)
    )
