"""From `train/index.json` and the order index to what a step reads. Every piece is a function of (step, sample).

    collator  the loader's edits, masking or shifting, and the packing into batches

Samples come from `load.samples`: the dataset gives one by its position, the sampler those of each step for one rank.

Nothing here has a state: what step k holds does not depend on the steps before it, on workers, on the world size or on
what was packed beside it. So a resumed run starts at its step at once, and prefetching workers can come and go. Workers
send numpy arrays through their pipes: neither the dataset nor the loader makes shared memory segments or lock files
(StreamingDataset, where chosen, makes its own).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ettin_data.base import draws
from ettin_data.load.samples import OrderSampler, Sample, SampleDataset
from ettin_data.order.loader_edits import Kind, Loader
from ettin_data.tokenizer.vocabulary import Vocabulary

IGNORED = -100

Layout = Literal["packed", "padded"]


class Batch(NamedTuple):
    """What one forward pass reads: a flat stream of T tokens (see `attention`), n samples in it.

    tokens: int32 (T,), after masking.
    labels: int32 (T,), the right token where the objective asks for one, else -100.
    scored: int64 (S,), where the loss is computed: all labels, or the keyed part of them that `score` chooses.
    cu_seqlens: int32, borders of the documents and of the runs of padding.
    positions, starts, lengths: int64 (n,), the samples' positions in train/index.json and places in the stream.
    """

    tokens: NDArray[np.int32]
    labels: NDArray[np.int32]
    scored: NDArray[np.int64]
    cu_seqlens: NDArray[np.int32]
    positions: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class StepBatches(NamedTuple):
    """One rank's part of a step (counted from 0), in as many batches as its memory wants."""

    step: int
    batches: list[Batch]


@dataclass(frozen=True)
class Collator:
    """Turns the stored samples of a step into batches. Picklable, without state.

    Attributes:
        kind: "encoder" (masked tokens) or "decoder" (next token).
        loader: the edits to a stored sample, with the vocabulary and the limit of the phase.
        mask_ratio: share of ordinary tokens that an encoder has to guess.
        key: of the draws, with the seed and the phase; step and sample are added to it.
        layout: "packed" puts samples end to end; "padded" fills each to the longest of its batch.
        split_documents: samples hold several documents, each from its opening token on, which must not see each other.
        batch_tokens: most tokens of a batch (a single longer sample makes its own); a row that a loader packs is a
            batch, however long.
        score: share of the labels that the loss is computed on, drawn for each token; 1.0 is all of them.
    """

    kind: Kind
    loader: Loader
    mask_ratio: float = 0.3
    key: tuple[draws.Part, ...] = (0,)
    layout: Layout = "packed"
    split_documents: bool = False
    batch_tokens: int = 1 << 16
    score: float = 1.0

    def __call__(self, samples: list[Sample]) -> StepBatches:
        seen = [self.loader.seen(sample.tokens, self.kind).astype(np.int32) for sample in samples]
        batches = [
            self._batch([samples[i] for i in group], [seen[i] for i in group]) for group in self._groups(samples, seen)
        ]
        return StepBatches(samples[0].step, batches)

    def _groups(self, samples: list[Sample], seen: list[NDArray[np.int32]]) -> list[list[int]]:
        """Which samples are one batch: those of a row, where the loader packs rows."""
        if samples[0].row is None:
            return group_by_tokens([len(tokens) for tokens in seen], self.batch_tokens, self.layout)
        ends = np.flatnonzero(np.diff([sample.row or 0 for sample in samples])) + 1
        return [group.tolist() for group in np.split(np.arange(len(samples)), ends)]

    def _batch(self, samples: list[Sample], seen: list[NDArray[np.int32]]) -> Batch:
        words = self.loader.vocabulary
        width = max(map(len, seen)) if self.layout == "padded" else 0
        tokens, labels, scored, borders, starts = [], [], [], [0], []
        end = 0
        for sample, original in zip(samples, seen, strict=True):
            draw = draws.generator(*self.key, self.kind, sample.step, sample.position)
            firsts = np.flatnonzero(original == words.open)[1:] if self.split_documents else np.zeros(0, np.int64)
            if self.kind == "encoder":
                read, label = mask(original, self.mask_ratio, draw, words)
            else:
                read, label = original, shift(original, firsts)
            asked = np.flatnonzero(label != IGNORED)
            if self.score < 1.0:
                asked = asked[draw.random(len(asked)) < self.score]
            fill = max(width - len(original), 0)
            tokens += [read, np.full(fill, words.pad, np.int32)]
            labels += [label, np.full(fill, IGNORED, np.int32)]
            scored.append(asked + end)
            starts.append(end)
            borders += [*(firsts + end).tolist(), end + len(original)]
            end += len(original) + fill
            if fill:
                borders.append(end)
        return Batch(
            tokens=np.concatenate(tokens),
            labels=np.concatenate(labels),
            scored=np.concatenate(scored),
            cu_seqlens=np.array(borders, np.int32),
            positions=np.array([sample.position for sample in samples], np.int64),
            starts=np.array(starts, np.int64),
            lengths=np.array([len(original) for original in seen], np.int64),
        )


def mask(
    tokens: NDArray[np.int32], ratio: float, draw: np.random.Generator, words: Vocabulary
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """BERT's masking (Devlin et al. 2019): each ordinary token is chosen with probability `ratio`; of the chosen, 80%
    become the mask, 10% a random ordinary token, 10% stay. What is reserved is neither masked nor drawn.

    Args: tokens: int32 (n,); words: has a mask. Returns: what the model reads and the labels, both int32 (n,).
    """
    n = len(tokens)
    chosen = (draw.random(n) < ratio) & ~np.isin(tokens, words.reserved)
    fate, random = draw.random(n), draw.integers(*words.ordinary, n, dtype=np.int32)
    read = np.where(chosen & (fate < 0.8), np.int32(words.mask), tokens)  # type: ignore[arg-type]
    read = np.where(chosen & (fate >= 0.9), random, read)
    return read, np.where(chosen, tokens, np.int32(IGNORED))


def shift(tokens: NDArray[np.int32], firsts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Labels of next-token prediction, int32 (n,): the last token of each document has none.

    Args: firsts: first positions of the second and later documents in the sample.
    """
    labels = np.append(tokens[1:], np.int32(IGNORED))
    labels[firsts - 1] = IGNORED
    return labels


def group_by_tokens(lengths: list[int], limit: int, layout: Layout) -> list[list[int]]:
    """Cut 0..n-1 into consecutive groups of at most `limit` tokens, padding included; each has at least one."""
    groups: list[list[int]] = [[]]
    longest = total = 0
    for i, length in enumerate(lengths):
        longest, total = max(longest, length), total + length
        size = longest * (len(groups[-1]) + 1) if layout == "padded" else total
        if groups[-1] and size > limit:
            groups.append([])
            longest = total = length
        groups[-1].append(i)
    return groups


def make_loader(
    dataset: SampleDataset, sampler: OrderSampler, collator: Collator, workers: int = 0
) -> DataLoader[StepBatches]:
    """Steps in order; `workers` processes read and collate four steps ahead each."""
    return DataLoader(
        cast("Dataset[StepBatches]", dataset),  # the collator makes steps of its samples
        batch_sampler=sampler,
        collate_fn=collator,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
