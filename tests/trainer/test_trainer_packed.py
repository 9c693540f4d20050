"""Training under a law of packing: every row of every step is the packer's, and what is not is named."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from built_run import write_phase

from ettin_data.base.errors import BuildError
from ettin_data.load.samples import OrderSampler
from ettin_data.trainer.config import TrainConfig
from ettin_data.trainer.content import VerificationError
from ettin_data.trainer.data import StepBatches, make_loader
from ettin_data.trainer.loop import train
from ettin_data.trainer.phases import PHASES, PhaseFolder
from ettin_data.trainer.prepare import Prepared, prepare
from ettin_data.trainer.state import CheckpointError
from ettin_data.trainer.world import World

sys.path.insert(0, str(Path(__file__).parents[1] / "order"))
from reference import packed_steps

WORDS = "modernbert-packed-v1:length=50,batch=16,world=2,micro=2"


@pytest.fixture
def phase(tmp_path: Path) -> Path:
    return write_phase(tmp_path / "pretrain", samples=400)


def config(phase: Path, law: str = WORDS, **options) -> TrainConfig:
    folder = PhaseFolder(PHASES["pretrain"], phase, options.pop("steps", None))
    return TrainConfig((folder,), phase.parent / "out", law=law, scored_tokens=200, **options)


def opened(phase: Path, rank: int = 0, world: int = 1, **options) -> Prepared:
    told = config(phase, **options)
    return prepare(told.phases[0], told, World(rank, world, torch.device("cpu")))


def batches(prepared: Prepared, rank: int = 0, world: int = 1) -> list[StepBatches]:
    sampler = OrderSampler(prepared.packing, rank, world, 0, prepared.steps)
    return list(make_loader(prepared.dataset, sampler, prepared.collator))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_what_the_model_reads_is_what_a_model_of_the_packer_gives(phase: Path, kind) -> None:
    prepared = opened(phase, kind=kind)
    law = prepared.packing.law
    assert (law.seed, law.epoch, law.width) == (21, 0, 100)
    lengths = [len(prepared.dataset.index.tokens(i)) for i in range(len(prepared.dataset))]
    made = packed_steps(law, lengths)
    parts = batches(prepared)
    assert [[batch.positions.tolist() for batch in part.batches] for part in parts] == made
    assert prepared.whole == len(made) > 10 and max(lengths) > 50
    for part in parts:
        assert all(len(batch.tokens) <= 100 and batch.lengths.max() <= 50 for batch in part.batches)
        prepared.verifier.check(part)
    checks = {check.name: check for check in prepared.checks(World(0, 1, torch.device("cpu")), None, None)}
    rows = checks["samples of each step against the law of packing, row by row"]
    assert (
        rows.checked == sum(len(row) for step in made for row in step)
        and f"{sum(map(len, made)):,} rows" in rows.detail
    )
    assert not any(check.failed for check in checks.values())


def test_the_rows_of_the_laws_ranks_are_divided_among_processes(phase: Path) -> None:
    whole = batches(opened(phase))
    halves = [batches(opened(phase, rank, 2), rank, 2) for rank in range(2)]
    for one, *two in zip(whole, *halves, strict=True):
        rows = [[batch.positions.tolist() for batch in part.batches] for part in (one, *two)]
        assert rows[0] == rows[1] + rows[2]
    with pytest.raises(BuildError, match="2 ranks cannot be trained on by 3 processes"):
        opened(phase, 0, 3)


def swapped(rows: list[list[int]]) -> None:
    rows[0][0], rows[1][0] = rows[1][0], rows[0][0]


def moved(rows: list[list[int]]) -> None:
    rows[1].append(rows[0].pop())


def lacking(rows: list[list[int]]) -> None:
    rows.pop()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (swapped, r"step 3, sample \d+: it reached the model in row 0, in place 0"),
        (moved, r"step 3: \d samples where modernbert-packed-v1 has \d"),
        (lacking, "step 3: 7 rows where modernbert-packed-v1 has 8"),
    ],
)
def test_a_row_that_is_not_the_laws_is_named(phase: Path, fault, said: str) -> None:
    prepared = opened(phase)
    parts = batches(prepared)
    rows = [batch.positions.tolist() for batch in parts[2].batches]
    fault(rows)
    keys = [(2, position, number) for number, row in enumerate(rows) for position in row]
    bad = prepared.collator([prepared.dataset[key] for key in keys])
    for part in parts[:2]:
        prepared.verifier.check(part)
    with pytest.raises(VerificationError, match=said):
        prepared.verifier.check(bad)
    assert prepared.verifier.counts["steps"] == 2


def test_a_run_is_trained_verified_and_resumed(phase: Path) -> None:
    verdict = train(config(phase, steps=6))
    assert verdict.ok, verdict.lines()
    assert verdict.phases[0].steps == 6 and verdict.phases[0].steps_in_order > 10
    again = train(replace(config(phase, steps=6), resume=None))
    first = [row.last_loss for row in (verdict.phases[0], again.phases[0])]
    assert first[0] == first[1] and np.isfinite(first[0])
    for law, why in ((WORDS + ",buffer=1", "cannot fill 4 rows"), ("sequential-v1", "packs no rows")):
        refused = train(config(phase, law, steps=6))
        assert not refused.ok and why in refused.failure


def test_samples_that_fill_no_step_are_no_agreement(phase: Path) -> None:
    with pytest.raises(BuildError, match=r"no step to train on[\s\S]*its 400 samples do not fill[\s\S]*--law"):
        train(config(phase, WORDS.replace("batch=16", "batch=400,buffer=2000")))


def test_another_law_is_another_run(phase: Path) -> None:
    train(config(phase, steps=4))
    with pytest.raises(CheckpointError, match="another run"):
        train(config(phase, f"{WORDS},buffer=24", steps=5))
