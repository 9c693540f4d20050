"""Finds the explanation of a published order when the law that was asked for does not fit.

Evidence is a set of published rows with their places in the data (`probe.py`). Each candidate seed gives every row its
index in that candidate's permutation. Under the right explanation the index lies where the published step says, under a
wrong one only by chance; so a hypothesis scores by the share of rows that it explains, and is believed when that is at
least half of them and far more than chance. Only seed + epoch can be told, since the law uses only their sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.progress import SILENT, Progress, stage
from ettin_data.order.law import OrderLaw, Positions
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.explanation import Explanation, Finding
from ettin_data.order.proof.probe import Evidence
from ettin_data.order.proof.shard_order import shard_order_findings

SEEDS = (21, 0, 1, 2, 3, 5, 7, 13, 17, 42, 100, 123, 1234, 1337, 2024, 2025, 9176)
"""Seeds tried after the asked one and its epochs; 9176 is the default of ModernBERT's loader."""

EPOCHS = 4
_MANY_SEEDS = 100_000
_ROWS = 600  # rows of the evidence that the hypotheses are scored on
_WORK = 4_000_000_000  # samples shuffled for all candidates together: five minutes of one core
_NEARLY_ALL = 0.9  # share of rows from which on nothing better is looked for
_WORLDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)


@dataclass(frozen=True)
class Inference:
    """The best finding (None without evidence) and the seeds that were tried."""

    best: Finding | None
    evidence: Evidence
    seeds: tuple[int, ...]

    @property
    def believed(self) -> bool:
        return self.best is not None and self.best.believed


def infer(
    catalog: Catalog,
    evidence: Evidence,
    asked: OrderLaw,
    starts: NDArray[np.int64],
    *,
    seeds: Sequence[int] | None = None,
    progress: Progress = SILENT,
) -> Inference:
    """The best explanation of a publication.

    Args:
        asked: the law that was expected; its samples are those of the local data.
        starts: first position of each local shard and the number of samples, shape (shards + 1,).
        seeds: candidates for seed + epoch; default: the asked one, the epochs after it, and common ones.
    """
    if evidence.found == 0:
        return Inference(None, evidence, ())
    candidates = tuple(seeds) if seeds else default_seeds(asked)
    few = evidence.thinned(_ROWS)
    best: Finding | None = None
    tried = []
    with stage(progress, "trying seeds", len(candidates), len(candidates)):
        for seed in candidates:
            tried.append(seed)
            progress.advance(1)
            known = asked.seed <= seed < asked.seed + EPOCHS
            law = replace(asked, seed=asked.seed if known else seed, epoch=seed - asked.seed if known else 0)
            order = law.permutation()
            likely = bool(seeds) or seed in SEEDS or known
            if not likely and not _promising(catalog, few, law, order):
                continue
            index = indices_of(order, few.position)
            found = _best(list(_hypotheses(catalog, few, law, index, _WORLDS if likely else ())))
            if likely and (not found.believed or found.share < _NEARLY_ALL):
                found = _best([found, *shard_order_findings(catalog, evidence, law, order, starts)])
            if best is None or (found.believed, found.share) > (best.believed, best.share):
                best = found
            if best.believed and (best.explanation.exact != "folders" or best.share > _NEARLY_ALL):
                break
    return Inference(best, evidence, tuple(tried))


