"""`modernbert-packed-v1`: ModernBERT's loader with `sequence_packing`, as far as it decides who is in which row.

The rule, of `GreedyBestFitSequencePacker` (AnswerDotAI/ModernBERT, `src/sequence_packer.py`): each rank reads its share
of the permutation (ARCHITECTURE 5.6) in batches of B / R samples and packs them by itself. A batch that it gives has
B / R / micro rows, each of micro * length tokens. A sample goes to the fullest row that it fits, the first of several;
what fits none waits. When the buffer is empty, it is filled up by whole batches while more than one would still fit;
when it cannot be, the batch is given, and those who waited stand at the front of the buffer, the last one first. A
batch with an empty row ends the epoch. With warm-up the number of rows follows the tokens that this rank has given;
where nothing is masked (decoders) the packer counts none, and its first number of rows stays: `warmup_tokens=10**15`.

Who is where is so decided by lengths alone. The steps have to be made from the first one on: a later one depends on
what was left over before.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError
from ettin_data.order.law import permutation, position_dtype
from ettin_data.order.laws.reading import Rows, Samples, require


@dataclass(frozen=True)
class Packed:
    """Parameters of the packed loader.

    Attributes:
        length: `max_seq_len`; a sample is counted with at most so many tokens.
        batch, world, micro: samples of a batch over all ranks, ranks, and samples of a micro batch.
        seed, epoch: of the permutation.
        buffer: `packing_buffer_size`, samples that a rank holds; None for five batches of the rank.
        warmup_batch, warmup_tokens: `batch_size_warmup_min_size` and `batch_size_warmup_tokens`; None for no warm-up.
        given: tokens that each rank has given in epochs before, which the warm-up goes on counting from.

    Raises:
        OrderError: the numbers do not divide each other as the loader demands.
    """

    name: ClassVar[str] = "modernbert-packed-v1"
    needs_lengths: ClassVar[bool] = True
    length: int
    batch: int = 4608
    world: int = 8
    micro: int = 48
    seed: int = 21
    epoch: int = 0
    buffer: int | None = None
    warmup_batch: int | None = None
    warmup_tokens: int | None = None
    given: int = 0

    def __post_init__(self) -> None:
        require(self, length=self.length, batch=self.batch, world=self.world, micro_batch=self.micro)
        if (self.warmup_batch is None) != (self.warmup_tokens is None):
            raise OrderError("a warm-up has a first batch and a number of tokens, and here is only one of the two")
        if self.batch % self.world or self.rows < 1:
            raise OrderError(
                f"a batch of {self.batch} over {self.world} ranks gives no rows of {self.micro} samples each",
                remedy="the batch divides by the ranks, and a rank has at least a micro batch of it",
            )
        if self.buffer_size < self.rows:
            raise OrderError(f"a buffer of {self.buffer_size} samples cannot fill {self.rows} rows")
        if self.warmup_batch is not None and (self.warmup_batch % self.micro or not 0 < self.first_rows < self.rows):
            raise OrderError(
                f"a warm-up from a batch of {self.warmup_batch} is none",
                why=f"it divides by the micro batch, {self.micro}, and is less than what a rank has, {self.rank_batch}",
            )

    @property
    def rank_batch(self) -> int:
        return self.batch // self.world

    @property
    def rows(self) -> int:
        """Rows of a full batch of one rank."""
        return self.rank_batch // self.micro

    @property
    def first_rows(self) -> int:
        return self.rows if self.warmup_batch is None else self.warmup_batch // self.micro

    @property
    def width(self) -> int:
        """Tokens that a row holds."""
        return self.micro * self.length

    @property
    def step_tokens(self) -> int:
        """Tokens that the rows of a full batch over all ranks hold."""
        return self.width * self.rows * self.world

    @property
    def buffer_size(self) -> int:
        return 5 * self.rank_batch if self.buffer is None else self.buffer

    @cached_property
    def _warmup(self) -> tuple[int, list[int]]:
        """Tokens of a rank until full batches, and until each number of rows is left behind."""
        assert self.warmup_tokens is not None
        tokens = math.ceil(self.warmup_tokens / self.world)
        sizes = range(self.first_rows, self.rows)
        one = tokens / sum(sizes)
        return tokens, [math.ceil(one * total) for total in np.cumsum(sizes).tolist()]

    def rows_after(self, tokens: int) -> int:
        """Rows of the batch that a rank gives after so many tokens."""
        if self.warmup_tokens is None:
            return self.rows
        end, limits = self._warmup
        return self.rows if tokens >= end else min(self.first_rows + bisect_right(limits, tokens), self.rows)

    def steps(self, samples: Samples, first: int = 0, last: int | None = None) -> Iterator[Rows]:
        """The rows of the steps [first, last), those of rank 0 first; the epoch ends with the first rank that ends.

        Raises:
            OrderError: the lengths of the samples are not given.
        """
        if samples.lengths is None or len(samples.lengths) != samples.number:
            raise OrderError(
                f"{self.name} needs the length of each sample", why=f"there are {samples.number:,} samples in the index"
            )
        order = permutation(samples.number, self.seed, self.epoch)
        order = order[: samples.number - samples.number % self.world]
        ranks = [self._packed(order[rank :: self.world], samples.lengths) for rank in range(self.world)]
        for step in islice(zip(*ranks, strict=False), first, last):
            rows = [row for of_rank in step for row in of_rank]
            bounds = np.cumsum([0, *map(len, rows)])
            positions = np.array([p for row in rows for p in row], position_dtype(samples.number))
            yield Rows(positions, bounds, tuple(np.cumsum([0, *map(len, step)]).tolist()))

    def _packed(self, order: NDArray[np.integer], lengths: NDArray[np.integer]) -> Iterator[list[list[int]]]:  # type: ignore[type-arg]
        """The rows of each batch of a rank that reads samples in this order."""
        waiting: deque[tuple[int, int]] = deque()  # (position, tokens)
        given, read = self.given, 0
        while True:
            rows: list[list[int]] = [[] for _ in range(self.rows_after(given))]
            # (free tokens, row), sorted: the first one that is large enough is the fullest, and the first of equals.
            free = [(self.width, row) for row in range(len(rows))]
            passed: list[tuple[int, int]] = []
            taken = 0
            while True:
                if not waiting:
                    read = self._refill(waiting, order, lengths, read, self.buffer_size - len(passed))
                    if not waiting:
                        break
                position, tokens = waiting.popleft()
                at = bisect_left(free, (tokens, -1))
                if at == len(free):
                    passed.append((position, tokens))
                    continue
                left, row = free.pop(at)
                rows[row].append(position)
                insort(free, (left - tokens, row))
                taken += tokens
            waiting.extendleft(passed)
            if not all(rows):
                return
            given += taken
            yield rows

    def _refill(
        self,
        waiting: deque[tuple[int, int]],
        order: NDArray[np.integer],  # type: ignore[type-arg]
        lengths: NDArray[np.integer],  # type: ignore[type-arg]
        read: int,
        most: int,
    ) -> int:
        """Add whole batches, of which more than one has to fit and no more than `most` samples come; returns `read`."""
        added = 0
        while (
            self.buffer_size - len(waiting) > self.rank_batch and added + self.rank_batch <= most and read < len(order)
        ):
            batch = order[read : read + self.rank_batch]
            sizes = np.minimum(lengths[batch], self.length)
            full = [pair for pair in zip(batch.tolist(), sizes.tolist(), strict=True) if pair[1]]
            waiting.extend(full)
            added += len(full)
            read += len(batch)
        return read
