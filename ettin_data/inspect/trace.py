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

from ettin_data.base.draws import document_key
from ettin_data.base.errors import OrderError
from ettin_data.inspect.lookup import Documents, Phase, Sample, Span, in_threads
from ettin_data.order.law import Positions
from ettin_data.tokenizer.encoder import Tokenizer
from ettin_data.tokenizer.vocabulary import AnyTokens, Tokens

_BEGIN = 16  # tokens by which a document is told from others of its length


@dataclass(frozen=True)
class StepTrace:
    """A step, or what one rank of it reads.

    Attributes:
        step: from 1. checkpoint: published name of its interval.
        positions: of all its samples, in reading order. sources: how many of them each source folder has.
        rows: those samples that were asked for, from the first.
        packed: row i holds the samples [packed[i], packed[i + 1]) of the step, where a loader packs several into each;
            None: a row is a sample.
    """

    phase: str
    step: int
    checkpoint: str
    rank: int | None
    world: int | None
    positions: Positions
    sources: dict[str, int]
    rows: tuple[Sample, ...]
    packed: tuple[int, ...] | None = None


def trace_step(
    phase: Phase, step: int, *, rank: int | None = None, world: int | None = None, rows: int | None = None
) -> StepTrace:
    """What step `step` (from 1) of a phase holds, in reading order.

    Args:
        rank, world: only what rank `rank` of `world` reads; both or none.
        rows: how many rows to look up, from the first; None for all. A packed row is looked up with all its samples.

    Raises `OrderError` when there is no such step or rank.
    """
    if (rank is None) != (world is None):
        raise OrderError("a rank needs a world size, and a world size a rank", remedy="give --rank and --world")
    held = phase.rows_of(step - 1, rank, world or 1)
    positions = held.positions
    last = None if rows is None or rows >= len(held) else int(held.bounds[rows])
    return StepTrace(
        phase=phase.name,
        step=step,
        checkpoint=phase.checkpoint(step - 1),
        rank=rank,
        world=world,
        positions=positions,
        sources=dict(Counter(phase.sources_of(positions)).most_common()),
        rows=tuple(phase.samples(positions[:last].tolist())),
        packed=tuple(held.bounds.tolist()) if phase.packing is not None else None,
    )


@dataclass(frozen=True)
class Sighting:
    """One reading of a part of a document.

    `step` (from 1) and `place` in the step (from 0); both None for a sample in the tail that no step reads. Where a
    loader packs rows, `row` is the one that it stands in (from 0), and `cut` how many tokens of the sample's end the
    loader leaves out.
    """

    phase: str
    checkpoint: str
    step: int | None
    place: int | None
    sample: Sample
    span: Span
    row: int | None = None
    cut: int = 0


@dataclass(frozen=True)
class FoundDocument:
    """A document as it stands upstream (upstream ids are not unique, file and record are) and all its readings.

    `sightings` are in the order of phases and steps, those that no step reads last in each phase.
    """

    id: str
    file: str
    record: int
    tokens: int
    sightings: tuple[Sighting, ...]

    def steps(self, phase: str) -> list[int]:
        """Steps of a phase that read some of it."""
        return sorted({s.step for s in self.sightings if s.phase == phase and s.step is not None})

    def times(self, phase: str) -> float:
        """How often a phase read it: tokens read over its tokens; 0.5 when half of it was read."""
        read = sum(s.span.length for s in self.sightings if s.phase == phase and s.step is not None)
        return read / max(self.tokens, 1)


def trace_document(
    phases: Sequence[Phase],
    *,
    id: str | None = None,
    url: str | None = None,
    text: str | None = None,
    tokenizer: Callable[[], Tokenizer] | None = None,
) -> list[FoundDocument]:
    """Every reading of a document, in each phase; several documents when an id, URL or text is not unique.

    Args:
        id: the document's id. url: its URL, as upstream has it. text: its whole text; exactly one of the three.
        tokenizer: gives the run's tokenizer; only called for a text.

    A text is found by the hash of its sample, or else by its number of tokens, and then compared, so this takes no
    search through the data; for a part of a text there is `contamination.find_texts`.
    """
    if sum(value is not None for value in (id, url, text)) != 1:
        raise OrderError("give one of an id, a URL and a text")
    tokens: Tokens = np.zeros(0, np.uint16)
    if text is not None:
        if tokenizer is None:
            raise OrderError("a text cannot be looked for without a tokenizer")
        tokens, _ = tokenizer().encode_batch([text])
    column = "key" if id is not None else "url_key"
    sightings: list[Sighting] = []
    for phase in phases:
        if text is not None:
            found = _documents_of_text(phase, tokens)
        else:
            found = phase.documents_with(column, document_key(id or url or ""))
        sightings += _sightings(phase, found)
    documents: dict[tuple[str, int, int], list[Sighting]] = {}
    for sighting in sightings:
        span = sighting.span
        documents.setdefault((span.file, span.record, span.tokens), []).append(sighting)
    return [FoundDocument(_id(rows, id), *record, tuple(rows)) for record, rows in sorted(documents.items())]


