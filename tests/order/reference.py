"""A small independent model of the reference's loader, written from its rule: what it leaves in a publication.

Sampler: permutation by PCG64DXSM, dropped or padded to the world size, rank r takes every R-th. Collator: 80% of the
drawn tokens become the mask, 10% a random id from 0 to the largest of the batch, 10% stay; framing tokens too.
Packer: word by word, with arrays and no cleverness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from modernbert import MASK

from ettin_data.order.laws import Packed


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


class _WarmUp:
    """Rows by tokens: sizes rise by one, and each size is kept for tokens in proportion to itself."""

    def __init__(self, least: int, most: int, tokens: int, world: int) -> None:
        self.least, self.most, self.tokens = least, most, math.ceil(tokens / world)
        self.share = self.tokens / sum(range(least, most))

    def rows(self, tokens: int) -> int:
        if tokens >= self.tokens:
            return self.most
        total = 0
        for size in range(self.least, self.most):
            total += size
            if tokens < math.ceil(self.share * total):
                return size
        return self.most


def _packer(law: Packed, lengths: list[int], rank: int) -> Iterator[list[list[int]]]:
    """What one rank gives, from the rule: an array of free places, a list as a buffer."""
    number = len(lengths)
    order = np.random.Generator(np.random.PCG64DXSM(law.seed + law.epoch)).permutation(number)
    mine = order[: number - number % law.world][rank :: law.world].tolist()
    own = law.batch // law.world
    batches = [mine[i : i + own] for i in range(0, len(mine), own)]
    warm = None
    if law.warmup_batch is not None:
        warm = _WarmUp(law.warmup_batch // law.micro, own // law.micro, law.warmup_tokens, law.world)
    most = law.buffer if law.buffer is not None else 5 * own
    buffer: list[int] = []
    tokens = law.given
    while True:
        count = warm.rows(tokens) if warm else own // law.micro
        free = np.full(count, law.micro * law.length)
        rows: list[list[int]] = [[] for _ in range(count)]
        unfit: list[int] = []
        while True:
            if not buffer:
                allowed, added = most - len(unfit), 0
                while most - len(buffer) > own and added + own <= allowed and batches:
                    new = [n for n in batches.pop(0) if lengths[n]]
                    buffer += new
                    added += len(new)
                if added == 0:
                    break
            sample = buffer.pop(0)
            size = min(lengths[sample], law.length)
            fits = np.flatnonzero(free >= size)
            if len(fits) == 0:
                unfit.append(sample)
                continue
            row = int(fits[np.argmin(free[fits])])
            rows[row].append(sample)
            free[row] -= size
        buffer = unfit[::-1] + buffer
        if any(not row for row in rows):
            return
        tokens += int(law.micro * law.length * count - free.sum())
        yield rows


def packed_steps(law: Packed, lengths: list[int]) -> list[list[list[int]]]:
    """The positions in each row of each step of all ranks, for samples of these lengths. `law` is only parameters."""
    ranks = [_packer(law, lengths, rank) for rank in range(law.world)]
    return [[row for of_rank in step for row in of_rank] for step in zip(*ranks, strict=False)]
