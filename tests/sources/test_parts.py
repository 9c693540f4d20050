"""Large files in parts: the parts together are the file, whatever its format and wherever it lies."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
import source_kit as kit
import zstandard
from fault_server import Fault, serve
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data import sources
from ettin_data.sources import ReadOptions, Record, Reject, Source, SourceFile, TransportOptions
from ettin_data.sources.access import inflate

FAST = TransportOptions(attempts=4, backoff_s=0.01, backoff_max_s=0.05, timeout_s=5, block_bytes=1 << 16)


PLAIN = {"compression": "NONE", "write_statistics": False, "use_dictionary": False}


def lines(seed: int, count: int, *, ends: bool = True) -> bytes:
    """JSON Lines with blank ones, broken ones and long ones; text that does not compress much."""
    rng = random.Random(f"lines {seed}")
    rows = []
    for number in range(count):
        kind = rng.random()
        if kind < 0.03:
            rows.append(b"")
        elif kind < 0.06:
            rows.append(b'{"text": "broken')
        else:
            text = rng.randbytes(rng.choice((8, 100, 1000, 20_000 if kind > 0.98 else 300))).hex()
            rows.append(kit.jsonl([{"text": text, "id": f"d{number}", "url": f"http://x/{number}"}]).rstrip(b"\n"))
    return b"\n".join(rows) + (b"\n" if ends else b"")


def gzip_members(data: bytes, rng: random.Random, mean: int = 20_000) -> bytes:
    """Cut anywhere, as bgzip does."""
    return b"".join(gzip.compress(piece, 1, mtime=0) for piece in pieces(data, rng, mean))


def zstd_frames(data: bytes, rng: random.Random, mean: int = 20_000) -> bytes:
    """Cut anywhere, each frame behind a skippable one, as pzstd does."""
    frames = (zstandard.ZstdCompressor(level=1).compress(piece) for piece in pieces(data, rng, mean))
    return b"".join(b"\x50\x2a\x4d\x18\4\0\0\0" + len(frame).to_bytes(4, "little") + frame for frame in frames)


def pieces(data: bytes, rng: random.Random, mean: int) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + rng.randint(1, 2 * mean)
        found.append(data[at:end])
        at = end
    return found


def parquet(seed: int, count: int) -> bytes:
    rng = random.Random(f"rows {seed}")
    texts = [rng.randbytes(rng.choice((10, 200, 2000))).hex() or None for _ in range(count)]
    texts = [None if rng.random() < 0.05 else text for text in texts]
    columns = {"score": list(range(count)), "text": texts, "id": [f"r{number}" for number in range(count)]}
    return kit.parquet(
        {name: pa.array(values) for name, values in columns.items()}, **PLAIN, row_group_size=count // 37
    )


FORMATS: dict[str, Callable[[int, int], bytes]] = {
    "a.jsonl": lambda seed, count: lines(seed, count),
    "open.jsonl": lambda seed, count: lines(seed, count, ends=False),
    "a.jsonl.gz": lambda seed, count: gzip_members(lines(seed, count), random.Random(seed)),
    "a.jsonl.zst": lambda seed, count: zstd_frames(lines(seed, count), random.Random(seed)),
    "a.parquet": parquet,
}


def content(source: Source, files: list[SourceFile], options: ReadOptions | None = None) -> list[tuple]:
    """What is read, without the positions, which count in each part anew."""
    found: list[tuple] = []
    for file in files:
        for position, item in enumerate(sources.read_file(source, file, options=options)):
            assert item.position == position or (isinstance(item, Reject) and item.whole_file), (file, item)
            if isinstance(item, Record):
                found.append((item.id, item.text, item.metadata))
            else:
                found.append((item.reason, item.raw))
    return found


small_members = mock.patch.object(inflate, "TRIED", 1 << 14)
"""Members are believed sooner, so that small files can be cut."""


@small_members
@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 20), parts=st.integers(2, 9))
@pytest.mark.parametrize("name", FORMATS)
def test_the_parts_are_the_file(name: str, tmp_path_factory: pytest.TempPathFactory, seed: int, parts: int) -> None:
    source, file = kit.one_file(tmp_path_factory.mktemp("parts"), name, FORMATS[name](seed, 500))
    cut = sources.cut_files(source, [file], -(-file.size // parts), FAST)
    assert 2 <= len(cut) <= parts
    assert cut == sources.cut_files(source, [file], -(-file.size // parts), FAST)
    assert [part.part[0] for part in cut if part.part] == [0, *(part.part[1] for part in cut[:-1] if part.part)]
    assert sum(part.bytes for part in cut) == file.size
    assert max(part.bytes for part in cut) < file.size
    assert content(source, cut) == content(source, [file])


@settings(max_examples=200)
@given(data=st.data())
def test_any_places_in_lines(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever a file of lines is cut, at a line's end or in a line longer than a part: every line comes once."""
    rows = [b"first", *data.draw(st.lists(st.binary(max_size=0) | st.just(b'{"text": "b"}'), max_size=12))]
    raw = b"\n".join(rows)
    source, file = kit.one_file(tmp_path_factory.mktemp("any"), "a.jsonl", raw)
    places = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=6)))
    bounds = [0, *places, len(raw)]
    cut = [replace(file, part=(start, stop)) for start, stop in pairwise(bounds)]
    # documents without an id get one of their place, which names the part
    assert [item[1] for item in content(source, cut)] == [item[1] for item in content(source, [file])]


