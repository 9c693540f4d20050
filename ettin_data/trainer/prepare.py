"""Open a phase for training: its data, its order index, the checks on both, and how much of it is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ettin_data.base.errors import BuildError, OrderError
from ettin_data.order.index import OrderIndex
from ettin_data.order.loader_edits import Kind
from ettin_data.trainer.checks import Survey, Verifier, survey
from ettin_data.trainer.content import ContentHashes, VerificationError
from ettin_data.trainer.data import Batch, Collator, Layout, ReaderName, SampleDataset
from ettin_data.trainer.model import ModelConfig
from ettin_data.trainer.phases import PHASES, Phase, step_work, steps_that_fit
from ettin_data.trainer.verdict import Check, PhaseResult
from ettin_data.trainer.world import World

SIGMAS = 5.0
"""Standard deviations that a share of masked tokens may be off; by chance alone 1 in 1.7 million is."""


@dataclass(frozen=True)
class PhaseFolder:
    """A built phase to train on.

    Attributes:
        phase: its rules.
        folder: holds `train/`, `order/` and `run.json`.
        steps: to train; None: all of the order index, or what `work` allows.
        work: floating point operations that the phase may take.
    """

    phase: Phase
    folder: Path
    steps: int | None = None
    work: float | None = None


def run_phases(run: Path, steps: int | None = None) -> tuple[PhaseFolder, ...]:
    """The phases that a run folder holds, in their order. Raises `BuildError` when there is none."""
    found = tuple(
        PhaseFolder(phase, run / name, steps)
        for name, phase in PHASES.items()
        if (run / name / "train" / "index.json").exists()
    )
    if not found:
        raise BuildError(
            "no built phase to train on", where=run, remedy="build one first, for example with `make demo`"
        )
    return found


@dataclass
class Prepared:
    """A phase that is open and checked, with the steps that will be trained."""

    name: str
    phase: Phase
    order: OrderIndex
    dataset: SampleDataset
    collator: Collator
    verifier: Verifier
    survey: Survey
    steps: int
    expected: Mapping[str, int] | None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides this phase's part of the loss curve."""
        collator = asdict(self.collator)
        collator.pop("key")
        return {
            "order": self.order.info.digest,
            "data": index_hash(self.dataset.folder),
            "steps": self.steps,
            "phase": asdict(self.phase),
            "collator": collator,
            "reader": self.dataset.reader,
        }

    def unigram_loss(self, batch: Batch) -> float:
        """Sum of the cross entropy of token frequencies at the scored positions, in nats."""
        return -float(self.survey.log_frequency[batch.labels[batch.scored]].sum())

    def checks(self, world: World, result: PhaseResult | None, margin: float | None) -> list[Check]:
        """What was found in this phase, added up over the ranks."""
        hashes = self.verifier.hashes.checked
        local = [self.verifier.counts[n] for n in COUNTED] + [hashes[n] for n in ("ledger", "shard", "none")]
        *summed, by_ledger, by_shard, by_none = map(int, world.sum(*local))
        counts = dict(zip(COUNTED, summed, strict=True))
        found = [
            Check("samples of each step against the order index", counts["order rows"]),
            Check("rows of the order index against the order law", counts["law rows"],
                  detail=f"{self.name}: too many samples here" if self.verifier.law_positions is None else ""),
            Check("stored samples against the hashes of the build", by_ledger + by_shard,
                  detail=" ".join(([f"{by_shard:,} by their shard's hash, no ledger"] if by_shard else [])
                                  + ([f"{by_none:,} without any hash"] if by_none else []))),
            Check("samples in the model's input against the stored ones, after the loader's edits", counts["samples"]),
            Check("labels against inputs", counts["labels"]),
            Check("documents with their borders", counts["documents"]),
        ]  # fmt: skip
        found += self._token_checks(counts)
        if self.verifier.kind == "encoder" and counts["masked"]:
            found.append(self._mask_check(counts))
        if result:
            found.append(Check("losses and gradients finite", result.steps))
            if margin is not None and result.steps == self.steps:
                found.append(self._loss_check(result, margin))
        return found

    def _token_checks(self, counts: Mapping[str, int]) -> list[Check]:
        checks = []
        lengths, first = self.survey.lengths, self.verifier.first_step
        if lengths is not None and first is not None:
            steps = counts["steps"] // self.verifier.world
            planned = sum(int(lengths[self.order.step(k)].sum()) for k in range(first, first + steps))
            detail = f"{self.name}: {counts['stored tokens']:,} tokens trained on, {planned:,} in those samples"
            failed = int(planned != counts["stored tokens"])
            checks.append(Check("steps with all the tokens of their samples", steps, failed, detail if failed else ""))
        if self.expected is not None and self.survey.source_tokens is not None:
            wrong = [
                f"{source}: {self.survey.source_tokens.get(source, 0):,} tokens, run.json says {tokens:,}"
                for source, tokens in self.expected.items()
                if tokens != self.survey.source_tokens.get(source, 0)
            ]
            detail = "; ".join(wrong[:3])
            checks.append(Check("sources with the tokens that run.json says", len(self.expected), len(wrong), detail))
        return checks

    def _mask_check(self, counts: Mapping[str, int]) -> Check:
        wrong = []
        for name, part, whole, share in (
            ("masked", counts["masked"], counts["maskable"], self.phase.mask_ratio),
            ("of them [MASK]", counts["masked as [MASK]"], counts["masked"], 0.8),
            ("of them unchanged", counts["masked as itself"], counts["masked"], 0.1),
        ):
            if abs(part - share * whole) > SIGMAS * sqrt(share * (1 - share) * whole) + 1:
                wrong.append(f"{self.name}: {part / whole:.2%} {name}, {share:.0%} asked")
        name = "masked tokens in their proportions (mask ratio, 80/10/10)"
        return Check(name, counts["masked"], len(wrong), "; ".join(wrong))

    def _loss_check(self, result: PhaseResult, margin: float) -> Check:
        limit = min(result.unigram_entropy, result.same_targets) - margin
        failed = int(not result.last_loss < limit)
        detail = (
            f"{result.kind} {self.name} {result.last_loss:.2f} < {result.unigram_entropy:.2f}"
            if not failed
            else f"{result.kind} {self.name}: {result.last_loss:.3f} is not below {limit:.3f}"
        )
        return Check("loss clearly below the unigram entropy", 1, failed, detail)


