"""The same tables, byte for byte, with 1, 2 and 7 workers, on processes and on Ray, and after fifty kills."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import key_kit
import numpy as np
import pytest

from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice, Near
from ettin_data.executor import ExecutorOptions, open_workers

pytestmark = pytest.mark.slow
KILLS = 50
CHILD = """
import pickle, sys
from ettin_data.dedup.join import find_copies
from ettin_data.executor import ExecutorOptions, open_workers
join, paths, workers = pickle.loads(open(sys.argv[1], "rb").read())
with open_workers(ExecutorOptions(workers=workers) if workers > 1 else None) as opened:
    print("begun", flush=True)
    find_copies(join, paths, opened)
"""


@pytest.fixture(scope="module", params=["local", "components"])
def join(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Join:
    """Eight splits of 400 documents, half of which are copies of sixty in the text or in some bands; in 300 jobs."""
    folder, rng = tmp_path_factory.mktemp("keyed"), np.random.default_rng(11)
    splits = []
    for number in range(8):
        keys = rng.integers(0, 256, (400, 16 + 112), np.uint8)
        for row in range(0, 400, 2):
            like = np.random.default_rng(int(rng.integers(0, 60))).integers(0, 256, 128, np.uint8)
            keys[row, 16 if row % 4 else 0 :] = like[16 if row % 4 else 0 :]
            keys[row, 16 + 8 * int(rng.integers(1, 15)) :] = rng.integers(0, 256)
        splits.append(key_kit.write_keyed(folder / f"s{number}", "abc"[number % 3], keys))
    choice = DedupChoice(near=Near.model_validate({"rule": request.param}), priority=["b"])
    return Join(splits, choice, 42, folder / "join", 500, 200)


def paths_in(join: Join, folder: Path) -> dict[str, Path]:
    return {split.name: folder / f"{split.name}.parquet" for split in join.splits}


def moved(join: Join, folder: Path) -> Join:
    return Join(join.splits, join.choice, join.seed, folder, join.run_documents, join.part_documents)


@pytest.fixture(scope="module")
def expected(join: Join, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Made in this process, in one job of each kind."""
    folder = tmp_path_factory.mktemp("expected")
    paths = paths_in(join, folder)
    entries = find_copies(Join(join.splits, join.choice, join.seed, folder / "join"), paths)
    assert sum(entry["left_out"] for entry in entries.values()) > 1000
    return {name: path.read_bytes() for name, path in paths.items()}


@pytest.mark.parametrize(
    ("kind", "workers"), [("local", 1), ("local", 2), ("local", 7), ("ray", 1), ("ray", 2), ("ray", 7)]
)
def test_tables_are_the_same_on_any_workers(
    join: Join, expected: dict[str, bytes], tmp_path: Path, kind: str, workers: int
) -> None:
    if kind == "ray":
        pytest.importorskip("ray")
    options = ExecutorOptions("ray" if kind == "ray" else "local", workers=workers)
    paths = paths_in(join, tmp_path)
    with open_workers(options) as opened:
        find_copies(moved(join, tmp_path / "join"), paths, opened)
    assert {name: path.read_bytes() for name, path in paths.items()} == expected


def test_tables_are_the_same_after_fifty_kills(join: Join, expected: dict[str, bytes], tmp_path: Path) -> None:
    rng, paths = random.Random(1), paths_in(join, tmp_path)
    job = tmp_path / "job"
    outputs = [0]
    for kill in range(KILLS):
        job.write_bytes(pickle.dumps((moved(join, tmp_path / "join"), paths, 1 + kill % 2)))
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(job)],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=dict(os.environ),
        )
        assert child.stdout is not None and child.stdout.readline() == b"begun\n"
        time.sleep(0.4 * rng.random() ** 3)  # mostly short: where the disk is fast, little is left after a long one
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        outputs.append(len(list((tmp_path / "join").glob("*.json"))))
    assert outputs == sorted(outputs), "what is finished stays"
    assert len(set(outputs)) > 5, "kills that hit the search at different places"
    find_copies(moved(join, tmp_path / "join"), paths)
    assert {name: path.read_bytes() for name, path in paths.items()} == expected
