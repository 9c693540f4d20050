"""What the trainer verifies: that what the model reads is what was built, in the order that was promised.

Each step is checked from the other end: the documents are taken back out of the batch (labels put over the masked
inputs) and compared with what the order law names and what the memory-mapped shard holds, whose bytes must have the
hash that the build wrote in the ledger. So the data path (loader, workers, `StreamingDataset`, packing) is not
trusted for anything. The first difference stops the run with the step and the sample.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import ShardError
from ettin_data.order.index import OrderIndex
from ettin_data.order.loader_edits import Kind, Loader
from ettin_data.order.packed_order import PackedOrder
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.phase import parse_copy
from ettin_data.tokenizer.vocabulary import AnyTokens
from ettin_data.trainer.content import ContentHashes, VerificationError
from ettin_data.trainer.data import IGNORED, Batch, StepBatches

LAW_LIMIT = 1 << 26
"""Samples up to which the law's permutation is kept in memory (256 MB, 4 s) and every step is compared with it."""


@dataclass
class Verifier:
    """Checks one rank's part of each step of a phase. Raises `VerificationError` at the first difference.

    Attributes:
        phase: name, for messages.
        order, index: the order index and the training data.
        kind, loader: how a sample is edited, and for which kind of model.
        packed: samples hold several documents. packing: what the steps are, where a loader packs rows of samples.
        score: part of the labels that the loss is computed on.
        counts: what was checked: samples, tokens, and what masking did.
    """

    phase: str
    order: OrderIndex
    index: MdsReader
    hashes: ContentHashes
    kind: Kind
    loader: Loader
    packed: bool = False
    packing: PackedOrder | None = None
    score: float = 1.0
    rank: int = 0
    world: int = 1
    counts: Counter[str] = field(default_factory=Counter)
    first_step: int | None = None

    def __post_init__(self) -> None:
        self.words = self.loader.vocabulary
        self.reserved = np.isin(np.arange(self.words.size), self.words.reserved)
        self.law_positions = self.order.law.permutation() if self.order.law.samples <= LAW_LIMIT else None

    def check(self, part: StepBatches) -> None:
        """Everything about one step; a step that fails counts for nothing."""
        before = self.counts.copy()
        try:
            self._order(part)
            for batch in part.batches:
                self._borders(part.step, batch)
                self._samples(part.step, batch)
                if self.kind == "encoder":
                    self._masks(part.step, batch)
                else:
                    self._shifted(part.step, batch)
                self._scored(part.step, batch)
        except VerificationError:
            self.counts = before
            raise
        self.first_step = part.step if self.first_step is None else self.first_step
        self.counts["steps"] += 1

    def check_order_files(self) -> None:
        """The whole index: against the law, naming the first step and sample that differ, then against its own hashes.

        Nothing is done for an order of more than `LAW_LIMIT` samples: that is verification's task, not a trainer's.
        Raises: VerificationError, OrderError.
        """
        if self.law_positions is None:
            return
        for step in range(self.order.steps):
            self._lawful(step, 0, 1)
        self.order.check()

    def stored(self, step: int | None, position: int) -> AnyTokens:
        """The tokens of a sample as its shard has them, after a look at the hash that the build wrote."""
        try:
            tokens = self.index.tokens(position)
            problem = self.hashes.problem(position, tokens)
        except ShardError as error:
            self.fail(step, position, "it cannot be read", str(error))
        if problem:
            self.fail(step, position, "its content changed after the build", problem)
        return tokens

    def fail(self, step: int | None, position: int, what: str, why: str | None = None) -> NoReturn:
        """Stop, naming the step (from 0 here, from 1 in the text), the sample, its shard and its row.

        `step` None: the one that reads the sample by the law; of one that no step reads, the one behind the last.
        """
        where = "no such sample"
        if 0 <= position < len(self.index):
            number, row = self.index.locate(position)
            where = f"{self.index.folder / self.index.infos[number].basename}, row {row}"
        if step is None:
            place = [-1] if self.law_positions is None else np.flatnonzero(self.law_positions == position)
            step = (
                int(place[0]) // self.order.batch if self.packing is None else int(self.packing.places.step[position])
            )
        raise VerificationError(f"{self.phase}, step {step + 1}, sample {position}: {what}", where=where, why=why)

    def _lawful(self, step: int, rank: int, world: int) -> NDArray[np.integer[Any]]:
        """What the order index has for a rank in a step, after comparing it with the law."""
        batch = self.order.batch
        try:
            indexed = self.order.rank(step, rank, world)
        except IndexError:  # a file with fewer rows than order.json says
            indexed = np.zeros(0, np.int64)
        if self.law_positions is None:
            return indexed
        mine = slice((rank - step * batch) % world, None, world)
        lawful = self.law_positions[step * batch : (step + 1) * batch][mine]
        law = f"the order law (seed {self.order.law.seed}, epoch {self.order.law.epoch})"
        self._same_samples(step, indexed, lawful, "the order index has it", law)
        return indexed

    def _same_samples(
        self,
        step: int,
        found: NDArray[np.integer[Any]],
        wanted: NDArray[np.integer[Any]],
        what: str,
        wanted_by: str,
        place: str = "row",
    ) -> None:
        """Stop at the first row of a step, or place in a row, whose sample is not the wanted one."""
        common = min(len(found), len(wanted))
        wrong = np.flatnonzero(found[:common] != wanted[:common])
        if len(wrong):
            row = int(wrong[0])
            self.fail(step, int(found[row]), f"{what} in {place} {row}", f"{wanted_by} has sample {wanted[row]} there")
        if len(found) != len(wanted):
            numbers = f"{len(found)} samples where {wanted_by} has {len(wanted)}"
            raise VerificationError(f"{self.phase}, step {step + 1}: {numbers}", where=self.order.folder)

    def _order(self, part: StepBatches) -> None:
        if self.packing is not None:
            self._packed_rows(self.packing, part)
            return
        indexed = self._lawful(part.step, self.rank, self.world)
        read = np.concatenate([b.positions for b in part.batches])
        self._same_samples(part.step, read, indexed, "it reached the model", "the order index")
        self.counts["order rows"] += len(read)
        self.counts["law rows"] += len(read) if self.law_positions is not None else 0

    def _packed_rows(self, packing: PackedOrder, part: StepBatches) -> None:
        """A batch is a row, and holds the samples that the law has in it, in that order."""
        rows = list(packing.step(part.step).of_rank(self.rank, self.world))
        for number, (batch, row) in enumerate(zip(part.batches, rows, strict=False)):
            what = f"it reached the model in row {number},"
            self._same_samples(part.step, batch.positions, row, what, packing.law.name, "place")
            self.counts["order rows"] += len(row)
        if len(part.batches) != len(rows):
            numbers = f"{len(part.batches)} rows where {packing.law.name} has {len(rows)}"
            raise VerificationError(f"{self.phase}, step {part.step + 1}: {numbers}", where=self.order.folder)
        self.counts["packed rows"] += len(rows)

    def _samples(self, step: int, batch: Batch) -> None:
        labelled = batch.labels != IGNORED
        original = np.where(labelled, batch.labels, batch.tokens) if self.kind == "encoder" else batch.tokens
        for position, start, length in np.stack([batch.positions, batch.starts, batch.lengths], axis=1).tolist():
            stored = self.stored(step, position)
            expected, found = self.loader.seen(stored, self.kind), original[start : start + length]
            if len(expected) != length or not np.array_equal(expected, found):
                self.fail(step, position, "the model reads other tokens than are stored", _difference(found, expected))
            self.counts["stored tokens"] += len(stored)
        self.counts["samples"] += len(batch.positions)

    def _borders(self, step: int, batch: Batch) -> None:
        """No sample without its borders, nothing but padding outside of samples, each document from its own opening."""
        borders, ends = batch.cu_seqlens, batch.starts + batch.lengths
        needed = np.concatenate([[0, len(batch.tokens)], batch.starts, ends])
        missing = np.setdiff1d(needed, borders)
        first = int(batch.positions[0])
        if len(missing) or (np.diff(borders) <= 0).any():
            sample = _sample_at(batch, missing[0]) if len(missing) else 0
            self.fail(step, int(batch.positions[sample]), "a border between documents is missing in its batch")
        outside = np.ones(len(batch.tokens), bool)
        for start, end in zip(batch.starts.tolist(), ends.tolist(), strict=True):
            outside[start:end] = False
        if (batch.tokens[outside] != self.words.pad).any() or (batch.labels[outside] != IGNORED).any():
            self.fail(step, first, "its batch has tokens or labels outside of all samples")
        inner = np.setdiff1d(borders[:-1], needed)
        if len(inner) and (not self.packed or (batch.tokens[inner] != self.words.open).any()):
            self.fail(step, first, f"a document border in its batch is not at a {self.words.frame.open}")
        self.counts["documents"] += len(borders) - 1 - int((batch.tokens[borders[:-1]] == self.words.pad).sum())

    def _masks(self, step: int, batch: Batch) -> None:
        chosen = np.flatnonzero(batch.labels != IGNORED)
        right, read = batch.labels[chosen], batch.tokens[chosen]
        odd = self.reserved[right] | (self.reserved[read] & (read != self.words.mask) & (read != right))
        if odd.any():
            first = odd.argmax()
            what = f"token {right[first]} was masked as {read[first]}"
            why = "special tokens are neither masked nor put in the place of others"
            self.fail(step, int(batch.positions[_sample_at(batch, chosen[first])]), what, why)
        seen = np.where(batch.labels != IGNORED, batch.labels, batch.tokens)
        self.counts["maskable"] += int((~self.reserved[seen]).sum())
        self.counts["masked"] += len(chosen)
        self.counts["masked as the mask"] += int((read == self.words.mask).sum())
        self.counts["masked as itself"] += int((read == right).sum())

    def _shifted(self, step: int, batch: Batch) -> None:
        expected = np.full(len(batch.tokens), IGNORED, batch.labels.dtype)
        expected[:-1] = batch.tokens[1:]
        expected[batch.cu_seqlens[1:] - 1] = IGNORED
        expected[batch.tokens == self.words.pad] = IGNORED
        wrong = np.flatnonzero(expected != batch.labels)
        if len(wrong):
            at, sample = wrong[0], _sample_at(batch, wrong[0])
            what = f"label of token {at - batch.starts[sample]} is {batch.labels[at]}"
            self.fail(step, int(batch.positions[sample]), what, f"the next token of the document is {expected[at]}")

    def _scored(self, step: int, batch: Batch) -> None:
        labels = int((batch.labels != IGNORED).sum())
        bad = (batch.labels[batch.scored] == IGNORED).any() or (np.diff(batch.scored) <= 0).any()
        if bad or (self.score == 1.0 and len(batch.scored) != labels):
            self.fail(step, int(batch.positions[0]), "in its batch the loss is not computed where the labels are")
        self.counts["labels"] += labels


