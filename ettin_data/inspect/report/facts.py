"""What the pictures of a report show and `run.json` does not say: lengths, steps, times, the trainer's log, examples.

Everything is bounded: of a run with many splits a keyed draw of them is read, of many steps some at equal distances,
and how many of how many stands beside each picture.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.draws import generator, key64
from ettin_data.inspect.decoding import Words
from ettin_data.inspect.duplicates import matrix
from ettin_data.inspect.lookup import Phase, Sample, in_threads
from ettin_data.inspect.recall import measured
from ettin_data.inspect.search import opened
from ettin_data.storage import ledger, worklog
from ettin_data.storage.phase import LOGS, TRAINING_LOG, parse_copy
from ettin_data.storage.records import RunRecord, read_run
from ettin_data.tokenizer.vocabulary import AnyTokens

SPLITS, STEPS, GROUPS, ROWS = 2000, 400, 60, 2000
"""Read at most: splits for lengths and times; steps; groups of them along the order; rows of a trainer's log."""

_MOST_LOG = 1 << 30
_QUARTERS, _OCTAVES = 4, 25  # bins of document lengths: quarters of a doubling, up to 2^25 tokens
_TOOK = re.compile(r"in ([\d.]+)s \(")
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Lengths:
    """How long documents and samples are, in tokens.

    Attributes:
        document_edges, sample_edges: bounds of the bins, float64, one more than there are bins.
        documents, samples: how many lie in each bin.
        splits, of: splits that were read, of how many.
        median_document, median_sample: to the width of a bin.
    """

    document_edges: NDArray[np.float64]
    documents: Counts
    sample_edges: NDArray[np.float64]
    samples: Counts
    splits: int
    of: int

    @property
    def median_document(self) -> float:
        return _median(self.document_edges, self.documents)

    @property
    def median_sample(self) -> float:
        return _median(self.sample_edges, self.samples)


