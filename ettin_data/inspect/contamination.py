"""Where in the data given texts stand: rows that contain an n-gram of them, token for token, found in one pass.

It is for parts of a row as it is: in other letters, or with other quotes, the same text has other tokens, and
`evaluation` finds it all the same. The default is 13 tokens, as GPT-3 and most reports after it have it (they count
words; tokens are what a model is trained on, and a little stricter). An n-gram is looked for by hash and then compared,
so a hit is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError
from ettin_data.base.ngrams import Needles, ngram_hashes
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import Executor, ExecutorOptions, Task, perform
from ettin_data.inspect.lookup import Phase
from ettin_data.order.data import Data
from ettin_data.tokenizer.vocabulary import AnyTokens

NGRAM = 13
_SHARDS_A_JOB = 2
_BLOCK = 1 << 17  # tokens hashed at a time


@dataclass(frozen=True)
class Hit:
    """A sample that contains n-grams of a text: `grams` distinct ones of the `of` that the text has."""

    text: int
    position: int
    grams: int
    of: int


_LONGEST = 1 << 20  # tokens of an n-gram; no sample has so many


def find_texts(
    data: Path,
    texts: Sequence[AnyTokens],
    *,
    n: int = NGRAM,
    options: Executor | ExecutorOptions | None = None,
    progress: Progress = SILENT,
) -> list[Hit]:
    """The samples of an MDS folder that contain an n-gram of a text, token for token.

    Args:
        data: folder with an `index.json`, such as `<run>/<phase>/train`.
        texts: token ids of each text, without special tokens. One of fewer than n tokens has no n-gram and no hit.
        options: workers, or how to open some; None searches in this process.
        progress: told of the stage `searching`, in samples.

    Returns: by text, then by shared n-grams, most first, then by position.
    """
    if not 1 <= n <= _LONGEST:
        raise OrderError(f"an n-gram of {n} tokens cannot be looked for")
    grams = _Grams.of(texts, n)
    if len(grams.hashes) == 0:
        return []
    samples = Data(str(data))
    shards, starts = range(len(samples.reader.infos)), samples.reader.starts
    tasks = []
    for i in range(0, len(shards), _SHARDS_A_JOB):
        numbers = tuple(shards[i : i + _SHARDS_A_JOB])
        rows = int(starts[numbers[-1] + 1] - starts[numbers[0]])
        tasks.append(Task(f"shards {numbers[0]} to {numbers[-1]}", _Job(samples, numbers, grams), rows))
    found = [hit for hits in perform(_search, tasks, options, progress, title="searching") for hit in hits]
    return sorted(found, key=lambda hit: (hit.text, -hit.grams, hit.position))


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of all texts.

    `tokens[i]` (shape (n,)) is the n-gram with `hashes[i]`; texts `owners[bounds[i]:bounds[i + 1]]` contain it.
    """

    n: int
    hashes: NDArray[np.uint64]
    tokens: NDArray[np.uint32]
    owners: NDArray[np.int64]
    bounds: NDArray[np.int64]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, texts: Sequence[AnyTokens], n: int) -> _Grams:
        hashes = [ngram_hashes(text.astype(np.uint32), n) for text in texts]
        windows = [np.lib.stride_tricks.sliding_window_view(t, n) for t in texts if len(t) >= n]
        if not windows:
            empty = np.zeros(0, np.int64)
            return cls(n, empty.astype(np.uint64), np.zeros((0, n), np.uint32), empty, np.zeros(1, np.int64), ())
        owner = np.repeat(np.arange(len(texts)), [len(h) for h in hashes])
        joined, tokens = np.concatenate(hashes), np.concatenate(windows).astype(np.uint32)
        pairs = np.lexsort([owner, joined])
        distinct = np.ones(len(pairs), bool)
        distinct[1:] = (joined[pairs][1:] != joined[pairs][:-1]) | (owner[pairs][1:] != owner[pairs][:-1])
        pairs = pairs[distinct]
        firsts = np.flatnonzero(np.concatenate([[True], joined[pairs][1:] != joined[pairs][:-1]]))
        counts = np.bincount(owner[pairs], minlength=len(texts))
        return cls(
            n,
            joined[pairs][firsts],
            tokens[pairs][firsts],
            owner[pairs],
            np.append(firsts, len(pairs)),
            tuple(counts.tolist()),
        )


@dataclass(frozen=True)
class _Job:
    data: Data
    shards: tuple[int, ...]
    grams: _Grams


def _search(job: _Job) -> list[Hit]:
    needles, hits = Needles(job.grams.hashes), list[Hit]()
    starts = job.data.reader.starts
    for number in job.shards:
        positions = np.arange(starts[number], starts[number + 1])
        block: list[AnyTokens] = []
        sizes: list[int] = []
        first = int(starts[number])
        for _, tokens in job.data.tokens(positions):
            block.append(tokens)
            sizes.append(len(tokens))
            if sum(sizes) >= _BLOCK:
                hits += _hits(block, sizes, first, needles, job.grams)
                first += len(sizes)
                block, sizes = [], []
        if block:
            hits += _hits(block, sizes, first, needles, job.grams)
    return hits


def _hits(block: list[AnyTokens], sizes: list[int], first: int, needles: Needles, grams: _Grams) -> list[Hit]:
    """Hits in consecutive samples, which are hashed end to end; an n-gram that crosses a border counts for neither."""
    tokens = np.concatenate(block)
    at, gram = needles.find(ngram_hashes(tokens, grams.n))
    ends = np.cumsum(sizes)
    sample = np.searchsorted(ends, at, side="right")
    exact = at + grams.n <= ends[sample]
    exact[exact] = (tokens[at[exact][:, None] + np.arange(grams.n)] == grams.tokens[gram[exact]]).all(axis=1)
    pairs = np.unique(np.stack([sample[exact], gram[exact]], axis=1), axis=0)
    counts: Counter[tuple[int, int]] = Counter()
    for row, number in pairs.tolist():
        for owner in grams.owners[grams.bounds[number] : grams.bounds[number + 1]].tolist():
            counts[owner, first + row] += 1
    return [Hit(owner, position, count, grams.counts[owner]) for (owner, position), count in counts.items()]


def located(phase: Phase, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Hits in a phase's `train/` as plain values, with the step (from 1; None in the tail) and the source of each."""
    samples = phase.samples([hit.position for hit in hits])
    steps, _ = phase.steps_of(np.array([hit.position for hit in hits], np.int64))
    return [
        {
            "text": hit.text,
            "phase": phase.name,
            "step": None if step < 0 else step + 1,
            "checkpoint": None if step < 0 else phase.checkpoint(step),
            "position": hit.position,
            "source": sample.split.source,
            "id": sample.id,
            "grams": hit.grams,
            "of": hit.of,
        }
        for hit, sample, step in zip(hits, samples, steps.tolist(), strict=True)
    ]
