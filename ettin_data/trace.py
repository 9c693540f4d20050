"""What was in a step, and which steps saw a document: the two directions of looking into a run.

trace_step      step -> rows: source, document, upstream file and record, token span, text
trace_document  id, URL or text -> every step and checkpoint of every phase that saw it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ettin_data.errors import OrderError
from ettin_data.keyed import document_key
from ettin_data.lookup import Documents, Phase, Sample
from ettin_data.tokenizer import Tokenizer


@dataclass(frozen=True)
class StepTrace:
    """A step, or what one rank of it reads.

    Attributes:
        step: from 1. checkpoint: published name of its interval.
        positions: of all its samples, in reading order. sources: how many of them each source folder has.
        rows: those samples that were asked for, from the first.
    """

    phase: str
    step: int
    checkpoint: str
    rank: int | None
    world: int | None
    positions: np.ndarray
    sources: dict[str, int]
    rows: tuple[Sample, ...]


def trace_step(
    phase: Phase, step: int, *, rank: int | None = None, world: int | None = None, rows: int | None = None
) -> StepTrace:
    """What step `step` (from 1) of a phase holds, in reading order.

    Args:
        rank, world: only what rank `rank` of `world` reads; both or none.
        rows: how many rows to look up, from the first; None for all.

    Raises `OrderError` when there is no such step or rank.
    """
    if (rank is None) != (world is None):
        raise OrderError("a rank needs a world size, and a world size a rank", remedy="give --rank and --world")
    if rank is None or world is None:
        positions = phase.order.step(step - 1)
    else:
        positions = phase.order.rank(step - 1, rank, world)
    return StepTrace(
        phase=phase.name,
        step=step,
        checkpoint=phase.checkpoint(step - 1),
        rank=rank,
        world=world,
        positions=positions,
        sources=dict(Counter(phase.sources_of(positions)).most_common()),
        rows=tuple(phase.samples(positions[:rows].tolist())),
    )


@dataclass(frozen=True)
class Sighting:
    """One reading of a sample with a part of the document.

    `step` (from 1) and `place` in the step (from 0); both None for a sample in the tail that no step reads.
    """

    phase: str
    checkpoint: str
    step: int | None
    place: int | None
    sample: Sample


@dataclass(frozen=True)
class DocumentTrace:
    """All sightings of the documents that were looked for, by phase and step.

    Attributes:
        looked_for: the id, URL or beginning of the text.
        ids: of the documents found, several when a URL or text has several. keys: the keys of all of them.
        sightings: sorted by phase and step; unread samples last in each phase.
    """

    looked_for: str
    ids: tuple[str, ...]
    keys: frozenset[int]
    sightings: tuple[Sighting, ...]

    def steps(self, phase: str) -> list[int]:
        """Steps of a phase that read some of it."""
        return sorted({s.step for s in self.sightings if s.phase == phase and s.step is not None})

    def times(self, phase: str) -> float:
        """How often a phase read it: tokens read over tokens of the documents; 0.5 when half of it was read."""
        read = 0
        whole: dict[int, int] = {}
        for sighting in self.sightings:
            for span in sighting.sample.spans:
                if span.key in self.keys:
                    whole[span.key] = span.tokens
                    read += span.length if sighting.phase == phase and sighting.step is not None else 0
        return read / max(sum(whole.values()), 1)


def trace_document(
    phases: Sequence[Phase],
    *,
    id: str | None = None,
    url: str | None = None,
    text: str | None = None,
    tokenizer: Callable[[], Tokenizer] | None = None,
) -> DocumentTrace:
    """Every reading of a document.

    Args:
        id: the document's id. url: its URL, as upstream has it. text: its whole text; exactly one of the three.
        tokenizer: gives the run's tokenizer; only called for a text.

    A text is found by its number of tokens and then compared, so this takes no search through the data; for a part of
    a text there is `exposure.find_texts`.
    """
    if sum(value is not None for value in (id, url, text)) != 1:
        raise OrderError("give one of an id, a URL and a text")
    tokens = np.zeros(0, np.uint16)
    if text is not None:
        if tokenizer is None:
            raise OrderError("a text cannot be looked for without a tokenizer")
        tokens, _ = tokenizer().encode_batch([text])
    keys: set[int] = set()
    sightings: list[Sighting] = []
    for phase in phases:
        if text is not None:
            found = _documents_of_text(phase, tokens)
        else:
            found = phase.documents_with("key" if id is not None else "url_key", document_key(id or url or ""))
        keys.update(int(key) for documents in found for key in documents.keys)
        sightings += _sightings(phase, [phase.positions_of(documents) for documents in found])
    names = dict.fromkeys(s.sample.id for s in sightings if document_key(s.sample.id) in keys)
    return DocumentTrace(id or url or (text or "")[:80], tuple(names), frozenset(keys), tuple(sightings))


def _sightings(phase: Phase, groups: Sequence[np.ndarray]) -> list[Sighting]:
    positions = np.unique(np.concatenate([np.zeros(0, np.int64), *groups]))
    steps, places = phase.steps_of(positions)
    order = np.lexsort([places, np.where(steps < 0, np.iinfo(np.int64).max, steps)])
    samples = phase.samples(positions[order].tolist())
    found = []
    for sample, step, place in zip(samples, steps[order].tolist(), places[order].tolist(), strict=True):
        if step < 0:
            found.append(Sighting(phase.name, "", None, None, sample))
        else:
            found.append(Sighting(phase.name, phase.checkpoint(step), step + 1, place, sample))
    return found


def _documents_of_text(phase: Phase, tokens: np.ndarray) -> list[Documents]:
    """The documents that are these tokens, as far as their samples show: those of that length, compared."""
    found = []
    for documents in phase.documents_with("tokens", len(tokens)):
        samples = phase.samples(phase.positions_of(documents).tolist())
        other = {
            span.key
            for sample in samples
            for span in sample.spans
            if span.tokens == len(tokens)
            and not _contains(sample.tokens, tokens[span.start : span.start + span.length])
        }
        same = ~np.isin(documents.keys, np.array(sorted(other), np.uint64))
        if same.any():
            found.append(Documents(documents.split, documents.rows[same], documents.keys[same]))
    return found


def _contains(tokens: np.ndarray, part: np.ndarray) -> bool:
    """Whether `part` stands somewhere in `tokens`."""
    if len(part) == 0 or len(part) > len(tokens):
        return False
    starts = np.flatnonzero(tokens[: len(tokens) - len(part) + 1] == part[0])
    return any(np.array_equal(tokens[s : s + len(part)], part) for s in starts.tolist())


def step_to_json(trace: StepTrace, decode: Callable[[np.ndarray], str] | None) -> dict[str, Any]:
    """A step as plain values."""
    return {
        "phase": trace.phase,
        "step": trace.step,
        "checkpoint": trace.checkpoint,
        "rank": trace.rank,
        "world": trace.world,
        "samples": len(trace.positions),
        "sources": trace.sources,
        "rows": [sample_to_json(sample, decode) for sample in trace.rows],
    }


def document_to_json(trace: DocumentTrace, decode: Callable[[np.ndarray], str] | None) -> dict[str, Any]:
    """The readings of a document as plain values."""
    phases = list(dict.fromkeys(s.phase for s in trace.sightings))
    return {
        "looked_for": trace.looked_for,
        "ids": list(trace.ids),
        "phases": {p: {"steps": trace.steps(p), "times": round(trace.times(p), 4)} for p in phases},
        "sightings": [
            {
                "phase": s.phase,
                "checkpoint": s.checkpoint,
                "step": s.step,
                "place": s.place,
                **sample_to_json(s.sample, decode),
            }
            for s in trace.sightings
        ],
    }


def sample_to_json(sample: Sample, decode: Callable[[np.ndarray], str] | None) -> dict[str, Any]:
    """A sample as plain values, with its text when there is a way to decode it."""
    return {
        "position": sample.position,
        "id": sample.id,
        "source": sample.split.source,
        "split": sample.split.name,
        "tokens": len(sample.tokens),
        "documents": [
            {"file": s.file, "record": s.record, "start": s.start, "length": s.length, "tokens": s.tokens}
            for s in sample.spans
        ],
        **({} if decode is None else {"text": decode(sample.tokens)}),
    }
