"""The order law `ettin-v1`: which sample is in which step, as pure arithmetic (ARCHITECTURE 5.6).

Ettin trained through ModernBERT's loader with packing off (upstream `src/text_data.py`, `DistributedSamplerPCG64DXSM`
with `drop_last: true`). For N samples in the order of `train/index.json`, seed s, epoch e:

    perm = numpy.random.Generator(PCG64DXSM(s + e)).permutation(N)
    step k (counted from 0) = perm[k*B : (k+1)*B]         the tail that fills no step is not used
    rank r of R             = perm[r::R], in that order    in step k: the positions i of [k*B, (k+1)*B) with i % R == r

Only s + e matters: seed 21 in epoch 1 is seed 22 in epoch 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError
from ettin_data.order.shuffle import shuffle

LAW, LAW_VERSION = "ettin-v1", 1

Positions = NDArray[np.uint32 | np.uint64]
"""Of samples, in the dtype that `position_dtype` gives."""

_LARGE = 1 << 24  # samples whose positions fill the caches


def permutation(n: int, seed: int, epoch: int = 0, stage: int = 0) -> Positions:
    """numpy's `Generator(PCG64DXSM([seed + epoch, stage])).permutation(n)`, bit for bit, in half its memory.

    In stage 0 that is `PCG64DXSM(seed + epoch)`; the others are those of an appended order (`order.appended`).

    The draws of the shuffle do not depend on the width of what is shuffled, so shuffling 32-bit positions gives the
    same order as numpy's 64-bit ones. From some ten million samples on `shuffle.py` does it with the same draws in less
    time. tests/order/test_shuffle.py compares all of them; `benchmarks/order.py` measures them: N = 2.8 billion takes
    11.2 GB and minutes of one core.

    Returns: shape (n,), uint32; uint64 when n > 2**32.
    """
    bits = np.random.PCG64DXSM([seed + epoch, stage] if stage else seed + epoch)
    if n < _LARGE:
        return np.random.Generator(bits).permutation(n).astype(position_dtype(n))
    array = np.arange(n, dtype=position_dtype(n))
    shuffle(array, bits)
    return array


def position_dtype(n: int) -> np.dtype[np.uint32 | np.uint64]:
    """The narrowest type of a position among n samples that the index uses."""
    return np.dtype(np.uint32 if n <= 2**32 else np.uint64)


@dataclass(frozen=True)
class OrderLaw:
    """Everything that decides the order of a phase. Raises `OrderError` when there is not one whole step in it."""

    known: ClassVar[tuple[str, int]] = (LAW, LAW_VERSION)
    seed: int
    epoch: int
    samples: int
    batch: int
    name: str = LAW
    version: int = LAW_VERSION

    def __post_init__(self) -> None:
        if (self.name, self.version) != self.known:
            raise OrderError(
                f"the order law {self.name!r} version {self.version} is not known",
                why=f"this version of ettin-data knows {self.known[0]!r} version {self.known[1]}",
                remedy="read the index with the version of ettin-data that wrote it",
            )
        if self.batch < 1 or self.seed < 0 or self.epoch < 0:
            raise OrderError(
                f"seed {self.seed}, epoch {self.epoch}, batch {self.batch} is not an order",
                why="a batch has at least one sample; seed and epoch are not negative",
            )
        if self.samples < self.batch:
            raise OrderError(
                f"{self.samples} samples do not fill one batch of {self.batch}",
                why="the law drops the samples that fill no step, here all of them",
                remedy=f"raise the token targets, or set a batch of at most {max(self.samples, 1)}",
            )

    @property
    def rule(self) -> str:
        """What decides the order but for seed, epoch and batch; equal for laws that differ by these alone."""
        return self.name

    @property
    def steps(self) -> int:
        return self.samples // self.batch

    @property
    def used(self) -> int:
        """Samples in whole steps."""
        return self.steps * self.batch

    @property
    def dtype(self) -> np.dtype[np.uint32 | np.uint64]:
        return position_dtype(self.samples)

    def steps_for(self, world: int) -> int:
        """Steps that a run of `world` ranks makes: the sampler first drops the samples that do not divide by the world.

        It is `steps` for every world size that divides the batch.
        """
        return (self.samples - self.samples % world) // self.batch

    def permutation(self) -> Positions:
        """All N positions in reading order, shape (samples,), dtype `dtype`."""
        return permutation(self.samples, self.seed, self.epoch)


def interval_steps(interval_tokens: float, tokens: int, law: OrderLaw) -> int:
    """Steps between two checkpoints that are `interval_tokens` apart, when the N samples hold `tokens` tokens."""
    tokens_a_step = max(tokens, 1) / law.samples * law.batch
    return max(1, round(interval_tokens / tokens_a_step))
