"""Open a phase for training: its data, its order index, the checks on both, and how much of it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from ettin_data.base.errors import BuildError
from ettin_data.load.samples import SampleDataset
from ettin_data.order.index import OrderIndex, index_digest
from ettin_data.order.law import Positions
from ettin_data.order.loader_edits import UNCUT, Loader
from ettin_data.order.packed_order import PackedOrder, law_of
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
        whole: steps that there are. packing: what they are, where a loader packs rows; None: those of the order index.
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
    whole: int
    packing: PackedOrder | None
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
            **({"law": vars(self.packing.law)} if self.packing else {}),
        }

    def positions(self, first: int, last: int) -> Iterator[Positions]:
        """Of all samples of each of the steps [first, last), over all ranks."""
        return _positions(self.order, self.packing, first, last)

    def unigram_loss(self, batch: Batch) -> float:
        """Sum of the cross entropy of token frequencies at the scored positions, in nats."""
        return -float(self.survey.log_frequency[batch.labels[batch.scored]].sum())

    def checks(self, world: World, result: PhaseResult | None, margin: float | None) -> list[Check]:
        """What was found in this phase, added up over the ranks."""
        mine = self.verifier.counts + self.verifier.hashes.checked
        counts = dict(zip(COUNTED, map(int, world.sum(*(mine[name] for name in COUNTED))), strict=True))
        others = (("shard", "by their shard's hash, no ledger"), ("none", "without any hash"))
        found = [
            *self._order_checks(counts),
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

    def _order_checks(self, counts: Mapping[str, int]) -> list[Check]:
        if self.packing is not None:
            said = f"{self.packing.law.name}, {self.phase.name}: {counts['packed rows']:,} rows"
            return [Check("samples of each step against the law of packing, row by row", counts["order rows"], 0, said)]
        too_many = f"{self.phase.name}: too many samples here" if self.verifier.law_positions is None else ""
        return [
            Check("samples of each step against the order index", counts["order rows"]),
            Check("rows of the order index against the order law", counts["law rows"], detail=too_many),
        ]

    def _token_checks(self, counts: Mapping[str, int]) -> list[Check]:
        checks = []
        lengths, first = self.survey.lengths, self.verifier.first_step
        if lengths is not None and first is not None:
            steps = counts["steps"] // self.verifier.world
            planned = sum(int(lengths[read].sum()) for read in self.positions(first, first + steps))
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


COUNTED = ("order rows", "law rows", "packed rows", "samples", "labels", "documents", "steps", "stored tokens",
           "masked", "maskable", "masked as the mask", "masked as itself", "ledger", "shard", "none")  # fmt: skip


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
    law = law_of(config.law, run)
    packing = None if law is None else PackedOrder.of(law, order, built.train, loader, kind)
    if packing is not None:
        if packing.law.world % world.size:
            raise BuildError(
                f"rows that are packed for {packing.law.world} ranks cannot be trained on by {world.size} processes",
                remedy="start as many processes as the law has ranks, or a number that divides them",
            )
        loader = replace(loader, max_seq_len=packing.law.length)
        phase = replace(phase, max_seq_len=packing.law.length)
    verifier = Verifier(
        phase.name, order, dataset.index, ContentHashes(dataset.index), kind, loader,
        packed=dataset.packed, packing=packing, rank=world.rank, world=world.size,
    )  # fmt: skip
    verifier.check_order_files()
    found = survey(verifier, config.survey_samples)
    order.check_data(dataset.folder)  # after what names a step and a sample
    seen = None if found.lengths is None else np.minimum(found.lengths, phase.max_seq_len)
    asked = phase.mask_ratio if kind == "encoder" else 1.0  # labels a token
    if config.scored_tokens is not None:  # rounded, as it is part of the identity
        mean = float(seen.mean()) if seen is not None else float(phase.max_seq_len)
        step_tokens = mean * order.batch if packing is None else float(packing.law.step_tokens)
        verifier.score = min(1.0, round(config.scored_tokens / (step_tokens * asked), 4) or 0.0001)
    steps = whole = order.law.steps_for(world.size) if packing is None else packing.steps
    if not whole:
        raise BuildError(
            f"{phase.name} has no step to train on",
            where=folder.folder,
            why=f"its {len(dataset):,} samples do not fill the rows of one" + (f" ({law})" if packing else ""),
            remedy="name a law of fewer ranks or a smaller batch (--law), or ettin-v1: the steps of the order index",
        )
    if folder.steps is not None:
        steps = min(folder.steps, whole)
    elif folder.work is not None:
        if seen is None:
            raise BuildError(
                f"{len(dataset):,} samples are too many to choose the steps by their work",
                where=folder.folder,
                remedy="give the number of steps",
            )
        read = _positions(order, packing, 0, whole)
        work = [step_work(config.shape(words.size), seen[of_step], verifier.score * asked) for of_step in read]
        steps = steps_that_fit(np.array(work), folder.work)
    collator = Collator(
        kind, loader, phase.mask_ratio, (config.seed, phase.name), config.layout, dataset.packed,
        config.batch_tokens, verifier.score,
    )  # fmt: skip
    expected = None if run is None else {source: row.tokens for source, row in run.sources.items()}
    return Prepared(phase, order, dataset, collator, verifier, found, steps, whole, packing, expected)


def _positions(order: OrderIndex, packing: PackedOrder | None, first: int, last: int) -> Iterator[Positions]:
    if packing is None:
        return (order.step(k) for k in range(first, last))
    return (rows.positions for rows in packing.law.steps(packing.samples, first, last))
