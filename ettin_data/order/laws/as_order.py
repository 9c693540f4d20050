"""Another loader's reading order in the place of Ettin's law, for whatever compares a publication with one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError
from ettin_data.order.law import OrderLaw, Positions
from ettin_data.order.laws.reading import Reading, Samples

_DRAWN = ("seed", "epoch", "batch")


@dataclass(frozen=True)
class ReadOrder(OrderLaw):
    """An `OrderLaw` whose order is that of a loader.

    Attributes:
        loader: its law; seed and epoch, where it has them, are those of this object.
        sizes: samples of each shard, shape (shards,), int64.

    Raises `OrderError` when there is not one whole step in it.
    """

    loader: Reading = field(kw_only=True)
    sizes: NDArray[np.int64] = field(kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.batch <= self.samples:
            raise OrderError(f"{self.samples} samples do not fill one batch of {self.batch}", where=self.name)

    @classmethod
    def of(cls, loader: Reading, sizes: NDArray[np.int64]) -> ReadOrder:
        """The order of a loader over shards of these sizes."""
        seed, epoch = (getattr(loader, name, 0) for name in ("seed", "epoch"))
        read = loader.read(int(sizes.sum()))
        return cls(seed, epoch, read, loader.batch, loader.name, 1, loader=loader, sizes=sizes)

    @property
    def rule(self) -> str:
        """The parameters in words: "mosaicml-streaming-v1 (shuffle py1e, canonical 8)"."""
        given = [(f.name, getattr(self.loader, f.name), f.default) for f in fields(self.loader) if f.name not in _DRAWN]  # type: ignore[arg-type]
        said = ", ".join(f"{name} {value}" for name, value, usual in given if value != usual)
        return f"{self.name} ({said})" if said else self.name

    def permutation(self) -> Positions:
        """All positions in reading order, shape (samples,)."""
        drawn = {f.name for f in fields(self.loader)} & {"seed", "epoch"}  # type: ignore[arg-type]
        loader = replace(self.loader, **{name: getattr(self, name) for name in drawn})  # type: ignore[type-var]
        return loader.order(Samples(self.sizes))
