"""Runs that others may have written: what stands in a file is a finding of that file, or a clear error, and no more.

The law, for one field of one file changed at a time: nothing but errors of ours, no hang, memory under 2 GB; and where
a value is another one, `verify` finds it, or nothing says what it should be (`UNCOVERED`).
"""

from __future__ import annotations

import fnmatch
import json
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mutations
import numpy as np
import pytest
import tamper

from ettin_data.base.errors import EttinError, FormatError
from ettin_data.base.files import NotOrdinary
from ettin_data.inspect.decoding import words_of
from ettin_data.inspect.diff import compare
from ettin_data.inspect.exposure import across_phases, to_json
from ettin_data.inspect.lookup import Phase
from ettin_data.inspect.trace import trace_document, trace_step
from ettin_data.inspect.view import page
from ettin_data.order import published
from ettin_data.order.data import Data
from ettin_data.order.export import export_order
from ettin_data.order.index import OrderIndex
from ettin_data.verify import SOUND, Finding, VerifyOptions, verify_phase
from ettin_data.verify.phase import UNFORESEEN

FULL = VerifyOptions(full=True)
OURS = (EttinError, NotOrdinary)
MEMORY = 2 << 30
LIMIT_S = 60

KINDS = {
    "run": "run.json",
    "plan": "plan.json",
    "digests": "digests.json",
    "listing": "manifests/*.json",
    "order": "order/order.json",
    "positions": "order/*.parquet",
    "index": "[tv]*/index.json",
    "split index": "*/*/*/index.json",
    "marker": "*/*/*/split.json",
    "attribute": "attributes/*/attribute.json",
    "reasons": "attributes/*/*/*.parquet",
    "documents": "*/*/*/documents.parquet",
    "samples": "*/*/*/samples.parquet",
}

UNCOVERED = {
    "run.json executor*": "how it was built, of which nothing else says anything",
    "run.json seconds": "how long it took",
    "run.json stages*": "how long its stages took",
    "run.json versions*": "with what it was built: another build with other versions may give the same",
    "run.json sources.*.passes": "a share of what was left for train, which only the mix knows",
    "run.json sources.*.not_taken*": "their sum is checked; which reason a document has, only the mix knows",
    "run.json sources.*.left_out*": "their sum is checked; which reason a document has, only the step knows",
    "run.json tokenizer.*": "where it came from, and what encoded with it; its digest and size are checked",
    "run.json vocabulary.name": "where it can be had",
}
"""Place in a file -> why nothing else says what should stand there."""


@contextmanager
def in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"over {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def verified(phase: Path) -> list[Finding]:
    """What a quick and a full look find; the refusal of a newer format counts as one."""
    found: list[Finding] = []
    for options in (VerifyOptions(), FULL):
        try:
            found += verify_phase(phase, options).findings
        except FormatError as error:
            found.append(Finding(str(error.where), "newer", error.what))
    assert not [finding for finding in found if finding.reason == UNFORESEEN], found
    return found


def looked_at(phase: Path, other: Path) -> None:
    """Every other way to look into a run: each ends well, or in an error of ours."""
    with suppress(*OURS):
        OrderIndex.open(phase / "order").check()
    with suppress(*OURS):
        compare(phase, other)
    with suppress(*OURS):
        list(Data(str(phase / "train")).tokens(np.arange(4)))
    with suppress(*OURS):
        opened = Phase(phase)
        words = words_of(opened.loader.vocabulary)
        for step in (1, opened.order.steps):
            with suppress(*OURS):
                trace_step(opened, step, rank=1, world=2)
                page(opened, step, words.decode)
        with suppress(*OURS):
            trace_document([opened], id="alpha-0-3")
        with suppress(*OURS):
            to_json(across_phases([opened], keep=3), [opened])


def attack(phase: Path, other: Path, rng: np.random.Generator) -> tuple[str, str]:
    """One mutated run: (kind of file, what came of it)."""
    kind = str(rng.choice(list(KINDS)))
    paths = sorted(phase.glob(KINDS[kind]))
    path = paths[int(rng.integers(len(paths)))]
    name = path.relative_to(phase).as_posix()
    mode = str(rng.choice(["as is", "sealed", "forged"]))
    if path.suffix == ".parquet":
        mutation = mutations.mutate_parquet(path, name, rng)
    else:
        mutation = mutations.mutate_json(path, name, rng, mode != "as is")
    with tamper.restored(phase), in_time():
        path.write_bytes(mutation.data)
        if mode == "forged":
            with suppress(Exception):  # the forger may not get along with it
                if name.count("/") == 3:
                    tamper.forge(phase, name.rpartition("/")[0])
                else:
                    tamper.forge_phase(phase)
        try:
            found = verified(phase)
            looked_at(phase, other)
        except BaseException as error:
            raise AssertionError(f"{mutation}, {mode}: {type(error).__name__}: {error}") from error
    if not mutation.changes:
        return kind, "the same values"
    listed = any(fnmatch.fnmatch(f"{name} {mutation.place}", place) for place in UNCOVERED)
    assert found or listed or mode == "forged", f"{mutation}, {mode}: not found"
    return kind, f"{'found' if found else 'listed' if listed else 'not found'} {mode}"


def attacked(phase: Path, copy: Path, number: int, seed: int) -> Counter[tuple[str, str]]:
    shutil.copytree(phase, copy)
    rng = np.random.default_rng(seed)
    done = Counter(attack(phase, copy, rng) for _ in range(number))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 < MEMORY
    assert verify_phase(phase, FULL).status == SOUND  # it was put back after each
    return done


def read_publication(folder: Path) -> None:
    """Everything that a publication is read by."""
    with suppress(*OURS):
        listed = published.list_published(str(folder))
        for each in listed:
            published.step_runs(str(folder), each.path)
            rows = sum(len(rows) for rows in published.iter_rows(str(folder), each.path, np.dtype(np.uint16), 3))
            list(published.read_rows(str(folder), each.path, np.arange(0, rows, 3), np.dtype(np.uint16), 3))


@pytest.mark.parametrize("number", [24, pytest.param(2000, marks=pytest.mark.slow)])
def test_whatever_stands_in_a_publication_breaks_nothing(smaller_phase: Path, tmp_path: Path, number: int) -> None:
    export_order(smaller_phase / "order", smaller_phase / "train", tmp_path, steps_per_file=4)
    paths, rng = sorted(tmp_path.rglob("*.parquet")), np.random.default_rng(number)
    read_publication(tmp_path)
    for _ in range(number):
        path = paths[int(rng.integers(len(paths)))]
        before = path.read_bytes()
        mutation = mutations.mutate_parquet(path, path.name, rng)
        path.write_bytes(mutation.data)
        try:
            with in_time():
                read_publication(tmp_path)
        except BaseException as error:
            raise AssertionError(f"{mutation}: {type(error).__name__}: {error}") from error
        path.write_bytes(before)


def test_whatever_stands_in_a_file_is_found_and_breaks_nothing(smaller_phase: Path, tmp_path: Path) -> None:
    attacked(smaller_phase, tmp_path / "copy", 14, int.from_bytes(os.urandom(4)) if "CI" not in os.environ else 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_five_thousand_mutated_runs(smaller_phase: Path, tmp_path: Path, seed: int) -> None:
    done = attacked(smaller_phase, tmp_path / "copy", 2500, seed)
    print(json.dumps({" ".join(what): count for what, count in sorted(done.items())}, indent=1))
    assert done.total() == 2500 and {kind for kind, _ in done} == set(KINDS)