COUNTED = ("order rows", "law rows", "samples", "labels", "documents", "steps", "stored tokens", "masked", "maskable",
           "masked as [MASK]", "masked as itself")  # fmt: skip


def prepare(
    folder: PhaseFolder,
    shape: ModelConfig,
    *,
    seed: int,
    reader: ReaderName = "mmap",
    layout: Layout = "packed",
    batch_tokens: int = 1 << 16,
    scored_tokens: int | None = None,
    survey_samples: int = 1 << 18,
    rank: int = 0,
    world: int = 1,
) -> Prepared:
    """Open a phase, check order index and stored content, choose the number of steps. Arguments: see `TrainConfig`.

    Raises:
        VerificationError, OrderError: the order index or the data is not what the build made.
        ShardError, BuildError: something is missing.
    """
    phase = folder.phase
    kind: Kind = "decoder" if shape.causal else "encoder"
    dataset = SampleDataset(folder.folder / "train", reader)
    order = OrderIndex.open(folder.folder / "order")
    check_size(order, dataset)
    verifier = Verifier(
        phase.name, order, dataset.index, ContentHashes(dataset.index), kind, phase.max_seq_len,
        packed=dataset.packed, rank=rank, world=world,
    )  # fmt: skip
    verifier.check_order_files()
    found = survey(verifier, survey_samples)
    check_data(order, dataset)  # after what names a step and a sample
    whole = order.law.steps_for(world)
    seen = None if found.lengths is None else np.minimum(found.lengths, phase.max_seq_len)
    score = verifier.score = share_to_score(kind, phase, order, found, seen, scored_tokens)
    steps = min(folder.steps or whole, whole)
    if folder.steps is None and folder.work is not None:
        if seen is None:
            raise BuildError(
                f"{found.total:,} samples are too many to choose the steps by their work",
                where=folder.folder,
                remedy="give the number of steps",
            )
        ratio = score * (phase.mask_ratio if kind == "encoder" else 1.0)
        steps = steps_that_fit(
            np.array([step_work(shape, seen[order.step(k)], ratio) for k in range(whole)]), folder.work
        )
    collator = Collator(
        kind, phase.max_seq_len, phase.mask_ratio, (seed, phase.name), layout, dataset.packed, batch_tokens, score
    )
    return Prepared(phase.name, phase, order, dataset, collator, verifier, found, steps, expected_tokens(folder.folder))


def share_to_score(
    kind: Kind, phase: Phase, order: OrderIndex, found: Survey, seen: np.ndarray | None, scored_tokens: int | None
) -> float:
    """The share of labels that gives about `scored_tokens` a step; 1.0 for all. Rounded, as part of the identity."""
    if scored_tokens is None:
        return 1.0
    mean = float(seen.mean()) if seen is not None else float(phase.max_seq_len)
    labels = mean * order.batch * (phase.mask_ratio if kind == "encoder" else 1.0)
    return min(1.0, round(scored_tokens / labels, 4) or 0.0001)


def check_size(order: OrderIndex, dataset: SampleDataset) -> None:
    """The order index has to be of as many samples as the data has."""
    if order.law.samples != len(dataset):
        raise OrderError(
            f"the order index is of {order.law.samples:,} samples, the data has {len(dataset):,}",
            where=order.folder,
            remedy="write the order index of this data",
        )


def check_data(order: OrderIndex, dataset: SampleDataset) -> None:
    """The order index has to be of this `index.json`."""
    data = (dataset.folder / "index.json").read_bytes()
    wanted = order.info.data_digest
    if wanted and wanted not in (hashlib.sha256(data).hexdigest(), xxhash.xxh3_64_hexdigest(data)):
        raise OrderError(
            "the order index is of other data",
            where=order.folder,
            why=f"its data digest {wanted} is not that of {dataset.folder / 'index.json'}",
            remedy="write the order index of this data, or restore the index.json it was made from",
        )


def index_hash(folder: Path) -> str:
    return xxhash.xxh3_64_hexdigest((folder / "index.json").read_bytes())


def expected_tokens(folder: Path) -> dict[str, int] | None:
    """Tokens of each source that `run.json` says are in train; None without one."""
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        return {source: int(row["tokens"]) for source, row in json.loads(path.read_text())["sources"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError("run.json cannot be read", where=path, why=repr(error)) from error
