"""Verification proves a right order and names what is wrong with a spoilt one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from modernbert import form
from random_data import write_data

from ettin_data.base.errors import OrderError
from ettin_data.executor import ExecutorOptions
from ettin_data.order.export import export_order
from ettin_data.order.index import OrderLaw, permutation, write_order
from ettin_data.order.proof.outcome import Request, Verification, undetected
from ettin_data.order.proof.report import to_json, to_lines
from ettin_data.order.proof.verify import verify_order
from ettin_data.storage.mds import MdsReader, read_index, write_index

Row = tuple[Path, int, list[int]]


def told(found: Verification) -> str:
    return "\n".join(to_lines(found))


def check(published, **settings: Any) -> Verification:
    found = verify_order(Request(str(published.data), str(published.out), **settings))
    json.dumps(to_json(found)), told(found)
    return found


def kinds(found: Verification) -> dict[str, int]:
    return {difference["kind"]: difference["rows"] for difference in to_json(found)["differences"]}


def texts(found: Verification) -> list[str]:
    return [deviation.text for deviation in found.deviations]


def names(found: Verification) -> list[str]:
    """The names for programs, of all that is other than asked."""
    return [deviation["name"] for deviation in to_json(found)["deviations"]]


def spoil(published, change: Callable[[list[Row]], list[Row]]) -> Verification:
    published.rewrite(change(published.rows()))
    return check(published)


def lay_out(published, steps: list[list[int]], first: int = 1) -> None:
    """Replace the publication by one file with these positions, step by step."""
    reader = MdsReader(published.data)
    files = published.files()
    rows = [
        (files[0], number, reader.tokens(int(position)).tolist())
        for number, positions in enumerate(steps, start=first)
        for position in positions
    ]
    published.rewrite(rows)


# ---------------------------------------------------------------------------------------------------------------------
# what is right


def test_an_export_agrees(published) -> None:
    found = check(published)
    assert (found.verdict, found.exit_status, texts(found)) == ("agrees", 0, [])
    assert len(found.checked) == found.units == 62
    assert sum(r.equal for r in found.checked) == 62 * 16
    assert found.form.kind == "stored" and found.max_length is None and found.complete
    assert "AGREES" in told(found) and "the law's order" in told(found)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_rows_as_seen_agree_and_the_form_is_named(make, kind: str) -> None:
    published = make(400, 8, length=64, form=form(kind, 50))
    found = check(published)
    assert found.verdict == "agrees" and found.form == form(kind, 50) and found.max_length == 50
    assert sum(r.equal for r in found.checked) == 400


def test_truncation_at_7999_is_named(make) -> None:
    published = make(60, 6, length=8000, form=form("encoder", 7999))
    found = check(published)
    assert found.verdict == "agrees" and found.max_length == 7999
    assert "encoders see them at max_seq_len 7,999" in told(found)
    assert max(len(row) for _, _, row in published.rows()) == 7999


def test_another_form_than_was_asked_for_is_named(make) -> None:
    """Upstream's public loaders cut a sample of 8,000 without putting [SEP] back."""
    published = make(400, 8, length=64, form=form("decoder", 50))
    assert check(published).exit_status == 0
    found = check(published, form="encoder")
    assert found.verdict == "explained" and sum(r.edited for r in found.checked) > 50
    assert names(found) == ["other_form"] and "as decoders see it, not as encoders" in texts(found)[0]


def test_rows_that_were_framed_but_not_cut(make) -> None:
    """Data without [CLS] and [SEP], rows with both; a change at the end of the longest row must not pass as a cut."""
    published = make(1200, 4, framed=False, form=form("encoder", 1024))
    found = check(published)
    assert found.verdict == "agrees" and found.form.kind == "encoder" and found.max_length is None
    rows = published.rows()
    longest = max(range(len(rows)), key=lambda i: len(rows[i][2]))
    rows[longest][2][-2] = 7
    published.rewrite(rows)
    assert check(published).verdict == "differs"


