"""Finds the explanation of a published order when the law that was asked for does not fit.

Evidence is a set of published rows with their places in the data (`probe.py`). Each candidate seed gives every row its
index in that candidate's permutation; under the right explanation the index lies where the published step says, under a
wrong one that happens only by chance. So each hypothesis scores by the share of rows that it explains, and is believed when
it explains at least half of them and far more than chance would.

Only seed + epoch can be told, since the law uses only their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ettin_data.order.catalog import Catalog, Explanation
from ettin_data.order.law import OrderLaw, permutation
from ettin_data.order.probe import Evidence
from ettin_data.order.shard_order import infer_shard_order

SEEDS = (21, 0, 1, 2, 3, 5, 7, 13, 17, 42, 100, 123, 1234, 1337, 2024, 2025, 9176)
"""Seeds tried after those near the asked one; 9176 is the default of ModernBERT's loader."""

_WORK = 4_000_000_000  # samples shuffled in all candidates together: five minutes of one core
_LEAST = 0.5


@dataclass(frozen=True)
class Finding:
    """An explanation and how well it does.

    Attributes:
        explained: rows of the evidence that it explains, of `rows`.
        chance: rows that it would be expected to explain if it were wrong.
    """

    explanation: Explanation
    explained: int
    rows: int
    chance: float

    @property
    def share(self) -> float:
        return self.explained / self.rows if self.rows else 0.0

    @property
    def believed(self) -> bool:
        return self.share >= _LEAST and self.explained >= 5 * self.chance + 8


@dataclass(frozen=True)
class Inference:
    """The best finding (None without evidence), whether it is believed, and the seeds that were tried."""

    best: Finding | None
    evidence: Evidence
    seeds: tuple[int, ...]
    row_order: str = ""

    @property
    def believed(self) -> bool:
        return self.best is not None and self.best.believed


def infer(
    catalog: Catalog,
    evidence: Evidence,
    asked: OrderLaw,
    shard_sizes: np.ndarray,
    *,
    seeds: Sequence[int] | None = None,
    on_seed: Callable[[int], None] | None = None,
) -> Inference:
    """The best explanation of a publication.

    Args:
        asked: the law that was expected; its samples are those of the local data.
        shard_sizes: samples of each local shard, in the local order.
        seeds: candidates for seed + epoch; default: the asked one, the epochs after it, and common ones.
    """
    candidates = tuple(seeds) if seeds else default_seeds(asked)
    best: Finding | None = None
    for seed in candidates:
        if on_seed is not None:
            on_seed(seed)
        law = replace(asked, seed=asked.seed, epoch=seed - asked.seed) if seed >= asked.seed else replace(asked, seed=seed, epoch=0)
        order = law.permutation()
        findings = list(_hypotheses(catalog, evidence, law, order))
        if not any(f.believed for f in findings):
            findings += infer_shard_order(catalog, evidence, law, order, shard_sizes)
        for finding in findings:
            if best is None or (finding.believed, finding.share) > (best.believed, best.share):
                best = finding
        if best is not None and best.believed and best.share > 0.9:
            break
    order_of_rows = _row_order(catalog, evidence, best) if best is not None and best.believed else ""
    return Inference(best, evidence, candidates, order_of_rows)
