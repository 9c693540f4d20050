"""The frame of a sample: how long it may be, and the tokens that open and close what it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ettin_data.tokenizer.vocabulary import Tokens


@dataclass(frozen=True)
class Framing:
    """The outer form of every sample.

    Attributes:
        length: most tokens of a sample, the framing ones included.
        open, close: ids of the tokens before and behind a piece, of the run's tokenizer.
    """

    length: int
    open: int
    close: int


def framed(
    tokens: Tokens, begins: NDArray[np.int64], sizes: NDArray[np.int64], opened: NDArray[np.bool_], frame: Framing
) -> tuple[Tokens, NDArray[np.int64]]:
    """Spans of `tokens` end to end, each closed, and opened where `opened` says so.

    Args:
        tokens: shape (t,), uint16 or uint32.
        begins, sizes: shape (n,), int64, of the spans.
        opened: shape (n,), bool.
        frame: the tokens to put around them.

    Returns:
        The framed tokens, and the limits of the spans with their framing, shape (n + 1,), int64.
    """
    limits = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes + opened + 1, out=limits[1:])  # True counts as one
    out = np.empty(int(limits[-1]), tokens.dtype)
    out[limits[:-1][opened]] = frame.open
    out[limits[1:] - 1] = frame.close
    _copy(tokens, begins, out, limits[:-1] + opened, sizes)
    return out, limits


def _copy(
    tokens: Tokens, begins: NDArray[np.int64], out: Tokens, targets: NDArray[np.int64], sizes: NDArray[np.int64]
) -> None:
    """`out[targets[i] : targets[i] + sizes[i]] = tokens[begins[i] : begins[i] + sizes[i]]` for all i.

    By slices of memory views, at half the cost of slices of arrays: pieces are long, so it runs at memory's speed.
    """
    item = tokens.dtype.itemsize
    source, target = memoryview(np.ascontiguousarray(tokens)).cast("B"), memoryview(out).cast("B")
    spans = (begins * item, (begins + sizes) * item, targets * item, (targets + sizes) * item)
    for begin, end, at, behind in zip(*(span.tolist() for span in spans), strict=True):
        target[at:behind] = source[begin:end]