def test_padding_is_no_difference(published) -> None:
    found = spoil(published, lambda rows: [(f, s, row + [50283] * (40 - len(row))) for f, s, row in rows])
    assert found.verdict == "agrees"
    found = spoil(published, lambda rows: [(f, s, row + [50283] * (i % 3)) for i, (f, s, row) in enumerate(rows)])
    assert found.verdict == "agrees"


@pytest.mark.parametrize(
    ("arrange", "named"),
    [
        (lambda positions: np.concatenate([positions[r::4] for r in range(4)]), "rank by rank, for 4 ranks"),
        (np.sort, "the order of the data"),
        (lambda positions: np.random.default_rng(1).permutation(positions), "not recognised"),
    ],
)
def test_the_order_inside_a_step_is_named(published, arrange, named: str) -> None:
    lay_out(published, [arrange(published.index.step(k)).tolist() for k in range(published.index.steps)])
    found = check(published)
    assert found.verdict == "agrees" and named in told(found)


def test_a_sample_gives_a_confidence(published) -> None:
    found = check(published, sample=0.3)
    assert found.verdict == "agrees" and len(found.checked) == 19
    confidence = to_json(found)["confidence"]
    assert confidence["at_most_bad_units"] == undetected(62, 19) == 7
    assert check(published, sample=0.3).checked == found.checked
    with pytest.raises(OrderError, match=r"sample of 1\.5"):
        check(published, sample=1.5)


def test_what_a_sample_cannot_miss() -> None:
    """The bound by the hypergeometric distribution, counted out."""
    from math import comb

    for units, checked in [(62, 19), (100, 1), (1000, 300), (10, 10)]:
        bad = undetected(units, checked)
        if bad:
            assert comb(units - bad, checked) / comb(units, checked) > 0.05
        assert bad == units - checked or comb(units - bad - 1, checked) / comb(units, checked) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_workers_find_what_one_process_finds(published, kind: str) -> None:
    def spoil_one(rows: list[Row]) -> list[Row]:
        rows[100][2][3] = 7
        return rows

    published.rewrite(spoil_one(published.rows()))
    published.shuffle_shards()
    here, there = check(published), check(published, options=ExecutorOptions(kind, 2))
    plain, other = to_json(here), to_json(there)
    assert kinds(here) == {"changed_tokens": 1}
    assert {**plain, "seconds": 0} == {**other, "seconds": 0}


# ---------------------------------------------------------------------------------------------------------------------
# rows that are not what the law says


def test_two_swapped_rows(published) -> None:
    def swap(rows: list[Row]) -> list[Row]:
        i, j = 5 * 16 + 3, 40 * 16 + 7
        rows[i], rows[j] = (*rows[i][:2], rows[j][2]), (*rows[j][:2], rows[i][2])
        return rows

    found = spoil(published, swap)
    assert (found.verdict, found.exit_status) == ("differs", 1)
    assert kinds(found) == {"other_step": 2}
    assert "step 6 of checkpoint_000001: the law has it in step 41" in told(found)
    assert "step 41 of checkpoint_000002: the law has it in step 6" in told(found)


@pytest.mark.parametrize("place", [1, -2, 3])
def test_one_changed_token(published, place: int) -> None:
    def change(rows: list[Row]) -> list[Row]:
        rows[100][2][place] = (rows[100][2][place] + 1) % 50_000
        return rows

    found = spoil(published, change)
    assert kinds(found) == {"changed_tokens": 1}
    assert "step 7 of checkpoint_000001: 1 of" in told(found)
    first = to_json(found, decode=lambda tokens: " ".join(map(str, tokens)))["first_difference"]
    assert first["published"]["tokens"] != first["data"]["tokens"] and first["data"]["id"].startswith("doc-")
    assert first["published"]["text"].split()


