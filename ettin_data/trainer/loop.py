"""The loop: three phases in sequence, each step verified before it is trained on, and a verdict at the end.

    prepare   open every phase, check its order index and its stored content, decide how many steps
    resume    from the last checkpoint of the same run, or from another model's weights
    steps     read -> verify -> forward and backward -> all ranks agree -> log; a checkpoint at every interval
    verdict   what was checked, how many, what failed

A step is a pure function of the weights and its number, so a killed run continues to the same loss curve: bit for bit
on CPU with the same number of threads, within rounding elsewhere. Several processes (torchrun) split each step by the
order law; every rank averages over the tokens of all ranks, so the world size changes nothing but the order of
additions.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from ettin_data.base import files
from ettin_data.base.errors import BuildError, OrderError
from ettin_data.base.progress import SILENT, stage
from ettin_data.load.samples import OrderSampler
from ettin_data.storage.phase import TRAINING_LOG
from ettin_data.trainer import state
from ettin_data.trainer.attention import Borders
from ettin_data.trainer.config import TrainConfig
from ettin_data.trainer.content import VerificationError
from ettin_data.trainer.data import Batch, StepBatches, make_loader
from ettin_data.trainer.model import Model
from ettin_data.trainer.phases import learning_rate
from ettin_data.trainer.prepare import Prepared, prepare
from ettin_data.trainer.verdict import Check, PhaseResult, Verdict, combine
from ettin_data.trainer.world import World

RESULT, LOG = "result.json", TRAINING_LOG


def train(config: TrainConfig) -> Verdict:
    """Train and verify. A finding is a verdict that is not ok; it is written to `<out>/result.json` in any case.

    Raises: EttinError when the run cannot start: a folder is missing, a checkpoint is of another run, a bad option.
    """
    world = World.start(config.device)
    try:
        run = Run(config, world)
        try:
            run.prepare()
            earlier = Verdict.read(config.out / RESULT) if config.resume == "latest" else None
            if earlier and earlier.ok and earlier.identity == run.identity:
                return replace(earlier, reused=True)
            run.train()
            verdict = run.verdict(None)
        except (VerificationError, OrderError) as error:
            verdict = run.verdict(error.full_text())
        if world.rank == 0:
            verdict.write(config.out / RESULT)
        return verdict
    finally:
        world.stop()


@dataclass
class Run:
    """The state of `train`: what is prepared, the model, and what was found so far."""

    config: TrainConfig
    world: World
    prepared: list[Prepared] = field(default_factory=list)
    results: list[PhaseResult] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)
    training: bool = False

    def prepare(self) -> None:
        config = self.config
        for folder in config.phases:
            self.prepared.append(prepare(folder, config, self.world))
        words = [prepared.collator.loader.vocabulary for prepared in self.prepared]
        if len({each.digest for each in words}) > 1:
            raise BuildError(
                f"the phases are of different tokenizers: {', '.join(each.digest[:12] for each in words)}",
                why="one model has one vocabulary",
                remedy="train on phases that were built with the same tokenizer",
            )
        self.shape = config.shape(words[0].size)
        self.identity = {
            "kind": config.kind,
            "size": config.size.lower(),
            "model": {k: v for k, v in asdict(self.shape).items() if k != "causal"},
            "seed": config.seed,
            "tuning": asdict(config.rates),
            "unigram_start": config.unigram_start,
            "start_from": files.digest(config.start_from) if config.start_from else None,
            "phases": {p.phase.name: p.identity for p in self.prepared},
        }

    def build(self) -> tuple[int, int]:
        """Make model and optimizer, load what they continue from; returns the phase's number and its next step."""
        config, world = self.config, self.world
        self.model = Model(self.shape, config.seed).to(world.device)
        matrices = [weight for weight in self.model.parameters() if weight.dim() == 2]
        others = [weight for weight in self.model.parameters() if weight.dim() != 2]  # norms and biases do not decay
        groups = [
            {"params": matrices, "weight_decay": self.config.rates.decay / self.config.rates.peak},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=self.config.rates.peak, betas=(0.9, 0.98), eps=1e-6)
        prefixes = [p.phase.prefix for p in self.prepared]
        path = state.latest(config.out, prefixes) if config.resume == "latest" else config.resume
        start = (0, 0)
        if path is not None:
            start = self._restore(Path(path))
        elif config.start_from is not None:
            self.model.load_state_dict(state.load(config.start_from).model)
        elif config.unigram_start:
            self.model.vocabulary_bias.data.copy_(torch.from_numpy(self.prepared[0].survey.log_frequency))
        if config.compile if config.compile is not None else world.device.type == "cuda":
            for layer in self.model.layers:
                layer.compile(dynamic=True)
        self.replica: nn.Module = world.replicate(self.model)
        return start

    def _restore(self, path: Path) -> tuple[int, int]:
        checkpoint = state.load(path)
        changed = state.differences(checkpoint.identity, self.identity)
        if changed:
            raise state.CheckpointError(
                "the checkpoint is of another run",
                where=path,
                why="; ".join(changed[:8]),
                remedy="train into another folder, or start from its weights only with `start_from`",
            )
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        if self.world.device.type == "cpu":
            torch.set_num_threads(checkpoint.threads)  # sums are added up in as many parts as there are threads
        names = [p.phase.name for p in self.prepared]
        return names.index(checkpoint.phase), checkpoint.step

    def _save(self, prepared: Prepared, done: int) -> None:
        if self.world.rank == 0:
            checkpoint = state.Checkpoint(
                prepared.phase.name, done, self.identity, torch.get_num_threads(),
                self.model.state_dict(), self.optimizer.state_dict(),
            )  # fmt: skip
            state.save(self.config.out, prepared.phase.prefix, checkpoint)

    def train(self) -> None:
        """All phases from where the run stands."""
        first, start = self.build()
        self.training = True
        names = [p.phase.name for p in self.prepared]
        self.log = state.open_log(self.config.out / LOG, names, names[first], start) if self.world.rank == 0 else None
        with self.log or contextlib.nullcontext():
            for prepared in self.prepared[first:]:
                self._phase(prepared, start)
                start = 0

    def _phase(self, prepared: Prepared, start: int) -> None:
        config, world = self.config, self.world
        self.model.set_rope(prepared.phase.rope_global, prepared.phase.rope_local)
        sampler = OrderSampler(prepared.packing or prepared.order, world.rank, world.size, start, prepared.steps)
        loader = make_loader(prepared.dataset, sampler, prepared.collator, config.workers)
        every = config.checkpoint_steps or prepared.order.info.interval_steps
        progress, left = config.progress if world.rank == 0 else SILENT, prepared.steps - start
        with stage(progress, f"training {config.kind} {prepared.phase.name}", left, left):
            for part, waited in timed(loader):
                began = time.perf_counter()
                row = self.step(prepared, part)
                prepared.seconds += time.perf_counter() - began + waited
                prepared.waited += waited
                if self.log:
                    self.log.write(json.dumps(row) + "\n")
                done = part.step + 1
                if done % every == 0 or done == prepared.steps:
                    self._save(prepared, done)
                progress.advance(1, row["tokens"], f"loss {row['loss']:.3f}")

    def step(self, prepared: Prepared, part: StepBatches) -> dict[str, Any]:
        """Verify one step, train on it, and return its line of the log."""
        where, problem = f"{prepared.phase.name}, step {part.step + 1}", None
        try:
            prepared.verifier.check(part)
        except VerificationError as error:
            problem = error
        mine = [(len(batch.scored), int(batch.lengths.sum())) for batch in part.batches]
        scored, tokens, failed = self.world.sum(*map(sum, zip(*mine, strict=True)), int(problem is not None))
        if failed:  # all ranks stop together, none waits for a rank that has stopped
            raise problem or VerificationError(f"{where}: another rank stopped here")
        rate = learning_rate(prepared.phase, part.step, prepared.steps) * self.config.rates.peak
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.world.device)
        for i, batch in enumerate(part.batches):
            with self.world.accumulate(self.replica, last=i == len(part.batches) - 1), self.world.precision():
                loss = self._forward(batch)
                (loss * (self.world.size / max(scored, 1))).backward()
            total += loss.detach()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        (summed,) = self.world.sum(float(total))
        value = summed / max(scored, 1)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise VerificationError(f"{where}: the loss is {value}, the gradient's norm {norm}: both must be finite")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        (unigram,) = self.world.sum(sum(prepared.unigram_loss(b) for b in part.batches))
        return {
            "phase": prepared.phase.name,
            "step": part.step + 1,
            "loss": value,
            "unigram": unigram / max(scored, 1),
            "lr": rate,
            "norm": norm,
            "tokens": int(tokens),
            "scored": int(scored),
            "batch": batch_digest(part),
        }

    def _forward(self, batch: Batch) -> Tensor:
        device = self.world.device
        tokens, labels, scored = (torch.from_numpy(x).long() for x in (batch.tokens, batch.labels, batch.scored))
        borders = Borders.of(torch.from_numpy(batch.cu_seqlens), device)
        on_device = [x.to(device, non_blocking=True) for x in (tokens, scored, labels[scored])]
        loss: Tensor = self.replica(on_device[0], borders, *on_device[1:])
        return loss

    def verdict(self, failure: str | None) -> Verdict:
        """From the counters of the checks and the log of all steps, those before a resumption too."""
        rows = state.read_log(self.config.out / LOG) if self.training else []
        checks: list[Check] = []
        for prepared in self.prepared:
            mine = [row for row in rows if row["phase"] == prepared.phase.name]
            if mine:
                self.results.append(self._result(prepared, mine))
            checks += prepared.checks(self.world, self.results[-1] if mine else None, self.config.margin)
        if failure:
            checks.append(Check("stopped", 1, 1, failure.splitlines()[0]))
        return Verdict(
            ok=not any(check.failed for check in checks),
            failure=failure,
            checks=combine(checks),
            phases=tuple(self.results),
            identity=self.identity,
        )

    def _result(self, prepared: Prepared, rows: list[dict[str, Any]]) -> PhaseResult:
        quarter = min(max(len(rows) // 4, 5), len(rows))
        first, last = rows[:quarter], rows[-quarter:]
        return PhaseResult(
            kind=self.config.kind,
            phase=prepared.phase.name,
            steps=len(rows),
            steps_in_order=prepared.whole,
            tokens=sum(row["tokens"] for row in rows),
            scored=sum(row["scored"] for row in rows),
            first_loss=weighted(first, "loss"),
            last_loss=weighted(last, "loss"),
            unigram_entropy=prepared.survey.entropy,
            same_targets=weighted(last, "unigram"),
            seconds=prepared.seconds,
            wait=prepared.waited / (prepared.seconds or 1.0),
            checkpoints=tuple(state.names(self.config.out, prepared.phase.prefix)),
        )


def weighted(rows: list[dict[str, Any]], key: str) -> float:
    """Mean over the scored tokens of some steps."""
    return float(sum(row[key] * row["scored"] for row in rows) / max(sum(row["scored"] for row in rows), 1))


def batch_digest(part: StepBatches) -> str:
    """Of everything that this rank's part of a step holds: equal digests are equal batches."""
    return xxhash.xxh3_64_hexdigest(b"".join(array.data for batch in part.batches for array in batch))


def timed(items: Iterable[StepBatches]) -> Iterator[tuple[StepBatches, float]]:
    """Each item with the seconds that it was waited for."""
    began = time.perf_counter()
    for item in items:
        yield item, time.perf_counter() - began
        began = time.perf_counter()
