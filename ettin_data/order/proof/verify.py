"""Verifies a published batch order against data: proves a law step by step, or finds the one that explains it.

1. The published steps are catalogued, and some of them compared under the law that was asked for.
2. If they do not fit, an explanation is inferred from where their rows are in the data.
3. All units (or a keyed sample) are compared under that law or explanation, in parallel, streaming the parquet.
4. What does not agree is classified and named.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws
from ettin_data.base.errors import OrderError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor, Task, open_workers, perform
from ettin_data.order.data import Data
from ettin_data.order.index import OrderIndex
from ettin_data.order.law import OrderLaw
from ettin_data.order.loader_edits import UNCUT, Form, FormKind
from ettin_data.order.proof.catalog import read_catalog
from ettin_data.order.proof.classify import Classifier
from ettin_data.order.proof.compare import Permutations, UnitResult, compare, jobs, local_positions
from ettin_data.order.proof.explanation import Explanation, Unit, units_of
from ettin_data.order.proof.infer import Inference, infer
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.probe import Evidence, find_evidence
from ettin_data.order.proof.shard_order import shard_order_finding
from ettin_data.order.published import iter_rows, list_published
from ettin_data.storage.phase import ORDER

_PROBE_ROWS = 2000
_PROBE_UNITS = 32
_SUSPICIOUS = 3  # rows that do not agree from which on another shard order is considered


def verify_order(request: Request, progress: Progress = SILENT) -> Verification:
    """Verify a publication.

    Raises `OrderError` when there is nothing to compare. Differences are not errors: they are in the result.
    """
    with tempfile.TemporaryDirectory(prefix="ettin-order-", dir=request.scratch) as scratch:
        verifier = _Verifier(request, Path(scratch), progress)
        with open_workers(request.options) as verifier.workers:
            return verifier.run()


class _Verifier:
    def __init__(self, request: Request, scratch: Path, progress: Progress) -> None:
        self.request, self.progress = request, progress
        if not 0 < request.sample <= 1:
            raise OrderError(f"a sample of {request.sample:g} cannot be taken", why="it is a share, such as 1%")
        self.data = Data(request.data, request.cache, request.loader)
        self.catalog = read_catalog(request.published, list_published(request.published, request.phase))
        if len(self.catalog) == 0:
            raise OrderError("the published order has no rows", where=request.published)
        batch = request.batch or _own_batch(self.data) or self.catalog.common_rows()
        self.asked = OrderLaw(request.seed, request.epoch, len(self.data), batch)
        self.store = Permutations(scratch)
        self.workers: Executor | None = None

    def run(self) -> Verification:
        begin = time.perf_counter()
        explanation = Explanation(self.asked)
        form, max_length, share = self._fit(explanation)
        inference = None
        if share < 0.5 and self.request.infer:
            inference = self._infer()
            if inference.believed:
                assert inference.best is not None
                explanation = inference.best.explanation
                form, max_length, _ = self._fit(explanation)
        units = units_of(self.catalog, explanation)
        fits = inference is None or inference.believed
        chosen = self._sample(units) if fits else []
        checked = self._compare(chosen, explanation, form, max_length, "comparing")
        if self.request.infer and _wrong(checked) >= _SUSPICIOUS:
            reordered = self._reorder(explanation, chosen, checked, form, max_length)
            if reordered is not None:
                inference, checked = reordered
                assert inference.best is not None
                explanation = inference.best.explanation
        form, max_length, checked = self._refit(explanation, chosen, checked, form, max_length)
        classifier = Classifier(
            self.catalog,
            explanation,
            self.data,
            self.store,
            form,
            max_length,
            self.workers,
            self.progress,
        )
        return Verification(
            request=self.request,
            catalog=self.catalog,
            data=self.data,
            asked=self.asked,
            explanation=explanation,
            inference=inference,
            form=form,
            max_length=max_length,
            units=len(units),
            checked=tuple(checked),
            classification=classifier.classify(checked),
            seconds=time.perf_counter() - begin,
        )

    def _reorder(
        self,
        explanation: Explanation,
        units: Sequence[Unit],
        checked: Sequence[UnitResult],
        form: Form,
        max_length: int | None,
    ) -> tuple[Inference, list[UnitResult]] | None:
        """Compare the units again in another shard order, if one explains most of the rows that do not agree.

        A few shards that changed places leave most rows as they were, so the law itself still fits.
        """
        if explanation.exact != "steps" or explanation.rank or explanation.starts:
            return None
        law, starts = explanation.law, self.data.reader.starts
        order = np.load(self.store.path(law, law.epoch), mmap_mode="r")
        evidence = self._evidence()
        finding = shard_order_finding(self.catalog, evidence, explanation, order, starts)
        if _same_order(finding.explanation.starts, starts) and evidence.shards_read == self.data.here.sum():
            return None
        if evidence.shards_read < self.data.here.sum():
            evidence = self._evidence(everything=True)
            finding = shard_order_finding(self.catalog, evidence, explanation, order, starts)
        if not finding.believed or _same_order(finding.explanation.starts, starts):
            return None
        again = self._compare(units, finding.explanation, form, max_length, "comparing again")
        gained = sum(r.equal + r.edited for r in again) - sum(r.equal + r.edited for r in checked)
        if gained < _wrong(checked) / 2:
            return None
        return Inference(finding, evidence, (law.seed + law.epoch,)), again

    def _refit(
        self,
        explanation: Explanation,
        units: Sequence[Unit],
        checked: list[UnitResult],
        form: Form,
        max_length: int | None,
    ) -> tuple[Form, int | None, list[UnitResult]]:
        """Compare again in another form, if the first units had no row that could show which form it is."""
        odd = [r.unit for r in checked if (r.edited or not r.agrees) and r.unit.stop and not r.unit.tail]
        if not odd or self.request.form is not None:
            return form, max_length, checked
        other, cut, _ = self._fit(explanation, odd[:_PROBE_UNITS])
        if other == form:
            return form, max_length, checked
        again = self._compare(units, explanation, other, cut, "comparing again")
        better = sum(r.equal for r in again) > sum(r.equal for r in checked)
        return (other, cut, again) if better else (form, max_length, checked)

    def _evidence(self, everything: bool = False) -> Evidence:
        return find_evidence(
            self.catalog, self.data, everything=everything, workers=self.workers, progress=self.progress
        )

    def _compare(
        self, units: Sequence[Unit], explanation: Explanation, form: Form, max_length: int | None, title: str = ""
    ) -> list[UnitResult]:
        """The results of some units; without a title these are a few, looked at here to see whether they fit."""
        work = jobs(self.catalog, units, explanation, self.data, self.store, form, max_length)
        tasks = [Task(", ".join(job.paths.values()), job, job.rows) for job in work]
        where = (self.workers, self.progress) if title else (None, SILENT)
        found = perform(compare, tasks, *where, title=title)
        return sorted((result for results in found for result in results), key=lambda r: r.unit.first)

    def _fit(self, explanation: Explanation, units: Sequence[Unit] | None = None) -> tuple[Form, int | None, float]:
        """The form of the rows, where they were cut, and the share of some units' rows that agree in it."""
        whole = units is None
        units = units_of(self.catalog, explanation) if units is None else units
        units = [unit for unit in units if not unit.tail and unit.stop]
        if whole and units and self.request.form in (None, "stored"):
            stored = self._form("stored", self.request.max_seq_len)
            two = self._compare([units[len(units) // 2], units[-1]], explanation, stored, self.request.max_seq_len)
            if all(result.equal == result.law == result.published for result in two):  # the usual case
                return stored, self.request.max_seq_len, 1.0
        few = [units[i] for i in np.unique(np.linspace(0, len(units) - 1, _PROBE_UNITS).astype(int))] if units else []
        rows, taken = 0, []
        for unit in few[::2] + few[1::2]:
            taken.append(unit)
            rows += unit.stop - unit.start
            if rows > _PROBE_ROWS and len(taken) >= 3:
                break
        if not taken:
            return self._form(self.request.form or "stored", None), self.request.max_seq_len, 0.0
        longest = self.request.max_seq_len
        best: tuple[Form, int | None, float, float] | None = None
        asked = self.request.form
        kinds: tuple[FormKind, ...] = (asked,) if asked else ("stored", "encoder", "decoder")
        for kind in kinds:
            if kind != "stored" and longest is None:
                longest = self._cut_at(taken, explanation)
            cut = self.request.max_seq_len if kind == "stored" else longest
            form = self._form(kind, longest)
            results = self._compare(taken, explanation, form, cut)
            judged = sum(max(r.published, r.law) - r.unread for r in results)
            if judged == 0:  # nothing of these is here to be judged by
                return form, cut, 1.0
            equal = sum(r.equal for r in results) / judged
            share = equal + sum(r.edited for r in results) / judged
            if best is None or (equal, share) > (best[3], best[2]):
                best = (form, cut, share, equal)
            if equal == 1.0:
                break
        assert best is not None
        return best[:3]

    def _form(self, kind: FormKind, max_seq_len: int | None) -> Form:
        return Form(kind, replace(self.data.loader, max_seq_len=max_seq_len or UNCUT))

    def _cut_at(self, units: Sequence[Unit], explanation: Explanation) -> int | None:
        """The length of the longest row of these units, if some of their samples are longer: a loader cut them."""
        longest = 2
        for unit in units:
            for entry in range(unit.first, unit.last + 1):
                for file, first, count in self.catalog.pieces[entry]:
                    path = self.catalog.files[file].path
                    pad = self.data.loader.vocabulary.pad
                    for rows in iter_rows(self.catalog.root, path, self.data.dtype, pad, first, first + count):
                        longest = max(longest, int((rows.ends - rows.starts).max()))
        order = np.load(self.store.path(explanation.law, explanation.law.epoch), mmap_mode="r")
        uncut = self._form("decoder", None)
        starts = None if explanation.starts is None else np.array(explanation.starts, np.int64)
        for unit in units:
            positions = local_positions(order[unit.indices(len(self.data))].astype(np.int64), starts, self.data)
            if any(len(uncut.apply(tokens)) > longest for _, tokens in self.data.tokens(positions[positions >= 0])):
                return longest
        return None

    def _infer(self) -> Inference:
        starts = self.data.reader.starts
        evidence = self._evidence()
        inference = infer(self.catalog, evidence, self.asked, starts, seeds=self.request.seeds, progress=self.progress)
        best = inference.best
        if best is not None and best.believed and best.explanation.starts and evidence.shards_read < len(starts) - 1:
            # every shard has to be placed, so rows of every shard are needed
            evidence = self._evidence(everything=True)
            law = best.explanation.law
            inference = infer(self.catalog, evidence, self.asked, starts, seeds=(law.seed + law.epoch,))
        return inference

    def _sample(self, units: Sequence[Unit]) -> list[Unit]:
        if self.request.sample >= 1:
            return list(units)
        keys = draws(np.arange(len(units), dtype=np.uint64), "order verify sample", self.request.seed)
        count = max(1, round(len(units) * self.request.sample))
        return [units[i] for i in np.sort(np.argsort(keys)[:count])]


def _own_batch(data: Data) -> int | None:
    """The batch of the index that stands in `order/` beside a data folder, if it is of these samples."""
    try:
        law = OrderIndex.open(data.reader.folder.parent / ORDER).law
    except OrderError:
        return None
    return law.batch if law.samples == len(data) else None


def _wrong(checked: Sequence[UnitResult]) -> int:
    return sum(max(result.surplus, result.missing) for result in checked)


def _same_order(places: tuple[int, ...] | None, starts: NDArray[np.int64]) -> bool:
    """Whether no shard was found at another place than the local one."""
    found = np.array(places, np.int64)
    return bool(((found < 0) | (found == starts[:-1])).all())
