"""Batch-size warm-up: steps are not the law's, and yet every row is held against its place, whatever else happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from random_data import write_data, write_rows
from reference import mask_rows, sampler, warm_up

from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order
from ettin_data.order.published import file_name, folder_name
from ettin_data.storage.mds import MdsReader, read_index, write_index

BATCH, SAMPLES = 16, 1003
Step = tuple[int, list[int]]  # its number and positions


class Run:
    """A run with warm-up, as steps that a test may change, and what a saver made of them."""

    def __init__(self, root: Path, samples: int = SAMPLES, world: int = 1, rank: int = 0, seed: int = 21) -> None:
        self.root, self.data, self.out = root, root / "train", root / "out"
        write_data(self.data, SAMPLES)
        self.reader = MdsReader(self.data)
        order = sampler(samples, seed, world, rank)
        sizes = warm_up(BATCH // world, len(order), 2, 40)
        ends = np.cumsum(sizes)
        self.steps = [(n + 1, order[e - s : e].tolist()) for n, (s, e) in enumerate(zip(sizes, ends, strict=True))]

    def save(self, change: Callable[[list[list[int]]], list[list[int]]] = lambda rows: rows, skip=()) -> None:
        """Ten steps a file, three files a folder."""
        for begin in range(0, len(self.steps), 10):
            part = self.steps[begin : begin + 10]
            path = self.out / folder_name("pretrain", begin // 30 + 1) / file_name(part[0][0], part[-1][0])
            if begin // 10 in skip:
                continue
            rows = [self.reader.tokens(p).tolist() for _, positions in part for p in positions]
            write_rows(path, change(rows), [number for number, positions in part for _ in positions])

    def check(self, **settings) -> Verification:
        found = verify_order(Request(str(self.data), str(self.out), batch=BATCH, **settings))
        assert to_json(found)["verdict"] == found.verdict and told(found)
        return found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def told(found: Verification) -> str:
    return "\n".join(to_lines(found))


def names(found: Verification) -> list[str]:
    return [deviation.name for deviation in found.deviations]


def kinds(found: Verification) -> dict[str, int]:
    return {difference["kind"]: difference["rows"] for difference in to_json(found)["differences"]}


def test_every_row_agrees(run: Run) -> None:
    run.save()
    found = run.check()
    assert (found.verdict, names(found)) == ("explained", ["inexact_steps"]), told(found)
    assert all(r.agrees for r in found.checked) and len(found.checked) == len(run.steps)


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_masked(run: Run, share: float) -> None:
    run.save(lambda rows: mask_rows(rows, share, np.random.default_rng(0)))
    found = run.check()
    assert (found.verdict, names(found)) == ("explained", ["inexact_steps"]), told(found)


@pytest.mark.parametrize("step", [3, 20, 50])
def test_a_dropped_row_is_named_where_it_is(run: Run, step: int) -> None:
    del run.steps[step][1][1]
    run.save()
    found = run.check()
    assert found.verdict == "differs" and kinds(found) == {"missing": 1}, told(found)
    assert f"step {step + 1} of checkpoint_00000{step // 30 + 1}: the law has this sample" in told(found)


@pytest.mark.parametrize("step", [3, 50])
def test_a_doubled_row_is_named_where_it_is(run: Run, step: int) -> None:
    run.steps[step][1].append(run.steps[step][1][0])
    run.save()
    found = run.check()
    assert found.verdict == "differs" and kinds(found) == {"repeated": 1}, told(found)


@pytest.mark.parametrize("skip", [(0,), (3, 4, 5), (0, 1, 2), (2, 6)])
def test_missing_files_and_folders(run: Run, skip: tuple[int, ...]) -> None:
    run.save(skip=skip)
    found = run.check()
    assert found.verdict == "explained" and all(r.agrees for r in found.checked), told(found)
    assert "rows_passed_over" not in names(found)


def test_steps_that_are_passed_over_without_a_gap_in_their_numbers(run: Run) -> None:
    run.steps = run.steps[:33] + [(n - 4, positions) for n, positions in run.steps[37:]]
    run.save()
    found = run.check()
    assert found.verdict == "differs" and "rows_passed_over" in names(found), told(found)


def test_a_restart_that_reads_rows_again(run: Run) -> None:
    run.steps = run.steps[:40] + [(n + 8, positions) for n, positions in run.steps[32:]]
    run.save()
    found = run.check()
    assert found.verdict == "differs" and "rows_repeated" in names(found), told(found)
    assert all(r.agrees for r in found.checked)


def test_swapped_rows(run: Run) -> None:
    a, b = run.steps[10][1], run.steps[45][1]
    a[2], b[3] = b[3], a[2]
    run.save()
    found = run.check()
    assert found.verdict == "differs" and kinds(found) == {"other_step": 2}, told(found)


@pytest.mark.parametrize(("world", "rank"), [(2, 0), (2, 1), (4, 3)])
def test_one_rank(tmp_path: Path, world: int, rank: int) -> None:
    run = Run(tmp_path, world=world, rank=rank)
    run.save()
    found = run.check()
    assert found.verdict == "explained" and f"only rank {rank} of {world} was saved" in told(found), told(found)
    assert all(r.agrees for r in found.checked)


@pytest.mark.parametrize(("swap", "skip"), [(True, ()), (False, (3, 4, 5))])
def test_another_shard_order(run: Run, swap: bool, skip: tuple[int, ...]) -> None:
    run.save(skip=skip)
    shards = read_index(run.data)
    if swap:
        shards[2], shards[6] = shards[6], shards[2]
    else:
        shards = [shards[i] for i in np.random.default_rng(5).permutation(len(shards))]
    write_index(run.data, shards)
    found = run.check()
    assert found.verdict == "explained" and "another_shard_order" in names(found), told(found)


def test_another_seed_and_other_data(tmp_path: Path) -> None:
    run = Run(tmp_path / "a", seed=22)
    run.save()
    found = run.check()
    assert found.verdict == "explained" and names(found) == ["another_seed", "inexact_steps"]
    other = Run(tmp_path / "b", seed=123_456_789)
    other.save()
    found = other.check(seeds=(21, 22))
    assert found.verdict == "differs" and not found.fits and "all rows are in the data" in told(found)
