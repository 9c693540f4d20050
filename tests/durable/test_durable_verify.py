"""Verification is a proof: whatever byte or row is changed is found and named, and what is right is left in peace."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tamper
import tiny_run

from ettin_data import digests, sealed, verify
from ettin_data import ledger as ledgers
from ettin_data import marker as markers
from ettin_data.errors import BuildError, ShardError
from ettin_data.executor import ExecutorOptions
from ettin_data.keyed import document_key
from ettin_data.shards import MdsReader, read_index
from ettin_data.verify import DAMAGED, INCOMPLETE, SOUND, VerifyOptions, rows

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
    monkeypatch.setattr(verify.phase, "_SMALL", 0)  # so that the workers are used
    before = {path: path.stat().st_mtime_ns for path in tiny_phase.rglob("*")}
    for options in (VerifyOptions(), FULL, replace(FULL, executor=ExecutorOptions(workers=2))):
        report = verify.verify(tiny_phase, options)
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
            report = verify.verify(tiny_phase)
        name = str(path.relative_to(tiny_phase))
        assert report.status == DAMAGED
        assert any(name in (f.where, *f.also) for f in report.findings), (name, what, report.findings)
    assert verify.verify(tiny_phase).status == SOUND


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
                    sealed.unseal(bytes(changed), path)


# ---------------------------------------------------------------------------------------------------------------------
# rows


def _pick(phase: Path, rng: np.random.Generator) -> str:
    names = sorted(str(path.parent.relative_to(phase)) for path in phase.glob("*/*/*/split.json"))
    while True:
        name = names[int(rng.integers(len(names)))]
        if len(MdsReader(phase / name)) >= 4:
            return name


def _edit_rows(phase: Path, name: str, what: str, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Swap, drop, duplicate or change rows of a split; returns (shard, row) of what a verification should name."""
    shards = tamper.read_rows(phase / name)
    basenames = [info.basename for info in read_index(phase / name)]
    places = [(n, row) for n, shard in enumerate(shards) for row in range(len(shard))]
    (n, row), (m, other) = (places[i] for i in rng.choice(len(places), 2, replace=False))
    expected = [(n, row)]
    if what == "swap":
        shards[n][row], shards[m][other] = shards[m][other], shards[n][row]
        expected.append((m, other))
    elif what == "drop":
        del shards[n][row]
    elif what == "duplicate":
        shards[m].insert(other, shards[n][row])
        expected = [(m, other)]
    elif what == "token":
        sample = bytearray(shards[n][row])
        sample[-4:-2] = (5 + (int.from_bytes(sample[-4:-2], "little") - 4) % 20).to_bytes(2, "little")
        shards[n][row] = bytes(sample)
    tamper.write_rows(phase / name, shards)
    return [(f"{name}/{basenames[k]}", r) for k, r in expected]


def _named(report: verify.Report, shard: str, row: int, what: str) -> bool:
    """Whether a finding names this row; of a missing or doubled row its neighbours in content are as good."""
    near = {row} if what in ("swap", "token") else {row - 1, row, row + 1}
    for finding in report.findings:
        if shard in (finding.where, *finding.also) and finding.row in near:
            return True
        # The last row of a shard that is missing is as well missing before the first of the next.
        if what == "drop" and finding.reason == "missing_row" and Path(shard).name in finding.detail:
            return True
    return False


def _check_rows(phase: Path, number: int, seed: int, hashes: str) -> None:
    rng = np.random.default_rng(seed)
    for i in range(number):
        what = ("swap", "drop", "duplicate", "token")[i % 4]
        name = _pick(phase, rng)
        with tamper.restored(phase):
            expected = _edit_rows(phase, name, what, rng)
            if hashes == "forged":
                tamper.forge(phase, name)
                quick = {finding.reason for finding in verify.verify(phase).findings}
                assert quick <= {"wrong_sum", "off_target", "wrong_order"}  # no hash tells: only decoding can
            report = verify.verify(phase, FULL)
        assert report.status == DAMAGED
        if hashes == "forged" or what in ("swap", "token"):
            for shard, row in expected:
                assert _named(report, shard, row, what), (what, name, shard, row, report.findings)
        else:  # the shard does not have the number of samples that its index says: it is named as a whole
            assert any(shard in (f.where, *f.also) for f in report.findings for shard, _ in expected)
    assert verify.verify(phase, FULL).status == SOUND


