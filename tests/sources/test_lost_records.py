"""The law of lost files: the records that were seen and the estimate of those that were not are what the file held."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import source_kit as kit
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz import oracle_lines

from ettin_data.sources import SourceFile, own_source
from ettin_data.sources.access import inflate
from ettin_data.sources.base import Loss

COUNT = 300
TEXTS = [f"{n} {random.Random(n).randbytes(50).hex()}" for n in range(COUNT)]
ROWS = [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]
LINES = kit.jsonl(ROWS)
PIECES = [kit.jsonl(ROWS[n : n + 20]) for n in range(0, COUNT, 20)]
TABLE = kit.parquet({"id": [row["id"] for row in ROWS], "text": TEXTS}, row_group_size=25, use_dictionary=False,
                    write_page_checksum=True)  # fmt: skip
SHARD = kit.mds_shard({"id": "str", "text": "str"}, ROWS)
HEAD = 4 + 4 * (COUNT + 1) + 400  # of the shard, with its config
FILES: dict[str, tuple[bytes, int, int]] = {  # the file, and where it may be changed without changing what it says
    "a.jsonl.gz": (gzip.compress(LINES), 0, 0),
    "members.jsonl.gz": (b"".join(map(gzip.compress, PIECES)), 0, 0),
    "a.jsonl.zst": (zstandard.compress(LINES), 0, 0),
    "frames.jsonl.zst": (b"".join(map(zstandard.ZstdCompressor(write_checksum=True).compress, PIECES)), 0, 0),
    "a.jsonl.bz2": (bz2.compress(LINES), 0, 0),
    "a.jsonl.xz": (lzma.compress(LINES), 0, 0),
    "a.parquet": (TABLE, 4, len(TABLE) - 8 - int.from_bytes(TABLE[-8:-4], "little")),
    "a.mds": (SHARD, HEAD, len(SHARD)),
}
NO_DATA = [
    b"", b"<!DOCTYPE html><html><body>log in</body></html>", b"<?xml version='1.0'?><Error/>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize %d\n",
]  # fmt: skip


def damage(name: str, rng: random.Random) -> bytes:
    """One file with a flipped bit, other bytes, a part missing, an early end, or something else in its place."""
    data, first, last = FILES[name]
    at = rng.randrange(first, last or len(data))
    kind = rng.randrange(5)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        size = min(rng.randrange(1, 80), (last or len(data)) - at)
        return data[:at] + rng.randbytes(size) + data[at + size :]
    if kind == 2:
        return data[: rng.randrange(1, len(data))]
    if kind == 3:
        return data[:at] + bytes(len(data) - at)
    other = rng.choice(NO_DATA)
    return other % len(data) if b"%d" in other else other


def law(name: str, data: bytes, path: Path) -> str | None:
    """What is wrong with how a damaged file was read, or None."""
    path.write_bytes(data)
    records, rejects = kit.read(own_source("own", str(path)), SourceFile(path.name, len(data)))
    losses = [reject for reject in rejects if reject.loss is not None]
    seen = len(records) + len(rejects) - len(losses)
    if not losses:
        held = oracle_lines(data) if name.endswith((".gz", ".zst")) else COUNT
        return None if seen == (COUNT if held is None else held) else f"{seen} records of {held}, and nothing was lost"
    [end] = losses
    assert end.loss is not None and end.position == seen
    lost = end.loss.records(seen, COUNT / len(FILES[name][0]), COUNT)
    garbled = [record.text for record in records] != TEXTS[:seen]  # what flipped bits inflate to has any lines
    close = 0 if end.loss.lost is not None else COUNT // 2 if garbled else COUNT // 8
    right = abs(seen + lost - COUNT) <= close or (garbled and seen > COUNT)
    return None if right and end.loss.said() else f"{seen} + {lost} records of {COUNT}: {end}"


def check(seeds: range, folder: Path) -> None:
    wrong = []
    for seed in seeds:
        rng = random.Random(seed)
        name = rng.choice(sorted(FILES))
        if problem := law(name, damage(name, rng), folder / name):
            wrong.append(f"seed {seed}, {name}: {problem}")
    assert not wrong, "\n".join(wrong[:20])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders give a few records at a time, as they do of large files."""
    monkeypatch.setattr(inflate, "BLOCK", 1 << 11)


def test_seen_and_lost_are_what_the_file_held(small_blocks: None, tmp_path: Path) -> None:
    check(range(400), tmp_path)


@pytest.mark.slow
def test_seen_and_lost_in_ten_thousand_files(small_blocks: None, tmp_path: Path) -> None:
    check(range(1_000, 11_000), tmp_path)


@given(st.integers(512, len(LINES) - 1024), st.integers(1024, 20_000), st.booleans())
def test_a_hole_of_zeros_is_never_one_record(
    tmp_path_factory: pytest.TempPathFactory, at: int, size: int, packed: bool
) -> None:
    """What a disk or a copy has lost of lines: seen, and the rest by its share of the bytes."""
    holed = LINES[:at] + bytes(min(size, len(LINES) - at)) + LINES[at + size :]
    name, data = ("a.jsonl.gz", gzip.compress(holed)) if packed else ("a.jsonl", holed)
    path = tmp_path_factory.mktemp("hole") / name
    path.write_bytes(data)
    records, rejects = kit.read(own_source("own", str(path)), SourceFile(name, len(data)))
    [end] = rejects
    assert end.reason in ("zero_bytes", "not_data") and end.loss is not None
    assert [record.text for record in records] == TEXTS[: len(records)] == TEXTS[: LINES[:at].count(b"\n")]
    lost = end.loss.records(len(records), COUNT / len(data), COUNT)
    assert lost >= 1 and (packed or abs(len(records) + lost - COUNT) <= COUNT // 8)


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_zeros_are_no_text(tmp_path: Path, name: str) -> None:
    head = b"id,text\n0," if name == "a.csv" else b""
    for zeros, whole in ((100, True), (4096, False)):
        data = head + b"some words " * 200 + bytes(zeros) + b"and more\n"
        records, rejects = kit.read_bytes(tmp_path, name, data)
        assert [len(records), [reject.reason for reject in rejects]] == ([1, []] if whole else [0, ["zero_bytes"]])


def test_nothing_is_lost_of_sound_files(tmp_path: Path) -> None:
    for name, (data, _, _) in FILES.items():
        records, rejects = kit.read_bytes(tmp_path, name, data)
        assert len(records) == COUNT and not rejects


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**9), st.floats(0, 10), st.floats(0, 10**6))
def test_an_estimate_is_never_nothing_unless_the_file_says_so(
    seen: int, read: int, unread: int, per_byte: float, per_file: float
) -> None:
    losses: list[Callable[[], Loss]] = [lambda: Loss(None, read, unread), lambda: Loss()]
    for made in losses:
        assert made().records(seen, per_byte, per_file) >= 1
    assert Loss(lost=0).records(seen, per_byte, per_file) == 0
