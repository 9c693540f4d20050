"""A damaged page of a publication, or a damaged shard of the data, is a finding; all the rest is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from modernbert import form
from reference import mask_rows

from ettin_data.base.errors import EttinError
from ettin_data.executor import ExecutorOptions
from ettin_data.order.proof.outcome import Request, Verification
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order
from ettin_data.order.published import Damage, iter_rows


def check(published, **settings) -> Verification:
    return verify_order(Request(str(published.data), str(published.out), **settings))


def spoil_page(path: Path, groups: int = 1, which: int = 0, **settings: object) -> tuple[int, int]:
    """Write a file in so many row groups and break a page of tokens of one: the rows [first, end) of that group."""
    table = pq.read_table(path)
    size = -(-len(table) // groups)
    pq.write_table(table, path, row_group_size=size, compression="zstd", **settings)
    column = pq.ParquetFile(path).metadata.row_group(which).column(0)
    data = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    if settings.get("write_page_checksum"):  # a value is another one, which only the checksum tells
        begin += column.total_compressed_size // 2
    data[begin : begin + 12] = bytes(b ^ 0xFF for b in data[begin : begin + 12])
    path.write_bytes(data)
    return which * size, min((which + 1) * size, len(table))


def cut_shard(published, which: int) -> Path:
    path = sorted(published.data.rglob("*.mds"))[which]
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize("checksums", [False, True])
def test_rows_of_a_damaged_page_are_listed_and_the_rest_agrees(published, checksums: bool) -> None:
    path = published.files()[2]
    first, end = spoil_page(path, 4, 1, write_page_checksum=checksums, use_dictionary=not checksums)
    found = check(published)
    said = to_json(found)
    assert (found.verdict, found.exit_status) == ("agrees", 3), "\n".join(to_lines(found))
    (bad,) = said["bad_files"]
    assert bad["path"] == str(path) and f"to {end:,}: " in bad["why"]
    assert 0 < said["rows"]["broken"] <= end - first and said["rows"]["equal"] == 992 - said["rows"]["broken"]
    assert said["rows"]["missing"] == said["rows"]["surplus"] == 0
    assert path.name in "\n".join(to_lines(found))


def test_wrong_rows_beside_a_damaged_page_are_found(published) -> None:
    rows = published.rows()
    rows[5][2][3] += 1
    rows[700][2][2] += 1
    published.rewrite(rows)
    spoil_page(published.files()[0], 4, 3)
    spoil_page(published.files()[5])
    found = check(published)
    assert found.verdict == "differs" and len(to_json(found)["bad_files"]) == 2
    assert [row.kind for row in found.classification.rows] == ["changed_tokens", "changed_tokens"]


@pytest.mark.parametrize("seed", [21, 22])
def test_a_damaged_page_of_masked_rows(make, seed: int) -> None:
    published = make(800, 16, length=64, form=form("encoder", 50), seed=seed)
    rows, rng = published.rows(), np.random.default_rng(0)
    masked = mask_rows([row for _, _, row in rows], 0.3, rng)
    published.rewrite([(file, step, row) for (file, step, _), row in zip(rows, masked, strict=True)])
    spoil_page(published.files()[1], 2, 0)
    found = check(published)
    assert (found.verdict, found.exit_status) == (("agrees", 3) if seed == 21 else ("explained", 1))
    assert to_json(found)["rows"]["broken"] > 0 and len(to_json(found)["bad_files"]) == 1


@pytest.mark.parametrize("seed", [21, 22])
def test_a_damaged_shard_of_the_data(published, seed: int) -> None:
    path = cut_shard(published, 3)
    found = check(published, seed=seed)
    said = to_json(found)
    assert (found.verdict, found.exit_status) == (("agrees", 3) if seed == 21 else ("explained", 1))
    (bad,) = said["bad_files"]
    assert str(path).endswith(bad["path"]) and "offsets do not fit" in bad["why"]
    assert 90 <= said["rows"]["unread"] <= 100 and "because 1 of 11 shards cannot be read" in str(said)


def test_damaged_samples_of_a_shard(published) -> None:
    path = sorted(published.data.rglob("*.mds"))[0]
    data = bytearray(path.read_bytes())
    offsets = np.frombuffer(data, np.uint32, 101, 4)
    for sample in (5, 50):
        data[offsets[sample] : offsets[sample] + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    found = check(published)
    said = to_json(found)
    assert (found.verdict, found.exit_status) == ("agrees", 3)
    assert said["rows"]["unread"] == 2 and len(said["bad_files"]) == 1 and "sample 5 of the shard" in str(said)


@pytest.mark.slow
def test_workers_say_the_same_of_damage(published) -> None:
    cut_shard(published, 2)
    spoil_page(published.files()[1], 3, 2)
    here, there = (to_json(check(published, options=o)) for o in (None, ExecutorOptions("local", 2)))
    assert {**here, "seconds": 0} == {**there, "seconds": 0} and len(here["bad_files"]) == 2


def test_rows_before_a_damaged_page_are_read(tmp_path: Path, published) -> None:
    path = published.files()[0]
    table = pq.read_table(path)
    _, end = spoil_page(path, 2, 0, data_page_size=512, use_dictionary=False, write_page_checksum=True)
    damage = list[Damage]()
    read = [
        (rows.first + i, rows.row(i).tolist())
        for rows in iter_rows(str(published.out), str(path), np.dtype(np.uint16), 1, damage=damage)
        for i in range(len(rows))
    ]
    (one,) = damage
    assert (one.path, one.end) == (str(path), end) and [n for n, _ in read] == [*range(one.first), *range(end, 160)]
    assert all(table["input_ids"][n].as_py() == row for n, row in read)


def test_export_still_fails_on_a_damaged_shard(published, tmp_path: Path) -> None:
    from ettin_data.order.export import export_order

    path = cut_shard(published, 3)
    with pytest.raises(EttinError, match=path.name):
        export_order(published.order, published.data, tmp_path / "again")
