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
from ettin_data.order.law import LAW, OrderLaw, Positions
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.explanation import Explanation, Finding
from ettin_data.order.proof.parts import WORLDS, by_parts, indices_of, ranks_of
from ettin_data.order.proof.probe import Evidence
from ettin_data.order.proof.shard_order import shard_order_findings
from ettin_data.order.shuffle import last_places

SEEDS = (21, 0, 1, 2, 3, 5, 7, 13, 17, 42, 100, 123, 1234, 1337, 2024, 2025, 9176)
"""Seeds tried after the asked one and its epochs; 9176 is the default of ModernBERT's loader."""

EPOCHS = 4
LIKELY = len(SEEDS) + EPOCHS
"""So many candidates at least are asked for, epochs of it or common; those after them have nothing to say for them."""

_MANY_SEEDS = 20_000
_ROWS, _FIRST = 600, 100  # rows of the evidence that hypotheses are scored on, and that show which seeds are worth it
SECONDS_A_SAMPLE = 215 / 2.8e9
"""Of one core, for each sample of an order that is shuffled as a whole, as measured for 2.8 billion."""

_WORK = 4_000_000_000  # samples shuffled for all candidates together: five minutes of one core
_DRAWN = 4 * _WORK  # samples whose draws are made for all candidates that are refuted by these: as long again
_END = 1 / 64  # share of an order whose draws refute a seed
_ENDS, _FEWEST = 32, 8  # rows that should stand there, and that have to, so that a seed is refuted
_NEARLY_ALL = 0.9  # share of rows from which on nothing better is looked for
_ABOUT = 0.02  # shares that differ by less are as good


@dataclass(frozen=True)
class Inference:
    """The best finding (None without evidence), and what was tried.

    Attributes:
        seeds: whose whole orders were made. refuted: further seeds, by the end of their orders, for the shard order of
            the data alone. seeds_left: candidates that were not tried, since the data is large.
        numbers: other numbers of samples. loaders, loaders_left: laws of other loaders, tried and not tried.
    """

    best: Finding | None
    evidence: Evidence
    seeds: tuple[int, ...]
    numbers: int = 0
    loaders: int = 0
    loaders_left: int = 0
    refuted: int = 0
    seeds_left: int = 0

    @property
    def believed(self) -> bool:
        return self.best is not None and self.best.believed

    @property
    def tried(self) -> int:
        """Laws of every kind."""
        return len(self.seeds) + self.refuted + self.numbers + self.loaders

    def and_then(self, more: Inference) -> Inference:
        """What this and another search over other seeds give together."""
        found = [each for each in (more.best, self.best) if each is not None]
        return replace(
            self,
            best=max(found, key=lambda each: (each.believed, each.share), default=None),
            seeds=self.seeds + more.seeds,
            refuted=self.refuted + more.refuted,
            seeds_left=self.seeds_left + more.seeds_left,
        )