def _sample_at(batch: Batch, at: int) -> int:
    """Number in the batch of the sample that holds this place of its stream."""
    return max(int(np.searchsorted(batch.starts, at, side="right")) - 1, 0)


def _difference(found: NDArray[np.integer[Any]], expected: NDArray[np.integer[Any]]) -> str:
    common = min(len(found), len(expected))
    differ = np.flatnonzero(found[:common] != expected[:common])
    if len(differ):
        at = int(differ[0])
        return f"{len(differ)} tokens differ; token {at} is {int(found[at])}, stored is {int(expected[at])}"
    return f"{len(found)} tokens, expected {len(expected)}"


@dataclass(frozen=True)
class Survey:
    """A pass over the training data before training.

    Attributes:
        lengths: stored tokens of each sample, int64 (total,), or None when not all were read.
        source_tokens: stored tokens of each source, or None.
        counts: how often each token of the vocabulary is a target, int64 (vocabulary,).
    """

    lengths: NDArray[np.int64] | None
    source_tokens: dict[str, int] | None
    counts: NDArray[np.int64]

    @property
    def entropy(self) -> float:
        """Unigram entropy of the targets in nats: the best loss of a model that knows the frequencies alone."""
        share = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(share * np.log(share)).sum())

    @property
    def log_frequency(self) -> NDArray[np.float64]:
        """Log of each token's frequency, smoothed so that none is zero, float64 (vocabulary,)."""
        smooth = self.counts + 0.01
        frequency: NDArray[np.float64] = np.log(smooth / smooth.sum())
        return frequency


