"""Says in what way a published row differs from the stored sample that it resembles most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ettin_data.loader_edits import canonical
from ettin_data.ngrams import ngram_hashes

MASK = 50284
GRAM = 8
"""Tokens of the n-grams by which a row is recognised in a sample."""

Kind = Literal["special_tokens", "truncated", "masked", "changed_tokens", "chunk_borders"]


@dataclass(frozen=True)
class Edit:
    """How a row came from a sample, in a word and in a sentence."""

    kind: Kind
    text: str


def describe_edit(row: np.ndarray, stored: np.ndarray) -> Edit | None:
    """What makes the sample `stored` into the published `row`; None when they have little in common."""
    a, b = canonical(row), canonical(stored)
    if np.array_equal(a, b):
        return Edit("special_tokens", "only [CLS], [SEP] or [PAD] differ")
    if len(a) < len(b) and np.array_equal(a, b[: len(a)]):
        return Edit("truncated", f"cut after {len(row):,} of {len(stored):,} tokens")
    if len(a) == len(b):
        differ = np.flatnonzero(a != b)
        if (a[differ] == MASK).all():
            return Edit("masked", f"{len(differ)} of {len(b):,} tokens are [MASK]")
        if len(differ) <= max(1, len(b) // 4):
            at = int(differ[0])
            return Edit(
                "changed_tokens",
                f"{len(differ)} of {len(b):,} tokens changed, first token {at}: {b[at]} became {a[at]}",
            )
    shared = _longest_shared(a, b)
    if shared is None:
        return None
    begin_a, begin_b, length = shared
    if begin_a == begin_b == 0:
        return Edit("changed_tokens", f"the first {length:,} of {len(b):,} tokens are the same, then they differ")
    if length < max(GRAM, len(a) // 8):
        return None
    return Edit(
        "chunk_borders",
        f"{length:,} tokens from token {begin_b:,} of the sample stand from token {begin_a:,} of the row",
    )


def _longest_shared(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int] | None:
    """Start in a, start in b and length of the longest common run that has at least one n-gram."""
    left, right = ngram_hashes(a, GRAM), ngram_hashes(b, GRAM)
    places = {int(value): i for i, value in reversed(list(enumerate(right.tolist())))}
    best, covered = None, -1
    for i, value in enumerate(left.tolist()):
        if i < covered or value not in places:
            continue
        j, length = places[value], 0
        longest = min(len(a) - i, len(b) - j)
        same = a[i : i + longest] == b[j : j + longest]
        length = longest if same.all() else int(same.argmin())
        covered = i + max(length - GRAM, 0)
        if length >= GRAM and (best is None or length > best[2]):
            best = (i, j, length)
    return best
