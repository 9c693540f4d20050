"""Looks for the law of another loader, when Ettin's fits under no seed.

Each plausible loader gives a reading order. Most are put aside by a quick look at where some hundred found rows stand
in it; what is left is judged as any other law (`infer`), with all that a publication may have done to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError
from ettin_data.base.progress import SILENT, Progress, stage
from ettin_data.order.law import OrderLaw, Positions
from ettin_data.order.laws import Reading, ReadOrder, Sequential, Streaming
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.infer import Inference, infer
from ettin_data.order.proof.probe import Evidence

SEEDS = (9176, 17)
"""Seeds tried beside the asked one: streaming's default and Composer's."""
EPOCHS = 2
CANONICAL = (1, 64, 8, 2, 4, 16, 32, 128)
"""Canonical nodes; the library takes as many as nodes, or 64 for each."""
BLOCKS = (1 << 18, 50_000_000)
"""Block sizes tried beside the library's own choice; the last one is that of ModernBERT's configurations."""

_WORK = 2_000_000_000  # samples in all orders together: some minutes of one core
_ROWS = 300  # of the evidence, for the quick look
_PROMISING = 0.25  # share of rows in a step at the same distance
_WORLDS = (1, 2, 4, 8, 16, 32, 64)


def plausible(asked: OrderLaw) -> Iterator[Reading]:
    """Loaders that a publication may come from, the likelier first, with the batch that was asked for."""
    batch = asked.batch
    yield Sequential(batch)
    for canonical in CANONICAL[1:]:
        yield Streaming(batch, canonical=canonical)
    seeds = dict.fromkeys((asked.seed, *SEEDS))
    for epoch in range(EPOCHS):
        for seed in seeds:
            yield Streaming(batch, "naive", seed, epoch)
            for canonical in CANONICAL:
                for shuffle in ("py1s", "py2s"):
                    yield Streaming(batch, shuffle, seed, epoch, canonical=canonical)
                for shuffle in ("py1e", "py1br"):
                    own = Streaming(batch, shuffle, seed, epoch, canonical=canonical)
                    for block in dict.fromkeys((own.block_size, *BLOCKS)):
                        yield replace(own, block=None if block == own.block_size else block)


def infer_loader(
    catalog: Catalog, so_far: Inference, asked: OrderLaw, starts: NDArray[np.int64], progress: Progress = SILENT
) -> Inference:
    """`so_far`, or the first loader that explains the publication; says how many were tried.

    Args:
        so_far: what the search for another seed gave, which explains nothing.
        starts: first position of each local shard and the number of samples, shape (shards + 1,).
    """
    evidence, sizes = so_far.evidence, np.diff(starts)
    if evidence.strangers:
        return so_far
    few = evidence.thinned(_ROWS)
    candidates = list(plausible(asked))
    everything = len(candidates)
    del candidates[max(1, _WORK // asked.samples) :]
    seen: set[bytes] = set()
    with stage(progress, "trying other loaders", len(candidates), len(candidates)):
        for tried, loader in enumerate(candidates, 1):
            progress.advance(1)
            try:
                law = ReadOrder.of(loader, sizes)
                order = law.permutation()
            except OrderError:  # the library refuses so many nodes for so few samples
                continue
            index = _places(order, few.position)
            if (same := index.tobytes()) in seen:  # as another one before, such as blocks that hold all there is
                continue
            seen.add(same)
            if not promising(catalog, few, law, index):
                continue
            found = infer(catalog, evidence, law, starts, seeds=(law.seed + law.epoch,))
            if found.best is not None and found.best.believed:
                return replace(so_far, best=found.best, loaders=tried)
    return replace(so_far, loaders=len(candidates), loaders_left=everything - len(candidates))


def _places(order: Positions, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each position stands first in an order, -1 where it does not, int64."""
    inverse = np.full(int(max(order.max(initial=0), positions.max(initial=0))) + 1, -1, np.int64)
    inverse[order[::-1]] = np.arange(len(order))[::-1]
    return inverse[positions]


def promising(catalog: Catalog, evidence: Evidence, law: OrderLaw, index: NDArray[np.int64]) -> bool:
    """Whether many found rows stand in the order where their steps say, from whatever step it was begun.

    Also where only one rank was saved, or steps have other sizes: then the rows at least rise with the order.
    """
    rows = catalog.common_rows()
    for batch in dict.fromkeys([law.batch, *(rows * world for world in _WORLDS)]):
        if batch > law.samples:
            continue
        shift = index // batch - catalog.step[evidence.entry]
        _, counts = np.unique(shift, return_counts=True)
        by_chance = evidence.found * min(1.0, batch / law.samples)
        if counts.max() > max(_PROMISING * evidence.found, 4 * by_chance):
            return True
    published = catalog.first_rows()[evidence.entry] + evidence.place
    if len(np.unique(published)) < 10:
        return False
    return bool(np.corrcoef(_ranks(published), _ranks(index))[0, 1] > 0.99)


def _ranks(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")