def infer(
    catalog: Catalog,
    evidence: Evidence,
    asked: OrderLaw,
    starts: NDArray[np.int64],
    *,
    seeds: Sequence[int],
    whole: int | None = None,
    likely: bool = True,
    named: bool = False,
    progress: Progress = SILENT,
) -> Inference:
    """The best explanation of a publication.

    Args:
        asked: the law that was expected; its samples are those of the local data.
        starts: first position of each local shard and the number of samples, shape (shards + 1,).
        seeds: candidates for seed + epoch.
        whole: how many of them are worth their whole order; the others are refuted by the end of it where that can be,
            in so far as five minutes allow. None: as many as five minutes allow.
        likely: try all explanations with each, and other numbers of samples; otherwise only steps in order.
        named: somebody asked for each of these seeds, so none is left out for the time that it takes.
    """
    if evidence.strangers:
        return Inference(None, evidence, ())
    few, fewest = evidence.thinned(_ROWS), evidence.thinned(_FIRST)
    whole = max(1, _WORK // asked.samples) if whole is None else whole
    best: Finding | None = None
    tried, refuted, drawn = list[int](), 0, 0.0
    with stage(progress, "trying seeds", len(seeds), len(seeds)):
        for seed in seeds:
            known = asked.seed <= seed < asked.seed + EPOCHS
            law = replace(asked, seed=asked.seed if known else seed, epoch=seed - asked.seed if known else 0)
            if len(tried) >= whole:
                share = _share_to_draw(law, evidence)
                drawn += share * law.samples
                if not named and (share == 1 or drawn > _DRAWN):
                    break
                if share < 1 and _refuted(catalog, evidence, law, share):
                    refuted += 1
                    progress.advance(1)
                    continue
            tried.append(seed)
            progress.advance(1)
            order = law.permutation()
            if not likely and not _promising(catalog, fewest.entry, indices_of(order, fewest.position), law):
                continue
            found = _under(catalog, evidence, few, law, order, starts, likely)
            if best is None or (found.believed, found.share) > (best.believed, best.share):
                best = found
            if best.believed and (best.explanation.exact == "steps" or best.share > _NEARLY_ALL):
                return Inference(best, evidence, tuple(tried), refuted=refuted)
    so_far = Inference(best, evidence, tuple(tried), 0, 0, 0, refuted, len(seeds) - len(tried) - refuted)
    for number, law in enumerate(_other_numbers(catalog, asked, starts) if likely else (), 1):
        found = _under(catalog, evidence, few, law, law.permutation(), starts, likely=True)
        so_far = replace(so_far, numbers=number)
        if found.believed and (best is None or not best.believed or found.share > best.share + _ABOUT):
            return replace(so_far, best=found)
    return so_far


def _share_to_draw(law: OrderLaw, evidence: Evidence) -> float:
    """Of a candidate's order: how much of its end has to be drawn to refute it; 1 where that is not worth while."""
    share = max(_END, _ENDS / max(len(evidence.position), 1))
    return share if law.rule == LAW and share <= 8 * _END else 1.0


def _refuted(catalog: Catalog, evidence: Evidence, law: OrderLaw, share: float) -> bool:
    """Whether the rows that a candidate has in the last `share` of its order are not those that were published so.

    Every sample has an equal chance to stand there, so a wrong candidate has rows of all steps in it, and the right one
    those of its last steps, which may be none. The first steps of an order cannot be had by themselves: they are what
    all the draws leave over (`order.shuffle.last_places`).
    """
    mine = np.flatnonzero(evidence.position < law.samples)
    values, row = np.unique(evidence.position[mine], return_inverse=True)
    bits = np.random.PCG64DXSM(law.seed + law.epoch)
    index = last_places(law.samples, bits, values, int(share * law.samples))[row]
    there = np.flatnonzero(index >= 0)
    return len(there) >= _FEWEST and not _promising(catalog, evidence.entry[mine[there]], index[there], law)


def _under(
    catalog: Catalog,
    evidence: Evidence,
    few: Evidence,
    law: OrderLaw,
    order: Positions,
    starts: NDArray[np.int64],
    likely: bool,
) -> Finding:
    """The best explanation under one seed and number of samples; `few` is some of the evidence."""
    findings = list(_by_steps(catalog, few, law, indices_of(order, few.position), WORLDS if likely else ()))
    if likely and _unexplained(findings):
        findings += by_parts(catalog, evidence, law, indices_of(order, evidence.position))
    found = _best(findings)
    if likely and (not found.believed or found.share < _NEARLY_ALL):
        found = _best([found, *shard_order_findings(catalog, evidence, law, order, starts, findings)])
    return found


def _other_numbers(catalog: Catalog, asked: OrderLaw, starts: NDArray[np.int64]) -> Iterator[OrderLaw]:
    """The asked law for other numbers of samples that the trainer may have had.

    One shard more or less; and where all steps of a run were published, as many as fill these and no further one.
    """
    if asked.rule != LAW:
        return  # another loader's order follows from the shards that are here
    sizes = np.unique(np.diff(starts)).tolist()
    numbers = [asked.samples + sign * size for size in sizes for sign in (-1, 1)]
    steps = int(catalog.step.max()) - int(catalog.step.min()) + 1
    if len(catalog) == steps:
        rows = catalog.total_rows
        batch = max(asked.batch, catalog.common_rows())
        numbers += range(rows, rows + batch)
    most = max(1, _WORK // (4 * asked.samples))
    for number in [n for n in dict.fromkeys(numbers) if n >= asked.batch and n != asked.samples][:most]:
        yield replace(asked, samples=number)


def default_seeds(asked: OrderLaw) -> tuple[int, ...]:
    """Candidates for seed + epoch, likely ones first: the asked one, its epochs, common ones."""
    first = asked.seed + asked.epoch
    return tuple(dict.fromkeys([first, *(asked.seed + e for e in range(EPOCHS)), *SEEDS, *range(_MANY_SEEDS)]))


def worth(asked: OrderLaw, spent: int = 0) -> int:
    """How many more candidates are shuffled as a whole, after so many, where nobody has a reason to choose them."""
    return max(0, _WORK // asked.samples - spent)


def _promising(catalog: Catalog, entry: NDArray[np.int64], index: NDArray[np.int64], law: OrderLaw) -> bool:
    """Whether steps in order, whichever is the first, explain some of the rows with these entries and indices."""
    step = index // min(catalog.common_rows(), law.samples)
    for number in (catalog.step[entry], entry):
        shift = np.sort(step - number)
        quarter = len(shift) // 4  # so many rows further on stands the same, if more than a quarter is the same
        if (shift[quarter:] == shift[: len(shift) - quarter]).any():
            return True
    return False


def _best(findings: list[Finding]) -> Finding:
    """The first of those that explain about as much as any, exact steps before exact rows before exact folders.

    Exact rows explain a run that was resumed, or that lacks a step, better than steps do: but it is no batch-size
    warm-up while its steps are regular.
    """
    believed = [f for f in findings if f.believed] or findings
    steps = [f for f in believed if f.explanation.exact == "steps"]
    regular = any(f.regular for f in believed)
    strict = (steps if regular else []) or [f for f in believed if f.explanation.exact != "folders"] or believed
    most = max(f.share for f in strict)
    return next(f for f in strict if f.share >= most - _ABOUT)


def _unexplained(findings: list[Finding]) -> bool:
    return not any(f.believed and f.share > 1 - _ABOUT for f in findings)


def _by_steps(
    catalog: Catalog, evidence: Evidence, law: OrderLaw, index: NDArray[np.int64], worlds: Sequence[int]
) -> Iterator[Finding]:
    """All explanations with the local shard order and exact steps."""
    rows = catalog.common_rows()
    step, file = catalog.step[evidence.entry], catalog.first_file()[evidence.entry]
    yield from _numbered(catalog, evidence, law, index, rows)
    for world in dict.fromkeys([law.batch // rows, *worlds]):
        batch = rows * world
        if world > 1 and batch <= law.samples:
            shift = _mode(evidence.row, index // batch - step)
            in_step = index // batch - step == shift
            ranks = ranks_of(catalog, file[in_step], index[in_step] % world)
            same = in_step & (index % world == ranks[file])
            one = (int(ranks[0]),) if len(set(ranks.tolist())) == 1 else tuple(ranks.tolist())
            # with a rank for each file, chance has as many tries in each
            expected = batch if len(one) > 1 else rows
            how = {"world": world, "ranks": one, **_numbering(catalog, shift)}
            yield _finding(evidence, same, expected, law, batch=batch, **how)
    if rows != law.batch:
        yield from _numbered(catalog, evidence, law, index, law.batch)


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
    found, changed = evidence.found, replace(law, batch=int(batch or rows))
    explanation = replace(Explanation(changed), **how)  # type: ignore[arg-type]
    return Finding(explanation, len(np.unique(evidence.row[explained])), found, found * min(1.0, rows / law.samples))
