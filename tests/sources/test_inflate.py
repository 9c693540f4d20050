"""Compression layers: what comes out is what went in, and every kind of damage is named."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.sources.access.inflate import content
from ettin_data.sources.base import Damaged, ReadOptions

SKIPPABLE = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
EMPTY_SKIPPABLE = b"\x5f\x2a\x4d\x18\x00\x00\x00\x00"


def inflate(data: bytes, step: int = 1 << 18, **options: int) -> tuple[bytes, str | None]:
    """(what was read, why it ended early or None), fed `step` bytes at a time."""
    out = []
    try:
        _, blocks = content(iter([data[i : i + step] for i in range(0, len(data), step)]), ReadOptions(**options))
        for block in blocks:
            out.append(block)
    except Damaged as damage:
        return b"".join(out), damage.reason
    return b"".join(out), None


def zstd(data: bytes, *, level: int = 3, checksum: bool = False, streamed: bool = False, window: int = 0) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, write_checksum=checksum, write_content_size=not streamed, **({"window_log": window} if window else {})
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    if not streamed:
        return compressor.compress(data)
    stream = compressor.compressobj()
    return stream.compress(data) + stream.flush()


TEXTS = st.one_of(st.binary(max_size=2000), st.binary(min_size=1, max_size=8).map(lambda b: b * 50_000)).filter(
    lambda data: not data.startswith((b"\x1f\x8b", b"\x28\xb5", b"P*M", b"BZh", b"\xfd7z")) and data[1:4] != b"*M\x18"
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(TEXTS, min_size=1, max_size=4),
    st.sampled_from(["gzip", "zstd", "bzip2", "xz"]),
    st.sampled_from([1, 7, 1000, 1 << 18]),
    st.booleans(),
    st.booleans(),
)
def test_many_members_or_frames_in_any_chunks(
    parts: list[bytes], kind: str, step: int, flag: bool, other: bool
) -> None:
    if kind in ("bzip2", "xz"):
        pack = bz2.compress if kind == "bzip2" else lzma.compress
        data = b"".join(pack(part) + b"\0" * 4 * flag for part in parts)
    elif kind == "gzip":
        data = (b"\0" * 9 if flag else b"").join(gzip.compress(part) for part in parts) + b"\0" * (5 if other else 0)
    else:
        data = (SKIPPABLE if flag else b"").join(zstd(p, checksum=flag, streamed=other) for p in parts)
        data = EMPTY_SKIPPABLE + data + (SKIPPABLE if other else b"")
    if step == 1:
        data = data if len(data) < 20_000 else b""
    assert inflate(data, step) == (b"".join(parts) if data else b"", None)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=20, max_size=3000), st.data(), st.sampled_from([3, 1 << 18]))
def test_every_truncation_is_seen(text: bytes, data: st.DataObject, step: int) -> None:
    """At any byte behind the magic; the zstd decoder itself says nothing about a missing end."""
    text = b"x" + text
    for packed in (gzip.compress(text), zstd(text, streamed=True), zstd(text, checksum=True)):
        cut = data.draw(st.integers(5, len(packed) - 1))
        read, reason = inflate(packed[:cut], step)
        assert reason == "truncated" and text.startswith(read)


def test_truncation_between_frames_is_not_visible_here() -> None:
    """Only the listing's size can tell (see the transport's tests): each frame is whole."""
    assert inflate(zstd(b"one")) == (b"one", None)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_trailing_garbage_keeps_what_came_before(pack) -> None:
    assert inflate(pack(b"text" * 100) + b"<html>oops") == (b"text" * 100, "trailing_garbage")


def test_checksums_are_verified() -> None:
    text = b"some text that is long enough to be compressed, some text that is long enough" * 20
    packed = bytearray(gzip.compress(text))
    packed[-6] ^= 1  # in the CRC
    assert inflate(bytes(packed)) == (text, "damaged_gzip") or inflate(bytes(packed)) == (b"", "damaged_gzip")
    packed = bytearray(zstd(text, checksum=True))
    packed[-1] ^= 1
    assert inflate(bytes(packed))[1] == "damaged_zstd"


@pytest.mark.parametrize("window", [27, 31])
def test_long_windows(window: int) -> None:
    text = bytes(range(256)) * 2000
    packed = zstd(text, window=window, streamed=True)
    assert inflate(packed) == (text, None)
    assert inflate(packed, max_window_bytes=1 << 26) == (b"", "zstd_window")


def test_a_dictionary_is_asked_for() -> None:
    samples = [f"the quick brown fox number {n} jumps over the lazy dog {n * 7}".encode() for n in range(2000)]
    dictionary = zstandard.train_dictionary(2000, samples)
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(samples[0] * 9)
    assert inflate(packed)[1] == "zstd_dictionary"


def test_layers_are_peeled() -> None:
    text = b'{"text": "double suffixes exist"}\n' * 10
    assert inflate(zstd(gzip.compress(text))) == (text, None)
    assert inflate(gzip.compress(gzip.compress(gzip.compress(text)))) == (text, None)


def test_decompression_bombs_are_bounded() -> None:
    """160 KB that stand for 5 GB, and 160 KB for 160 MB: the stated limit holds, in bytes written."""
    repeat = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"a"  # one block: 128 KiB of one byte
    bomb = b"\x28\xb5\x2f\xfd\x00\x38" + repeat * 40_000 + (1).to_bytes(3, "little")
    other = gzip.compress(bytes(160 << 20), 6)
    for packed in (bomb, other):
        assert len(packed) < 800_000
        read, reason = inflate(packed)
        assert reason == "expansion_limit" and len(read) <= (64 << 20) + (1 << 20)
    read, reason = inflate(zstd(b"ab" * 10_000_000), max_expansion=10_000)
    assert (len(read), reason) == (20_000_000, None)


@pytest.mark.parametrize("head", [b"BZh91AY", b"\xfd7zXZ\x00\x00", b"PK\x03\x04zip", b"\x04\x22\x4d\x18lz4"])
def test_other_containers_are_left_for_the_reader_to_name(head: bytes) -> None:
    assert inflate(head) == (head, None)


@pytest.mark.parametrize(("pack", "name"), [(bz2.compress, "bzip2"), (lzma.compress, "xz")])
def test_damage_of_bzip2_and_xz_is_named(pack: Callable[[bytes], bytes], name: str) -> None:
    text = random.Random(1).randbytes(300_000)
    data = pack(text) + pack(text)
    assert inflate(data) == (text + text, None)
    read, reason = inflate(data[:-9])
    assert text + text == read + (text + text)[len(read) :] and reason == "truncated"
    broken = bytearray(data)
    broken[len(data) * 3 // 4] ^= 1
    read, reason = inflate(bytes(broken))
    assert read[: len(text)] == text and reason == f"damaged_{name}"
    assert inflate(data + b"more")[1] == "trailing_garbage"
    assert inflate(pack(bytes(200 << 20)), max_expansion=50)[1] == "expansion_limit"