@small_members
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_over_a_network(name: str, ranges: bool, tmp_path: Path) -> None:
    local, file = kit.one_file(tmp_path / "www", name, FORMATS[name](3, 2000))
    size = file.size // 5
    expected = [part.part for part in sources.cut_files(local, [file], size, FAST)]
    assert len(expected) > 3
    with serve(tmp_path / "www", ranges=ranges) as server:
        source = replace(local, root=server.url + "/", globs=(name,))
        [listed] = sources.list_files(source, transport=FAST)
        cut = sources.cut_files(source, [listed], size, FAST)
        assert [part.part for part in cut] == expected
        for transport in (FAST, replace(FAST, cache=str(tmp_path / "cache"))):
            assert content(source, cut, ReadOptions(transport=transport)) == content(local, [file])
        server.faults[f"/{name}"] = [Fault(cut=30_000), Fault(status=503), Fault(cut=10)]
        assert content(source, cut, ReadOptions(transport=FAST)) == content(local, [file])


def test_a_part_asks_for_its_bytes_only(tmp_path: Path) -> None:
    data = parquet(1, 4000)
    local, file = kit.one_file(tmp_path / "www", "a.parquet", data)
    with serve(tmp_path / "www") as server:
        source = replace(local, root=server.url + "/", globs=("a.parquet",))
        part = sources.cut_files(source, sources.list_files(source, transport=FAST), file.size // 8, FAST)[3]
        server.requests.clear()
        assert content(source, [part], ReadOptions(transport=FAST))
        spans = [range_.removeprefix("bytes=").split("-") for range_ in server.gets("/a.parquet")]
        assert part.bytes <= sum(int(end) - int(start) + 1 for start, end in spans) < part.bytes + 20_000


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("one.jsonl.gz", gzip.compress(lines(1, 3000), 1, mtime=0)),
        ("one.jsonl.zst", zstandard.ZstdCompressor(level=1).compress(lines(1, 3000))),
        ("twice.jsonl.gz.zst", zstd_frames(gzip.compress(lines(1, 3000), 1), random.Random(1))),
        ("inside.parquet.gz", gzip_members(parquet(1, 3000), random.Random(1))),
        ("one.parquet", kit.parquet({"text": ["x" * 1000] * 900}, row_group_size=900, **PLAIN)),
        ("cut.parquet", parquet(1, 3000)[:-9]),
        ("page.html", b"<!DOCTYPE html>\n" + lines(1, 3000)),
        ("page.jsonl.gz", gzip_members(b"<html>\n" + lines(1, 3000), random.Random(1))),
        ("one.jsonl.bz2", b"BZh9" + random.Random(1).randbytes(500_000)),
        ("tokens.mds", kit.mds_shard({"text": "str"}, [{"text": "x" * 999}] * 900)),
    ],
)
@small_members
def test_what_cannot_be_cut_stays_whole(name: str, data: bytes, tmp_path: Path) -> None:
    source, file = kit.one_file(tmp_path, name, data)
    assert file.size > 400_000 or name.startswith("one.parquet")
    assert sources.cut_files(source, [file], file.size // 4, FAST) == [file]


def test_small_files_and_token_sources_stay_whole(tmp_path: Path) -> None:
    source, file = kit.one_file(tmp_path, "a.jsonl", lines(1, 100))
    assert sources.cut_files(source, [file, file], file.size, FAST) == [file, file]
    assert sources.cut_files(replace(source, format="mds"), [file], 100, FAST) == [file]
    gone = SourceFile("gone.jsonl.gz", 1 << 40)
    assert sources.cut_files(source, [gone], 1 << 30, FAST) == [gone]


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08\0\0\0\0\0\0\3", b"\x28\xb5\x2f\xfd\x04\x40"])
def test_members_are_not_seen_where_there_are_none(magic: bytes) -> None:
    """Magic numbers, thousands of them, in what does not compress: none is taken for a member."""
    noise = bytearray(random.Random(4).randbytes(4_000_000))
    for at in range(0, len(noise), 1000):
        noise[at : at + len(magic)] = magic
    assert not [*inflate.members(bytes(noise), magic)]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_large_members(name: str, tmp_path: Path) -> None:
    """Members of a usual size, cut as a build would."""
    write = gzip_members if name.endswith("gz") else zstd_frames
    source, file = kit.one_file(tmp_path, name, write(lines(2, 20_000), random.Random(2), 200_000))
    cut = sources.cut_files(source, [file], file.size // 3 + 1, FAST)
    assert len(cut) == 3
    assert content(source, cut) == content(source, [file])


def test_a_part_of_a_file_that_changed(tmp_path: Path) -> None:
    source, file = kit.one_file(tmp_path, "a.jsonl", lines(1, 1000))
    part = sources.cut_files(source, [file], file.size // 3, FAST)[1]
    with open(tmp_path / "a.jsonl", "ab") as grown:
        grown.write(b"{}\n")
    [reject] = sources.read_file(source, part)
    assert isinstance(reject, Reject) and (reject.reason, reject.whole_file) == ("size_mismatch", True)


@small_members
def test_damage_in_one_part_spares_the_others(tmp_path: Path) -> None:
    data = bytearray(gzip_members(lines(5, 2000), random.Random(5)))
    source, file = kit.one_file(tmp_path, "a.jsonl.gz", bytes(data))
    cut = sources.cut_files(source, [file], file.size // 5, FAST)
    whole = content(source, cut)
    start, stop = cut[2].part or (0, 0)
    data[(start + stop) // 2] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    found = content(source, cut)
    assert len([item for item in found if item[0] == "damaged_gzip"]) == 1
    assert len(found) > 0.75 * len(whole) > len(content(source, [file]))
