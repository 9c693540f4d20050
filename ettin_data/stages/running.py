"""How the steps of a split are run in this process."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from datatrove.pipeline.base import PipelineStep

_COLLECT_EVERY = 100_000
"""Container objects made, less those gone, between two looks of the garbage collector; a batch has some 10,000."""


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """The garbage collector looks seldom meanwhile: for work that makes many objects and no cycles of them."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECT_EVERY, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


def run_steps(steps: Sequence[PipelineStep]) -> None:
    """Chain the steps and exhaust the last, as datatrove's executors do.

    Documents hold no cycles, so the garbage collector, which takes a quarter of the time of a file of short ones, looks
    seldom meanwhile.
    """
    data: Any = None
    for step in steps:
        data = step(data, 0, 1)
    with collecting_seldom():
        deque(data, maxlen=0)
