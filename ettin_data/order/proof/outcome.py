"""What a verification was asked and what it found; `report.py` says it in words and in JSON."""

from __future__ import annotations

import bisect
import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ettin_data.base.errors import ExitStatus
from ettin_data.executor import ExecutorOptions
from ettin_data.order.data import Data
from ettin_data.order.law import OrderLaw
from ettin_data.order.loader_edits import Form, FormKind, Loader
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.proof.chance import LEVEL, Forms, log_chance
from ettin_data.order.proof.classify import Classification, ClassifiedRow
from ettin_data.order.proof.explanation import Deviation, Explanation, Reading
from ettin_data.order.proof.infer import Inference
from ettin_data.order.proof.jobs import UnitResult
from ettin_data.order.proof.look import Look
from ettin_data.order.proof.segments import AMISS, Segment, describe_segments, describe_spans, find_segments
from ettin_data.order.published import Damage

_READINGS_A_SEED = 64  # explanations that are tried with each seed, about
Verdict = Literal["agrees", "explained", "differs", "unchecked", "cannot tell"]


@dataclass(frozen=True)
class Request:
    """What to verify.

    Attributes:
        data: MDS folder or URL. published: folder or URL of parquet files.
        seed, epoch: of the law that is expected. batch: of it; None takes that of the index in `order/` beside the
            data, and without one the number of rows that most steps have.
        samples: that the trainer's index had; None: as many as the data, and others are tried when these do not fit.
        phase: needed when the published folders are of several phases.
        form: "stored", "encoder" or "decoder"; None finds it out. max_seq_len: of the loader; None finds it out.
        loader: vocabulary and rule of the data; None takes those of its run, or else of Ettin's published data.
        law: of another loader, as `order.laws.law_named` reads it; None for Ettin's, with the seed and epoch above.
        sample: share of the units to check, in (0, 1].
        seeds: candidates for an inference; None takes common ones.
        infer: whether to look for another law when the asked one does not fit; if not, all is compared under that.
        cache: folder for data behind a URL. index: of the data's shards, instead of its own `index.json`.
        shards: of the data that are read at most, drawn by a key; None: all that are there.
        scratch: folder that all workers see, for permutations (4 bytes a sample each); None: the temporary folder.
        options: None checks in this process.
    """

    data: str
    published: str
    seed: int = 21
    epoch: int = 0
    batch: int | None = None
    samples: int | None = None
    phase: str | None = None
    form: FormKind | None = None
    max_seq_len: int | None = None
    loader: Loader | None = None
    law: str | None = None
    sample: float = 1.0
    seeds: tuple[int, ...] | None = None
    infer: bool = True
    cache: Path | None = None
    index: Path | None = None
    shards: int | None = None
    scratch: Path | None = None
    options: ExecutorOptions | None = None


