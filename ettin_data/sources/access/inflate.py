"""From the bytes of a file to its content: gzip, zstd, bzip2 and xz taken off by magic bytes, in bounded memory.

`content` peels as many layers as there are (names such as `.jsonl.gz.zst` exist) and yields blocks of about a MiB.
Every way in which a compressed file can be damaged ends in `Damaged` after what could be read was yielded:

* gzip (isal, several times faster than zlib): any number of members; zero padding after the last one is allowed, other
  trailing garbage is reported; the checksum of each member is verified.
* bzip2 and xz: the standard library's decoders, any number of streams; both carry checksums.
* zstd: the decoder alone does not notice a missing end (no checksum is required by the format), so `ZstdFrames` walks
  the frame and block headers beside it. That walk also bounds the output of one call: a block gives at most 128 KiB.
* a file that expands more than `max_expansion` times is a decompression bomb.
"""

from __future__ import annotations

import bz2
import functools
import lzma
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import zstandard
from isal import isal_zlib

from ettin_data.sources.base import Damaged, ReadOptions

SUFFIXES = ("gz", "gzip", "zst", "zstd", "bz2", "xz")
"""Of the names of compressed files. The magic bytes decide what is taken off."""
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
BZIP2 = re.compile(b"BZh[1-9](1AY&SY|\x17rE8P\x90)")  # a stream of blocks, or of none
XZ = re.compile(b"\xfd7zXZ\0\0[\0\1\4\n]")  # with one of the kinds of check that there are
BLOCK = 1 << 20  # asked from a decoder at a time
MAX_LAYERS = 3
TRIED = 1 << 20
"""Bytes of what may be a member that are inflated to see whether it is: noise passes for one block, not for eight."""
WINDOW = 5 << 20
"""Bytes behind a place in which a member must begin, and be tried, for a file to be cut there; a file whose first is
longer counts as one of a single member."""
_GZIP_ERROR: Any = isal_zlib.error  # the stubs call it an instance


def is_zstd(head: bytes) -> bool:
    """Whether bytes start a zstd frame, a skippable one included (RFC 8878, 3.1.2)."""
    return head[:4] == ZSTD or (len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F)


def is_compressed(head: bytes) -> bool:
    """Whether bytes start a file of a compression that is taken off."""
    return has_members(head) or bool(XZ.match(head) or BZIP2.match(head))


def has_members(head: bytes) -> bool:
    """Whether bytes start a gzip or zstd file, which may have members that can be read one by one."""
    return head.startswith(GZIP) or is_zstd(head)


def members(data: bytes, head: bytes) -> Iterator[int]:
    """Where members (frames) of a gzip (zstd) file, of which `head` is the start, seem to begin in `data`; increasing.

    A magic number can stand anywhere by chance: a place counts only if what follows can be inflated as well, and so
    none counts in the last `TRIED` bytes.
    """
    magic, inflates = (GZIP + b"\x08", _gunzips) if head.startswith(GZIP) else (ZSTD, _unzstds)
    at = data.find(magic)
    while 0 <= at <= len(data) - TRIED:
        if inflates(data[at : at + TRIED]):
            yield at
        at = data.find(magic, at + 1)


def _gunzips(data: bytes) -> bool:
    try:
        return isal_zlib.decompressobj(wbits=31).decompress(data, BLOCK) is not None
    except _GZIP_ERROR:
        return False


def _unzstds(data: bytes) -> bool:
    try:
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(data).read(BLOCK) is not None
    except zstandard.ZstdError:
        return False


def peek(chunks: Iterator[bytes], size: int = 512) -> tuple[bytes, Iterator[bytes]]:
    """The first `size` bytes (fewer at the end of the stream) and the whole stream again, its damage included."""
    held: list[bytes] = []
    length = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            length += len(chunk)
            if length >= size:
                break
    except Damaged as damage:
        chunks = _raising(damage)
    return b"".join(held)[:size], chain(held, chunks)


def _raising(damage: Damaged) -> Iterator[bytes]:
    raise damage
    yield b""


