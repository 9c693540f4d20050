"""`concat`: an opening token, then documents end to end, each closed, cut where the sample is full."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ettin_data.stages.pack.strategy import Cut, Draw, Pieces, Strategy, Windowed


def cut_concat(lengths: NDArray[np.int64], draw: Draw, length: int, options: Windowed) -> Cut:
    """Fill samples one after the other (`Strategy.cut`)."""
    document: list[int] = []
    start: list[int] = []
    size: list[int] = []
    samples: list[list[int]] = []
    room = 0
    for number, total in enumerate(lengths.tolist()):
        at = 0
        while at < total:
            if room < 2:  # a text token and the one that closes it
                samples.append([])
                room = length - 1
            take = min(total - at, room - 1)
            samples[-1].append(len(size))
            document.append(number)
            start.append(at)
            size.append(take)
            at += take
            room -= take + 1
    return Cut(Pieces(np.array(document, np.int64), np.array(start, np.int64), np.array(size, np.int64)), samples)


STRATEGY = Strategy("concat", 1, Windowed, cut_concat, several=True, own_open=False)
