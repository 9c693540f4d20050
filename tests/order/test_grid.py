"""Publications of every kind, in every state, with every fault: no verdict is wrong.

Made by a model of the reference's loader and saver (`reference.py`) that shares no code with what is tested. A verdict
is right if it agrees (as asked, or with a law that it names) exactly where nothing is wrong with the rows; "cannot
tell" is never wrong.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from modernbert import CLS, SEP
from random_data import write_rows
from reference import mask_rows, sampler, warm_up

from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order
from ettin_data.order.published import file_name, folder_name
from ettin_data.storage.mds import MdsReader, ShardWriter, read_index, write_index

SAMPLES, BATCH, A_SHARD, A_FILE, A_FOLDER = 720, 16, 60, 5, 15
KINDS = ("plain", "warm-up", "masked")
STATES = ("complete", "partial", "other shard order", "other N", "one rank", "resumed")
Steps = list[tuple[int, list[list[int]]]]  # number and rows of each


def long_row(steps: Steps, rng: np.random.Generator, margin: int = 2) -> tuple[int, int]:
    """A step, not of the first or last ones, and a row of it that is long enough to be recognised."""
    while True:
        k = int(rng.integers(margin, len(steps) - margin))
        r = int(rng.integers(len(steps[k][1])))
        if len(steps[k][1][r]) > 30:
            return k, r


def swap_rows(steps: Steps, rng: np.random.Generator) -> None:
    (a, r), (b, s) = long_row(steps, rng), long_row(steps, rng)
    while b == a:
        b, s = long_row(steps, rng)
    steps[a][1][r], steps[b][1][s] = steps[b][1][s], steps[a][1][r]


def drop_row(steps: Steps, rng: np.random.Generator) -> None:
    k, r = long_row(steps, rng)
    del steps[k][1][r]


def double_row(steps: Steps, rng: np.random.Generator) -> None:
    k, r = long_row(steps, rng)
    steps[k][1].insert(r, steps[k][1][r])


def change_tokens(steps: Steps, rng: np.random.Generator) -> None:
    k, r = long_row(steps, rng)
    row = steps[k][1][r]
    for place in rng.permutation(np.arange(1, len(row) - 1))[:25].tolist():
        row[place] = (row[place] + 7) % 50_000


def cut_row(steps: Steps, rng: np.random.Generator) -> None:
    k, r = long_row(steps, rng)
    steps[k][1][r] = steps[k][1][r][:20]


def garbage_row(steps: Steps, rng: np.random.Generator) -> None:
    k, r = long_row(steps, rng)
    steps[k][1][r] = [CLS, *rng.integers(0, 50_000, len(steps[k][1][r]) - 2).tolist(), SEP]


def drop_step(steps: Steps, rng: np.random.Generator) -> None:
    inside = [i for i, (number, _) in enumerate(steps) if (number - 1) % A_FILE == 2 and 2 <= i < len(steps) - 2]
    del steps[inside[int(rng.integers(len(inside)))]]


def repeat_step(steps: Steps, rng: np.random.Generator) -> None:
    a, b = rng.permutation(np.arange(2, len(steps) - 2))[:2].tolist()
    steps[a] = (steps[a][0], [list(row) for row in steps[b][1]])


def swap_steps(steps: Steps, rng: np.random.Generator) -> None:
    a, b = rng.permutation(np.arange(2, len(steps) - 2))[:2].tolist()
    steps[a], steps[b] = (steps[a][0], steps[b][1]), (steps[b][0], steps[a][1])


def shuffle_all(steps: Steps, rng: np.random.Generator) -> None:
    rows = [row for _, each in steps for row in each]
    order = iter(rng.permutation(len(rows)).tolist())
    steps[:] = [(number, [rows[next(order)] for _ in each]) for number, each in steps]


def cut_all(steps: Steps, rng: np.random.Generator) -> None:
    steps[:] = [(number, [row[:3] for row in each]) for number, each in steps]


def double_folder(steps: Steps, rng: np.random.Generator) -> None:
    """Published again under another name: the saver below puts steps that come again into a folder of their own."""
    steps += [(number, [list(row) for row in each]) for number, each in steps[-A_FOLDER:]]


FAULTS: tuple[Callable[[Steps, np.random.Generator], None], ...] = (
    swap_rows, drop_row, double_row, change_tokens, cut_row, garbage_row,
    drop_step, repeat_step, swap_steps, shuffle_all, cut_all, double_folder,
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """The data that all cases are about, and a folder in which a case is made."""

    data: Path
    reader: MdsReader
    root: Path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root, rng = tmp_path_factory.mktemp("grid"), np.random.default_rng(7)
    shards = []
    for number in range(SAMPLES // A_SHARD):
        lengths = rng.integers(12, 60, A_SHARD)
        offsets = np.append(0, np.cumsum(lengths))
        tokens = rng.integers(0, 50_000, offsets[-1]).astype(np.uint16)
        tokens[offsets[:-1]], tokens[offsets[1:] - 1] = CLS, SEP
        (root / f"train/part_{number:02d}").mkdir(parents=True)
        writer = ShardWriter(root / f"train/part_{number:02d}")
        writer.write([f"{number}-{i}" for i in range(A_SHARD)], tokens, offsets)
        shards += [info.moved(f"part_{number:02d}") for info in writer.finish()]
    write_index(root / "train", shards)
    return Bench(root / "train", MdsReader(root / "train"), root)


def publish(
    bench: Bench, kind: str, state: str, fault: Callable[[Steps, np.random.Generator], None] | None, seed: int
) -> Verification:
    """Make a publication and verify it."""
    rng, shards = np.random.default_rng(seed), read_index(bench.data)
    samples = SAMPLES - A_SHARD if state == "other N" else SAMPLES
    world, rank = (2, int(rng.integers(2))) if state == "one rank" else (1, 0)
    order = sampler(samples, 21, world, rank)
    size = BATCH // world
    sizes = warm_up(size, len(order), 3, 20) if kind == "warm-up" else [size] * (len(order) // size)
    ends = np.cumsum(sizes).tolist()
    steps: Steps = [
        (number, [bench.reader.tokens(int(p)).tolist() for p in order[end - n : end]])
        for number, (n, end) in enumerate(zip(sizes, ends, strict=True), start=1)
    ]
    if state == "resumed":
        steps = [(number - 9, rows) for number, rows in steps[9:]]
    if state == "partial":  # a file is lacking
        lost = int(rng.integers(1, len(steps) // A_FILE - 1))
        steps = [(number, rows) for number, rows in steps if (number - 1) // A_FILE != lost]
    if fault:
        fault(steps, rng)
    if kind == "masked":
        share = float(rng.choice([0.3, 0.15, 0.05]))
        steps = [(number, mask_rows(rows, share, rng)) for number, rows in steps]
    data, out = bench.root / f"data-{seed}", bench.root / f"out-{seed}"
    shutil.copytree(bench.data, data, copy_function=os.link)
    (data / "index.json").unlink()
    write_index(data, [shards[i] for i in rng.permutation(len(shards))] if state == "other shard order" else shards)
    met, again = set[int](), 0
    for begin in sorted({(number - 1) // A_FILE for number, _ in steps}):
        mine = [(number, rows) for number, rows in steps if (number - 1) // A_FILE == begin]
        for part in (mine[:A_FILE], mine[A_FILE:]):
            again = 90 if part and part[0][0] in met else 0
            met |= {number for number, _ in part}
            folder = folder_name("pretrain", begin * A_FILE // A_FOLDER + 1 + again)
            path = out / folder / file_name(begin * A_FILE + 1, (begin + 1) * A_FILE)
            if part:
                write_rows(path, [r for _, rows in part for r in rows], [n for n, rows in part for _ in rows])
    try:
        return verify_order(Request(str(data), str(out), batch=BATCH, seeds=(21, 22, 42)))
    finally:
        shutil.rmtree(out)


def judge(bench: Bench, kind: str, state: str, fault: int | None, seed: int) -> str:
    """ "" for a right verdict, "cannot tell" for that, else what is wrong."""
    found = publish(bench, kind, state, None if fault is None else FAULTS[fault], seed)
    assert to_json(found)["exit_status"] == found.exit_status
    if found.verdict == "cannot tell":
        return "cannot tell"
    right = found.verdict in (("agrees", "explained") if fault is None else ("differs",))
    if fault is None and state == "complete" and kind != "warm-up":
        right &= found.verdict == "agrees" and found.exit_status == 0
    name = "nothing" if fault is None else FAULTS[fault].__name__
    return "" if right else f"{kind}, {state}, {name}, seed {seed}:\n" + "\n".join(list(to_lines(found))[:18])


def cases(faulty: bool, count: int, seed: int) -> list[tuple[str, str, int | None, int]]:
    """Drawn by seed."""
    rng = np.random.default_rng(seed)
    return [
        (
            KINDS[rng.integers(len(KINDS))],
            STATES[rng.integers(len(STATES))],
            int(rng.integers(len(FAULTS))) if faulty else None,
            seed * 1_000_000 + i,
        )
        for i in range(count)
    ]


def all_right(bench: Bench, chosen: list[tuple[str, str, int | None, int]], untold: float) -> None:
    verdicts = [judge(bench, *case) for case in chosen]
    wrong = [text for text in verdicts if text not in ("", "cannot tell")]
    assert not wrong, f"{len(wrong)} of {len(verdicts)}\n" + "\n\n".join(wrong[:6])
    assert verdicts.count("cannot tell") <= untold * len(verdicts)


def test_publications_that_agree_are_not_refused(bench: Bench) -> None:
    """Each state once, each kind twice; the whole grid is below."""
    all_right(bench, [(KINDS[i % 3], state, None, 1_000_000 + i) for i, state in enumerate(STATES)], untold=0)


def test_publications_that_do_not_agree_are_not_accepted(bench: Bench) -> None:
    """Each fault once, in each state twice."""
    chosen = [(KINDS[(i + i // 6) % 3], STATES[i % 6], i, 2_000_000 + i) for i in range(len(FAULTS))]
    all_right(bench, chosen, untold=0.3)


@pytest.mark.slow
def test_the_whole_grid(bench: Bench) -> None:
    grid = product(KINDS, STATES, [None, *range(len(FAULTS))])
    all_right(bench, [(*case, 3_000_000 + i) for i, case in enumerate(grid)], untold=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(10))
@pytest.mark.parametrize("faulty", [False, True])
def test_a_thousand_of_each(bench: Bench, faulty: bool, hundred: int) -> None:
    """By hundreds, which processes share among them (some 50 s of one core each)."""
    chosen = cases(faulty, 1000, 4 + faulty)[100 * hundred : 100 * (hundred + 1)]
    all_right(bench, chosen, untold=0.3 if faulty else 0)