def test_one_dropped_row(published) -> None:
    def drop(rows: list[Row]) -> list[Row]:
        del rows[333]
        return rows

    found = spoil(published, drop)
    assert kinds(found) == {"missing": 1} and "step 21 of checkpoint_000001: the law has this sample" in told(found)


def test_one_step_there_twice_under_its_number(published) -> None:
    found = spoil(published, lambda rows: rows[: 7 * 16] + rows[6 * 16 :])
    assert kinds(found) == {"repeated": 16} and "step 7" in told(found)


def test_one_step_there_twice_so_that_others_move(published) -> None:
    def twice(rows: list[Row]) -> list[Row]:
        return rows[: 7 * 16] + [(f, s + 1, row) for f, s, row in rows[6 * 16 :]]

    found = spoil(published, twice)
    assert found.verdict == "differs" and kinds(found) == {"other_step": 7 * 16}
    assert "step 7 is of the law there more than once" in texts(found)
    assert "step 1 of checkpoint_000001 to step 7 of checkpoint_000001 hold steps 1 to 7 of the law" in told(found)


def test_a_restart_in_the_middle(published) -> None:
    def skip(rows: list[Row]) -> list[Row]:
        return [(f, s if s <= 40 else s - 10, row) for f, s, row in rows if not 40 < s <= 50]

    found = spoil(published, skip)
    assert "steps 41 to 50 are of the law passed over" in texts(found)