def default_seeds(asked: OrderLaw) -> tuple[int, ...]:
    """Candidates for seed + epoch, as many as five minutes allow; all below 100,000 for small data."""
    first = asked.seed + asked.epoch
    all_ = dict.fromkeys([first, *(asked.seed + e for e in range(EPOCHS)), *SEEDS, *range(_MANY_SEEDS)])
    return tuple(all_)[: max(1, min(len(all_), _WORK // asked.samples))]


def _promising(catalog: Catalog, evidence: Evidence, law: OrderLaw, order: Positions) -> bool:
    """A quick look at one of many seeds: whether steps in order, whichever is the first, explain some of the rows."""
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    step = inverse[evidence.position] // min(catalog.common_rows(), law.samples)
    shifts = (step - number for number in (catalog.step[evidence.entry], evidence.entry))
    return any(np.bincount(shift - shift.min()).max() * 4 > evidence.found for shift in shifts)


def indices_of(order: Positions, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each position stands in a permutation: int64, shape of `positions`. One pass, one byte a sample."""
    wanted, inverse = np.unique(positions, return_inverse=True)
    mask = np.zeros(len(order), bool)
    mask[wanted] = True
    where = np.zeros(len(wanted), np.int64)
    for begin in range(0, len(order), 1 << 24):
        hits = np.flatnonzero(mask[order[begin : begin + (1 << 24)]]) + begin
        where[np.searchsorted(wanted, order[hits])] = hits
    return where[inverse]


def _best(findings: list[Finding]) -> Finding:
    """The first of those that explain about as much as any; exact folders count only where no exact steps are found."""
    strict = [f for f in findings if f.believed and f.explanation.exact != "folders"]
    top = max(strict or findings, key=lambda f: (f.believed, f.share))
    return next(f for f in strict or findings if f.believed == top.believed and f.share >= top.share - 0.02)


def _hypotheses(
    catalog: Catalog, evidence: Evidence, law: OrderLaw, index: NDArray[np.int64], worlds: Sequence[int]
) -> Iterator[Finding]:
    """All explanations with the local shard order, the most exact first."""
    rows = catalog.common_rows()
    step = catalog.step[evidence.entry]
    yield from _numbered(catalog, evidence, law, index, rows)
    for world in dict.fromkeys([law.batch // rows, *worlds]):
        batch = rows * world
        if world > 1 and batch <= law.samples:
            shift = _mode(evidence.row, index // batch - step)
            rank = _mode(evidence.row, index % world)
            same = (index // batch - step == shift) & (index % world == rank)
            yield _finding(evidence, same, rows, law, batch=batch, rank=(rank, world), **_numbering(catalog, shift))
    if rows != law.batch:
        yield from _numbered(catalog, evidence, law, index, law.batch)
    before = catalog.first_rows()
    yield _by_rows(evidence, law, index, before[evidence.entry], catalog.rows[evidence.entry], "rows")
    firsts = np.flatnonzero(np.diff(catalog.folder, prepend=-1))
    ends = np.append(firsts[1:] - 1, len(catalog) - 1)
    begin = before[firsts][catalog.folder[evidence.entry]]
    end = (before[ends] + catalog.rows[ends])[catalog.folder[evidence.entry]]
    yield _by_rows(evidence, law, index, begin, end - begin, "folders")


def _by_rows(
    evidence: Evidence,
    law: OrderLaw,
    index: NDArray[np.int64],
    begin: NDArray[np.int64],
    size: NDArray[np.int64],
    exact: str,
) -> Finding:
    """Rows in the law's order, of which the publication holds [begin, begin + size) in the place of each, and maybe
    begins later than the law: by how much, is where most of the intervals that each row allows overlap."""
    # A row at place `index` of the law was found somewhere in [begin, begin + size) of the publication, so that the
    # shift between the two lies in [low, high).
    low, high = index - begin - size + 1, index - begin + 1
    if len(index) == 0:
        return _finding(evidence, np.zeros(0, bool), 1, law, batch=law.batch, exact=exact)
    # Sweep over the edges: +1 where an interval opens, -1 where it closes. The sum is how many rows allow a shift.
    edges = np.concatenate([low, high])
    order = np.lexsort([np.repeat([1, 0], len(low)), edges])  # an interval ends before another begins
    depth = np.cumsum(np.repeat([1, -1], len(low))[order])
    best = int(edges[order][depth.argmax()])
    # No shift at all is the plain case: it wins unless another one explains at least two rows more.
    skipped = 0 if ((low <= 0) & (high > 0)).sum() >= depth.max() - 1 else best
    same = (low <= skipped) & (skipped < high)
    return _finding(evidence, same, float(size.mean()), law, batch=law.batch, exact=exact, skipped=skipped)


def _numbered(
    catalog: Catalog, evidence: Evidence, law: OrderLaw, index: NDArray[np.int64], batch: int
) -> Iterator[Finding]:
    """Steps of that batch, numbered through the phase or in each folder."""
    if batch > law.samples:
        return
    step = catalog.step[evidence.entry]
    shift = _mode(evidence.row, index // batch - step)
    yield _finding(evidence, index // batch - step == shift, batch, law, **_numbering(catalog, shift))
    shift = _mode(evidence.row, index // batch - evidence.entry)
    same = index // batch - evidence.entry == shift
    if shift >= 0:
        yield _finding(evidence, same, batch, law, numbering="restart", offset=shift)


def _mode(rows: NDArray[np.int64], values: NDArray[np.int64]) -> int:
    """The value that most rows have; a row with several places counts once for each value."""
    if len(values) == 0:
        return 0
    width = int(rows.max()) + 1
    pairs = np.unique(values * width + rows)
    found, counts = np.unique(pairs // width, return_counts=True)
    return int(found[counts.argmax()])


def _numbering(catalog: Catalog, shift: int) -> dict[str, int]:
    """Base and offset for law step (from 0) = published step + shift.

    The first published number tells a count from 0 from an offset of one step; when a later file comes first, a count
    from 0 is the simpler reading. Numbers that run ahead of the law count from a higher one.
    """
    lowest = int(catalog.step.min())
    if lowest == 0 or (shift == 0 and lowest > 1):
        return {"base": 0, "offset": shift}
    return {"base": -shift, "offset": 0} if -1 > shift >= -lowest else {"base": 1, "offset": shift + 1}


def _finding(
    evidence: Evidence,
    explained: NDArray[np.bool_],
    rows: float,
    law: OrderLaw,
    /,
    batch: int | None = None,
    **how: object,
) -> Finding:
    """A finding from the mask of explained places; `rows` of all samples are in the place that a row is put."""
    found = evidence.found
    changed = replace(law, batch=int(batch or rows))
    explanation = replace(Explanation(changed), **how)  # type: ignore[arg-type]
    return Finding(explanation, len(np.unique(evidence.row[explained])), found, found * min(1.0, rows / law.samples))
