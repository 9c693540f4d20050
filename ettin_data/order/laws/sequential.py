"""`sequential-v1`: no shuffle at all, torch's `DistributedSampler(shuffle=False)` over samples in index order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ettin_data.order.law import Positions, position_dtype
from ettin_data.order.laws.reading import Reading, Samples, require


@dataclass(frozen=True)
class Sequential(Reading):
    """Samples in the order of the index.

    Attributes:
        batch: samples of a step over all ranks.
        world: ranks.
        drop_last: what does not divide by the ranks is dropped; else the first samples come again until it does.
    """

    name: ClassVar[str] = "sequential-v1"
    batch: int
    world: int = 1
    drop_last: bool = True

    def __post_init__(self) -> None:
        require(self, batch=self.batch, world=self.world)

    def order(self, samples: Samples) -> Positions:
        return np.resize(np.arange(samples.number, dtype=position_dtype(samples.number)), self.read(samples.number))

    def read(self, number: int) -> int:
        return (number // self.world if self.drop_last else -(-number // self.world)) * self.world
