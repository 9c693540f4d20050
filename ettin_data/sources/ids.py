"""The id of each record: the upstream's, or a stable fallback where that is missing or repeats inside its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.sources.base import Record

_EXACT = 1 << 17
_BITS = 29
_PROBES = np.arange(4, dtype=np.uint64)


class Ids:
    """Gives the records of one file their ids: `settle` each batch, in order.

    Repeats are found exactly in the first 131,072 ids, and from there with a Bloom filter of fixed size (2^29 bits are
    64 MiB), so that memory does not grow with the file. Where the filter errs it takes a new id for a repeat, which is
    harmless (the record gets the fallback id and keeps its own as `original_id`) and rare: two records in a file of 5
    million. Either way it is a function of the file alone.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._exact: set[int] = set()
        self._filter: NDArray[np.uint8] | None = None

    def fallback(self, position: int | str) -> str:
        """`<source>/<relative path>#<position>`."""
        return f"{self.prefix}#{position}"

    def replace(self, raw: object, position: int, metadata: dict[str, Any]) -> str:
        """The fallback for an id that cannot stand; what there was is kept as `original_id`."""
        if raw is not None and raw != "":
            try:
                metadata["original_id"] = scrub(str(raw))[:1000]
            except RecursionError:  # an id nested a thousand deep
                metadata["original_id"] = type(raw).__name__
        return self.fallback(position)

    def settle(self, records: Sequence[Record], names: list[str]) -> None:
        """Give the fallback to those of a batch whose id, in `names`, came before, in this batch or an earlier one."""
        for index in self._repeats(names):
            record = records[index]
            record.id = self.replace(record.id, record.position, record.metadata)

    def one(self, raw: object, position: int, metadata: dict[str, Any]) -> str:
        """The id of a single record, for readers that have no batches."""
        if not isinstance(raw, str) or not usable(raw) or self._repeats([raw]):
            return self.replace(raw, position, metadata)
        return raw

    def _repeats(self, ids: list[str]) -> list[int]:
        """Which of a batch came before; all of it is remembered."""
        if self._filter is None:
            repeats: list[int] = []
            exact, digests = self._exact, list(map(xxhash.xxh3_64_intdigest, map(str.encode, ids)))
            fresh = set(digests)
            if len(fresh) == len(digests) and exact.isdisjoint(fresh):  # nearly always: no loop in Python
                exact |= fresh
            else:
                for index, digest in enumerate(digests):
                    if digest in exact:
                        repeats.append(index)
                    else:
                        exact.add(digest)
            if len(exact) > _EXACT:
                self._filter = np.zeros(1 << _BITS - 3, np.uint8)
                self._probe(np.fromiter(exact, np.uint64, len(exact)))
                exact.clear()
            return repeats
        keys = np.fromiter(map(xxhash.xxh3_64_intdigest, map(str.encode, ids)), np.uint64, len(ids))
        again = np.ones(len(ids), bool)
        again[np.unique(keys, return_index=True)[1]] = False  # the first of each in this batch
        came_before: list[int] = np.flatnonzero(again | self._probe(keys)).tolist()
        return came_before

    def _probe(self, digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which digests, shape (n,) uint64, the filter holds; then it holds them all."""
        assert self._filter is not None
        # Double hashing (Kirsch, Mitzenmacher 2006): probe k is low + k * high.
        probes = (digests[:, None] + _PROBES * (digests >> np.uint64(32) | np.uint64(1))[:, None]).view(np.int64)
        probes &= (1 << _BITS) - 1
        places, flags = probes >> 3, np.left_shift(1, probes & 7).astype(np.uint8)
        held: NDArray[np.bool_] = (self._filter[places] & flags).all(axis=1)
        np.bitwise_or.at(self._filter, places, flags)
        return held


def usable(raw: object) -> bool:
    """Whether an upstream id can stand: a string that is not empty and that UTF-8 can hold."""
    return type(raw) is str and raw != "" and (raw.isascii() or scrub(raw) == raw)


def scrub(text: str) -> str:
    """Text that UTF-8 can hold: surrogate pairs combined, lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