def test_an_edited_row_of_each_kind(published) -> None:
    reader, index = MdsReader(published.data), published.index
    long = [i for i in range(index.law.used) if len(reader.tokens(int(index.step(i // 16)[i % 16]))) > 35]

    def edit(rows: list[Row]) -> list[Row]:
        rows[long[0]] = (*rows[long[0]][:2], rows[long[0]][2][:25])
        masked = list(rows[long[9]][2])
        masked[3] = masked[7] = 50284
        rows[long[9]] = (*rows[long[9]][:2], masked)
        rows[long[18]] = (*rows[long[18]][:2], [50281, 1, 2, 3, *rows[long[18]][2][10:30], 50282])
        rows[long[27]] = (*rows[long[27]][:2], [50281, *range(7, 30), 50282])
        return rows

    found = spoil(published, edit)
    assert kinds(found) == {"truncated": 1, "masked": 1, "chunk_borders": 1, "unknown": 1, "missing": 1}
    text = told(found)
    assert "cut after 25 of" in text and "tokens are [MASK]" in text and "20 tokens from token 9" in text


def test_a_sample_of_the_tail_is_named(published) -> None:
    tail = permutation(1003, 21)[992]
    row = MdsReader(published.data).tokens(int(tail)).tolist()
    found = spoil(published, lambda rows: [(*rows[0][:2], row), *rows[1:]])
    assert "a sample of the tail that fills no step" in told(found)


def test_a_token_that_is_none_of_the_data_is_a_difference(published) -> None:
    path = published.files()[0]
    table = pq.read_table(path)
    rows = table["input_ids"].to_pylist()
    rows[5][2] += 1 << 16  # the same 16 bits
    column = pa.array(rows, pa.list_(pa.int64()))
    pq.write_table(table.set_column(0, "input_ids", column), path)
    found = check(published)
    assert found.verdict == "differs" and sum(r.surplus for r in found.checked) == 1


# ---------------------------------------------------------------------------------------------------------------------
# another law


@pytest.mark.parametrize(("seed", "text"), [(22, "(epoch 1 of seed 21)"), (9176, "9176"), (77, "77")])
def test_another_seed(make, seed: int, text: str) -> None:
    published = make(500, 8, seed=seed)
    found = check(published)
    assert (found.verdict, found.exit_status) == ("explained", 1)
    assert len(texts(found)) == 1 and f"another seed: {seed}" in texts(found)[0] and text in texts(found)[0]
    assert all(r.agrees for r in found.checked) and len(found.checked) == 62


def test_an_unknown_seed_is_not_guessed(make) -> None:
    published = make(500, 8, seed=123_456_789)
    found = check(published, seeds=(1, 2, 21))
    assert found.verdict == "differs" and not found.fits and found.exit_status == 1
    assert "no law was found" in told(found) and "explains no more than" in told(found)
    assert to_json(found)["inference"]["seeds_tried"] == 3
    assert check(published, seeds=(123_456_789,)).verdict == "explained"
    assert check(published, infer=False).verdict == "differs"


@pytest.mark.slow
def test_a_thousand_seeds_are_tried_on_small_data(make) -> None:
    published = make(500, 8, seed=123_456_789)
    found = check(published)
    assert not found.fits and to_json(found)["inference"]["seeds_tried"] >= 1000


@pytest.mark.parametrize("seed", [21, 42])
def test_another_shard_order(published, make, tmp_path: Path, seed: int) -> None:
    if seed != 21:
        published = make_again(published, seed)
    published.shuffle_shards()
    found = check(published)
    assert found.verdict == "explained" and "another shard order in index.json: 11 of 11" in texts(found)[-1]
    assert names(found) == ["another_seed", "another_shard_order"][seed == 21 :]
    assert sum(r.equal for r in found.checked) == 992


def make_again(published, seed: int):
    lay_out(published, permutation(1003, seed)[:992].reshape(-1, 16).tolist())
    return published


def test_an_offset_of_a_thousand_steps(make) -> None:
    published = make(3300, 3)
    lay_out(published, [published.index.step(k).tolist() for k in range(1000, 1100)])
    found = check(published)
    assert found.verdict == "explained" and found.explanation.offset == 1000
    assert any("an offset of 1,000 steps" in text for text in texts(found))


def test_world_size_three_with_drop_last(published) -> None:
    """Three ranks make batches of 3 x (16 // 3) = 15 of a global batch of 16."""
    order = permutation(1003, 21)
    order = order[: len(order) - len(order) % 3]
    ranks = [order[rank::3] for rank in range(3)]
    steps = [np.concatenate([ranks[r][k * 5 : k * 5 + 5] for r in range(3)]).tolist() for k in range(66)]
    lay_out(published, steps)
    found = check(published, batch=16)
    assert found.verdict == "explained"
    assert "another batch: 15, not 16: world size 3 with drop_last takes 5 rows a rank" in texts(found)
    assert "rank by rank, for 3 ranks" in told(found)


def test_only_one_rank_was_saved(published) -> None:
    lay_out(published, [published.index.rank(k, 1, 4).tolist() for k in range(published.index.steps)])
    found = check(published, batch=16)
    assert found.verdict == "explained" and texts(found) == ["only rank 1 of 4 was saved"]


@pytest.mark.parametrize("world", [1, 4])
def test_drop_last_was_off(published, world: int) -> None:
    order = permutation(1003, 21)
    order = np.concatenate([order, order[: -len(order) % world]])
    lay_out(published, [order[i : i + 16].tolist() for i in range(0, len(order), 16)])
    found = check(published, batch=16)
    assert found.verdict == "explained" and "drop_last was off" in texts(found)[0]
    assert ("1 of them again" in texts(found)[0]) == (world == 4)


def test_steps_numbered_from_zero(published) -> None:
    lay_out(published, [published.index.step(k).tolist() for k in range(62)], first=0)
    found = check(published)
    assert found.verdict == "explained" and texts(found) == ["steps are numbered from 0, not from 1"]


def test_numbers_that_start_again_in_each_folder(published) -> None:
    found = spoil(published, lambda rows: [(f, (s - 1) % 25 + 1, row) for f, s, row in rows])
    assert found.verdict == "explained" and texts(found) == ["step numbers start again in each folder"]


def test_batch_size_warm_up_with_exact_rows(published) -> None:
    order, steps, at = permutation(1003, 21), [], 0
    while at + 16 <= 992:
        size = min(16, 4 + len(steps) // 4)
        steps.append(order[at : at + size].tolist())
        at += size
    lay_out(published, steps)
    found = check(published, batch=16)
    assert found.verdict == "explained" and "batch-size warm-up" in texts(found)[0]


def test_a_part_of_a_run_with_batch_size_warm_up(published) -> None:
    """Steps of the usual size, but not at multiples of it, and the file before them and one between are not here."""
    order, steps, at = permutation(1003, 21), [], 0
    while at + 16 <= 992:
        size = min(16, 3 + len(steps))
        steps.append(order[at : at + size].tolist())
        at += size
    lay_out(published, steps)
    rows = [row for row in published.rows() if row[1] > 20 and not 30 <= row[1] < 40]
    published.rewrite(rows)
    found = check(published, batch=16)
    assert found.verdict == "explained" and all(r.agrees for r in found.checked)
    first = sum(map(len, steps[:20]))
    assert texts(found)[1:] == [f"the first published row is row {first + 1} of the order"]


def test_exact_folders_with_inexact_steps(published) -> None:
    def mix(rows: list[Row]) -> list[Row]:
        for begin, end in ((0, 400), (400, 800), (800, 992)):
            tokens = [row for _, _, row in rows[begin:end]]
            order = np.random.default_rng(begin).permutation(len(tokens))
            rows[begin:end] = [(*rows[begin + i][:2], tokens[j]) for i, j in enumerate(order)]
        return rows

    found = spoil(published, mix)
    assert found.verdict == "explained" and texts(found) == ["folders are exact, steps inside them are not"]
    assert found.units == 3


# ---------------------------------------------------------------------------------------------------------------------
# only a part is there, or something else is


def test_a_partial_download_of_the_data(published) -> None:
    for number in (1, 4):
        next(published.data.glob(f"*/split_{number:04d}/shard.00000.mds")).unlink()
    found = check(published)
    assert (found.verdict, found.complete, found.exit_status) == ("agrees", False, 3)
    unread = sum(r.unread for r in found.checked)
    assert 190 <= unread <= 200 and f"{unread} samples, because 2 of 11 shards are not here" in told(found)


def test_differences_show_in_partial_data_too(published) -> None:
    next(published.data.glob("*/split_0001/shard.00000.mds")).unlink()
    reader, index = MdsReader(published.data), published.index
    readable = next(i for i in range(992) if index.step(i // 16)[i % 16] >= 200)
    assert len(reader)

    def change(rows: list[Row]) -> list[Row]:
        rows[readable][2][2] = 1
        return rows

    found = spoil(published, change)
    assert found.verdict == "differs" and kinds(found)["changed_tokens"] == 1


def test_a_partial_download_of_the_order(published) -> None:
    published.files()[2].unlink()
    published.files()[-1].unlink()
    found = check(published)
    assert (found.verdict, found.exit_status) == ("agrees", 3)
    assert found.absent_steps == [(21, 25), (61, 62)] and "21-25, 61-62" in told(found)


def test_no_data_at_all(published) -> None:
    for path in published.data.rglob("*.mds"):
        path.unlink()
    found = check(published)
    assert (found.verdict, found.exit_status) == ("unchecked", 3) and "NOT CHECKED" in told(found)


def test_an_index_that_claims_zstd_beside_raw_shards_is_left_alone(published) -> None:
    """The state of the published data sets, in which `streaming` deletes the raw shards."""
    path = published.data / "index.json"
    index = json.loads(path.read_text())
    for shard in index["shards"]:
        name = shard["raw_data"]["basename"] + ".zstd"
        shard["compression"], shard["zip_data"] = "zstd", {"basename": name, "bytes": 1, "hashes": {}}
    path.write_text(json.dumps(index))
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in published.data.rglob("*") if p.is_file()}
    assert check(published).verdict == "agrees"
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in published.data.rglob("*") if p.is_file()} == before
    assert len(read_index(published.data)) == 11


def test_what_is_not_a_publication_is_refused(published, tmp_path: Path) -> None:
    with pytest.raises(OrderError, match="no published order"):
        verify_order(Request(str(published.data), str(tmp_path / "nothing")))
    with pytest.raises(OrderError, match="not a file of the published form"):
        verify_order(Request(str(published.data), str(published.order)))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(OrderError, match="cannot be read"):
        verify_order(Request(str(published.data), str(tmp_path / "bad")))


# ---------------------------------------------------------------------------------------------------------------------
# several things at once, and what is easily taken for something else


def test_a_few_shards_that_changed_places(make) -> None:
    """Most rows fit the law as it is; only the shards tell that those of two of them are not simply swapped."""
    published = make(1003, 16)
    shards = read_index(published.data)
    shards[2], shards[6] = shards[6], shards[2]
    write_index(published.data, shards)
    found = check(published)
    assert found.verdict == "explained" and names(found) == ["another_shard_order"]
    assert "2 of 11 stood elsewhere" in texts(found)[0] and found.complete


def test_shards_of_a_few_rows_and_of_the_same_rows(tmp_path: Path) -> None:
    write_data(tmp_path / "train", 400, split=4)
    shutil.copytree(tmp_path / "train/source1", tmp_path / "train/source1-dup")
    shards = read_index(tmp_path / "train")
    twice = [dataclasses.replace(s, basename=s.basename.replace("source1", "source1-dup")) for s in shards]
    shards += [s for s in twice if "dup" in s.basename]
    write_index(tmp_path / "train", shards)
    samples = sum(s.samples for s in shards)
    write_order(tmp_path / "order", OrderLaw(21, 0, samples, 16), interval_steps=9, phase="decay")
    export_order(tmp_path / "order", tmp_path / "train", tmp_path / "out")
    order = np.random.default_rng(0).permutation(len(shards))
    write_index(tmp_path / "train", [shards[i] for i in order])
    found = verify_order(Request(str(tmp_path / "train"), str(tmp_path / "out")))
    assert found.verdict == "explained" and names(found) == ["another_shard_order"]
    assert all(r.agrees and not r.unread for r in found.checked)


def test_one_row_cut_among_rows_as_stored(make) -> None:
    published = make(500, 8, length=64)
    rows = published.rows()
    long = next(i for i, (_, _, row) in enumerate(rows) if len(row) == 64)
    rows[long] = (*rows[long][:2], rows[long][2][:63])
    published.rewrite(rows)
    found = check(published)
    assert (found.verdict, found.exit_status, names(found)) == ("explained", 1, ["truncated"])
    assert "1 row is not as stored: cut after 63 of 64 tokens (only its [SEP] is lost)" in texts(found)[0]


def test_a_form_that_shows_in_one_row_only(make) -> None:
    """The units looked at first do not show that rows were cut."""
    published = make(2000, 8, length=41)
    reader = MdsReader(published.data)
    rows = published.rows()
    longest = max(len(row) for _, _, row in rows)
    assert longest == 41 and len(reader) == 2000
    published.rewrite([(f, s, row if len(row) < 41 else [*row[:39], 50282]) for f, s, row in rows])
    found = check(published)
    assert found.verdict == "agrees" and (found.form.kind, found.max_length) == ("encoder", 40)


@pytest.mark.parametrize("where", ["end", "own number"])
def test_a_step_that_stands_again_at_the_end(published, where: str) -> None:
    again = [published.index.step(k).tolist() for k in range(62)]
    lay_out(published, [*again, again[30]] if where == "own number" else [*again[:-1], again[30]])
    found = check(published)
    assert found.verdict == "differs" and "step_repeated" in names(found)
    assert "step 31 is of the law there more than once" in texts(found)


def test_rows_that_changed_places_between_epochs(published) -> None:
    orders = [permutation(1003, seed)[:992].reshape(-1, 16).tolist() for seed in (21, 22)]
    steps = orders[0] + orders[1]
    lay_out(published, steps)
    right = check(published)
    assert (right.verdict, right.exit_status) == ("agrees", 0)
    assert [note["name"] for note in to_json(right)["notes"]] == ["several_epochs"]
    steps[10][3], steps[100][5] = steps[100][5], steps[10][3]
    lay_out(published, steps)
    text = told(check(published))
    assert "step 11 of checkpoint_000001: the law has it in step 101" in text
    assert "step 101 of checkpoint_000001: the law has it in step 11" in text


def test_a_step_that_a_file_spans_and_lacks(published) -> None:
    found = spoil(published, lambda rows: [row for row in rows if row[1] != 33])
    assert (found.verdict, found.exit_status, names(found)) == ("differs", 1, ["step_missing"])
    assert "step 33 is missing from checkpoint_000002/steps_000026_to_000035.parquet" in texts(found)[0]


def test_an_offset_of_another_seed_with_a_changed_token(make) -> None:
    published = make(700, 6)
    order = permutation(700, 4321)
    lay_out(published, order[20 * 6 : 696].reshape(-1, 6).tolist(), first=0)
    rows = published.rows()
    rows[50][2][4] += 1
    published.rewrite(rows)
    found = check(published)
    assert found.verdict == "differs" and kinds(found) == {"changed_tokens": 1}
    assert names(found) == ["another_seed", "numbering_base", "offset"] and "4321" in texts(found)[0]


def test_numbers_that_start_later(published) -> None:
    found = spoil(published, lambda rows: [(f, s + 99, row) for f, s, row in rows])
    assert found.verdict == "explained" and texts(found) == ["steps are numbered from 100, not from 1"]


def test_the_batch_of_the_index_beside_the_data_is_expected(published) -> None:
    """Without an index, a whole publication in steps of 15 is one of batch 15; beside one of 16, of three ranks."""
    order = permutation(1003, 21)[:1002]
    steps = [np.concatenate([order[r::3][k * 5 : k * 5 + 5] for r in range(3)]).tolist() for k in range(66)]
    lay_out(published, steps)
    found = check(published)
    assert names(found) == ["world_size"] and "world size 3 with drop_last takes 5 rows a rank" in texts(found)[0]
    shutil.rmtree(published.order)
    alone = check(published)
    assert alone.verdict == "agrees" and [note["name"] for note in to_json(alone)["notes"]] == ["world_size"]


@pytest.mark.parametrize("number", [0, 1000, 10**12])
def test_one_row_with_a_strange_step_number(published, number: int) -> None:
    found = spoil(published, lambda rows: [*rows[:100], (rows[100][0], number, rows[100][2]), *rows[101:]])
    assert found.verdict == "differs" and kinds(found)["other_step"] == 1 and found.deviations == []
    assert "the law has it in step 7" in told(found)


def test_other_types_of_columns(published) -> None:
    """Padded blocks and a column without its numbers are what other writers leave."""
    for path in published.files():
        table = pq.read_table(path)
        rows = [row + [50283] * (48 - len(row)) for row in table["input_ids"].to_pylist()]
        columns = {"input_ids": pa.array(rows, pa.list_(pa.int32(), 48)), "step": table["step"].cast(pa.int32())}
        pq.write_table(pa.table(columns), path)
    assert check(published).exit_status == 0
    table = pq.read_table(published.files()[0])
    steps = pa.array([None, *table["step"].to_pylist()[1:]], pa.int32())
    pq.write_table(table.set_column(1, "step", steps), published.files()[0])
    found = check(published)
    assert (found.verdict, found.exit_status) == ("agrees", 3) and "rows without a step" in told(found)
    words = pa.array([" ".join(map(str, row)) for row in table["input_ids"].to_pylist()])
    pq.write_table(table.set_column(0, "input_ids", words), published.files()[0])
    assert "its input_ids are string" in to_json(check(published))["bad_files"][0]["why"]
