"""Verification is a proof: whatever byte or row is changed is found and named, and what is right is left in peace."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tamper
import tiny_run

from ettin_data.base import sealed_json
from ettin_data.base.errors import BuildError, FormatError, ShardError
from ettin_data.build.prepare import BuildOptions
from ettin_data.executor import ExecutorOptions
from ettin_data.storage import digests
from ettin_data.storage import split as markers
from ettin_data.storage.mds import MdsReader
from ettin_data.storage.records import FORMAT
from ettin_data.verify import DAMAGED, INCOMPLETE, SOUND, VerifyOptions, verify_phase
from ettin_data.verify import phase as verifying
from ettin_data.verify.repair import repair

FULL = VerifyOptions(full=True)
KINDS = {
    "shard": "*/*/*/shard.*",
    "split index": "*/*/*/index.json",
    "marker": "*/*/*/split.json",
    "ledger": "*/*/*/*.parquet",
    "statistics": "*/*/*/[st]*[se].json",
    "index": "[tv]*/index.json",
    "order": "order/*",
    "rejects": "rejects/*/*",
    "described": "*.json",
    "listing": "manifests/*",
}


def test_a_sound_run_is_sound(tiny_phase: Path, monkeypatch) -> None:
    monkeypatch.setattr(verifying, "_SMALL", 0)  # so that the workers are used
    before = {path: path.stat().st_mtime_ns for path in tiny_phase.rglob("*")}
    for options in (VerifyOptions(), FULL, replace(FULL, executor=ExecutorOptions(workers=2))):
        report = verify_phase(tiny_phase, options)
        assert (report.status, report.findings, report.notes, report.state) == (SOUND, [], [], "complete")
        assert report.root == json.loads((tiny_phase / "run.json").read_text())["root"]
    samples = sum(len(MdsReader(path)) for path in (tiny_phase / "pools").glob("*/*/"))
    assert report.checked["samples"] > samples and report.checked["splits"] == 16
    assert {path: path.stat().st_mtime_ns for path in tiny_phase.rglob("*")} == before
    json.dumps(report.to_json())


def test_every_file_of_the_run_is_some_kind(tiny_phase: Path) -> None:
    known = {path for pattern in KINDS.values() for path in tiny_phase.glob(pattern)}
    assert known == set(tamper.files(tiny_phase))


@pytest.mark.parametrize("kind", KINDS)
def test_quick_finds_every_flipped_byte(tiny_phase: Path, kind: str) -> None:
    """Ten seeded flips of one byte in each kind of file, a hundred in all: each is found, and its file is named."""
    rng = np.random.default_rng(list(KINDS).index(kind))
    paths = sorted(tiny_phase.glob(KINDS[kind]))
    for _ in range(10):
        path = paths[int(rng.integers(len(paths)))]
        with tamper.restored(tiny_phase):
            what = tamper.flip(path, rng)
            report = verify_phase(tiny_phase)
        name = str(path.relative_to(tiny_phase))
        assert report.status == DAMAGED
        assert any(name in (f.where, *f.also) for f in report.findings), (name, what, report.findings)
    assert verify_phase(tiny_phase).status == SOUND


@pytest.mark.slow
def test_every_byte_of_the_small_files_counts(tiny_phase: Path) -> None:
    """Not a sample: each byte of run.json, digests.json, plan.json, order.json and one marker, to several values."""
    marker = next((tiny_phase / "pools").glob("*/*/split.json"))
    for path in [tiny_phase / "run.json", tiny_phase / "digests.json", tiny_phase / "plan.json", marker]:
        data = path.read_bytes()
        for at in range(len(data)):
            for by in (0x01, 0x20, 0x80, 0xFF):
                changed = bytearray(data)
                changed[at] ^= by
                with pytest.raises(ShardError):
                    sealed_json.unseal(bytes(changed), path)


def test_full_finds_flipped_bytes_too(tiny_phase: Path) -> None:
    rng = np.random.default_rng(9)
    paths = tamper.files(tiny_phase)
    for _ in range(20):
        path = paths[int(rng.integers(len(paths)))]
        with tamper.restored(tiny_phase):
            tamper.flip(path, rng)
            findings = verify_phase(tiny_phase, FULL).findings
        assert any(str(path.relative_to(tiny_phase)) in (f.where, *f.also) for f in findings), path


def test_a_missing_split_and_a_foreign_one(copied: Path) -> None:
    parts = sorted((copied / "pools/alpha").iterdir())
    shutil.rmtree(parts[0])
    shutil.rmtree(parts[1])
    shutil.copytree(parts[2], parts[1])  # whole, marked, and another split
    report = verify_phase(copied)
    found = {finding.unit: finding.reason for finding in report.findings if finding.unit}
    assert found[f"pools/alpha/{parts[0].name}"] == "missing_split"
    assert found[f"pools/alpha/{parts[1].name}"] == "foreign_split"


def test_what_is_not_of_this_run_is_a_note(copied: Path) -> None:
    (copied / "pools/alpha/other-tokenized").mkdir()
    (copied / "train/alpha/.tmp-left").mkdir()
    report = verify_phase(copied)
    assert report.status == SOUND
    assert report.notes == ["1 folders are not part of this run, such as pools/alpha/other-tokenized"]


def test_an_unfinished_run_says_so(copied: Path) -> None:
    """Stopped before run.json was written: what is there is checked against itself."""
    (copied / "run.json").unlink()
    shutil.rmtree(sorted((copied / "pools/alpha").iterdir())[0])
    report = verify_phase(copied, FULL)
    assert (report.status, report.state) == (INCOMPLETE, "incomplete")
    assert report.notes == [
        "incomplete: 5 of 6 planned splits are finished; its build was stopped; the same command continues it"
    ]
    tamper.flip(next((copied / "pools").glob("*/*/shard.00000.mds")), np.random.default_rng(0))
    assert verify_phase(copied, FULL).status == DAMAGED


def test_a_full_look_without_a_recipe_is_refused(copied: Path) -> None:
    (copied / "run.json").write_text("{}")
    (copied / "plan.json").write_text("{}")
    with pytest.raises(BuildError, match="needs the recipe"):
        verify_phase(copied, FULL)
    assert {f.where for f in verify_phase(copied).findings} == {"run.json", "plan.json"}


@pytest.mark.parametrize("name", ["run.json", "plan.json"])
def test_a_run_of_a_newer_version_is_refused_by_all_and_left_as_it_is(tiny_recipe, copied: Path, name: str) -> None:
    sealed_json.write(copied / name, {**sealed_json.read(copied / name), "format": FORMAT + 1})
    before = {path: path.read_bytes() for path in tamper.files(copied)}
    building = BuildOptions(copied.parent, executor=None)
    for act in (
        lambda: verify_phase(copied),
        lambda: repair(copied, VerifyOptions(), building),
        lambda: tiny_run.run.build_phase(tiny_recipe, building),
    ):
        with pytest.raises(FormatError, match=rf"(?s){name} has format {FORMAT + 1}.*do: update ettin-data"):
            act()
    assert {path: path.read_bytes() for path in tamper.files(copied)} == before


def test_there_is_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="there is no run here"):
        verify_phase(tmp_path)


def test_other_packing_and_compression_are_verified_too(tiny_root: Path, tmp_path: Path) -> None:
    """Several documents in a sample, boundaries, segments, and shards that are only there compressed."""
    for strategy, compression in (("best_fit", "zstd:3"), ("concat", "null")):
        changes = {"pack.strategy": strategy, "pack.window": 3000, "shards.compression": compression}
        phase = tiny_run.build(tiny_run.tiny_recipe(tiny_root, 1, **changes), tmp_path / strategy)
        assert verify_phase(phase, FULL).findings == []
        shard = next((phase / "pools").glob("*/*/shard.00000*"))
        tamper.flip(shard, np.random.default_rng(1))
        for options in (VerifyOptions(), FULL):
            name = str(shard.relative_to(phase))
            assert any(name in (f.where, *f.also) for f in verify_phase(phase, options).findings)


def test_the_tree_does_not_depend_on_order_or_on_what_is_beside(tiny_phase: Path) -> None:
    tree = digests.read_digests(tiny_phase / "digests.json")
    shuffled = digests.Digests(
        tree.phase,
        tree.order,
        {
            part: {s: dict(reversed(splits.items())) for s, splits in reversed(sources.items())}
            for part, sources in tree.parts.items()
        },
        {},
    )
    assert shuffled.root == tree.root
    first = next(iter(tree.parts["train"]))
    fewer = {**tree.parts, "train": {s: v for s, v in tree.parts["train"].items() if s != first}}
    assert replace(tree, parts=fewer).root != tree.root
    assert (
        markers.read_marker(tiny_phase / next(iter(tree.entries()))).digest
        == next(iter(tree.entries().values())).marker
    )
