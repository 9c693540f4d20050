"""Names what is wrong with the rows that do not agree.

A published row without a partner is, in the order in which it is tried:

    other_step       a known sample that the law has in another step, or in none (the tail that it drops)
    repeated         a known sample of this step that is there more often than the law has it
    truncated   masked   changed_tokens   chunk_borders   special_tokens        a known sample that was edited
    unread           perhaps a sample of this step that is missing from the local data
    unknown          nothing in the data resembles it

A sample without a partner is `missing`, unless one of these rows turned out to be it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor
from ettin_data.order.data import Data
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.edits import Edit, describe_edit
from ettin_data.order.proof.explanation import Explanation, Reading, Unit
from ettin_data.order.proof.jobs import Permutations, UnitResult
from ettin_data.order.proof.parts import indices_of
from ettin_data.order.proof.probe import locate
from ettin_data.order.proof.resemble import most_alike, most_alike_in_data
from ettin_data.order.proof.shard_order import law_positions_of
from ettin_data.order.published import read_rows
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

MAX_ROWS = 2000
"""Published rows, and samples, that are classified one by one; what is beyond is counted but not named."""

MAX_EDITED = 200
"""Rows that are looked for in the whole data by parts."""

MAX_SAMPLES = 50_000_000
"""Samples of the data that are searched, some five minutes of one core."""


_Indices = dict[int, dict[int, int]]
"""Epoch -> local position -> index in the permutation of that epoch."""


@dataclass(frozen=True)
class ClassifiedRow:
    """A published row without a partner, or (kind `missing`) a sample without one.

    Attributes:
        unit: where the row is, or where the law has the sample.
        kind: one of the names above. text: what is known, in a sentence.
        tokens: of the row; empty for a missing sample.
        position: the local sample that it is or resembles; None when none does.
        law_step: the step (from 1) in which the law has that sample; None when in none or not known.
    """

    unit: Unit
    kind: str
    text: str
    tokens: AnyTokens
    position: int | None = None
    law_step: int | None = None


@dataclass(frozen=True)
class Classification:
    """Classified rows in the order of the units.

    `searched` is the share of the data that was looked through. `edited`: rows that have a partner, which they are up
    to a loader's edits.
    """

    rows: tuple[ClassifiedRow, ...]
    searched: float
    edited: tuple[ClassifiedRow, ...] = ()


@dataclass
class Classifier:
    """What a classification needs to know of a verification."""

    catalog: Catalog
    explanation: Explanation
    data: Data
    store: Permutations
    reading: Reading
    workers: Executor | None = None
    progress: Progress = SILENT

    @property
    def _words(self) -> Vocabulary:
        return self.data.loader.vocabulary

    def _rows_of(self, file: int, wanted: NDArray[np.int64]) -> Iterator[tuple[int, AnyTokens]]:
        path = self.catalog.files[file].path
        return read_rows(self.catalog.root, path, wanted, self.data.dtype, self._words.pad)

    def classify(self, results: Sequence[UnitResult]) -> Classification:
        """Classify the rows and samples without partners of these results."""
        bad = [result for result in results if not result.agrees]
        edited = self._edited(results)
        if not bad:
            return Classification((), 1.0, edited)
        limit = max(1, MAX_ROWS // len(bad))
        samples = [(result.unit, position) for result in bad for position in result.positions[:limit]][:MAX_ROWS]
        shards, searched = self._shards_to_search()
        rows = self._read(bad, limit, searched)
        rows = self._find_known(rows, samples, shards)
        rows = self._find_edited(rows, samples, shards)
        unread = {result.unit for result in bad if result.unread}
        broken = {result.unit for result in bad if result.broken}  # whose rows may have been there
        rows = [self._perhaps_unread(row) if row.unit in unread else row for row in rows]
        taken, none = {row.position for row in rows}, np.zeros(0, self.data.dtype)
        rows += [
            ClassifiedRow(unit, "missing", "the law has this sample here, no row is it", none, position)
            for unit, position in samples
            if position not in taken and unit not in broken
        ]
        rows.sort(key=lambda row: (row.unit.first, row.kind == "missing"))
        return Classification(tuple(rows), searched, edited)

    def _edited(self, results: Sequence[UnitResult]) -> tuple[ClassifiedRow, ...]:
        """The first edited pairs, described."""
        pairs = [(*pair, result.unit) for result in results for pair in result.pairs][:MAX_EDITED]
        stored = dict(self.data.tokens(np.array([position for _, _, position, _ in pairs], np.int64)))
        files: dict[int, dict[int, int]] = {}
        for i, (file, row, _, _) in enumerate(pairs):
            files.setdefault(file, {})[row] = i
        found: dict[int, ClassifiedRow] = {}
        for file, numbers in files.items():
            wanted = np.array(list(numbers))
            for row, tokens in self._rows_of(file, wanted):
                i = numbers[row]
                edit = describe_edit(tokens, stored[i], self.reading.form) or Edit("special_tokens", "a loader's edits")
                found[i] = ClassifiedRow(pairs[i][3], edit.kind, edit.text, tokens.copy(), pairs[i][2])
        return tuple(found[i] for i in sorted(found))

    def _read(self, bad: Sequence[UnitResult], limit: int, searched: float) -> list[ClassifiedRow]:
        whole = "nothing in the data resembles it"
        text = whole if searched == 1 else f"nothing in the {searched:.1%} of the data that were searched resembles it"
        wanted: dict[int, dict[int, Unit]] = {}
        for result in bad[:MAX_ROWS]:
            for file, row in result.rows[:limit]:
                wanted.setdefault(file, {})[row] = result.unit
        rows = []
        for file, units in sorted(wanted.items()):
            numbers = np.array(list(units))
            for row, tokens in self._rows_of(file, numbers):
                rows.append(ClassifiedRow(units[row], "unknown", text, tokens.copy()))
        return rows

    def _shards_to_search(self) -> tuple[list[int], float]:
        here = np.flatnonzero(self.data.here)
        sizes = np.diff(self.data.reader.starts)
        order = here[np.argsort(draws(here.astype(np.uint64), "order classify"))]
        fits = int(np.searchsorted(np.cumsum(sizes[order]), MAX_SAMPLES, side="right")) + 1
        chosen = order[:fits]
        return chosen.tolist(), float(sizes[chosen].sum() / max(sizes.sum(), 1))

    def _find_known(
        self, rows: list[ClassifiedRow], samples: Sequence[tuple[Unit, int]], shards: Sequence[int]
    ) -> list[ClassifiedRow]:
        """Rows that are whole samples, of another place."""
        places = locate([row.tokens for row in rows], self.data, shards, self.reading, workers=self.workers)
        known = sorted({position for found in places for position in found})
        first, last = self.explanation.law.epoch, max([row.unit.epoch for row in rows], default=0)
        index = {epoch: self._law_indices(known, epoch) for epoch in range(first, last + 1)}
        of_unit = self._epochs_of_units(rows, places, index)
        missing = {(unit.epoch, position) for unit, position in samples}
        placed = []
        for row, found in zip(rows, places, strict=True):
            if found:
                row, epoch = self._place(row, found, index, of_unit[row.unit], missing)
                missing.discard((epoch, row.position or 0))  # a sample that is stored twice is found twice
            placed.append(row)
        return placed

    def _law_indices(self, positions: list[int], epoch: int) -> dict[int, int]:
        """Local position -> index in the permutation of that epoch, for those whose shard has a known place."""
        local = np.array(positions, np.int64)
        there = local
        if self.explanation.starts is not None:
            places = np.array(self.explanation.starts, np.int64)
            there = law_positions_of(local, self.data.reader.starts, places)
        there = np.where(there < self.explanation.law.samples, there, -1)
        ok = there >= 0
        order = np.load(self.store.path(self.explanation.law, epoch), mmap_mode="r")
        return dict(zip(local[ok].tolist(), indices_of(order, there[ok]).tolist(), strict=True))

    def _epochs_of_units(
        self, rows: Sequence[ClassifiedRow], places: Sequence[list[int]], index: _Indices
    ) -> dict[Unit, int]:
        """The epoch that the rows of each unit come from: the one that has several of them in one step, if any has."""
        steps: dict[Unit, Counter[tuple[int, int]]] = {row.unit: Counter() for row in rows}
        for row, positions in zip(rows, places, strict=True):
            for epoch, at in index.items():
                found = {at[p] // self.explanation.law.batch for p in positions if p in at}
                steps[row.unit].update((epoch, step) for step in found)
        epochs = {}
        for unit, counts in steps.items():
            (epoch, _), most = max(counts.items(), key=lambda item: item[1], default=((unit.epoch, 0), 0))
            epochs[unit] = epoch if most > 1 else unit.epoch
        return epochs

    def _place(
        self, row: ClassifiedRow, places: list[int], index: _Indices, likely: int, missing: set[tuple[int, int]]
    ) -> tuple[ClassifiedRow, int]:
        """A row that is a whole sample, with where the law has it, and in which epoch."""
        law, unit = self.explanation.law, row.unit

        def unlikely(candidate: tuple[int, int]) -> tuple[bool, bool, bool, int]:
            epoch, p = candidate
            inside = epoch == unit.epoch and unit.start <= index[epoch].get(p, -1) < unit.stop
            return candidate not in missing, not inside, epoch != likely, p

        epoch, best = min(((epoch, p) for epoch in index for p in places), key=unlikely)
        at = index[epoch].get(best)
        if at is None:
            text, step = "a sample of a shard whose place is not known", None
        elif at >= law.used:
            text, step = "a sample of the tail that fills no step and that the law drops", None
        else:
            step = at // law.batch + 1 + (epoch - law.epoch) * law.steps
            text = f"the law has it in {self.explanation.published_step(step)}"
            if epoch == unit.epoch and unit.start <= at < unit.stop:
                text = "a sample of this step, there more often than the law has it"
                return replace(row, kind="repeated", text=text, position=best, law_step=step), epoch
        return replace(row, kind="other_step", text=text, position=best, law_step=step), epoch

    def _find_edited(
        self, rows: list[ClassifiedRow], samples: Sequence[tuple[Unit, int]], shards: Sequence[int]
    ) -> list[ClassifiedRow]:
        """Rows that resemble a sample: of their own unit first, then of the data."""
        rows = list(rows)
        for unit in dict.fromkeys(row.unit for row in rows if row.kind == "unknown"):
            mine = [i for i, row in enumerate(rows) if row.kind == "unknown" and row.unit == unit]
            near = np.array([position for u, position in samples if u == unit], np.int64)
            stored = [(int(near[i]), tokens) for i, tokens in self.data.tokens(near)]
            best, _ = most_alike([rows[i].tokens for i in mine], stored, self._words)
            if len(mine) == len(stored) == 1:  # too short for n-grams, but nothing else is left
                best = np.array([position for position, _ in stored])
            self._describe(rows, mine, best)
        left = [i for i, row in enumerate(rows) if row.kind == "unknown"][:MAX_EDITED]
        if left:
            wanted = [rows[i].tokens for i in left]
            best, _ = most_alike_in_data(wanted, self.data, shards, workers=self.workers, progress=self.progress)
            self._describe(rows, left, best)
        return rows

    def _describe(self, rows: list[ClassifiedRow], numbers: Sequence[int], best: NDArray[np.int64]) -> None:
        known = np.flatnonzero(best >= 0)
        for i, stored in self.data.tokens(best[known]):
            number = numbers[known[i]]
            edit = describe_edit(rows[number].tokens, stored, self.reading.form)
            if edit is not None:
                position = int(best[known[i]])
                rows[number] = replace(rows[number], kind=edit.kind, text=edit.text, position=position)

    def _perhaps_unread(self, row: ClassifiedRow) -> ClassifiedRow:
        if row.kind != "unknown":
            return row
        return replace(row, kind="unread", text="perhaps a sample of this step that is not in the local data")
