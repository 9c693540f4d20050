"""Verifies a published batch order against data: proves a law step by step, or finds the one that explains it.

1. The published steps are catalogued, and some of them compared under the law that was asked for.
2. If they do not fit, an explanation is inferred from where their rows are in the data.
3. All units (or a keyed sample) are compared under that law or explanation, in parallel, streaming the parquet.
4. What does not agree is classified and named.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ettin_data.errors import OrderError
from ettin_data.keyed import draws
from ettin_data.loader_edits import UNCUT, Form, FormKind, as_seen
from ettin_data.order.catalog import Catalog, read_catalog
from ettin_data.order.classify import Classification, Classifier
from ettin_data.order.compare import Permutations, UnitResult, compare, jobs, local_positions
from ettin_data.order.data import Data
from ettin_data.order.explanation import Explanation, Unit, plan
from ettin_data.order.infer import Inference, infer
from ettin_data.order.law import OrderLaw
from ettin_data.order.probe import find_evidence
from ettin_data.order.published import iter_rows, list_published
from ettin_data.order.runner import open_workers, run_jobs
from ettin_data.order.segments import Segment, describe_segments, find_segments

if TYPE_CHECKING:
    from ettin_data.executor import Executor

Verdict = Literal["agrees", "explained", "differs", "unchecked"]

_PROBE_ROWS = 2000
_PROBE_UNITS = 32


@dataclass(frozen=True)
class Request:
    """What to verify.

    Attributes:
        data: MDS folder or URL. published: folder or URL of parquet files.
        seed, epoch: of the law that is expected. batch: of it; None takes the number of rows that most steps have.
        phase: needed when the published folders are of several phases.
        form: "stored", "encoder" or "decoder"; None finds it out. max_seq_len: of the loader; None finds it out.
        sample: share of the units to check, in (0, 1].
        seeds: candidates for an inference; None takes common ones.
        infer: whether to look for another law when the asked one does not fit; if not, all is compared under that.
        cache: folder for data behind a URL.
        scratch: folder that all workers see, for permutations (4 bytes a sample each); None: the temporary folder.
        options: `executor.ExecutorOptions`, None checks in this process.
    """

    data: str
    published: str
    seed: int = 21
    epoch: int = 0
    batch: int | None = None
    phase: str | None = None
    form: FormKind | None = None
    max_seq_len: int | None = None
    sample: float = 1.0
    seeds: tuple[int, ...] | None = None
    infer: bool = True
    cache: Path | None = None
    scratch: Path | None = None
    options: Any = None


@dataclass(frozen=True)
class Verification:
    """The outcome; `report.py` says it in words and in JSON.

    Attributes:
        asked: the law that was expected. explanation: the one that the units were compared under.
        inference: how the explanation was found; None when the asked law fits.
        units: of the publication; checked: results of those that were compared.
        max_length: tokens at which a loader cut the rows; None when it cut none.
    """

    request: Request
    catalog: Catalog
    data: Data
    asked: OrderLaw
    explanation: Explanation
    inference: Inference | None
    form: Form
    max_length: int | None
    units: int
    checked: tuple[UnitResult, ...]
    classification: Classification
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether an explanation was found at all."""
        return self.inference is None or self.inference.believed

    @cached_property
    def segments(self) -> list[Segment]:
        """Runs of published steps that hold a run of the law's steps each; one run when nothing was cut or repeated."""
        return find_segments(self.checked, self.classification.rows, self.explanation)

    @property
    def deviations(self) -> list[str]:
        if not self.fits:
            return []
        moved = describe_segments(self.segments, self.catalog)
        explanation = replace(self.explanation, offset=0) if moved else self.explanation
        asked = self.asked if self.request.batch else replace(self.asked, batch=explanation.law.batch)
        found = explanation.deviations(asked) + moved
        tails = [r for r in self.checked if r.unit.tail]
        if tails:
            extra = tails[0].published - (self.explanation.law.samples - self.explanation.law.used)
            found.append(
                f"drop_last was off: a last step of {tails[0].published} rows"
                + (f", {extra} of them again from the start to fill the ranks" if extra else "")
            )
        return found

    @property
    def verdict(self) -> Verdict:
        judged = sum(result.law - result.unread for result in self.checked)
        if not self.fits or any(not result.agrees for result in self.checked):
            return "differs"
        if judged == 0:
            return "unchecked"
        return "explained" if self.deviations else "agrees"

    @property
    def complete(self) -> bool:
        """Whether all samples of the checked steps could be read and no published step is absent."""
        return not any(result.unread for result in self.checked) and not self.absent_steps

    @property
    def absent_steps(self) -> list[tuple[int, int]]:
        """Ranges of step numbers (both included) of the law that were not published here."""
        if not self.fits or self.explanation.exact != "steps" or self.explanation.numbering != "global":
            return []
        base, law = self.explanation.base, self.explanation.law
        last = max(base + law.steps - 1 - self.explanation.offset, int(self.catalog.step.max(initial=base)))
        have = np.unique(self.catalog.step)
        lacking = np.setdiff1d(np.arange(base, last + 1), have)
        runs = np.split(lacking, np.flatnonzero(np.diff(lacking) > 1) + 1)
        return [(int(run[0]), int(run[-1])) for run in runs if len(run)]

    @property
    def exit_status(self) -> int:
        """0 agrees; 1 differs or follows another law; 3 agrees as far as it could be checked."""
        if self.verdict == "agrees":
            return 0 if self.complete else 3
        return 3 if self.verdict == "unchecked" else 1


