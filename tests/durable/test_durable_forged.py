"""Runs that agree with themselves: all hashes, indexes, markers and digests were put right, and the laws still tell."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tamper

from ettin_data.base import sealed_json
from ettin_data.storage import ledger as ledgers
from ettin_data.verify import DAMAGED, SOUND, Finding, VerifyOptions, verify_phase

FULL = VerifyOptions(full=True)


def _linked(phase: Path, name: str) -> bool:
    return (phase / name / "split.json").stat().st_nlink > 1


@pytest.mark.parametrize("what", ["swap", "drop", "duplicate"])
def test_a_run_that_agrees_with_itself_is_found_by_the_laws(tiny_phase: Path, what: str) -> None:
    """An adversary writes ledger, hashes, digests and root anew: what follows from laws still names the split."""
    rng = np.random.default_rng(3)
    for _ in range(3):
        name = tamper.pick(tiny_phase, rng)
        with tamper.restored(tiny_phase):
            ledger = ledgers.read_ledger(tiny_phase / name)
            count = len(ledger.samples["document"])
            order = np.arange(count)
            if what == "swap":
                order[[0, -1]] = order[[-1, 0]]
            elif what == "drop":
                order = np.delete(order, count // 2)
            else:
                order = np.insert(order, count // 2, count // 2)
            shards = tamper.read_rows(tiny_phase / name)
            encoded = [row for shard in shards for row in shard]
            lengths = [len(shard) for shard in shards]
            lengths[-1] += len(order) - count
            encoded = [encoded[i] for i in order]
            starts = np.cumsum([0, *lengths])
            tamper.write_rows(tiny_phase / name, [encoded[a:b] for a, b in itertools.pairwise(starts)])
            samples = {column: values[order] for column, values in ledger.samples.items()}
            tamper.forge(tiny_phase, name, replace(ledger, samples=samples))
            report = verify_phase(tiny_phase, FULL)
        assert report.status == DAMAGED, (what, name)
        # What is dropped from a pool may as well never have been in the source; that the ledger has no gap, tells.
        assert any(name in (f.unit, *f.also) or _linked_to(tiny_phase, f.unit, name) for f in report.findings), name


def _linked_to(phase: Path, unit: str | None, name: str) -> bool:
    """Whether a split is checked under the name of the pool's, whose files it links."""
    return unit is not None and unit != "order" and (phase / unit / "split.json").samefile(phase / name / "split.json")


@pytest.mark.parametrize("other", ["alpha/part_0002", "beta/part_0001"], ids=["of one source", "of two sources"])
def test_rows_that_changed_places_between_splits(tiny_phase: Path, other: str) -> None:
    """And every hash, index and marker of both put right: both rows are named."""
    names = [next((tiny_phase / "pools").glob(f"{split}-*")) for split in ("alpha/part_0000", other)]
    with tamper.restored(tiny_phase):
        rows_of = [tamper.read_rows(folder) for folder in names]
        rows_of[0][0][2], rows_of[1][1][0] = rows_of[1][1][0], rows_of[0][0][2]
        for folder, shards in zip(names, rows_of, strict=True):
            tamper.write_rows(folder, shards)
        for folder in names:
            tamper.forge(tiny_phase, str(folder.relative_to(tiny_phase)))
        found = {(f.where, f.row) for f in verify_phase(tiny_phase, FULL).findings}
    places = [(names[0], "shard.00000.mds", 2), (names[1], "shard.00001.mds", 0)]
    assert {(f"{folder.relative_to(tiny_phase)}/{shard}", row) for folder, shard, row in places} <= found


def test_splits_that_changed_names(copied: Path) -> None:
    """Two splits of a source under each other's names in every part, and all digests made anew."""
    for part in ("pools", "train", "validation"):
        folders = [next((copied / part / "alpha").glob(f"part_000{n}-*"), None) for n in (0, 1)]
        if None in folders:
            continue
        one, other = folders
        one.rename(one.with_name("aside"))
        other.rename(one)
        one.with_name("aside").rename(other)
    tamper.forge_phase(copied)
    found = {(f.unit, f.reason) for f in verify_phase(copied).findings}
    assert {
        (f"pools/alpha/part_000{n}-tokenized-chunked-128-48-8-backfill-nodups", "foreign_split") for n in (0, 1)
    } <= found


def test_a_marker_that_says_it_was_made_from_something_else(copied: Path) -> None:
    marker = next((copied / "pools/alpha").glob("*/split.json"))
    body = sealed_json.read(marker)
    body["made_from"]["seed"] += 1
    tamper.replace_text(marker, sealed_json.seal(body))
    tamper.forge_phase(copied)
    found = {(f.where, f.reason) for f in verify_phase(copied).findings}
    assert (str(marker.relative_to(copied)), "foreign_split") in found


def test_full_finds_a_cut_that_takes_other_samples(copied: Path) -> None:
    """A row dropped from a cut split, with its ledger, and everything that follows: what the mix takes is known."""
    folder = next(
        path for path in sorted((copied / "train/alpha").iterdir()) if not _linked(copied, f"train/alpha/{path.name}")
    )
    name = str(folder.relative_to(copied))
    ledger, shards = ledgers.read_ledger(folder), tamper.read_rows(folder)
    del shards[0][3]
    tamper.write_rows(folder, shards)
    tamper.forge(copied, name, ledger.select(np.delete(np.arange(len(ledger.samples["document"])), 3)))
    found = [(f.where, f.row, f.reason) for f in verify_phase(copied, FULL).findings if f.unit == name]
    assert (f"{name}/shard.00000.mds", 3, "missing_row") in found


