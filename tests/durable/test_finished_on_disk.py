"""Finished means on the disk: what is synced before a run says so, and that a machine that died is got over."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tamper
import tiny_run
from progress_log import ProgressLog

from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.inspect.diff import compare
from ettin_data.order.index import OrderIndex
from ettin_data.storage.phase import LOCK, LOGS, WORK
from ettin_data.verify import SOUND, VerifyOptions, verify_phase

FULL = VerifyOptions(full=True)


def again(recipe, phase: Path) -> ProgressLog:
    """The same command."""
    progress = ProgressLog()
    run.build_phase(recipe, BuildOptions(phase.parent, None, None, progress=progress))
    return progress


def test_everything_is_synced_before_run_json_is_there(tiny_recipe, tmp_path: Path, monkeypatch) -> None:
    """Every file after its last byte, every folder after its last name; only logs may come later."""
    synced: dict[int, int] = {}
    unsynced: list[str] = []
    fsync, replace = os.fsync, os.replace

    def remember(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_mtime_ns

    def look(source: Path, target: Path) -> None:
        if Path(target).name == "run.json":
            for path in [Path(target).parent, *Path(target).parent.rglob("*")]:
                status = path.stat()
                if synced.get(status.st_ino) != status.st_mtime_ns and path.name not in (LOCK, Path(source).name):
                    unsynced.append(str(path))
        replace(source, target)

    monkeypatch.setattr("os.fsync", remember)
    monkeypatch.setattr("os.replace", look)
    again(tiny_recipe, tmp_path / "pretrain")
    moment = (str(tmp_path / "pretrain" / LOGS), str(tmp_path / "pretrain" / WORK))  # of which nothing is promised
    unsynced = [path for path in unsynced if not path.startswith(moment)]
    assert set(unsynced) <= {str(tmp_path / "pretrain")}, unsynced  # which run.json itself is just put into
    assert synced[(tmp_path / "pretrain/run.json").stat().st_ino]
    assert verify_phase(tmp_path / "pretrain", FULL).status == SOUND


def lose_power(phase: Path, rng: np.random.Generator) -> list[str]:
    """As a machine that dies leaves files whose bytes were not on the disk: empty, half, or zeros; or not there."""
    files = [path for path in tamper.files(phase) if path.stat().st_size]
    newest = sorted(files, key=lambda path: path.stat().st_mtime_ns)[-int(rng.integers(1, len(files))) :]
    done = []
    for path in rng.choice(np.array(newest, object), min(len(newest), int(rng.integers(1, 5))), replace=False):
        if not path.exists():  # linked: gone with its other name
            continue
        size, how = path.stat().st_size, ("empty", "half", "zeros", "zeros behind", "gone")[int(rng.integers(5))]
        data = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            rest = {"empty": b"", "half": data[: size // 2], "zeros": bytes(size)}
            path.write_bytes(rest.get(how, data[: size // 2] + bytes(size - size // 2)))
        done.append(f"{how} {path.relative_to(phase)}")
    if rng.random() < 0.5:
        (phase / "run.json").unlink(missing_ok=True)
    return done


def heals(recipe, phase: Path, undisturbed: Path, rounds: range) -> None:
    for number in rounds:
        done = lose_power(phase, np.random.default_rng(number))
        again(recipe, phase)
        assert compare(phase, undisturbed).equal, (number, done)
        assert verify_phase(phase, FULL if number % 5 == 0 else VerifyOptions()).status == SOUND, (number, done)


def test_the_same_command_heals_what_a_power_cut_lost(tiny_recipe, copied: Path, tiny_phase: Path) -> None:
    heals(tiny_recipe, copied, tiny_phase, range(8))


@pytest.mark.slow
def test_the_same_command_heals_what_200_power_cuts_lost(tiny_recipe, copied: Path, tiny_phase: Path) -> None:
    heals(tiny_recipe, copied, tiny_phase, range(8, 208))


@pytest.mark.parametrize("how", ["empty", "half", "zeros"])
@pytest.mark.parametrize(
    "name",
    [
        *("run.json", "plan.json", "digests.json", "manifests/alpha.json", "order/order.json", "train/index.json"),
        *("order/interval_000001.parquet", "rejects/beta/*.jsonl", "pools/alpha/*/split.json"),
        *("pools/alpha/*/samples.parquet", "train/alpha/*/shard.00000.mds", "validation/index.json"),
    ],
)
def test_each_kind_of_file_heals(tiny_recipe, tiny_phase: Path, tmp_path: Path, name: str, how: str) -> None:
    subprocess.run(["cp", "-a", str(tiny_phase), str(tmp_path)], check=True)
    phase = tmp_path / tiny_phase.name
    path = sorted(phase.glob(name))[0]
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "zeros": bytes(len(data))}[how])
    again(tiny_recipe, phase)
    assert compare(phase, tiny_phase).equal and verify_phase(phase).status == SOUND


def test_an_order_that_is_whole_is_not_written_again(tiny_recipe, copied: Path) -> None:
    interval = copied / "order/interval_000001.parquet"
    before, data = interval.stat().st_ino, interval.read_bytes()
    assert again(tiny_recipe, copied).jobs() == [] and interval.stat().st_ino == before
    interval.write_bytes(bytes(len(data)))
    progress = again(tiny_recipe, copied)
    assert [title for title, _ in progress.jobs()] == ["order"] and interval.read_bytes() == data
    assert any("the order is written again: interval_000001.parquet is damaged" in line for line in progress.said)
    OrderIndex.open(copied / "order").check()


def test_a_damaged_plan_of_a_new_run_is_planned_again(tiny_recipe, tmp_path: Path) -> None:
    """The remedy that a message gives is one that helps."""
    tiny_run.build(tiny_recipe, tmp_path)
    listing = tmp_path / "pretrain/manifests/alpha.json"
    data = listing.read_bytes()
    listing.write_bytes(data[:20])
    progress = again(tiny_recipe, tmp_path / "pretrain")
    assert any("the source is listed again" in line for line in progress.said)
    assert listing.read_bytes() == data