def content(chunks: Iterator[bytes], options: ReadOptions, layers: int = MAX_LAYERS) -> tuple[bytes, Iterator[bytes]]:
    """Take compression layers off; returns the first bytes of the content and its blocks. Raises `Damaged`."""
    head, chunks = peek(chunks)
    for layer in range(layers):
        bound = Expansion(options)
        if head.startswith(GZIP):
            chunks = _gunzip(chunks, bound)
        elif is_zstd(head):
            chunks = _unzstd(chunks, bound, options.max_window_bytes)
        elif BZIP2.match(head):
            chunks = _streams(chunks, bound, "bzip2", b"BZh", bz2.BZ2Decompressor, (OSError, ValueError))
        elif XZ.match(head):
            start = functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, options.max_window_bytes)
            chunks = _streams(chunks, bound, "xz", b"\xfd7zXZ\0", start, (lzma.LZMAError,))
        else:
            break
        head, chunks = peek(chunks if layer else _placed(chunks, bound))
    return head, chunks


def _placed(blocks: Iterator[bytes], bound: Expansion) -> Iterator[bytes]:
    """The blocks of the outermost layer; damage that ends them says how many bytes as stored gave them."""
    try:
        yield from blocks
    except Damaged as damage:
        damage.at = bound.done
        raise


class Expansion:
    """Stops a decompression bomb: counts bytes in and out of one layer; `done` of those in have given what is out."""

    def __init__(self, options: ReadOptions, read: int = 0) -> None:
        self.read, self.written, self.done = read, 0, 0
        self.ratio, self.floor = options.max_expansion, options.expansion_floor

    def wrote(self, n: int) -> None:
        self.written += n
        if self.written > self.floor and self.written > self.read * self.ratio:
            raise Damaged(
                "expansion_limit",
                f"{self.read:,} bytes expanded to more than {self.written:,}: over {self.ratio} times, "
                "a decompression bomb or a file of repetitions (option max_expansion)",
            )


def _gunzip(chunks: Iterator[bytes], bound: Expansion) -> Iterator[bytes]:
    decoder = None
    data = b""
    members = 0
    for chunk in chunks:
        bound.read += len(chunk)
        data = data + chunk if data else chunk
        more = False  # the decoder holds output that did not fit in the last block
        while data or more:
            bound.done = bound.read - len(data)
            if decoder is None:
                if members:  # between members: gzip pads with zeros, anything else must be a new member
                    data = data.lstrip(b"\0")
                    if len(data) < 2 and data == GZIP[: len(data)]:
                        break
                    if not data.startswith(GZIP):
                        raise Damaged("trailing_garbage", f"after {members} gzip members: {data[:24]!r}")
                decoder = isal_zlib.decompressobj(wbits=31)
            before = len(data)
            try:
                out = decoder.decompress(data, BLOCK)
            except _GZIP_ERROR as error:
                raise Damaged("damaged_gzip", f"member {members}: {error}") from None
            if decoder.eof:
                members += 1
                data, decoder, more = decoder.unused_data, None, False
            else:
                data, more = decoder.unconsumed_tail, len(out) == BLOCK
                if not out and len(data) == before:
                    raise Damaged("damaged_gzip", f"member {members}: the decoder makes no progress")
            if out:
                bound.wrote(len(out))
                yield out
    if decoder is not None or data:
        raise Damaged("truncated", f"the gzip stream ends inside member {members}")


def _streams(
    chunks: Iterator[bytes],
    bound: Expansion,
    name: str,
    magic: bytes,
    start: Callable[[], Any],
    refused: tuple[type[Exception], ...],
) -> Iterator[bytes]:
    """A file of bzip2 or xz streams, end to end, by the decoders of the standard library; zeros may pad it."""
    decoder = None
    for chunk in chunks:
        bound.done = bound.read
        bound.read += len(chunk)
        data = chunk
        while data or (decoder is not None and not decoder.needs_input):
            if decoder is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                if data[: len(magic)] != magic[: len(data)]:
                    raise Damaged("trailing_garbage", f"after a {name} stream: {data[:24]!r}")
                decoder = start()
            try:
                out = decoder.decompress(data, BLOCK)
            except refused as error:
                raise Damaged(f"damaged_{name}", str(error)) from None
            data = b""
            if out:
                bound.wrote(len(out))
                yield out
            if decoder.eof:
                data, decoder = decoder.unused_data, None
    if decoder is not None:
        raise Damaged("truncated", f"the {name} stream ends before its end")