def test_full_finds_a_document_that_is_in_both_parts(copied: Path) -> None:
    """The part of train/ from which documents were held out is replaced by the whole split of the pool."""
    held = next(path.parent for path in sorted((copied / "validation/alpha").glob("*/split.json")))
    taken = copied / "train/alpha" / held.name
    shutil.rmtree(taken)
    shutil.copytree(copied / "pools/alpha" / held.name, taken)
    tamper.forge_phase(copied)
    report = verify_phase(copied, FULL)
    assert "held_out_in_train" in {finding.reason for finding in report.findings}
    assert all(str(taken.relative_to(copied)) == f.unit for f in report.findings if f.reason == "held_out_in_train")


def test_full_makes_the_order_again(copied: Path) -> None:
    """Two positions swapped in an interval, and every digest that names the file put right."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = copied / "order/interval_000001.parquet"
    table = pq.read_table(path)
    positions = table["sample"].to_numpy().copy()
    positions[[3, 40]] = positions[[40, 3]]
    pq.write_table(table.set_column(1, table.schema.field(1), pa.array(positions)), path)
    order = json.loads((copied / "order/order.json").read_text())
    order["intervals"][0] |= {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    (copied / "order/order.json").write_text(json.dumps(order))
    tamper.forge_phase(copied)
    assert verify_phase(copied).status == SOUND
    found = verify_phase(copied, FULL).findings
    assert [(f.where, f.reason, f.row) for f in found] == [("order/interval_000001.parquet", "not_the_law", 3)]
    assert "first in step 1" in found[0].detail


def _forge_order(phase: Path, path: Path, table) -> None:
    """Write an interval anew and put right what order.json and the digests say of it."""
    import pyarrow.parquet as pq

    pq.write_table(table, path)
    order = json.loads((phase / "order/order.json").read_text())
    for interval in order["intervals"]:
        if interval["file"] == path.name:
            interval |= {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    tamper.replace_text(phase / "order/order.json", json.dumps(order))
    tamper.forge_phase(phase)


def _check_tables(phase: Path, number: int, seed: int) -> None:
    """Rows of order files, ledgers and train/index.json swapped, dropped and doubled, with every hash put right."""
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    for i in range(number):
        what, where = ("swap", "drop", "duplicate")[i % 3], ("order", "samples", "documents", "index")[i // 3 % 4]
        if where == "order":
            paths = sorted((phase / "order").glob("*.parquet"))
        elif where == "index":
            paths = [phase / "train/index.json"]
        else:
            paths = sorted(phase.glob(f"*/*/*/{where}.parquet"))
        path = paths[int(rng.integers(len(paths)))]
        table = json.loads(path.read_text())["shards"] if where == "index" else pq.read_table(path, partitioning=None)
        rows = np.arange(len(table))
        if len(rows) < 4:
            continue
        row, other = sorted(rng.choice(len(rows), 2, replace=False).tolist())
        if what == "swap":
            rows[[row, other]] = rows[[other, row]]
        else:
            rows = np.delete(rows, row) if what == "drop" else np.insert(rows, other, row)
        with tamper.restored(phase):
            if where == "order":
                _forge_order(phase, path, table.take(rows))
                name, place = f"order/{path.name}", {row, other}
            elif where == "index":
                tamper.replace_text(
                    path, json.dumps({"shards": [table[r] for r in rows], "version": 2}, sort_keys=True)
                )
                name, place = "train/index.json", {None}
            else:
                split = str(path.parent.relative_to(phase))
                pq.write_table(table.take(rows), path)
                tamper.forge(phase, split)
                name, place = split, None
            report = verify_phase(phase, FULL)
        assert report.status == DAMAGED, (what, path)
        named = [f for f in report.findings if (f.where == name if place else _is_of(phase, f, name))]
        assert named, (what, path, report.findings)
        assert place is None or named[0].row in place or what == "duplicate", (what, path, row, other, named)


def _is_of(phase: Path, finding: Finding, split: str) -> bool:
    return finding.unit == split or _linked_to(phase, finding.unit, split)


def test_full_names_rows_of_order_ledgers_and_index(tiny_phase: Path) -> None:
    _check_tables(tiny_phase, 24, 1)


@pytest.mark.slow
def test_full_names_a_hundred_rows_of_order_ledgers_and_index(tiny_phase: Path) -> None:
    _check_tables(tiny_phase, 108, 2)


@pytest.mark.parametrize("change", ["no last interval", "another seed", "another epoch"])
def test_an_order_that_is_not_the_recipes(copied: Path, change: str) -> None:
    """Whole, with all digests: but steps are missing, or the law is another."""
    path = copied / "order/order.json"
    order = json.loads(path.read_text())
    if change == "no last interval":
        order["intervals"].pop()
    else:
        order[change.split()[-1]] += 1
    tamper.replace_text(path, json.dumps(order))
    tamper.forge_phase(copied)
    assert "wrong_order" in {f.reason for f in verify_phase(copied).findings if f.where == "order/order.json"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
