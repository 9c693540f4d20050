"""Readers of a run under a limit of open files that is far below its shards, intervals and row groups."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_run import documents, write_phase

from ettin_data.order import index
from ettin_data.order.index import OrderIndex, OrderLaw, write_order
from ettin_data.storage.mds import MdsReader

LIMIT = 256


@pytest.fixture(scope="module")
def phase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phase of a shard for each of more than 600 samples and an interval for each of more than 300 steps."""
    folder = tmp_path_factory.mktemp("run") / "pretrain"
    split = {"web/web_0000-x": documents("web", 400, 1, longest=120)}
    write_phase(folder, split, 64, 2, shard_bytes=300, interval_steps=1)
    assert len(MdsReader(folder / "train").infos) > 2 * LIMIT
    assert len(OrderIndex.open(folder / "order").info.intervals) > LIMIT
    return folder


@pytest.fixture
def few_files() -> Iterator[None]:
    """What this process has open already is not counted."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 32, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_every_shard_and_every_row_group_is_read_and_kept(phase: Path, tmp_path: Path, few_files, monkeypatch) -> None:
    monkeypatch.setattr(index, "_ROW_GROUP_ROWS", 2)
    write_order(tmp_path / "order", OrderLaw(3, 0, 1200, 2), interval_steps=300)
    reader, order = MdsReader(phase / "train"), OrderIndex.open(tmp_path / "order")
    opened = len(os.listdir("/proc/self/fd"))
    samples = [reader[i]["input_ids"] for i in range(len(reader))]
    steps = [order.step(k) for k in range(order.steps)]
    assert len(os.listdir("/proc/self/fd")) == opened
    again = MdsReader(phase / "train", keep_open=1)
    assert all(np.array_equal(kept, again.tokens(i)) for i, kept in enumerate(samples))
    np.testing.assert_array_equal(np.concatenate(steps), order.law.permutation()[: order.law.used])


COMMANDS = f"""
    import resource, sys
    from pathlib import Path
    resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
    from ettin_data.cli.main import app
    from ettin_data.order.index import OrderIndex
    from ettin_data.storage.mds import MdsReader

    phase, out = Path(sys.argv[1]), Path(sys.argv[2])
    assert sum(len(sample["input_ids"]) for sample in MdsReader(phase / "train"))
    for words in (
        ["trace", phase, "--step", "3"], ["trace", phase, "--doc", "web-7"], ["exposure", phase],
        ["view", phase, "--step", "2", "--out", out / "step.html"], ["order", "export", phase, "--out", out / "order"],
        ["order", "verify", "--data", phase / "train", "--published", out / "order"],
    ):
        app([str(word) for word in words], standalone_mode=False)
"""


@pytest.mark.slow
def test_the_commands_that_read_a_run_work_with_few_files(phase: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", textwrap.dedent(COMMANDS), str(phase), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (tmp_path / "step.html").exists()


def test_the_trainers_loader_reads_a_run_with_few_files(phase: Path, few_files) -> None:
    data = pytest.importorskip("ettin_data.load.samples")
    dataset, order = data.SampleDataset(phase / "train"), OrderIndex.open(phase / "order")
    for pairs in data.OrderSampler(order):
        for step, position in pairs:
            assert len(dataset[step, position].tokens)