@pytest.mark.parametrize("hashes", ["as they were", "forged"])
def test_full_names_every_row_that_is_not_where_it_was(tiny_phase: Path, hashes: str) -> None:
    _check_rows(tiny_phase, 12, 1, hashes)


@pytest.mark.slow
@pytest.mark.parametrize("hashes", ["as they were", "forged"])
def test_full_names_a_hundred_rows(tiny_phase: Path, hashes: str) -> None:
    _check_rows(tiny_phase, 100, 2, hashes)


def _linked(phase: Path, name: str) -> bool:
    return (phase / name / "split.json").stat().st_nlink > 1


@pytest.mark.parametrize("what", ["swap", "drop", "duplicate"])
def test_a_run_that_agrees_with_itself_is_found_by_the_laws(tiny_phase: Path, what: str) -> None:
    """An adversary writes ledger, hashes, digests and root anew: what follows from laws still names the split."""
    rng = np.random.default_rng(3)
    for _ in range(3):
        name = _pick(tiny_phase, rng)
        with tamper.restored(tiny_phase):
            ledger = ledgers.read(tiny_phase / name)
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
            report = verify.verify(tiny_phase, FULL)
        # What is dropped from a part of train/ or validation/ may have been left out by the mix: then sums tell.
        assert report.status == DAMAGED, (what, name)
        assert any(name == f.unit or name in f.also for f in report.findings) or not name.startswith("pools/")


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("wrong_frame", lambda ids: ids.__setitem__(0, 9)),
        ("wrong_frame", lambda ids: ids.__setitem__(-1, 9)),
        ("padding", lambda ids: ids.__setitem__(len(ids) // 2, 3)),
        ("id_out_of_range", lambda ids: ids.__setitem__(1, 60_000)),
    ],
)
def test_full_checks_every_rule_of_a_sample(tiny_phase: Path, reason: str, change) -> None:
    name = _pick(tiny_phase, np.random.default_rng(5))
    with tamper.restored(tiny_phase):
        shards = tamper.read_rows(tiny_phase / name)
        reader = MdsReader(tiny_phase / name)
        ids = reader.tokens(1).copy()
        size = ids.nbytes
        change(ids)
        shards[0][1] = shards[0][1][:-size] + ids.tobytes()
        tamper.write_rows(tiny_phase / name, shards)
        tamper.forge(tiny_phase, name)
        report = verify.verify(tiny_phase, FULL)
    mine = [finding for finding in report.findings if finding.reason == reason]
    assert [(f.where, f.row) for f in mine] == [(f"{name}/shard.00000.mds", 1)]


def test_full_finds_a_document_that_is_in_both_parts(copied: Path) -> None:
    """The part of train/ from which documents were held out is replaced by the whole split of the pool."""
    held = next(path.parent for path in sorted((copied / "validation/alpha").glob("*/split.json")))
    taken = copied / "train/alpha" / held.name
    shutil.rmtree(taken)
    shutil.copytree(copied / "pools/alpha" / held.name, taken)
    tamper.forge_phase(copied)
    report = verify.verify(copied, FULL)
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
    assert verify.verify(copied).status == SOUND
    found = verify.verify(copied, FULL).findings
    assert [(f.where, f.reason, f.row) for f in found] == [("order/interval_000001.parquet", "not_the_law", 3)]
    assert "first in step 1" in found[0].detail


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_split_and_a_foreign_one(copied: Path) -> None:
    parts = sorted((copied / "pools/alpha").iterdir())
    shutil.rmtree(parts[0])
    shutil.rmtree(parts[1])
    shutil.copytree(parts[2], parts[1])  # whole, marked, and another split
    report = verify.verify(copied)
    found = {finding.unit: finding.reason for finding in report.findings if finding.unit}
    assert found[f"pools/alpha/{parts[0].name}"] == "missing_split"
    assert found[f"pools/alpha/{parts[1].name}"] == "foreign_split"


