"""`backfill`, the published layout: each sample is a piece of one document.

Pieces have `length - 2` tokens. A tail shorter than `always_skip` is dropped, unless it is the whole document; a tail
shorter than `min_length` takes a random number of tokens, 0 to `length - 3 - tail`, from the end of the piece before it
(`split_dataset_into_chunks_individual.py` of the reference, less its re-encoding).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ettin_data.base.options import Options
from ettin_data.stages.pack.strategy import Cut, Draw, Pieces, Strategy


class Backfill(Options):
    """Lengths of tails, in text tokens."""

    min_length: int = Field(512, ge=1)
    """A tail shorter than this takes tokens from the piece before it."""
    always_skip: int = Field(128, ge=0)
    """A tail shorter than this is dropped."""


def cut_backfill(lengths: NDArray[np.int64], draw: Draw, length: int, options: Backfill) -> Cut:
    """Cut documents as published (`Strategy.cut`)."""
    body = length - 2
    full, tail = np.divmod(lengths, body)
    has_tail = (tail > 0) & ((tail >= options.always_skip) | (full == 0))
    skipped = int(tail[(tail > 0) & ~has_tail].sum())
    # Multiply-shift maps the top 32 bits of a draw to 0..room-1 without the bias or cost of a modulo.
    room = (body - tail).astype(np.uint64)
    borrowed = (((draw() >> np.uint64(32)) * room) >> np.uint64(32)).astype(np.int64)
    borrowed[~(has_tail & (full > 0) & (tail < options.min_length))] = 0

    # First as if nobody borrowed: document d has the pieces first[d] to first[d + 1], each of `body` tokens ...
    counts = full + has_tail
    document = np.repeat(np.arange(len(lengths)), counts)
    first = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    start = (np.arange(len(document)) - first[document]) * body
    size = np.full(len(document), body, np.int64)
    # ... then tails become what they are, and begin where they borrowed to ...
    last = first[1:][has_tail] - 1
    start[last] -= borrowed[has_tail]
    size[last] = tail[has_tail] + borrowed[has_tail]
    # ... which the pieces before them lose. Whoever borrows has one before it: `full > 0` above.
    lenders = last[borrowed[has_tail] > 0] - 1
    size[lenders] -= borrowed[document[lenders]]
    return Cut(Pieces(document, start, size), skipped={"short_tail": skipped} if skipped else {})


def layout_name(length: int, options: Backfill) -> str:
    """As published: `tokenized-chunked-1024-512-128-backfill-nodups`."""
    return f"tokenized-chunked-{length}-{options.min_length}-{options.always_skip}-backfill-nodups"


def longest_loss(options: Backfill) -> int:
    return max(options.always_skip - 1, 0)


def problem(length: int, options: Backfill) -> str | None:
    if options.always_skip <= options.min_length <= length - 2:
        return None
    return (
        f"pack.always_skip ({options.always_skip}) <= pack.min_length ({options.min_length}) <= "
        f"length - 2 ({length - 2}) does not hold"
    )


STRATEGY = Strategy(
    "backfill", 1, Backfill, cut_backfill, layout_name=layout_name, longest_loss=longest_loss, problem=problem
)