@dataclass(frozen=True)
class Steps:
    """The sources of some steps, by samples.

    Attributes:
        sources: by their samples, the largest first.
        numbers: the steps, from 1, rising. of: how many there are.
        shares: of each source in each of these steps, float64, shape (steps, sources).
        mix: share of each source in all of `train/`, float64, shape (sources,).
        spread: standard deviation of a source's share in a step that is drawn from all samples without replacement.
    """

    sources: tuple[str, ...]
    numbers: Counts
    of: int
    shares: NDArray[np.float64]
    mix: NDArray[np.float64]
    spread: NDArray[np.float64]

    @property
    def distance(self) -> float:
        """Half the sum of differences between a step and the mix, the mean over these steps."""
        return float(np.abs(self.shares - self.mix).sum(axis=1).mean() / 2)

    @property
    def distance_by_chance(self) -> float:
        """The same of steps that are drawn at random, where shares are about normal."""
        return float(math.sqrt(2 / math.pi) * self.spread.sum() / 2)

    def groups(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Middle step of each group of neighbours, shape (groups,), and the shares in it, shape (groups, sources)."""
        parts = np.array_split(np.arange(len(self.numbers)), min(GROUPS, len(self.numbers)))
        middles = np.array([self.numbers[part].mean() for part in parts])
        return middles, np.array([self.shares[part].mean(axis=0) for part in parts])


@dataclass(frozen=True)
class Times:
    """How long the splits of a source took, as their logs say: seconds of work, and how many splits say it."""

    seconds: Mapping[str, float]
    splits: int


@dataclass(frozen=True)
class Curve:
    """The log of a trainer for one kind of model and one phase; float64 each, NaN where a row does not say it."""

    kind: str
    steps: NDArray[np.float64]
    loss: NDArray[np.float64]
    unigram: NDArray[np.float64]
    rate: NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """A sample and its text."""

    source: str
    sample: Sample
    text: str


@dataclass(frozen=True)
class PhaseFacts:
    """All that the report says of a phase.

    Attributes:
        copies: rows of `duplicates.matrix`; None where nobody looked for copies.
        true_copies: what `recall.measured` says of them.
    """

    phase: Phase
    run: RunRecord
    lengths: Lengths
    steps: Steps
    times: Times
    curves: tuple[Curve, ...]
    copies: list[dict[str, Any]] | None
    true_copies: dict[str, Any]
    examples: tuple[Example, ...]


def facts_of(phase: Phase, decode: Words, trainer: Path, *, examples: int, characters: int, pairs: int) -> PhaseFacts:
    """Read what the report of a phase needs.

    Args:
        decode: the run's tokenizer, as far as it is there.
        trainer: folder with a folder of each kind of model, in it the trainer's log.
        examples: samples of each source; characters: of each one's text, 0 for all.
        pairs: of copies whose texts are compared, and documents of the block that is; 0 for none.

    Raises:
        BuildError: no `run.json` describes the phase.
    """
    copies, true_copies = _copies(phase, decode, pairs)
    return PhaseFacts(
        phase=phase,
        run=read_run(phase.place),
        lengths=_lengths(phase),
        steps=_steps(phase),
        times=_times(phase),
        curves=tuple(_curves(trainer, phase.name)),
        copies=copies,
        true_copies=true_copies,
        examples=tuple(examples_of(phase, decode.decode, examples, characters)),
    )


def _median(edges: NDArray[np.float64], counts: Counts) -> float:
    if not counts.sum():
        return 0.0
    at = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return float((edges[at] + edges[at + 1]) / 2)


def _lengths(phase: Phase) -> Lengths:
    chosen = [phase.splits[n] for n in _chosen(len(phase.splits), SPLITS)]
    length = int(read_run(phase.place).layout["length"])
    document_edges = 2.0 ** (np.arange(_QUARTERS * _OCTAVES + 1) / _QUARTERS)
    sample_edges = np.linspace(0, length, 41)

    def read(split: Any) -> tuple[Counts, Counts]:
        documents = np.zeros(len(document_edges) - 1, np.int64)
        samples = np.zeros(len(sample_edges) - 1, np.int64)
        if parse_copy(split.source)[1] == 0:
            for values in ledger.read_column(split.folder, ledger.DOCUMENTS, "tokens"):
                documents += np.histogram(np.clip(values, 1, document_edges[-1]), document_edges)[0]
        for values in ledger.read_column(split.folder, ledger.SAMPLES, "tokens"):
            samples += np.histogram(np.clip(values, 0, length), sample_edges)[0]
        return documents, samples

    found = in_threads(read, chosen)
    return Lengths(
        document_edges,
        sum((documents for documents, _ in found), np.zeros(len(document_edges) - 1, np.int64)),
        sample_edges,
        sum((samples for _, samples in found), np.zeros(len(sample_edges) - 1, np.int64)),
        len(chosen),
        len(phase.splits),
    )


def _chosen(count: int, most: int) -> list[int]:
    """Which of `count` things to read: all, or `most` of them by a draw that is the same every time."""
    if count <= most:
        return list(range(count))
    return sorted(generator("report", count).permutation(count)[:most].tolist())


def _steps(phase: Phase) -> Steps:
    split_source = [parse_copy(split.source)[0] for split in phase.splits]
    held: dict[str, int] = defaultdict(int)
    for split, source in zip(phase.splits, split_source, strict=True):
        held[source] += split.end - split.first
    sources = sorted(held, key=lambda name: (-held[name], name))
    number = {name: n for n, name in enumerate(sources)}
    of_split = np.array([number[source] for source in split_source], np.int64)
    total, batch = len(phase), phase.order.batch
    mix = np.array([held[name] for name in sources], np.float64) / max(total, 1)
    numbers = np.unique(np.linspace(0, phase.order.steps - 1, min(STEPS, phase.order.steps)).astype(np.int64))
    shares = np.zeros((len(numbers), len(sources)))
    for row, step in enumerate(numbers.tolist()):
        found = of_split[phase.split_of(phase.order.step(step))]
        shares[row] = np.bincount(found, minlength=len(sources)) / max(len(found), 1)
    spread = np.sqrt(mix * (1 - mix) / batch * max(total - batch, 0) / max(total - 1, 1))
    return Steps(tuple(sources), numbers + 1, phase.order.steps, shares, mix, spread)


def _times(phase: Phase) -> Times:
    logs = sorted((phase.folder / LOGS).glob("*/*.log"))
    chosen = [logs[n] for n in _chosen(len(logs), SPLITS)]
    seconds: dict[str, float] = defaultdict(float)
    splits = 0
    for log, entry in zip(chosen, in_threads(worklog.last_entry, chosen), strict=True):
        took = _TOOK.search(entry.text) if entry is not None and entry.word == worklog.FINISHED else None
        if took is not None:
            splits += 1
            seconds[log.parent.name] += float(took[1])
    scale = len(logs) / max(len(chosen), 1)
    return Times({name: value * scale for name, value in sorted(seconds.items())}, splits)


def _curves(trainer: Path, phase: str) -> list[Curve]:
    """Of each kind of model that has a log with steps of this phase; a row that is none ends the log."""
    curves = []
    for log in sorted(trainer.glob(f"*/{TRAINING_LOG}")):
        rows = [row for row in _log_rows(log) if row.get("phase") == phase]
        rows = [rows[n] for n in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), ROWS)).astype(int)).tolist()]
        if rows:
            columns = (np.array([_number(row.get(name)) for row in rows]) for name in ("step", "loss", "unigram", "lr"))
            curves.append(Curve(log.parent.name, *columns))
    return curves


def _log_rows(log: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    try:
        for line in files.read(log, _MOST_LOG).splitlines():
            row = json.loads(line)
            if not isinstance(row, dict):
                break
            rows.append(row)
    except (OSError, ValueError, RecursionError):
        pass  # a last line that a kill has cut
    return rows


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else math.nan


def _copies(phase: Phase, decode: Words, pairs: int) -> tuple[list[dict[str, Any]] | None, dict[str, Any]]:
    if not phase.place.copies_json.exists():  # nobody has looked
        return None, {}
    with opened(phase.place, measure=False) as search:
        return matrix(search), measured(phase.place, search, None, decode.tokenizer, pairs)


def examples_of(phase: Phase, decode: Callable[[AnyTokens], str], number: int, characters: int) -> list[Example]:
    """`number` samples of each source in `train/`, by a draw that is the same every time."""
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for split in phase.splits:
        places[parse_copy(split.source)[0]].append((split.first, split.end))
    found = []
    for source in sorted(places):
        ranges = places[source]
        starts = np.cumsum([0, *(end - first for first, end in ranges)])
        wanted = [key64("example", source, n) % int(starts[-1]) for n in range(number)]
        at = [int(np.searchsorted(starts, place, side="right")) - 1 for place in wanted]
        positions = sorted({ranges[n][0] + place - int(starts[n]) for n, place in zip(at, wanted, strict=True)})
        for sample in phase.samples(positions):
            text = decode(sample.tokens)
            found.append(Example(source, sample, text if not characters else text[:characters]))
    return found
