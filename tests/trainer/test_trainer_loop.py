"""The loop over three phases: verdict, checkpoints, resumption bit for bit, refusals, several processes."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from built_run import write_phase

from ettin_data.base import sealed_json
from ettin_data.base.errors import BuildError, RecipeError
from ettin_data.base.progress import Silent
from ettin_data.storage.mds import MdsReader
from ettin_data.trainer import state
from ettin_data.trainer.loop import LOG, RESULT, TrainConfig, train
from ettin_data.trainer.phases import PHASES, learning_rate, run_phases
from ettin_data.trainer.verdict import Verdict


class Killed(Exception):
    """Stands for the process's end: nothing after it runs."""


def config(run: Path, out: Path, **options) -> TrainConfig:
    defaults = {"phases": run_phases(run, 4), "out": out, "scored_tokens": 48, "checkpoint_steps": 3, "device": "cpu",
                "unigram_start": True}  # fmt: skip
    return TrainConfig(**{**defaults, **options})


class After(Silent):
    """Does something after a step (from 1) of a phase."""

    def __init__(self, phase: str, step: int, do: Callable[[], None]) -> None:
        self.phase, self.left, self.do, self.here = phase, step, do, False

    def start(self, title: str, jobs: int, work: int) -> None:
        self.here = title.endswith(f" {self.phase}")

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None:
        self.left -= self.here
        if self.here and self.left == 0:
            self.do()


