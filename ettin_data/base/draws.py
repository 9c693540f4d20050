"""Keyed randomness, the only kind that this package uses (ARCHITECTURE 5.4).

A draw is a pure function of a seed, the purpose of the draw, and the identity of the thing decided. Nothing depends on
global state, on the order of arrival or on how many workers there are.

A document is its place upstream, and `place_keys` gives that a key; each decision about documents derives its own
independent 64-bit draw from it with `draws`. An id is a label, which may repeat: `document_key` recognises it, and
decides nothing about who is in and who is out (ARCHITECTURE 5.9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

Part = str | int | bytes
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_STEPS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)  # of the finaliser: shift, factor
_LAST = np.uint64(31)
FINALISER = (_GAMMA, *_STEPS[0], *_STEPS[1], _LAST)
"""The numbers of a draw, in the order in which they come: what is added, shift and factor twice, the last shift."""


def key64(*parts: Part) -> int:
    """A 64-bit key of the parts; each is tagged with its type and length, so ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(f"{type(part).__name__}{len(data)}:".encode())
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")


def document_key(document_id: str) -> int:
    """The key of a label, the id or URL of a document: xxh3-64 of it in UTF-8."""
    return xxhash.xxh3_64_intdigest(document_id.encode("utf-8", "surrogatepass"))


def document_keys(document_ids: Sequence[str]) -> NDArray[np.uint64]:
    """`document_key` of each id, shape (n,), uint64."""
    try:
        return np.fromiter(map(xxhash.xxh3_64_intdigest, map(str.encode, document_ids)), np.uint64, len(document_ids))
    except UnicodeEncodeError:  # a lone surrogate somewhere, which strict UTF-8 cannot hold
        return np.fromiter(map(document_key, document_ids), np.uint64, len(document_ids))


def place_keys(files: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The identity of each record, shape (n,), uint64: the key of its file and its position there.

    No two records of one file have the same key; of two files some may, as any 64-bit keys.
    """
    return _finalised(files + positions.astype(np.uint64) * _GAMMA)  # distinct, since the factor is odd


def draws(keys: NDArray[np.uint64], *purpose: Part) -> NDArray[np.uint64]:
    """An independent uniform uint64 for each key, shape and dtype of `keys` (uint64), for this purpose.

    A bijection for each purpose, so two documents draw the same number only if their keys are equal.
    """
    return _finalised((keys ^ np.uint64(key64(*purpose))) + _GAMMA)


def draw_in_place(keys: NDArray[np.uint64], purposes: NDArray[np.uint64], scratch: NDArray[np.uint64]) -> None:
    """`draws` of each key for several purposes, whose `key64` are given, without an array that is not there already.

    Args:
        keys: shape (purposes, n), uint64; each row becomes its draws.
        purposes: shape (purposes,).
        scratch: of the shape of `keys`; what it holds is lost.
    """
    keys ^= purposes[:, None]
    keys += _GAMMA
    for shift, factor in _STEPS:
        np.right_shift(keys, shift, out=scratch)
        keys ^= scratch
        keys *= factor
    np.right_shift(keys, _LAST, out=scratch)
    keys ^= scratch


def _finalised(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The SplitMix64 finaliser (Steele, Lea, Flood 2014), a bijection; arrays wrap around without a warning."""
    for shift, factor in _STEPS:
        z = (z ^ (z >> shift)) * factor
    return z ^ (z >> _LAST)


def generator(*parts: Part) -> np.random.Generator:
    """A numpy generator keyed by the parts."""
    return np.random.Generator(np.random.PCG64DXSM(key64(*parts)))
