"""Open a phase for training: its data, its order index, the checks on both, and how much of it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from ettin_data.base.errors import BuildError
from ettin_data.load.samples import SampleDataset
from ettin_data.order.index import OrderIndex, index_digest
from ettin_data.order.loader_edits import UNCUT, Loader
from ettin_data.storage import records
from ettin_data.storage.phase import open_phase
from ettin_data.trainer.checks import Survey, Verifier, survey
from ettin_data.trainer.config import TrainConfig
from ettin_data.trainer.content import ContentHashes
from ettin_data.trainer.data import Batch, Collator
from ettin_data.trainer.phases import PhaseFolder, PhaseRules, step_work, steps_that_fit
from ettin_data.trainer.verdict import Check, PhaseResult
from ettin_data.trainer.world import World

SIGMAS = 5.0
"""Standard deviations that a share of masked tokens may be off; by chance alone 1 in 1.7 million is."""


@dataclass
class Prepared:
    """A phase that is open and checked, with the steps that will be trained.

    Attributes:
        expected: tokens of each source in `train/`, as `run.json` has them; None without one.
        seconds, waited: that training took so far, and of them those without data.
    """

    phase: PhaseRules
    order: OrderIndex
    dataset: SampleDataset
    collator: Collator
    verifier: Verifier
    survey: Survey
    steps: int
    expected: Mapping[str, int] | None
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def identity(self) -> dict[str, Any]:
        """What decides this phase's part of the loss curve."""
        collator = asdict(self.collator)
        collator.pop("key")
        collator["loader"] |= {"vocabulary": self.collator.loader.vocabulary.digest}
        return {
            "order": self.order.info.digest,
            "data": index_digest(self.dataset.folder),
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
        mine = self.verifier.counts + self.verifier.hashes.checked
        counts = dict(zip(COUNTED, map(int, world.sum(*(mine[name] for name in COUNTED))), strict=True))
        others = (("shard", "by their shard's hash, no ledger"), ("none", "without any hash"))
        found = [
            Check("samples of each step against the order index", counts["order rows"]),
            Check("rows of the order index against the order law", counts["law rows"],
                  detail=f"{self.phase.name}: too many samples here" if self.verifier.law_positions is None else ""),
            Check("stored samples against the hashes of the build", counts["ledger"] + counts["shard"],
                  detail=" ".join(f"{counts[name]:,} {how}" for name, how in others if counts[name])),
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
            detail = f"{self.phase.name}: {counts['stored tokens']:,} tokens trained on, {planned:,} in those samples"
            failed = int(planned != counts["stored tokens"])
            checks.append(Check("steps with all the tokens of their samples", steps, failed, detail if failed else ""))
        if self.expected is not None and (held := self.survey.source_tokens) is not None:
            wrong = [
                f"{source}: {held.get(source, 0):,} tokens, run.json says {tokens:,}"
                for source, tokens in self.expected.items()
                if tokens != held.get(source, 0)
            ]
            detail = "; ".join(wrong[:3])
            checks.append(Check("sources with the tokens that run.json says", len(self.expected), len(wrong), detail))
        return checks

    def _mask_check(self, counts: Mapping[str, int]) -> Check:
        wrong = []
        for name, part, whole, share in (
            ("masked", counts["masked"], counts["maskable"], self.phase.mask_ratio),
            ("of them the mask", counts["masked as the mask"], counts["masked"], 0.8),
            ("of them unchanged", counts["masked as itself"], counts["masked"], 0.1),
        ):
            if abs(part - share * whole) > SIGMAS * sqrt(share * (1 - share) * whole) + 1:
                wrong.append(f"{self.phase.name}: {part / whole:.2%} {name}, {share:.0%} asked")
        name = "masked tokens in their proportions (mask ratio, 80/10/10)"
        return Check(name, counts["masked"], len(wrong), "; ".join(wrong))

    def _loss_check(self, result: PhaseResult, margin: float) -> Check:
        limit = min(result.unigram_entropy, result.same_targets) - margin
        failed = not result.last_loss < limit
        than = f"is not below {limit:.3f}" if failed else f"< {result.unigram_entropy:.3f}"
        detail = f"{result.kind} {self.phase.name}: {result.last_loss:.3f} {than}"
        return Check("loss clearly below the unigram entropy", 1, int(failed), detail)


COUNTED = ("order rows", "law rows", "samples", "labels", "documents", "steps", "stored tokens", "masked", "maskable",
           "masked as the mask", "masked as itself", "ledger", "shard", "none")  # fmt: skip


def prepare(folder: PhaseFolder, config: TrainConfig, world: World) -> Prepared:
    """Open a phase, check order index and stored content, choose the number of steps.

    Raises:
        VerificationError, OrderError: the order index or the data is not what the build made.
        ShardError, BuildError: something is missing.
    """
    built, kind = open_phase(folder.folder), config.kind
    run = records.read_run(built) if built.run_json.exists() else None
    loader = Loader.of_run(run)
    if loader.max_seq_len == UNCUT:  # data that no build of ours made
        loader = replace(loader, max_seq_len=folder.phase.max_seq_len)
    phase, words = replace(folder.phase, max_seq_len=loader.max_seq_len), loader.vocabulary
    if kind == "encoder" and words.mask is None:
        raise BuildError(
            "an encoder cannot be trained on this data",
            where=folder.folder,
            why=f"its tokenizer has no mask ({words.name})",
            remedy="train a decoder, or name a mask in the recipe: tokenizer.frame.mask",
        )
    dataset = SampleDataset(built.train, config.reader)
    order = OrderIndex.open(built.order)
    order.check_samples(len(dataset))
    verifier = Verifier(
        phase.name, order, dataset.index, ContentHashes(dataset.index), kind, loader,
        packed=dataset.packed, rank=world.rank, world=world.size,
    )  # fmt: skip
    verifier.check_order_files()
    found = survey(verifier, config.survey_samples)
    order.check_data(dataset.folder)  # after what names a step and a sample
    seen = None if found.lengths is None else np.minimum(found.lengths, phase.max_seq_len)
    asked = phase.mask_ratio if kind == "encoder" else 1.0  # labels a token
    if config.scored_tokens is not None:  # rounded, as it is part of the identity
        mean = float(seen.mean()) if seen is not None else float(phase.max_seq_len)
        verifier.score = min(1.0, round(config.scored_tokens / (mean * order.batch * asked), 4) or 0.0001)
    steps = whole = order.law.steps_for(world.size)
    if folder.steps is not None:
        steps = min(folder.steps, whole)
    elif folder.work is not None:
        if seen is None:
            raise BuildError(
                f"{len(dataset):,} samples are too many to choose the steps by their work",
                where=folder.folder,
                remedy="give the number of steps",
            )
        work = [step_work(config.shape(words.size), seen[order.step(k)], verifier.score * asked) for k in range(whole)]
        steps = steps_that_fit(np.array(work), folder.work)
    collator = Collator(
        kind, loader, phase.mask_ratio, (config.seed, phase.name), config.layout, dataset.packed,
        config.batch_tokens, verifier.score,
    )  # fmt: skip
    expected = None if run is None else {source: row.tokens for source, row in run.sources.items()}
    return Prepared(phase, order, dataset, collator, verifier, found, steps, expected)
