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
from ettin_data.order.appended import AppendedLaw
from ettin_data.order.data import Data
from ettin_data.order.index import OrderIndex
from ettin_data.order.law import OrderLaw
from ettin_data.order.laws import Reading as LoaderReading
from ettin_data.order.laws import ReadOrder, law_named
from ettin_data.order.proof.catalog import read_catalog
from ettin_data.order.proof.classify import Classifier
from ettin_data.order.proof.compare import compare
from ettin_data.order.proof.explanation import Explanation, Reading, Unit, units_of
from ettin_data.order.proof.fitting import PROBE_UNITS, Fitter
from ettin_data.order.proof.infer import LIKELY, Inference, default_seeds, infer, worth
from ettin_data.order.proof.jobs import Compared, Permutations, jobs
from ettin_data.order.proof.loaders import infer_loader
from ettin_data.order.proof.look import look
from ettin_data.order.proof.masking import Masking
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.probe import Evidence, find_evidence
from ettin_data.order.proof.shard_order import shard_order_finding
from ettin_data.order.published import list_published
from ettin_data.storage.phase import ORDER

_NEARLY_ALL = 0.9  # share of agreeing rows below which another law is looked for
_BETTER = 0.05  # what it has to explain more than the asked one, if that explains half of them
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
        self.data = Data(request.data, request.cache, request.loader, request.shards, request.index, forgiving=True)
        self.catalog = read_catalog(request.published, list_published(request.published, request.phase))
        if len(self.catalog) == 0:
            raise OrderError("the published order has no rows", where=request.published)
        own = _own_law(self.data)
        batch = request.batch or (own.batch if own else self.catalog.common_rows())
        self.asked = OrderLaw(request.seed, request.epoch, request.samples or len(self.data), batch)
        if isinstance(own, AppendedLaw) and (self.asked.samples, batch) == (
            own.samples,
            own.batch,
        ):  # its stages say what was there when
            self.asked = replace(own, seed=request.seed, epoch=request.epoch)
        if request.law is not None:
            loader = law_named(request.law, batch)
            if not isinstance(loader, LoaderReading):
                raise OrderError(f"{loader.name} cannot be verified by this command", where="--law")
            self.asked = ReadOrder.of(loader, np.diff(self.data.reader.starts))
        self.store = Permutations(scratch)
        words = self.data.loader.vocabulary
        self.masking = Masking.of(look(self.catalog, words).masked, words.mask)
        self.fitter = Fitter(self.catalog, self.data, self.store, request.form, request.max_seq_len, self.masking)
        self.workers: Executor | None = None

    def run(self) -> Verification:
        begin = time.perf_counter()
        explanation = Explanation(self.asked)
        reading, share = self.fitter.fit(explanation)
        inference = None
        if share < _NEARLY_ALL and self.request.infer:
            inference = self._infer()
            best = inference.best
            if share >= 0.5 and (best is None or best.share < share + _BETTER):
                inference = None  # what is wrong is in the rows
            elif inference.believed:
                assert inference.best is not None
                explanation, found = inference.best.explanation, inference.evidence
                folders = explanation.exact == "folders"
                reading = self.fitter.fit_found(found) if folders else self.fitter.fit(explanation)[0]
        units = units_of(self.catalog, explanation)
        fits = inference is None or inference.believed
        chosen = self._sample(units) if fits else []
        compared = self._compare(chosen, explanation, reading, "comparing")
        if self.request.infer and compared.wrong >= _SUSPICIOUS:
            reordered = self._reorder(explanation, chosen, compared, reading)
            if reordered is not None:
                inference, compared = reordered
                assert inference.best is not None
                explanation = inference.best.explanation
        explanation, compared = self._padded(explanation, chosen, compared, reading)
        reading, compared = self._refit(explanation, chosen, compared, reading)
        classifier = Classifier(self.catalog, explanation, self.data, self.store, reading, self.workers, self.progress)
        return Verification(
            request=self.request,
            catalog=self.catalog,
            data=self.data,
            asked=self.asked,
            explanation=explanation,
            inference=inference,
            reading=reading,
            told_apart=self.fitter.sound(reading.cut),
            units=len(units),
            checked=tuple(compared.results),
            look=look(self.catalog, self.data.loader.vocabulary, self.data) if inference is not None else None,
            forms=(compared.samples, compared.rows),
            damage=compared.damage,
            broken=compared.shards,
            classification=classifier.classify(compared.results),
            seconds=time.perf_counter() - begin,
        )

    def _reorder(
        self, explanation: Explanation, units: Sequence[Unit], compared: Compared, reading: Reading
    ) -> tuple[Inference, Compared] | None:
        """Compare the units again in another shard order, if one explains most of the rows that do not agree.

        A few shards that changed places leave most rows as they were, so the law itself still fits.
        """
        if explanation.exact != "steps" or explanation.starts:
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
        again = self._compare(units, finding.explanation, reading, "comparing again")
        gained = sum(r.matched for r in again.results) - sum(r.matched for r in compared.results)
        if gained < compared.wrong / 2:
            return None
        return Inference(finding, evidence, (law.seed + law.epoch,)), again

    def _padded(
        self, explanation: Explanation, units: Sequence[Unit], compared: Compared, reading: Reading
    ) -> tuple[Explanation, Compared]:
        """Compare again as if the sampler had filled up the last step of an epoch, if that step is there and wrong."""
        law = explanation.law
        beyond = [r for r in compared.results if r.unit.epoch > law.epoch and not r.unit.tail and not r.agrees]
        if explanation.exact != "steps" or not beyond or law.samples == law.used:
            return explanation, compared
        padded = replace(explanation, padded=True)
        wanted = {unit.first for unit in units}
        again = self._compare(
            [u for u in units_of(self.catalog, padded) if u.first in wanted], padded, reading, "comparing again"
        )
        better = sum(r.matched for r in again.results) > sum(r.matched for r in compared.results)
        return (padded, again) if better else (explanation, compared)

    def _refit(
        self, explanation: Explanation, units: Sequence[Unit], found: Compared, reading: Reading
    ) -> tuple[Reading, Compared]:
        """Compare again in another form, if the first units had no row that could show which form it is."""
        odd = [r.unit for r in found.results if (r.edited or not r.agrees) and r.unit.stop and not r.unit.tail]
        if not odd or self.request.form is not None:
            return reading, found
        other, _ = self.fitter.fit(explanation, odd[:PROBE_UNITS])
        if other.form == reading.form:
            return reading, found
        again = self._compare(units, explanation, other, "comparing again")
        better = sum(r.equal + r.masked for r in again.results) > sum(r.equal + r.masked for r in found.results)
        return (other, again) if better else (reading, found)

    def _evidence(self, everything: bool = False) -> Evidence:
        return find_evidence(
            self.catalog,
            self.data,
            self.fitter.sound,
            self.masking,
            everything=everything,
            workers=self.workers,
            progress=self.progress,
        )

    def _compare(self, units: Sequence[Unit], explanation: Explanation, reading: Reading, title: str) -> Compared:
        work = jobs(self.catalog, units, explanation, self.data, self.store, reading)
        tasks = [Task(", ".join(job.paths.values()), job, job.rows) for job in work]
        return Compared.together(perform(compare, tasks, self.workers, self.progress, title=title))

    def _infer(self) -> Inference:
        starts = self.data.reader.starts
        evidence = self._evidence()
        # Other loaders come before the many seeds that nobody has a reason to choose.
        named, asked = self.request.seeds, self.asked
        candidates = named or default_seeds(asked)
        seeds = candidates if named else candidates[:LIKELY]
        inference = infer(self.catalog, evidence, asked, starts, seeds=seeds, named=bool(named), progress=self.progress)
        if not inference.believed:
            inference = infer_loader(self.catalog, inference, asked, starts, self.progress)
        rest = () if 2 * self.catalog.common_rows() > asked.samples else candidates[len(seeds) :]
        if not inference.believed and rest and self.request.law is None:  # steps of half the data fit many seeds
            whole = worth(asked, len(inference.seeds))
            many = infer(
                self.catalog, evidence, asked, starts, seeds=rest, whole=whole, likely=False, progress=self.progress
            )
            inference = inference.and_then(many)
        best = inference.best
        placed = best is not None and (best.explanation.starts or best.explanation.spans)
        if best is not None and best.believed and placed and evidence.shards_read < len(starts) - 1:
            # every shard, or every part of the publication, has to be placed, so all rows are needed
            evidence = self._evidence(everything=True)
            law = replace(best.explanation.law, batch=self.asked.batch)
            inference = infer(self.catalog, evidence, law, starts, seeds=(law.seed + law.epoch,))
        return inference

    def _sample(self, units: Sequence[Unit]) -> list[Unit]:
        if self.request.sample >= 1:
            return list(units)
        keys = draws(np.arange(len(units), dtype=np.uint64), "order verify sample", self.request.seed)
        count = max(1, round(len(units) * self.request.sample))
        return [units[i] for i in np.sort(np.argsort(keys)[:count])]


def _own_law(data: Data) -> OrderLaw | None:
    """The law of the index that stands in `order/` beside a data folder, if it is of these samples."""
    try:
        law = OrderIndex.open(data.reader.folder.parent / ORDER).law
    except OrderError:
        return None
    return law if law.samples == len(data) else None


def _same_order(places: tuple[int, ...] | None, starts: NDArray[np.int64]) -> bool:
    """Whether no shard was found at another place than the local one."""
    found = np.array(places, np.int64)
    return bool(((found < 0) | (found == starts[:-1])).all())
