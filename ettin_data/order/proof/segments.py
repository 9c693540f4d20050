"""Runs of published steps that hold runs of the law's steps: what a restart, a skip or a repeat leaves behind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.classify import ClassifiedRow
from ettin_data.order.proof.explanation import Deviation, Explanation, parts_of
from ettin_data.order.proof.jobs import UnitResult

_SHOWN = 6


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
    """The segments of the compared steps: steps that mostly agree, and steps with mostly the rows of another."""
    if explanation.exact != "steps":
        return []
    targets: dict[int, Counter[int | None]] = defaultdict(Counter)
    for row in rows:
        if row.kind != "missing":
            targets[row.unit.first][row.law_step if row.kind == "other_step" else None] += 1
    law = explanation.law
    segments: list[Segment] = []
    for result in results:
        entry, moved = result.unit.first, False
        (target, count), *_ = targets[entry].most_common(1) or [(None, 0)]
        if 2 * (result.matched + result.unread) >= result.published:
            step = result.unit.start // law.batch + 1 + (result.unit.epoch - law.epoch) * law.steps
        elif target is not None and 2 * count > targets[entry].total() and 2 * result.published >= law.batch:
            step, moved = target, True
        else:
            continue
        if segments and segments[-1].moved == moved and step - segments[-1].law_last == entry - segments[-1].last:
            segments[-1] = Segment(segments[-1].first, entry, segments[-1].law_step, moved)
        else:
            segments.append(Segment(entry, entry, step, moved))
    return segments


def describe_segments(segments: Sequence[Segment], catalog: Catalog) -> list[Deviation]:
    """In words, when steps moved: which hold which, and which steps of the law are there twice or passed over."""
    if not any(segment.moved for segment in segments):
        return []
    shown = [f"{_span(catalog, s.first, s.last)} {_holds(s)}" for s in segments[:_SHOWN]]
    if len(segments) > _SHOWN:
        shown.append(f"and {len(segments) - _SHOWN} more such runs")
    found = [Deviation("steps_moved", "; ".join(shown))]
    counts = Counter(step for s in segments for step in range(s.law_step, s.law_last + 1))
    twice = _runs(s for s, n in counts.items() if n > 1)
    found += [Deviation("step_repeated", f"{text} of the law there more than once") for text in twice]
    passed = (
        step
        for a, b in pairwise(segments)
        if b.first == a.last + 1 and catalog.step[b.first] == catalog.step[a.last] + 1
        for step in range(a.law_last + 1, b.law_step)
        if step not in counts
    )
    return found + [Deviation("step_passed_over", f"{text} of the law passed over") for text in _runs(passed)]


AMISS = ("rows_repeated", "rows_passed_over")
"""Deviations with which a publication differs, although each of its parts agrees by itself."""


def describe_spans(explanation: Explanation, catalog: Catalog) -> list[Deviation]:
    """In words, where the parts of a publication whose steps are not the law's do not follow each other.

    Behind steps or folders that are not here, rows are expected to be lacking: that is no mistake.
    """
    firsts, _ = parts_of(catalog, explanation.exact)
    spans, found = explanation.spans, list[Deviation]()
    if explanation.exact == "steps" or not spans:
        return []
    if spans[0][0]:
        found.append(Deviation("offset", f"the first published row is row {spans[0][0] + 1:,} of the order"))
    end, breaks = spans[0][1], list[Deviation]()
    for i, (begin, stop) in enumerate(spans[1:], start=1):
        entry, name = int(firsts[i]), catalog.name(int(firsts[i]))
        if begin < end:
            text = f"rows {begin + 1:,} to {min(end, stop):,} of the order are there again from {name} on"
            breaks.append(Deviation("rows_repeated", text))
        elif begin > end and not _lacks(catalog, entry):
            text = f"rows {end + 1:,} to {begin:,} of the order are passed over before {name}"
            breaks.append(Deviation("rows_passed_over", text))
        end = max(end, stop) if begin <= end else stop
    return found + breaks[:_SHOWN]


def _lacks(catalog: Catalog, entry: int) -> bool:
    """Whether step or folder numbers are lacking before an entry."""
    if catalog.step[entry] - catalog.step[entry - 1] > 1:
        return True
    a, b = (catalog.folders[catalog.folder[e]].rpartition("_")[2] for e in (entry - 1, entry))
    return a.isdigit() and b.isdigit() and int(b) - int(a) > 1


def _span(catalog: Catalog, first: int, last: int) -> str:
    return catalog.name(first) if first == last else f"{catalog.name(first)} to {catalog.name(last)}"


def _holds(segment: Segment) -> str:
    if segment.first == segment.last:
        return f"holds step {segment.law_step:,} of the law"
    return f"hold steps {segment.law_step:,} to {segment.law_last:,} of the law"


def _runs(steps: Iterable[int]) -> list[str]:
    """Rising steps as "step 7 is" and "steps 9 to 12 are"."""
    runs: list[list[int]] = []
    for step in sorted(set(steps)):
        if runs and step == runs[-1][1] + 1:
            runs[-1][1] = step
        else:
            runs.append([step, step])
    return [f"step {a:,} is" if a == b else f"steps {a:,} to {b:,} are" for a, b in runs[:_SHOWN]]
