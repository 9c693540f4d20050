"""A small independent model of the reference's loader, written from its rule: what it leaves in a publication.

Sampler: permutation by PCG64DXSM, dropped or padded to the world size, rank r takes every R-th. Collator: 80% of the
drawn tokens become the mask, 10% a random id from 0 to the largest of the batch, 10% stay; framing tokens too.
"""

from __future__ import annotations

import numpy as np
from modernbert import MASK


def mask_rows(rows: list[list[int]], share: float, rng: np.random.Generator) -> list[list[int]]:
    """Rows of one batch as ModernBERT's `mlm_masking` leaves them."""
    largest = max((max(row) for row in rows if row), default=0)
    masked = []
    for row in rows:
        tokens, draw = np.array(row), rng.random(len(row))
        random = rng.integers(0, largest + 1, len(row))
        tokens = np.where(draw < share * 0.8, MASK, tokens)
        masked.append(np.where((draw >= share * 0.8) & (draw < share * 0.9), random, tokens).tolist())
    return masked


def sampler(samples: int, seed: int, world: int, rank: int, drop_last: bool = True) -> np.ndarray:
    """Positions that a rank reads in one epoch."""
    order = np.random.Generator(np.random.PCG64DXSM(seed)).permutation(samples)
    order = order[: samples - samples % world] if drop_last else np.concatenate([order, order[: -samples % world]])
    return order[rank::world]


def warm_up(batch: int, rows: int, first: int, ramp: int) -> list[int]:
    """Sizes of steps that grow from `first` to `batch` over `ramp` steps, until `rows` are used up."""
    sizes: list[int] = []
    while rows >= (size := min(batch, first + (batch - first) * len(sizes) // ramp)):
        sizes.append(size)
        rows -= size
    return sizes
