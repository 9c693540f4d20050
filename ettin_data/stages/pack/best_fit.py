"""`best_fit`: each document, or full-length cut of one, keeps its own framing, and several fill a sample.

Best-fit decreasing inside a window, which costs the memory of the window; fills more than 99.9% of each sample and
drops nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ettin_data.stages.pack.strategy import Cut, Draw, Pieces, Strategy, Windowed


def cut_best_fit(lengths: NDArray[np.int64], draw: Draw, length: int, options: Windowed) -> Cut:
    """Cut every `length - 2` tokens, and put the cuts together (`Strategy.cut`)."""
    pieces = every(lengths, length - 2)
    samples = best_fit(pieces.length + 2, length)
    for members in samples:
        members.sort()  # documents in a sample stand in reading order
    samples.sort()
    return Cut(pieces, samples)


def every(lengths: NDArray[np.int64], body: int) -> Pieces:
    """Cut documents every `body` tokens, keeping every tail."""
    counts = -(-lengths // body)
    document = np.repeat(np.arange(len(lengths)), counts)
    first = np.concatenate([[0], np.cumsum(counts)])[:-1]
    start = (np.arange(len(document)) - first[document]) * body
    return Pieces(document, start, np.minimum(body, lengths[document] - start))


def best_fit(sizes: NDArray[np.int64], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: bins of at most `capacity`, each a list of item numbers; every item in exactly one bin.

    Items of equal size keep their order. The open bins are kept by free space, and a bit set of the free spaces in use
    gives the tightest bin that holds an item in one shift, so a window of n items costs O(n * capacity / 64).
    """
    bins: list[list[int]] = []
    by_space: dict[int, list[int]] = {}  # free space -> open bins that have exactly it
    spaces = 0  # bit s is set where by_space[s] has a bin
    for item in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[item])
        fitting = spaces >> size  # bit i: a bin in which i would be left
        if fitting:
            space = size + (fitting & -fitting).bit_length() - 1  # the lowest bit that is set: the tightest bin
            open_bins = by_space[space]
            number = open_bins.pop()
            if not open_bins:
                spaces &= ~(1 << space)
        else:
            space, number = capacity, len(bins)
            bins.append([])
        bins[number].append(item)
        space -= size
        if space > 0:
            by_space.setdefault(space, []).append(number)
            spaces |= 1 << space
    return bins


STRATEGY = Strategy("best_fit", 1, Windowed, cut_best_fit, several=True)