def _id(sightings: Sequence[Sighting], id: str | None) -> str:
    """The id of a document; packed samples have only the id of their first."""
    if id is not None:
        return id
    return next((s.sample.id for s in sightings if document_key(s.sample.id) == s.span.key), "")


def _sightings(phase: Phase, documents: Sequence[Documents]) -> list[Sighting]:
    wanted = {found.split.name: set(found.rows.tolist()) for found in documents}
    positions = np.concatenate([np.zeros(0, np.int64), *(phase.positions_of(found) for found in documents)])
    steps, places = phase.steps_of(positions)
    order = np.lexsort([places, np.where(steps < 0, np.iinfo(np.int64).max, steps)])
    samples = phase.samples(positions[order].tolist())
    sightings = []
    for sample, step, place in zip(samples, steps[order].tolist(), places[order].tolist(), strict=True):
        for span in sample.spans:
            if span.document in wanted[sample.split.name]:
                if step < 0:
                    sightings.append(Sighting(phase.name, "", None, None, sample, span))
                else:
                    packed = _packed(phase, sample)
                    found = Sighting(phase.name, phase.checkpoint(step), step + 1, place, sample, span, *packed)
                    sightings.append(found)
    return sightings


def _packed(phase: Phase, sample: Sample) -> tuple[int | None, int]:
    """The row of a sample in its step, and how many of its tokens are left out, under a law of packing."""
    if phase.packing is None:
        return None, 0
    row, seen = phase.packing.places.row[sample.position], phase.packing.lengths[sample.position]
    return int(row), max(len(sample.tokens) - int(seen), 0)


def _documents_of_text(phase: Phase, tokens: Tokens) -> list[Documents]:
    """The documents with these tokens: those stored just so, else those of the same length that fit."""
    words = phase.loader.vocabulary
    whole = np.concatenate([[words.open], tokens, [words.close]])
    candidates = phase.documents_of_sample(whole)  # a document in one sample of its own, as most are
    if not candidates:
        alike = phase.documents_with("tokens", len(tokens))
        candidates = in_threads(lambda documents: _that_begin(phase, documents, tokens), alike)
    found = []
    for documents in (candidate for candidate in candidates if len(candidate.rows)):
        rows = set(documents.rows.tolist())
        other = {
            span.document
            for sample in phase.samples(phase.positions_of(documents).tolist())
            for span in sample.spans
            if span.document in rows and not _contains(sample.tokens, tokens[span.start : span.start + span.length])
        }
        same = ~np.isin(documents.rows, sorted(other))
        if same.any():
            found.append(Documents(documents.split, documents.rows[same]))
    return found


def _that_begin(phase: Phase, documents: Documents, tokens: Tokens) -> Documents:
    """Keep the documents that may begin with these tokens: a short text shares its length with thousands of others."""
    other = {
        owner
        for position, owner, length in zip(*(column.tolist() for column in phase.begins_of(documents)), strict=True)
        if not _contains(phase.reader.tokens(position)[: _BEGIN + 1], tokens[: min(length, _BEGIN)])
    }
    same = ~np.isin(documents.rows, sorted(other))
    return Documents(documents.split, documents.rows[same])


def _contains(tokens: AnyTokens, part: AnyTokens) -> bool:
    """Whether `part` stands somewhere in `tokens`."""
    if len(part) == 0 or len(part) > len(tokens):
        return False
    starts = np.flatnonzero(tokens[: len(tokens) - len(part) + 1] == part[0])
    return any(np.array_equal(tokens[s : s + len(part)], part) for s in starts.tolist())


def step_to_json(trace: StepTrace, decode: Callable[[AnyTokens], str] | None) -> dict[str, Any]:
    """A step as plain values."""
    return {
        "phase": trace.phase,
        "step": trace.step,
        "checkpoint": trace.checkpoint,
        "rank": trace.rank,
        "world": trace.world,
        "samples": len(trace.positions),
        "sources": trace.sources,
        **({} if trace.packed is None else {"packed": list(trace.packed)}),
        "rows": [sample_to_json(sample, decode) for sample in trace.rows],
    }


def document_to_json(document: FoundDocument, decode: Callable[[AnyTokens], str] | None) -> dict[str, Any]:
    """A document and its readings as plain values."""
    phases = list(dict.fromkeys(s.phase for s in document.sightings))
    return {
        "id": document.id,
        "file": document.file,
        "record": document.record,
        "tokens": document.tokens,
        "phases": {p: {"steps": document.steps(p), "times": round(document.times(p), 4)} for p in phases},
        "sightings": [
            {
                "phase": s.phase,
                "checkpoint": s.checkpoint,
                "step": s.step,
                "place": s.place,
                "position": s.sample.position,
                "split": s.sample.split.name,
                "start": s.span.start,
                "length": s.span.length,
                **({} if s.row is None else {"row": s.row, "cut": s.cut}),
                **({} if decode is None else {"text": decode(s.sample.tokens)}),
            }
            for s in document.sightings
        ],
    }


def sample_to_json(sample: Sample, decode: Callable[[AnyTokens], str] | None) -> dict[str, Any]:
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