def kill_after(phase: str, step: int) -> Silent:
    def kill() -> None:
        raise Killed

    return After(phase, step, kill)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phases that no test changes."""
    root = tmp_path_factory.mktemp("run")
    for i, name in enumerate(PHASES):
        write_phase(root / name, longest=60 if i == 0 else 200, seed=i)
    return root


@pytest.fixture(scope="module")
def whole(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Verdict]]:
    """The folder and the verdict of a run that nobody disturbed, of either kind; made once and not changed."""

    @functools.cache
    def trained(kind: str) -> tuple[Path, Verdict]:
        out = tmp_path_factory.mktemp(kind)
        return out, train(config(built, out, kind=kind))

    return trained


# ---------------------------------------------------------------------------------------------------------------------
# a whole run


def test_three_phases_end_in_a_verdict(built, whole):
    out, verdict = whole("encoder")
    assert verdict.ok and verdict.failure is None, verdict.lines()
    rows = state.read_log(out / LOG)
    assert [(row["phase"], row["step"]) for row in rows] == [(name, k) for name in PHASES for k in (1, 2, 3, 4)]
    assert [p.checkpoints for p in verdict.phases] == [("step3", "step4"), ("ext3", "ext4"), ("decay3", "decay4")]
    assert rows[4]["lr"] == pytest.approx(0.01) and rows[8]["lr"] == pytest.approx(0.005)
    checks = {check.name: check for check in verdict.checks}
    assert all(check.checked and not check.failed for check in checks.values())
    assert checks["samples of each step against the order index"].checked == 3 * 4 * 4
    assert checks["stored samples against the hashes of the build"].checked == 3 * (40 + 4 * 4)
    assert checks["sources with the tokens that run.json says"].checked == 6
    written = Verdict.read(out / RESULT)
    assert written is not None and written == verdict
    again = train(config(built, out))
    assert again.reused and replace(again, reused=False) == verdict


def test_the_loss_has_to_end_below_the_unigram_entropy(built, tmp_path):
    """A model that learned nothing fails, with both numbers."""
    verdict = train(config(built, tmp_path, margin=0.1, phases=run_phases(built, 4)[:1], unigram_start=False))
    (failed,) = [check for check in verdict.checks if check.failed]
    assert not verdict.ok and failed.name == "loss clearly below the unigram entropy"
    assert "is not below" in failed.detail and verdict.phases[0].last_loss > verdict.phases[0].unigram_entropy


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "margin"), [("encoder", 0.5), ("decoder", 1.0)])
def test_a_model_learns_the_rule_of_the_data(tmp_path, kind, margin):
    """Tokens follow one another by a rule nine times in ten: the loss falls far below the unigram entropy.

    An encoder learns from a third of the tokens, each with a neighbour that may be masked too: it gets less far.
    """
    write_phase(tmp_path / "pretrain", samples=1600, batch=8)
    verdict = train(config(tmp_path, tmp_path / "out", phases=run_phases(tmp_path), kind=kind, scored_tokens=None,
                           margin=margin))  # fmt: skip
    assert verdict.ok, verdict.lines()


def test_learning_rates():
    pretrain, extension, decay = PHASES.values()
    assert [learning_rate(replace(pretrain, warmup=0.3), k, 10) for k in (0, 1, 2, 3, 9)] == [0.25, 0.5, 0.75, 1, 1]
    assert learning_rate(extension, 0, 100) == 1 and learning_rate(extension, 25, 100) == pytest.approx(0.75)
    assert learning_rate(extension, 100, 100) == 0.5 and learning_rate(decay, 0, 100) == 0.5
    assert learning_rate(decay, 100, 100) == pytest.approx(0.04 * 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# resumption


@pytest.mark.parametrize(("kind", "phase", "step"), [("encoder", "pretrain", 2), ("decoder", "extension", 4)])
def test_a_killed_run_continues_bit_for_bit(built, whole, tmp_path, kind, phase, step):
    """The same batches and the same losses, to the last bit, as a run that nobody disturbed; so are the weights."""
    undisturbed, verdict = whole(kind)
    with pytest.raises(Killed):
        train(config(built, tmp_path / "killed", kind=kind, progress=kill_after(phase, step)))
    log = tmp_path / "killed" / LOG
    log.write_text(log.read_text() + '{"phase": "pretr')  # a line that the kill cut
    resumed = train(config(built, tmp_path / "killed", kind=kind))
    assert state.read_log(log) == state.read_log(undisturbed / LOG)
    last = [state.load(folder / "decay4.pt").model for folder in (undisturbed, tmp_path / "killed")]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])
    assert verdict.ok and resumed.ok
    assert [p.last_loss for p in verdict.phases] == [p.last_loss for p in resumed.phases]


@pytest.mark.parametrize("name", ["ext4", pytest.param("step3", marks=pytest.mark.slow)])
def test_any_checkpoint_can_be_resumed_from(built, whole, tmp_path, name):
    undisturbed, _ = whole("encoder")
    shutil.copytree(undisturbed, tmp_path / "again")
    train(config(built, tmp_path / "again", resume=tmp_path / "again" / f"{name}.pt"))
    assert state.read_log(tmp_path / "again" / LOG) == state.read_log(undisturbed / LOG)


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(built, tmp_path):
    train(config(built, tmp_path, phases=run_phases(built, 2)[:1]))
    with pytest.raises(state.CheckpointError) as e:
        train(config(built, tmp_path, phases=run_phases(built, 3)[:1], seed=22))
    assert "phases.pretrain.steps: 2 in the checkpoint, 3 now" in str(e.value)
    assert "seed: 21 in the checkpoint, 22 now" in str(e.value)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a checkpoint"])
def test_a_damaged_checkpoint_is_refused(built, tmp_path, damage):
    (tmp_path / "step3.pt").write_bytes(damage)
    with pytest.raises(state.CheckpointError, match="cannot be read"):
        train(config(built, tmp_path))


def test_a_checkpoint_never_runs_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    torch.save({"phase": Evil()}, tmp_path / "step1.pt")
    with pytest.raises(state.CheckpointError):
        state.load(tmp_path / "step1.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_sigkill_and_resume_in_real_processes(built, tmp_path):
    """A real process, killed by the system in the middle of a step."""
    program = (
        "import sys, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from ettin_data.trainer.loop import TrainConfig, train; from ettin_data.trainer.phases import run_phases\n"
        "train(TrainConfig(run_phases(Path(sys.argv[1]), 6), Path(sys.argv[2]), scored_tokens=48, checkpoint_steps=2,\n"
        "                  device='cpu'))"
    )

    def start(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", program, str(built), str(tmp_path / out)])

    assert start("whole").wait() == 0
    process = start("killed")
    log = tmp_path / "killed" / LOG
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and (not log.exists() or log.read_text().count("\n") < 9):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start("killed").wait() == 0
    assert log.read_text() == (tmp_path / "whole" / LOG).read_text()


# ---------------------------------------------------------------------------------------------------------------------
# from one kind to the other, several processes


def test_an_encoder_continues_as_a_decoder_and_back(built, tmp_path):
    def start(name: str, kind: str, number: slice, start_from: Path | None = None) -> Verdict:
        phases = run_phases(built, 2)[number]
        return train(
            config(built, tmp_path / name, kind=kind, phases=phases, start_from=start_from, unigram_start=False)
        )

    start("encoder", "encoder", slice(0, 2))
    cross = start("cross", "decoder", slice(2, 3), tmp_path / "encoder" / "ext2.pt")
    back = start("back", "encoder", slice(2, 3), tmp_path / "cross" / "decay2.pt")
    start("fresh", "decoder", slice(2, 3))
    assert cross.ok and back.ok
    first = [state.read_log(tmp_path / name / LOG)[0]["loss"] for name in ("cross", "fresh")]
    assert first[0] < first[1]  # it did not start anew


@pytest.mark.slow
@pytest.mark.timeout(1000)  # gloo's processes wait in a loop: four on two busy cores take their time
@pytest.mark.parametrize("world", [2, 4])
def test_several_processes_train_as_one(built, whole, tmp_path, world):
    """torchrun with gloo: the same losses within rounding, every sample of every step checked once."""
    alone, one = whole("encoder")
    program = tmp_path / "program.py"
    program.write_text(
        "import torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from ettin_data.trainer.loop import TrainConfig, train; from ettin_data.trainer.phases import run_phases\n"
        f"verdict = train(TrainConfig(run_phases(Path({str(built)!r}), 4), Path({str(tmp_path / 'many')!r}), "
        "scored_tokens=48, checkpoint_steps=3, unigram_start=True, device='cpu'))\n"
        "raise SystemExit(not verdict.ok)"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    many = Verdict.read(tmp_path / "many" / RESULT)
    assert many is not None and many.ok
    pairs = zip(state.read_log(alone / LOG), state.read_log(tmp_path / "many" / LOG), strict=True)
    for a, b in pairs:
        assert (a["tokens"], a["scored"]) == (b["tokens"], b["scored"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    counted = [{c.name: c.checked for c in v.checks} for v in (one, many)]
    name = "samples of each step against the order index"
    assert counted[0][name] == counted[1][name] == 48


# ---------------------------------------------------------------------------------------------------------------------
# faults


def test_a_sample_edited_during_training_stops_it(run, tmp_path):
    """The survey saw good data; then somebody edits a sample that a later step reads."""
    index = MdsReader(run / "pretrain" / "train")

    def edit() -> None:
        from ettin_data.order.index import OrderIndex

        number, row = index.locate(int(OrderIndex.open(run / "pretrain" / "order").step(3)[1]))
        with open(index.folder / index.infos[number].basename, "r+b") as file:
            file.seek(int(index.shard(number).offsets[row + 1]) - 7)
            file.write(b"\x2a")

    verdict = train(config(run, tmp_path / "out", progress=After("pretrain", 2, edit)))
    assert not verdict.ok and "pretrain, step 4, sample" in (verdict.failure or "")
    assert "its content changed after the build" in (verdict.failure or "")
    written = json.loads((tmp_path / "out" / RESULT).read_text())
    assert not written["ok"] and written["failure"] == verdict.failure and written["phases"][0]["steps"] == 3


def test_a_loss_that_is_not_finite_stops_the_run(built, tmp_path, monkeypatch):
    from ettin_data.trainer.model import Model

    forward = Model.forward
    calls = []

    def nan_at_third(self, *args):
        calls.append(1)
        return forward(self, *args) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(Model, "forward", nan_at_third)
    verdict = train(config(built, tmp_path))
    assert not verdict.ok and "pretrain, step 3: the loss is nan" in (verdict.failure or "")


def test_run_json_with_other_token_counts_fails(run, tmp_path):
    path = run / "pretrain" / "run.json"
    data = sealed_json.read(path)
    data["sources"]["wikipedia"]["tokens"] += 1
    sealed_json.write(path, data)
    verdict = train(config(run, tmp_path / "out", phases=run_phases(run, 2)[:1]))
    (failed,) = [check for check in verdict.checks if check.failed]
    assert not verdict.ok and "wikipedia" in failed.detail
    assert failed.name == "sources with the tokens that run.json says"


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(BuildError, match="there is no run here"):
        run_phases(tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="'cuda' is not there"):
            train(TrainConfig((), tmp_path, device="cuda"))
