"""A set of 128-bit digests that takes any number of them in bounded memory, and is exact."""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECENT = 1 << 19
_BITS = 1 << 28
_BUCKET_BITS = 16
_WIDTH = 16  # bytes of a digest
_AT_ONCE = 1 << 18  # digests


class Seen:
    """The digests that came before: up to 524,288 of them in memory, the others in a file; 120 MB at most.

    The recent ones are a set, of some 50 MB. When they are too many they join a temporary file of 16 bytes a digest,
    sorted, and the set begins anew. A Bloom filter of 32 MiB tells nearly always that a digest is not in the file; for
    one that may be, those with the same first 16 bits are read, a few KB in one call.

    Each time the file is written anew, in place: for 12 million digests 2 GB in all. It has no name, lies where
    `tempfile` puts it (TMPDIR), is not mapped into memory, and ends with this object.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._file: Any = None
        self._bits = bytearray()
        self._starts = np.zeros((1 << _BUCKET_BITS) + 1, np.int64)  # rows of the file at which first 16 bits begin

    def add(self, digest: int) -> bool:
        """Remember a digest, uniform in [0, 2^128), and tell whether it is new."""
        recent = self._recent
        if digest in recent or (self._bits and self._in_file(digest)):
            return False
        recent.add(digest)
        if len(recent) >= RECENT:
            self._spill()
        return True

    def _in_file(self, digest: int) -> bool:
        bits, low, high = self._bits, digest % _BITS, (digest >> 64) % _BITS
        if not (bits[low >> 3] >> (low & 7) & 1 and bits[high >> 3] >> (high & 7) & 1):
            return False
        bucket = digest >> 128 - _BUCKET_BITS
        begin, end = (self._starts[bucket : bucket + 2] * _WIDTH).tolist()
        held, asked = os.pread(self._file.fileno(), end - begin, begin), digest.to_bytes(_WIDTH, "little")
        place = held.find(asked)
        while place > 0 and place % _WIDTH:  # parts of two neighbours
            place = held.find(asked, place + 1)
        return place >= 0

    def _spill(self) -> None:
        """Move the recent digests into the file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="ettin-")  # noqa: SIM115 - closed with this object
            weakref.finalize(self, self._file.close)
            self._bits = bytearray(_BITS >> 3)
        digests = b"".join(digest.to_bytes(_WIDTH, "little") for digest in self._recent)
        rows = np.frombuffer(digests, "<u8").reshape(-1, 2)
        self._recent = set()
        rows = rows[np.argsort(rows[:, 1])]
        self._mark(rows)
        self._merge(rows)
        buckets = (rows[:, 1] >> np.uint64(64 - _BUCKET_BITS)).view(np.int64)
        self._starts[1:] += np.cumsum(np.bincount(buckets, minlength=1 << _BUCKET_BITS))

    def _mark(self, rows: NDArray[np.uint64]) -> None:
        """Set the bits of the Bloom filter for digests, two each; `rows` as in `_merge`."""
        bits = np.frombuffer(self._bits, np.uint8)
        for half in rows.T:
            places = (half % np.uint64(_BITS)).view(np.int64)
            np.bitwise_or.at(bits, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))

    def _merge(self, rows: NDArray[np.uint64]) -> None:
        """Sorted digests into the sorted file, from its end: what was read there makes room for what is written.

        Args:
            rows: shape (n, 2), uint64, the lower and the upper half of each, by the upper.
        """
        high, end = np.ascontiguousarray(rows[:, 1]), int(self._starts[-1])
        while end:
            begin = max(end - _AT_ONCE, 0)
            self._file.seek(begin * _WIDTH)
            held = np.frombuffer(self._file.read((end - begin) * _WIDTH), "<u8").reshape(-1, 2)
            before = int(np.searchsorted(high, held[0, 1]))
            merged = np.insert(held, np.searchsorted(held[:, 1], high[before:]), rows[before:], axis=0)
            self._file.seek((begin + before) * _WIDTH)
            self._file.write(merged)
            rows, high, end = rows[:before], high[:before], begin
        self._file.seek(0)
        self._file.write(rows)
        self._file.flush()
