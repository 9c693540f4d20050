"""Runs of published steps that hold runs of the law's steps: what a restart, a skip or a repeated step leaves behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ettin_data.order.catalog import Catalog
from ettin_data.order.classify import ClassifiedRow
from ettin_data.order.compare import UnitResult
from ettin_data.order.explanation import Explanation


@dataclass(frozen=True)
class Segment:
    """Entries `first` to `last` of the catalog (both included) hold the law's steps from `law_step` (from 1) on.

    `moved`: they are not the steps that the explanation puts there.
    """

    first: int
    last: int
    law_step: int
    moved: bool

    @property
    def law_last(self) -> int:
        return self.law_step + self.last - self.first


def find_segments(
    results: Sequence[UnitResult], rows: Sequence[ClassifiedRow], explanation: Explanation
) -> list[Segment]:
    """The segments of the steps that were compared; a step in which anything is left agrees, or moved as a whole."""
    if explanation.exact != "steps":
        return []
    targets: dict[int, set[int | None]] = defaultdict(set)
    for row in rows:
        if row.kind != "missing":
            targets[row.unit.first].add(row.law_step if row.kind == "other_step" else None)
    segments: list[Segment] = []
    for result in results:
        entry, moved = result.unit.first, False
        if result.equal or result.edited or result.unread:
            step = result.unit.start // explanation.law.batch + 1
        elif len(targets[entry]) == 1 and (only := next(iter(targets[entry]))) is not None:
            step, moved = only, True
        else:
            continue
        if segments and segments[-1].moved == moved and step - segments[-1].law_last == entry - segments[-1].last:
            segments[-1] = Segment(segments[-1].first, entry, segments[-1].law_step, moved)
        else:
            segments.append(Segment(entry, entry, step, moved))
    return segments


def joints(segments: Sequence[Segment], catalog: Catalog, explanation: Explanation) -> list[str]:
    """In words, what happened between one segment and the next."""
    found = []
    for before, after in zip(segments, segments[1:], strict=False):
        name, jump = catalog.name(after.first), after.law_step - before.law_last - 1
        own = f"the law's step {after.law_step:,}"
        if jump < 0:
            what = f"step {after.law_step:,}" if jump == -1 else f"steps {after.law_step:,} to {before.law_last:,}"
            found.append(f"{name} repeats {own}: {what} of the law {'is' if jump == -1 else 'are'} there twice")
        elif jump > 0:
            found.append(f"{name} goes on with {own}: {jump:,} steps of the law are skipped")
    return found