def survey(verifier: Verifier, limit: int) -> Survey:
    """Read the samples of a phase (a keyed choice of `limit` when there are more), check their content, count tokens.

    Raises: VerificationError naming the sample and the step that would read it.
    """
    index, total = verifier.index, len(verifier.index)
    positions = np.arange(total)
    if total > limit:
        positions = np.sort(np.random.Generator(np.random.PCG64DXSM(21)).choice(total, limit, replace=False))
    lengths = np.zeros(len(positions), np.int64)
    size = verifier.words.size
    counts = np.zeros(size, np.int64)
    targets: list[AnyTokens] = []
    for row, position in enumerate(positions.tolist()):
        stored = verifier.stored(None, position)
        if stored.max() >= size:
            why = f"token {stored.max()} is not in the vocabulary of {size:,}"
            verifier.fail(None, position, "it cannot be trained on", why)
        lengths[row] = len(stored)
        seen = verifier.loader.seen(stored, verifier.kind)
        targets.append(seen[~verifier.reserved[seen]] if verifier.kind == "encoder" else seen[1:])
        if len(targets) == 1000 or row == len(positions) - 1:
            counts += np.bincount(np.concatenate(targets), minlength=size)
            targets.clear()
    if len(positions) < total:
        return Survey(None, None, counts)
    return Survey(lengths, source_tokens(index, lengths), counts)


def source_tokens(index: MdsReader, lengths: NDArray[np.int64]) -> dict[str, int]:
    """Stored tokens of each source: the first folder of a shard's path, copies (`books-dup`, `books-dup_2`) with it."""
    tokens: Counter[str] = Counter()
    for info, start in zip(index.infos, index.starts.tolist(), strict=False):
        source = parse_copy(Path(info.basename).parts[0])[0]
        tokens[source] += int(lengths[start : start + info.samples].sum())
    return dict(tokens)