@dataclass(frozen=True)
class Verification:
    """The outcome of a verification.

    Attributes:
        asked: the law that was expected. explanation: the one that the units were compared under.
        inference: how the explanation was found; None when the asked law fits.
        units: of the publication; checked: results of those that were compared.
        reading: how the rows were made of the samples. told_apart: whether samples that were cut there still differ.
        look: what the rows look like, where another law was looked for.
        forms: different samples, and different rows, among those compared.
        damage: rows that could not be read. broken: damaged shards of the data (`Data.broken`).
    """

    request: Request
    catalog: Catalog
    data: Data
    asked: OrderLaw
    explanation: Explanation
    inference: Inference | None
    reading: Reading
    told_apart: bool
    units: int
    checked: tuple[UnitResult, ...]
    look: Look | None
    forms: tuple[Forms, Forms]
    damage: tuple[Damage, ...]
    broken: dict[int, tuple[int, str]]
    classification: Classification
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether an explanation was found at all."""
        return self.inference is None or self.inference.believed

    @property
    def strangers(self) -> bool:
        """Whether next to none of the rows was found in the data."""
        return self.inference is not None and self.inference.evidence.strangers

    @property
    def form(self) -> Form:
        return self.reading.form

    @property
    def max_length(self) -> int | None:
        """Tokens at which a loader cut the rows; None when it cut none."""
        return self.reading.cut

    @cached_property
    def log_chance(self) -> float:
        """The logarithm of the probability that chance would have put as many rows where the law has them."""
        first = min((r.unit.epoch for r in self.checked), default=0)
        judged = [r for r in self.checked if r.unit.epoch == first and not r.unit.tail and r.unit.stop]
        compared = sum(max(r.law - r.unread - r.broken, 0) for r in judged)
        arrangements, tried = sum(r.arrangements for r in judged), 1
        if self.inference is not None:
            tried = self.inference.tried * _READINGS_A_SEED
        return log_chance(self.explanation.law.samples, compared, arrangements, self.forms[0], tried)

    @property
    def ranks(self) -> int | None:
        """World size that the order of the rows shows: they stand rank by rank in every step that is whole."""
        orders = {result.row_order for result in self.checked if result.row_order}
        found = re.fullmatch(r"rank by rank, for (\d+) ranks", orders.pop()) if len(orders) == 1 else None
        return int(found[1]) if found else None

    @cached_property
    def segments(self) -> list[Segment]:
        """Runs of published steps that hold a run of the law's steps each; one run when nothing was cut or repeated."""
        return find_segments(self.checked, self.classification.rows, self.explanation)

    @cached_property
    def deviations(self) -> list[Deviation]:
        """How the publication departs from what was asked for. Single wrong rows are not among it."""
        if not self.fits:
            return []
        moved = describe_segments(self.segments, self.catalog)
        explanation = replace(self.explanation, offset=0) if moved else self.explanation
        found = explanation.deviations(self.asked, self.ranks) + self._moved_shards + moved
        found += describe_spans(self.explanation, self.catalog)
        tails = [r for r in self.checked if r.unit.tail]
        if tails:
            extra = tails[0].published - (self.explanation.law.samples - self.explanation.law.used)
            again = f", {extra} of them again from the start to fill the ranks" if extra else ""
            text = f"drop_last was off: a last step of {tails[0].published} rows{again}"
            found.append(Deviation("drop_last_off", text))
        return found + self._lost + self._edited

    @property
    def _moved_shards(self) -> list[Deviation]:
        """Which shards of the local index stood elsewhere."""
        if self.explanation.starts is None:
            return []
        reader = self.data.reader
        moved = np.flatnonzero(np.array(self.explanation.starts) != reader.starts[:-1]).tolist()
        shown = ", ".join(reader.infos[i].basename for i in moved[:3]) + (", …" if len(moved) > 3 else "")
        text = f"another shard order in index.json: {len(moved):,} of {len(reader.infos):,} stood elsewhere ({shown})"
        return [Deviation("another_shard_order", text)]

    @property
    def _lost(self) -> list[Deviation]:
        """Steps that a published file spans and does not hold: no partial download leaves such a file."""
        found = []
        for path, (first, last) in _spans(self.catalog).items() if self.absent_steps else ():
            lost = [(max(a, first), min(b, last)) for a, b in self.absent_steps if a <= last and b >= first]
            for a, b in lost:
                steps = f"step {a:,} is" if a == b else f"steps {a:,} to {b:,} are"
                text = f"{steps} missing from {path.parent.name}/{path.name}, which spans {first:,} to {last:,}"
                found.append(Deviation("step_missing", text))
        return found

    @property
    def _edited(self) -> list[Deviation]:
        """Rows that equal their samples only after a loader's edits, where the other rows equal them as stored."""
        kinds: dict[str, list[ClassifiedRow]] = defaultdict(list)
        for row in self.classification.edited:
            kinds[row.kind].append(row)
        total = sum(result.edited for result in self.checked)
        beyond = f" of {total:,} that are edited" if total > len(self.classification.edited) else ""
        found = []
        for kind, rows in sorted(kinds.items()):
            many = f"{len(rows):,} rows{beyond} are" if len(rows) > 1 else f"1 row{beyond} is"
            where = self.catalog.name(rows[0].unit.first)
            found.append(Deviation(kind, f"{many} not {self.form}: {rows[0].text} ({where})"))
        return found

    @property
    def verdict(self) -> Verdict:
        if self.strangers:
            return "cannot tell"
        _, judged, _ = self.looked_up
        if not self.fits or any(not result.agrees for result in self.checked) or self._lost:
            return "differs"
        if any(deviation.name in AMISS for deviation in self.deviations):
            return "differs"
        if judged == 0:
            return "unchecked"
        if not self.told_apart or self.log_chance > math.log(LEVEL):
            return "cannot tell"
        return "explained" if self.deviations else "agrees"

    @property
    def looked_up(self) -> tuple[int, int, int]:
        """Samples that the law has in the checked units, those of them that are in shards that are here, and how many
        of these are there as rows."""
        judged = sum(max(result.law - result.unread - result.broken, 0) for result in self.checked)
        return sum(result.law for result in self.checked), judged, sum(result.matched for result in self.checked)

    @property
    def complete(self) -> bool:
        """Whether all files and samples could be read, all units were checked, and no published step is absent."""
        unread = bool(self.catalog.bad) or any(result.unread or result.broken for result in self.checked)
        return len(self.checked) == self.units and not unread and not self.absent_steps

    @cached_property
    def absent_steps(self) -> list[tuple[int, int]]:
        """Ranges of step numbers (both included) of the law that were not published here.

        Where steps are not the law's, only those between published ones can be known.
        """
        if not self.fits or self.explanation.numbering != "global":
            return []
        base, law = self.explanation.base, self.explanation.law
        end = base + law.steps - self.explanation.offset
        if self.explanation.exact != "steps":
            base, end = int(self.catalog.step.min()), int(self.catalog.step.max()) + 1
        else:
            expected = [result.unit.first for result in self.checked if result.unit.stop]  # a strange number is no end
            end = max(end, int(self.catalog.step[expected].max(initial=base)) + 1)
        have = np.unique(self.catalog.step[(self.catalog.step >= base) & (self.catalog.step < end)])
        edges = np.concatenate([[base - 1], have, [end]]).tolist()
        return [(a + 1, b - 1) for a, b in pairwise(edges) if b - a > 1]

    @property
    def exit_status(self) -> ExitStatus:
        """OK: all of it agrees; WRONG: it differs or follows another law; INCOMPLETE: it agrees as far as checked.

        NOT_COMPARED: there is too little to tell by.
        """
        if self.verdict == "cannot tell":
            return ExitStatus.NOT_COMPARED
        if self.verdict == "agrees":
            return ExitStatus.OK if self.complete else ExitStatus.INCOMPLETE
        return ExitStatus.INCOMPLETE if self.verdict == "unchecked" else ExitStatus.WRONG


