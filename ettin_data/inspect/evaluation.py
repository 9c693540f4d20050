"""Where a finished phase has evaluation texts: its samples put together to documents again, decoded, and searched.

A text that was cut over two samples is found all the same. The search is that of a build (`stages/contamination`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor, ExecutorOptions, Task, perform
from ettin_data.inspect.lookup import Phase, Split
from ettin_data.order.data import Data
from ettin_data.sources.base import SourceFile
from ettin_data.stages.contamination.index import Index
from ettin_data.stages.contamination.search import Hit, search
from ettin_data.storage import ledger
from ettin_data.tokenizer.encoder import Tokenizer
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

_CHARACTERS = 1 << 19  # of documents that are searched together
_SAMPLES = 1 << 12  # that are read together


@dataclass(frozen=True)
class Found:
    """An evaluation text in a document of a phase.

    Attributes:
        hit: which text, which characters of the document's text as it is decoded, and the score.
        source: folder of the source.
        file, record: where the document stands upstream.
        samples: positions in `train/` of the samples that hold a part of the text.
    """

    hit: Hit
    source: str
    file: str
    record: int
    samples: tuple[int, ...]


@dataclass(frozen=True)
class _Job:
    data: Data
    split: Split
    index: Index
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Document:
    """A document, or what follows without a gap of it: its row in the ledger, and its pieces by sample."""

    row: int
    samples: tuple[int, ...]
    pieces: tuple[AnyTokens, ...]


def find_evaluation(
    phase: Phase,
    index: Index,
    tokenizer: Tokenizer,
    *,
    options: Executor | ExecutorOptions | None = None,
    progress: Progress = SILENT,
) -> list[Found]:
    """Where `train/` of a phase has texts of an index: by text, then by score, best first, then by place.

    Args:
        tokenizer: that of the run.
        options: workers, or how to open some; None searches in this process.
        progress: told of the stage `searching`, in samples.
    """
    data = Data(str(phase.place.train))
    tasks = [
        Task(split.name, _Job(data, split, index, tokenizer), split.end - split.first)
        for split in phase.splits
        if split.end > split.first
    ]
    found = [one for some in perform(_search, tasks, options, progress, title="searching") for one in some]
    return sorted(found, key=lambda one: (one.hit.text, -one.hit.score, one.samples, one.hit.begin))


_indexes: dict[str, Index] = {}  # what an index keeps ready to search with is made once in a process, not for each task


def _search(job: _Job) -> list[Found]:
    index = _indexes.setdefault(job.index.digest, job.index)
    table = ledger.read_table(job.split.folder, ledger.DOCUMENTS, ["file", "position"])
    inputs = [SourceFile.described(entry).name for entry in job.split.marker().inputs]

    def found(documents: list[Document], texts: list[str]) -> Iterator[Found]:
        for hit in search(index, texts):
            document = documents[hit.document]
            file, record = inputs[table["file"][document.row]], int(table["position"][document.row])
            yield Found(hit, job.split.source, file, record, _samples(document, hit, job.tokenizer))

    return list(_in_portions(job, found))


def _in_portions(job: _Job, look: Callable[[list[Document], list[str]], Iterator[Found]]) -> Iterator[Found]:
    held: list[Document] = []
    size = 0
    for document in documents_of(job.data, job.split, job.tokenizer.vocabulary):
        held.append(document)
        size += sum(map(len, document.pieces)) * 4
        if size > _CHARACTERS:
            yield from look(held, texts_of(held, job.tokenizer))
            held, size = [], 0
    yield from look(held, texts_of(held, job.tokenizer))


def texts_of(documents: Sequence[Document], tokenizer: Tokenizer) -> list[str]:
    """The text of each document."""
    return tokenizer.decode_batch([np.concatenate(document.pieces) for document in documents])


def documents_of(data: Data, split: Split, vocabulary: Vocabulary) -> Iterator[Document]:
    """The documents of a split of `train/`, each when its last sample is read.

    Where a mix took some samples of a document and not those between, what follows the gap counts as another one.
    """
    sample, document, start, length = pieces_of(split.folder)
    last = np.full(int(document.max(initial=-1)) + 1, -1, np.int64)
    np.maximum.at(last, document, sample)
    held: dict[int, list[tuple[int, int, AnyTokens]]] = {}
    framing = (vocabulary.open, vocabulary.close)
    for begin in range(0, split.end - split.first, _SAMPLES):
        end = min(begin + _SAMPLES, split.end - split.first)
        rows = slice(*np.searchsorted(sample, [begin, end]).tolist())
        texts: list[AnyTokens] = [np.zeros(0, np.uint16)] * (end - begin)
        for number, tokens in data.tokens(np.arange(split.first + begin, split.first + end)):
            texts[number] = tokens[~np.isin(tokens, framing)]  # text never becomes one of these
        at, before = 0, -1
        for row, owner, first, size in zip(*(c[rows].tolist() for c in (sample, document, start, length)), strict=True):
            at = at if row == before else 0
            held.setdefault(owner, []).append((first, split.first + row, texts[row - begin][at : at + size]))
            at, before = at + size, row
        for owner in [owner for owner in held if last[owner] < end]:
            yield from _unbroken(owner, sorted(held.pop(owner), key=lambda piece: piece[:2]))


def pieces_of(folder: Path) -> tuple[NDArray[np.int64], ...]:
    """Sample, document, first token in it and length of each piece of a split, by sample, in its order; int64."""
    table = ledger.read_table(folder, ledger.SAMPLES, ["document", "start", "length"])
    columns = [np.arange(len(table["document"])), table["document"], table["start"], table["length"]]
    if (folder / ledger.SEGMENTS).exists():
        more = ledger.read_table(folder, ledger.SEGMENTS)
        names = ("sample", "document", "start", "length")
        columns = [np.concatenate([column, more[name]]) for column, name in zip(columns, names, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return tuple(column[order].astype(np.int64) for column in columns)


def _unbroken(row: int, pieces: list[tuple[int, int, AnyTokens]]) -> Iterator[Document]:
    run: list[tuple[int, int, AnyTokens]] = []
    for piece in pieces:
        if run and piece[0] != run[-1][0] + len(run[-1][2]):
            yield Document(row, tuple(p[1] for p in run), tuple(p[2] for p in run))
            run = []
        run.append(piece)
    if run:
        yield Document(row, tuple(p[1] for p in run), tuple(p[2] for p in run))


def _samples(document: Document, hit: Hit, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The samples whose part of the document's text holds some of the hit's characters."""
    if len(document.samples) == 1:
        return document.samples
    tokens = np.concatenate(document.pieces)
    ends = np.cumsum([len(piece) for piece in document.pieces]).tolist()
    behind = list(map(len, tokenizer.decode_batch([tokens[:end] for end in ends])))
    return tuple(
        sample
        for sample, begin, end in zip(document.samples, [0, *behind[:-1]], behind, strict=True)
        if begin < hit.end and hit.begin < end
    )


def as_lines(phase: Phase, found: Sequence[Found]) -> list[dict[str, Any]]:
    """What was found as plain values, with the steps (from 1) that read it; the tail that no step reads has none."""
    lines = []
    for one in found:
        steps, _ = phase.steps_of(np.array(one.samples, np.int64))
        hit = one.hit
        lines.append(
            {
                "text": hit.name,
                "phase": phase.name,
                "source": one.source,
                "file": one.file,
                "record": one.record,
                "characters": [hit.begin, hit.end],
                "score": hit.score,
                "whole": hit.whole,
                "samples": list(one.samples),
                "steps": sorted({step + 1 for step in steps.tolist() if step >= 0}),
                "checkpoints": sorted({phase.checkpoint(step) for step in steps.tolist() if step >= 0}),
            }
        )
    return lines