def verify(request: Request, *, on_progress: Callable[[str, int, int], None] | None = None) -> Verification:
    """Verify a publication.

    Args:
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises `OrderError` when there is nothing to compare. Differences are not errors: they are in the result.
    """
    with tempfile.TemporaryDirectory(prefix="ettin-order-", dir=request.scratch) as scratch:
        verifier = _Verifier(request, Path(scratch), on_progress or (lambda *_: None))
        with open_workers(request.options) as verifier.workers:
            return verifier.run()


class _Verifier:
    def __init__(self, request: Request, scratch: Path, progress: Callable[[str, int, int], None]) -> None:
        self.request, self.progress = request, progress
        if not 0 < request.sample <= 1:
            raise OrderError(f"a sample of {request.sample:g} cannot be taken", why="it is a share, such as 1%")
        self.data = Data(request.data, request.cache)
        self.catalog = read_catalog(request.published, list_published(request.published, request.phase))
        if len(self.catalog) == 0:
            raise OrderError("the published order has no rows", where=request.published)
        batch = request.batch or self.catalog.common_rows()
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
        units = plan(self.catalog, explanation)
        fits = inference is None or inference.believed
        chosen = self._sample(units) if fits else []
        checked = self._compare(chosen, explanation, form, max_length, "comparing")
        classifier = Classifier(
            self.catalog,
            explanation,
            self.data,
            self.store,
            max_length,
            self.workers,
            self._tick("classifying"),
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

    def _tick(self, what: str, total: int = 0) -> Callable[[Any], None]:
        done = 0

        def tick(_: Any) -> None:
            nonlocal done
            done += 1
            self.progress(what, done, total)

        return tick

    def _compare(
        self, units: Sequence[Unit], explanation: Explanation, form: Form, max_length: int | None, what: str = ""
    ) -> list[UnitResult]:
        work = jobs(self.catalog, units, explanation, self.data, self.store, form, max_length)
        total, done = sum(job.rows for job in work), 0

        def tick(results: list[UnitResult]) -> None:
            nonlocal done
            done += sum(result.published for result in results)
            self.progress(what, done, total)

        if what:
            sizes = [job.rows for job in work]
            found = run_jobs(compare, work, workers=self.workers, weights=sizes, on_result=tick)
        else:  # a few units, to see whether they fit
            found = run_jobs(compare, work)
        return sorted((result for results in found for result in results), key=lambda r: r.unit.first)

    def _fit(self, explanation: Explanation) -> tuple[Form, int | None, float]:
        """The form of the rows, where they were cut, and the share of some units' rows that agree in it."""
        units = plan(self.catalog, explanation)
        units = [unit for unit in units if not unit.tail and unit.stop]
        few = [units[i] for i in np.unique(np.linspace(0, len(units) - 1, _PROBE_UNITS).astype(int))] if units else []
        rows, taken = 0, []
        for unit in few[::2] + few[1::2]:
            taken.append(unit)
            rows += unit.stop - unit.start
            if rows > _PROBE_ROWS and len(taken) >= 3:
                break
        if not taken:
            return Form(self.request.form or "stored", UNCUT), self.request.max_seq_len, 0.0
        longest = self.request.max_seq_len
        best: tuple[Form, int | None, float, float] | None = None
        asked = self.request.form
        kinds: tuple[FormKind, ...] = (asked,) if asked else ("stored", "encoder", "decoder")
        for kind in kinds:
            if kind != "stored" and longest is None:
                longest = self._cut_at(taken, explanation)
            cut = self.request.max_seq_len if kind == "stored" else longest
            form = Form(kind, longest or UNCUT)
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

    def _cut_at(self, units: Sequence[Unit], explanation: Explanation) -> int | None:
        """The length of the longest row of these units, if some of their samples are longer: a loader cut them."""
        longest = 2
        for unit in units:
            for entry in range(unit.first, unit.last + 1):
                for file, first, count in self.catalog.pieces[entry]:
                    path = self.catalog.files[file].path
                    for rows in iter_rows(self.catalog.root, path, self.data.dtype, first, first + count):
                        longest = max(longest, int((rows.ends - rows.starts).max()))
        order = np.load(self.store.path(explanation.law, explanation.law.epoch), mmap_mode="r")
        starts = None if explanation.starts is None else np.array(explanation.starts, np.int64)
        for unit in units:
            positions = local_positions(order[unit.indices(len(self.data))].astype(np.int64), starts, self.data)
            if any(
                len(as_seen(tokens, "decoder", UNCUT)) > longest
                for _, tokens in self.data.tokens(positions[positions >= 0])
            ):
                return longest
        return None

    def _infer(self) -> Inference:
        starts = self.data.reader.starts
        look = self._tick("looking for rows in the data")
        evidence = find_evidence(self.catalog, self.data, workers=self.workers, on_result=look)
        seeds, tick = self.request.seeds, self._tick("trying seeds")
        inference = infer(self.catalog, evidence, self.asked, starts, seeds=seeds, on_seed=tick)
        best = inference.best
        if best is not None and best.believed and best.explanation.starts and evidence.shards_read < len(starts) - 1:
            # every shard has to be placed, so rows of every shard are needed
            evidence = find_evidence(self.catalog, self.data, everything=True, workers=self.workers, on_result=look)
            law = best.explanation.law
            inference = infer(self.catalog, evidence, self.asked, starts, seeds=(law.seed + law.epoch,))
        return inference

    def _sample(self, units: Sequence[Unit]) -> list[Unit]:
        if self.request.sample >= 1:
            return list(units)
        keys = draws(np.arange(len(units), dtype=np.uint64), "order verify sample", self.request.seed)
        count = max(1, round(len(units) * self.request.sample))
        return [units[i] for i in np.sort(np.argsort(keys)[:count])]


def undetected(units: int, checked: int, confidence: float = 0.95) -> int:
    """The largest number of bad units of which a sample without any would still be seen with more than 1 - confidence.

    So when all `checked` of `units` agree, then with that confidence at most so many others do not.
    """
    bad, chance = 0, 1.0
    while bad < units - checked:
        chance *= (units - checked - bad) / (units - bad)
        if chance <= 1 - confidence:
            break
        bad += 1
    return bad