def _spans(catalog: Catalog) -> dict[PurePosixPath, tuple[int, int]]:
    """First and last step of each file, by its name, or else by what is in it."""
    spans: dict[PurePosixPath, tuple[int, int]] = {}
    for entry, step in enumerate(catalog.step.tolist()):
        pieces = catalog.pieces(entry)
        for number in np.unique(pieces[:, 0]).tolist():
            path = PurePosixPath(catalog.files[number].path)
            if path not in spans:
                named = re.fullmatch(r"steps_(\d+)_to_(\d+)", path.stem)
                spans[path] = (int(named[1]), int(named[2])) if named else (step, step)
            if not path.stem.startswith("steps_"):
                spans[path] = min(spans[path][0], step), max(spans[path][1], step)
    return spans


def undetected(units: int, checked: int, confidence: float = 0.95) -> int:
    """How many bad units there may be when none is among those checked: with more, one would probably have been seen.

    So when all `checked` of `units` agree, then with that confidence at most so many others do not. The checked ones
    are taken to be drawn without regard to which are bad.
    """

    def unseen(bad: int) -> float:
        """The logarithm of the probability that none of so many bad units is among those checked."""
        rest = units - bad
        ways = math.lgamma(rest + 1) - math.lgamma(rest - checked + 1)
        return ways - math.lgamma(units + 1) + math.lgamma(units - checked + 1)

    # one less than the fewest bad units that would have been seen
    limit = math.log(1 - confidence)
    return bisect.bisect_left(range(units - checked), True, key=lambda bad: unseen(bad + 1) <= limit + 1e-9)