def test_what_is_not_of_this_run_is_a_note(copied: Path) -> None:
    (copied / "pools/alpha/other-tokenized").mkdir()
    (copied / "train/alpha/.tmp-left").mkdir()
    report = verify.verify(copied)
    assert report.status == SOUND
    assert report.notes == ["1 folders are not part of this run, such as pools/alpha/other-tokenized"]


def test_an_unfinished_run_says_so(copied: Path) -> None:
    """Stopped before run.json was written: what is there is checked against itself."""
    (copied / "run.json").unlink()
    shutil.rmtree(sorted((copied / "pools/alpha").iterdir())[0])
    report = verify.verify(copied, FULL)
    assert (report.status, report.state) == (INCOMPLETE, "incomplete")
    assert report.notes == [
        "incomplete: 5 of 6 planned splits are finished; its build was stopped; the same command continues it"
    ]
    tamper.flip(next((copied / "pools").glob("*/*/shard.00000.mds")), np.random.default_rng(0))
    assert verify.verify(copied, FULL).status == DAMAGED


def test_a_full_look_without_a_recipe_is_refused(copied: Path) -> None:
    (copied / "run.json").write_text("{}")
    (copied / "plan.json").write_text("{}")
    with pytest.raises(BuildError, match="needs the recipe"):
        verify.verify(copied, FULL)
    assert {f.where for f in verify.verify(copied).findings} == {"run.json", "plan.json"}


def test_there_is_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="there is no run here"):
        verify.phases(tmp_path)


def test_other_packing_and_compression_are_verified_too(tiny_root: Path, tmp_path: Path) -> None:
    """Several documents in a sample, boundaries, segments, and shards that are only there compressed."""
    for strategy, compression in (("best_fit", "zstd:3"), ("concat", "null")):
        changes = {"pack.strategy": strategy, "pack.window": 3000, "shards.compression": compression}
        phase = tiny_run.build(tiny_run.tiny_recipe(tiny_root, 1, **changes), tmp_path / strategy)
        assert verify.verify(phase, FULL).findings == []
        shard = next((phase / "pools").glob("*/*/shard.00000*"))
        tamper.flip(shard, np.random.default_rng(1))
        for options in (VerifyOptions(), FULL):
            name = str(shard.relative_to(phase))
            assert any(name in (f.where, *f.also) for f in verify.verify(phase, options).findings)


# ---------------------------------------------------------------------------------------------------------------------
# the comparison of rows, by itself


def _leaves(values: list[int]) -> np.ndarray:
    return np.array([(document_key(str(value)), value) for value in values], np.uint64).reshape(-1, 2)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([0, 1, 2, 3], []),
        ([0, 2, 1, 3], [(1, "wrong_row"), (2, "wrong_row")]),
        ([3, 1, 2, 0], [(0, "wrong_row"), (3, "wrong_row")]),
        ([0, 9, 2, 3], [(1, "wrong_content")]),
        ([1, 2, 3], [(0, "missing_row")]),
        ([0, 1, 3], [(2, "missing_row")]),
        ([0, 1, 2], [(3, "missing_row")]),
        ([0, 1, 1, 2, 3], [(2, "extra_row")]),
        ([0, 1, 2, 3, 0], [(4, "extra_row")]),
        ([2, 0, 1, 2, 3], [(0, "extra_row")]),
        ([0, 9, 1, 2, 3], [(1, "extra_row")]),
        ([], [(0, "missing_row")] * 4),
    ],
)
def test_rows(found: list[int], expected: list[tuple[int, str]]) -> None:
    differences = rows.compare(_leaves(found), _leaves([0, 1, 2, 3]))
    assert [(d.row, d.reason) for d in differences] == expected


def test_rows_in_large_splits() -> None:
    whole = _leaves(list(range(30_000)))
    (difference,) = rows.compare(np.delete(whole, 17_123, axis=0), whole)
    assert (difference.row, difference.reason) == (17_123, "missing_row")
    (difference,) = rows.compare(whole[::-1][:29_999], whole)
    assert difference.reason == "rows_differ"


def test_the_tree_does_not_depend_on_order_or_on_what_is_beside(tiny_phase: Path) -> None:
    tree = digests.read(tiny_phase / "digests.json")
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
    assert markers.read(tiny_phase / next(iter(tree.entries()))).digest == next(iter(tree.entries().values())).marker
