"""Rows that are not where they were: whatever is swapped, dropped, doubled or changed in a shard is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tamper

from ettin_data.base.draws import document_key
from ettin_data.storage.mds import MdsReader, read_index
from ettin_data.verify import DAMAGED, SOUND, Report, VerifyOptions, rows, verify_phase

FULL = VerifyOptions(full=True)


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


def _named(report: Report, shard: str, row: int, what: str) -> bool:
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
        name = tamper.pick(phase, rng)
        with tamper.restored(phase):
            expected = _edit_rows(phase, name, what, rng)
            if hashes == "forged":
                tamper.forge(phase, name)
                quick = {finding.reason for finding in verify_phase(phase).findings}
                assert quick <= {"wrong_sum", "off_target", "wrong_order"}  # no hash tells: only decoding can
            report = verify_phase(phase, FULL)
        assert report.status == DAMAGED
        if hashes == "forged" or what in ("swap", "token"):
            for shard, row in expected:
                assert _named(report, shard, row, what), (what, name, shard, row, report.findings)
        else:  # the shard does not have the number of samples that its index says: it is named as a whole
            assert any(shard in (f.where, *f.also) for f in report.findings for shard, _ in expected)
    assert verify_phase(phase, FULL).status == SOUND


@pytest.mark.parametrize("hashes", ["as they were", "forged"])
def test_full_names_every_row_that_is_not_where_it_was(tiny_phase: Path, hashes: str) -> None:
    _check_rows(tiny_phase, 12, 1, hashes)


@pytest.mark.slow
@pytest.mark.parametrize("hashes", ["as they were", "forged"])
def test_full_names_a_hundred_rows(tiny_phase: Path, hashes: str) -> None:
    _check_rows(tiny_phase, 100, 2, hashes)


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
    name = tamper.pick(tiny_phase, np.random.default_rng(5))
    with tamper.restored(tiny_phase):
        shards = tamper.read_rows(tiny_phase / name)
        reader = MdsReader(tiny_phase / name)
        ids = reader.tokens(1).copy()
        size = ids.nbytes
        change(ids)
        shards[0][1] = shards[0][1][:-size] + ids.tobytes()
        tamper.write_rows(tiny_phase / name, shards)
        tamper.forge(tiny_phase, name)
        report = verify_phase(tiny_phase, FULL)
    mine = [finding for finding in report.findings if finding.reason == reason]
    assert [(f.where, f.row) for f in mine] == [(f"{name}/shard.00000.mds", 1)]


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
    differences = rows.compare_leaves(_leaves(found), _leaves([0, 1, 2, 3]))
    assert [(d.row, d.reason) for d in differences] == expected


def test_rows_in_large_splits() -> None:
    whole = _leaves(list(range(30_000)))
    (difference,) = rows.compare_leaves(np.delete(whole, 17_123, axis=0), whole)
    assert (difference.row, difference.reason) == (17_123, "missing_row")
    (difference,) = rows.compare_leaves(whole[::-1][:29_999], whole)
    assert difference.reason == "rows_differ"
