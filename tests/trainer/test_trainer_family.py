"""mmBERT's phases in the trainer: 256,000 ids in uint32, tokens by role, masks and RoPE of each phase, packed rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import record_kit
import torch
from built_run import write_split

from ettin_data.base.errors import RecipeError
from ettin_data.load.samples import OrderSampler
from ettin_data.order.index import index_digest, write_order
from ettin_data.order.law import OrderLaw
from ettin_data.recipe import load_recipe
from ettin_data.storage.mds import write_index
from ettin_data.storage.phase import open_phase
from ettin_data.tokenizer.vocabulary import Frame, Vocabulary
from ettin_data.trainer.config import TrainConfig
from ettin_data.trainer.data import make_loader
from ettin_data.trainer.loop import train
from ettin_data.trainer.phases import learning_rate, rules_of, run_phases
from ettin_data.trainer.prepare import prepare
from ettin_data.trainer.transformers_form import export_checkpoint
from ettin_data.trainer.world import World

GEMMA = Vocabulary(
    "google/gemma-2-9b", "3f289bc05132635a8bc7aca7aa21255efd5e18f3710f43e3cdb96bcd41be4922", 256_000,
    open=2, close=1, pad=0, mask=4, unknown=3, reserved=(0, 1, 2, 3, 4, 5, 6, 106, 107),
    frame=Frame("<bos>", "<eos>", "<pad>", "<mask>", "<unk>"),
)  # fmt: skip
LAW = "modernbert-packed-v1:world=2,micro=2"
PHASES = ("pretrain", "extension", "decay-mid")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phases as mmBERT's recipes describe them, but for their size."""
    root = tmp_path_factory.mktemp("mmbert") / "run"
    for seed, name in enumerate(PHASES):
        draw, folder = np.random.default_rng(seed), root / name
        samples = [np.array([2, *draw.integers(200, 256_000, draw.integers(6, 70)), 1], np.uint32) for _ in range(120)]
        infos = write_split(folder / "train/web/a_0000-x", samples)
        write_index(folder / "train", [info.moved("web/a_0000-x") for info in infos])
        described = load_recipe(f"mmbert/{name}").model_dump(mode="json")
        described |= {"length": 64, "loader": {"rule": "ettin", "max_seq_len": 64}}
        record_kit.write_run(
            folder, {"web": sum(map(len, samples))}, recipe=described, vocabulary=GEMMA.to_json(),
            tokenizer={"sha256": GEMMA.digest, "vocab_size": GEMMA.size},
        )  # fmt: skip
        law = OrderLaw(seed=21, epoch=0, samples=len(samples), batch=16)
        write_order(folder / "order", law, interval_steps=3, phase=name, data_digest=index_digest(folder / "train"))
    return root


def test_the_rules_are_the_recipes(run: Path) -> None:
    rules = {name: rules_of(open_phase(run / name)) for name in PHASES}
    assert [rules[name].mask_ratio for name in PHASES] == [0.30, 0.15, 0.05]
    assert [(r.rope_global, r.rope_local) for r in rules.values()] == [(1e4, 1e4), (1.6e5, 1.6e5), (1.6e5, 1.6e5)]
    rates = {name: [learning_rate(r, step, 1000) for step in (0, 1, 500, 999)] for name, r in rules.items()}
    assert rates["pretrain"][0] < 1 and rates["pretrain"][2:] == [1, 1] and rates["extension"] == [1] * 4
    assert rates["decay-mid"][0] == 1 and 0.02 < rates["decay-mid"][3] < 0.03
    assert [r.prefix for r in rules.values()] == ["step", "ext", "decay-mid"]


@pytest.mark.parametrize("said", ["mask=1.5", "rope=0", "schedule=cosine", "lr=1"])
def test_what_no_training_is(said: str) -> None:
    with pytest.raises(RecipeError, match=rf"training\.{said.partition('=')[0]}"):
        load_recipe("mmbert/extension", overrides=[f"training.{said}"])


def test_batches_are_of_its_ids(run: Path) -> None:
    folder = run_phases(run)[0]
    config = TrainConfig((folder,), run.parent / "out", law=LAW)
    world = World(0, 1, torch.device("cpu"))
    prepared = prepare(folder, config, world)
    assert prepared.dataset.index.shard(0).dtype == np.uint32
    read = Counted()
    for part in make_loader(prepared.dataset, OrderSampler(prepared.packing), prepared.collator):
        prepared.verifier.check(part)
        for batch in part.batches:
            read.add(batch)
    assert read.largest > 250_000 and read.framed and read.masks > 0 and not read.foreign
    assert not any(check.failed for check in prepared.checks(world, None, None))


class Counted:
    """What batches hold."""

    def __init__(self) -> None:
        self.largest, self.framed, self.masks, self.foreign = 0, True, 0, 0

    def add(self, batch) -> None:
        self.largest = max(self.largest, int(batch.tokens.max()))
        self.framed &= bool((batch.tokens[batch.starts] == 2).all())
        self.masks += int((batch.tokens == 4).sum())
        self.foreign += int(np.isin(batch.tokens, (0, 3, 5, 6, 106, 107)).sum())


@pytest.mark.slow
def test_an_encoder_is_trained_through_its_phases(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "trainer/encoder"
    verdict = train(TrainConfig(run_phases(run, 2), out, law=LAW, scored_tokens=40))
    assert verdict.ok, verdict.lines()
    assert [p.phase for p in verdict.phases] == list(PHASES) and all(p.steps == 2 for p in verdict.phases)
    rows = next(c for c in verdict.checks if c.name.startswith("samples of each step against the law of packing"))
    assert rows.checked > 100 and rows.failed == 0
    export_checkpoint(out / "decay-mid2.pt", run, tmp_path / "form")
    config = json.loads((tmp_path / "form/config.json").read_text())
    assert (config["vocab_size"], config["global_rope_theta"], config["local_rope_theta"]) == (256_000, 1.6e5, 1.6e5)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (2, 1, 0)
