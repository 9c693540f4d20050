"""Finds out how the published rows were made from the samples that an explanation puts there: form and cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ettin_data.base.draws import draws
from ettin_data.executor import Task, perform
from ettin_data.order.data import Data, fingerprint
from ettin_data.order.loader_edits import UNCUT, Form, FormKind
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.compare import compare
from ettin_data.order.proof.explanation import Explanation, Reading, Unit, units_of
from ettin_data.order.proof.jobs import Compared, Permutations, jobs, local_positions, merged
from ettin_data.order.proof.masking import Masking, Tokens, compare_pairs
from ettin_data.order.proof.probe import Evidence
from ettin_data.order.published import iter_rows, read_rows
from ettin_data.tokenizer.vocabulary import AnyTokens

PROBE_UNITS = 32
_PROBE_ROWS = 2000
_SHORTEST_CUT = 10
"""Tokens, framing included, below which no loader cuts."""
_DISTINCT = 0.95  # share of different samples that must still be different when cut
_SAMPLES, _SHARDS = 2000, 16  # of the data, in which samples are told apart


@dataclass
class Fitter:
    """What it takes to fit: both sides, and what the user said about the rows (None: find it out).

    `masking`: how the rows look as if they were masked; None when they do not.
    """

    catalog: Catalog
    data: Data
    store: Permutations
    kind: FormKind | None
    cut: int | None
    masking: Masking | None

    def fit(self, explanation: Explanation, units: Sequence[Unit] | None = None) -> tuple[Reading, float]:
        """The reading of some units' rows that fits best, and the share of the rows that agree in it.

        Rows of units in which nothing is expected, since their step is none of the law or is there again, do not agree.

        Args:
            units: to look at; None takes some of all.
        """
        whole = units is None
        units = units_of(self.catalog, explanation) if units is None else units
        rows = self.catalog.rows
        units, published = [unit for unit in units if not unit.tail and unit.stop], units
        expected = sum(int(rows[u.first]) for u in units) / max(sum(int(rows[u.first]) for u in published), 1)
        plain = self._reading("stored", self.cut)
        if not units:
            return self._reading(self.kind or "stored", self.cut), 0.0
        if whole and self.kind in (None, "stored"):
            two = self._compare([units[len(units) // 2], units[-1]], explanation, plain).results
            if all(result.equal == result.law == result.published for result in two):  # the usual case
                return plain, expected
        taken = _some(units)
        kinds: tuple[FormKind, ...] = (self.kind,) if self.kind else ("stored", "encoder", "decoder")
        best: tuple[float, float, Reading] | None = None
        cut = self.cut
        for kind in kinds:
            if kind != "stored" and cut is None:
                cut = self._cut_at(taken, explanation)
            for reading in self._readings(kind, cut if kind != "stored" else self.cut):
                results = self._compare(taken, explanation, reading).results
                judged = sum(max(r.published, r.law - r.broken) - r.unread for r in results)
                if judged == 0:  # nothing of these is here to be judged by
                    return reading, expected
                equal = sum(r.equal + r.masked for r in results) / judged
                share = equal + sum(r.edited for r in results) / judged
                if best is None or (equal, share) > best[:2]:
                    best = equal, share, reading
                if equal == 1.0:
                    return reading, expected
        assert best is not None
        return best[2], best[1] * expected

    def fit_found(self, evidence: Evidence) -> Reading:
        """The reading in which most of some rows are the samples that they were found to be.

        For units so large that comparing a few of them is comparing nearly all.
        """
        some = evidence.thinned(_PROBE_ROWS)
        rows, samples = self._found(some)
        longest, cut = max(map(len, rows), default=2), self.cut
        kinds: tuple[FormKind, ...] = (self.kind,) if self.kind else ("stored", "encoder", "decoder")
        readings = list[Reading]()
        for kind in kinds:
            if kind != "stored" and cut is None:
                uncut = self._reading(kind, None).form
                cut = longest if any(len(uncut.apply(each)) > longest for each in samples) else None
                cut = cut if self.sound(cut) else None
            readings += self._readings(kind, cut if kind != "stored" else self.cut)
        return max(readings, key=lambda reading: _fits(reading, rows, samples))

    def _found(self, evidence: Evidence) -> tuple[list[AnyTokens], list[AnyTokens]]:
        """Rows and the samples that they are."""
        _, first = np.unique(evidence.row, return_index=True)  # one place of each
        files, numbers = self.catalog.rows_at(evidence.entry[first], evidence.place[first])
        pad, found = self.data.loader.vocabulary.pad, dict[int, AnyTokens]()
        for file in np.unique(files).tolist():
            mine = np.flatnonzero(files == file)
            which = dict(zip(numbers[mine].tolist(), mine.tolist(), strict=True))
            path = self.catalog.files[file].path
            for row, tokens in read_rows(self.catalog.root, path, numbers[mine], self.data.dtype, pad):
                found[which[row]] = tokens.copy()
        samples = dict(self.data.tokens(evidence.position[first]))
        both = sorted(found.keys() & samples.keys())
        return [found[i] for i in both], [samples[i] for i in both]

    def sound(self, cut: int | None) -> bool:
        """Whether samples that were cut at so many tokens can still be told apart."""
        if cut is None:
            return True
        if cut < _SHORTEST_CUT:
            return False
        words, limits = self.data.loader.vocabulary, (None, cut)
        whole, short = (len({fingerprint(tokens, words, limit) for tokens in self._samples}) for limit in limits)
        return short >= _DISTINCT * whole

    @cached_property
    def _samples(self) -> list[AnyTokens]:
        """Some samples, out of a few shards."""
        here = np.flatnonzero(self.data.here)
        shards = here[np.argsort(draws(here.astype(np.uint64), "order told apart"))[:_SHARDS]]
        starts, found = self.data.reader.starts, []
        for shard in shards.tolist():
            size = int(starts[shard + 1] - starts[shard])
            rows = np.unique(np.linspace(0, size - 1, min(size, _SAMPLES // len(shards))).astype(np.int64))
            found += [tokens.copy() for _, tokens in self.data.tokens(starts[shard] + rows)]
        return found

    def _reading(self, kind: FormKind, cut: int | None) -> Reading:
        return Reading(Form(kind, replace(self.data.loader, max_seq_len=cut or UNCUT)), cut)

    def _readings(self, kind: FormKind, cut: int | None) -> list[Reading]:
        plain = self._reading(kind, cut)
        return [replace(plain, masking=self.masking)] if self.masking else [plain]

    def _compare(self, units: Sequence[Unit], explanation: Explanation, reading: Reading) -> Compared:
        """The results of a few units, here."""
        work = jobs(self.catalog, units, explanation, self.data, self.store, reading)
        return Compared.together(perform(compare, [Task("", job, job.rows) for job in work], None))

    def _cut_at(self, units: Sequence[Unit], explanation: Explanation) -> int | None:
        """The length of the longest row of these units, if some of their samples are longer: a loader cut them.

        None too when samples that are cut there are no longer different: then everything would agree with everything.
        """
        longest, pad = 2, self.data.loader.vocabulary.pad
        pieces = np.concatenate([self.catalog.pieces(unit.first, unit.last) for unit in units])
        for file in np.unique(pieces[:, 0]).tolist():
            # A folder has a piece for each of its steps: read one by one they would cost their row group each time.
            firsts, counts = pieces[pieces[:, 0] == file][:, 1:].T
            order = np.argsort(firsts, kind="stable")
            for begin, end in merged(firsts[order], (firsts + counts)[order]):
                path = self.catalog.files[file].path
                for rows in iter_rows(self.catalog.root, path, self.data.dtype, pad, begin, end):
                    longest = max(longest, int((rows.ends - rows.starts).max()))
        law_order = np.load(self.store.path(explanation.law, explanation.law.epoch), mmap_mode="r")
        uncut = self._reading("decoder", None).form
        starts = None if explanation.starts is None else np.array(explanation.starts, np.int64)
        for unit in units:
            positions = local_positions(law_order[unit.indices(len(law_order))].astype(np.int64), starts, self.data)
            if any(len(uncut.apply(tokens)) > longest for _, tokens in self.data.tokens(positions[positions >= 0])):
                return longest if self.sound(longest) else None
        return None


def _fits(reading: Reading, rows: list[AnyTokens], samples: list[AnyTokens]) -> int:
    """How many of these rows are their samples in that reading."""
    made = [reading.form.apply(each) for each in samples]
    if reading.masking is None:
        return sum(map(np.array_equal, rows, made))
    numbers = np.arange(len(rows))
    return len(compare_pairs(Tokens.of(rows), Tokens.of(made), (numbers, numbers), reading.masking).rows)


def _some(units: Sequence[Unit]) -> list[Unit]:
    """Units from all over a publication, some thousands of rows of them."""
    few = [units[i] for i in np.unique(np.linspace(0, len(units) - 1, PROBE_UNITS).astype(int))]
    rows, taken = 0, []
    for unit in few[::2] + few[1::2]:
        taken.append(unit)
        rows += unit.stop - unit.start
        if rows > _PROBE_ROWS and len(taken) >= 3:
            break
    return taken