class ZstdFrames:
    """Follows the frame structure of a zstd stream (RFC 8878, 3.1) and cuts it into pieces of bounded output."""

    PIECE_BLOCKS = 8  # a block gives at most 128 KiB

    def __init__(self, max_window: int) -> None:
        self.max_window = max_window
        self.frames = 0  # complete ones
        self.inside = False  # after a frame's header, before its last byte
        self._left = 0  # bytes still to come of the current block (of the last one: with the checksum)
        self._last = self._checksum = False

    def take(self, data: bytes, at: int) -> tuple[int, bool]:
        """The end of the next piece of `data` from `at`, and whether the frame ends there.

        A piece has at most `PIECE_BLOCKS` blocks and never crosses a frame's end; it is empty when the header at
        hand is not complete. Raises `Damaged`.
        """
        blocks, size = 0, len(data)
        while True:
            step = min(self._left, size - at)
            self._left -= step
            at += step
            if self._left:
                return at, False
            if self.inside and self._last:
                self.inside, self.frames = False, self.frames + 1
                return at, True
            if blocks == self.PIECE_BLOCKS:
                return at, False
            length = self._block_header(data, at) if self.inside else self._frame_header(data, at)
            if not length:
                return at, False
            blocks += self.inside
            at += length

    def _block_header(self, data: bytes, at: int) -> int:
        head = data[at : at + 3]
        if len(head) < 3:
            return 0
        word = int.from_bytes(head, "little")
        kind = word >> 1 & 3  # raw, one byte repeated, compressed, reserved
        if kind == 3:
            raise Damaged("damaged_zstd", f"frame {self.frames}: reserved block type")
        self._last = bool(word & 1)
        self._left = (1 if kind == 1 else word >> 3) + (4 if self._last and self._checksum else 0)
        return 3

    def _frame_header(self, data: bytes, at: int) -> int:
        """Length of the frame header at `at`, 0 if it is not complete; sets the state for what follows."""
        head = data[at : at + 18]
        if len(head) < 5:
            return 0
        if not is_zstd(head):
            raise Damaged("trailing_garbage", f"after {self.frames} zstd frames: {head[:16]!r}")
        if head[:4] != ZSTD:  # skippable: 4 bytes of length, then that many bytes
            if len(head) < 8:
                return 0
            self._left = int.from_bytes(head[4:8], "little")
            self.inside = self._last = True
            self._checksum = False
            return 8
        flags = head[4]
        single = bool(flags & 0x20)
        size_bytes = (1 if single else 0, 2, 4, 8)[flags >> 6]
        dict_bytes = (0, 1, 2, 4)[flags & 3]
        length = 5 + (0 if single else 1) + dict_bytes + size_bytes
        if len(head) < length:
            return 0
        if dict_bytes and any(head[length - size_bytes - dict_bytes : length - size_bytes]):
            raise Damaged("zstd_dictionary", f"frame {self.frames} needs a dictionary")
        if single:
            window = int.from_bytes(head[length - size_bytes : length], "little") + (256 if size_bytes == 2 else 0)
        else:
            window = (1 << 10 + (head[5] >> 3)) * (8 + (head[5] & 7)) // 8
        if window > self.max_window:
            raise Damaged("zstd_window", f"frame {self.frames} asks for a window of {window:,} bytes")
        self.inside, self._last, self._checksum = True, False, bool(flags & 4)
        return length


def _unzstd(chunks: Iterator[bytes], bound: Expansion, max_window: int) -> Iterator[bytes]:
    frames = ZstdFrames(max_window)
    context = zstandard.ZstdDecompressor(max_window_size=max_window)
    decoder = None
    data = b""
    for chunk in chunks:
        bound.read += len(chunk)
        data = data + chunk if data else chunk
        at, view = 0, memoryview(data)
        while at < len(data):
            bound.done = bound.read - len(data) + at
            end, ends = frames.take(data, at)
            if end == at:
                break
            decoder = decoder or context.decompressobj(write_size=BLOCK)
            try:
                out = decoder.decompress(view[at:end])
            except zstandard.ZstdError as error:
                raise Damaged("damaged_zstd", f"frame {frames.frames}: {error}") from None
            at = end
            if out:
                bound.wrote(len(out))
                yield out
            if ends:
                decoder = None
        data = data[at:]
    if data or frames.inside:
        raise Damaged("truncated", f"the zstd stream ends inside frame {frames.frames}")
