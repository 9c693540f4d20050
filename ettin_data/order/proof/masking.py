"""Rows whose tokens were masked before they were saved: which sample a row is, and whether masking alone changed it.

A collator hides a share p of the tokens for an encoder to guess: 80% of these become the mask token, 10% some other
token, 10% stay (BERT's law; ModernBERT's `mlm_masking` draws the others from 0 to the largest id of the batch). Nothing
moves, so a row is as long as its sample, and windows of a few tokens at the same places survive in both: at 30% a
window of three survives with 0.73 ** 3 = 39%. They find the sample (`pairing.py`); then all tokens are compared, and
what changed has to be what masking makes likely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws
from ettin_data.tokenizer.vocabulary import AnyTokens

HIDDEN, OTHER = 0.8, 0.1
"""Of the tokens that are drawn: which become the mask, and which some other token."""

GRID = np.concatenate([np.arange(1, 25), np.arange(32, 1024, 32)])
"""Places at which windows are taken: many at the beginning for short rows, and some all along."""

UNLIKELY = 1e-9
"""Probability of what was seen from which on masking did not make it."""

_CROWD = 64  # rows that share a window from which on it tells nothing
_PORTION = 1 << 18  # tokens of a side that are compared at a time
_LEAST = -3
"""Evidence below which a row is not its sample: of a million rows at a share of 30%, some one has less."""

_LONGEST_WEAK = 32  # tokens of text from which on masking leaves no row without evidence


@dataclass(frozen=True)
class Tokens:
    """Some rows or samples: number i is `values[starts[i]:ends[i]]`."""

    values: AnyTokens
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[AnyTokens]) -> Tokens:
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, np.uint16), *rows]), np.append(0, ends)[: len(ends)], ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.ends - self.starts

    def __getitem__(self, numbers: NDArray[np.int64]) -> Tokens:
        return Tokens(self.values, self.starts[numbers], self.ends[numbers])

    def flat(self) -> AnyTokens:
        """All tokens, one row after the other; a view where they lie so."""
        if len(self.starts) and (self.starts[1:] == self.ends[:-1]).all():
            return self.values[self.starts[0] : self.ends[-1]]
        lengths = self.lengths
        before = np.cumsum(lengths) - lengths
        tokens: AnyTokens = self.values[np.repeat(self.starts - before, lengths) + np.arange(lengths.sum())]
        return tokens


@dataclass(frozen=True)
class Masking:
    """The share of the tokens that were drawn, and the mask token."""

    share: float
    token: int

    @classmethod
    def of(cls, masks: float, token: int | None) -> Masking | None:
        """By the share of mask tokens; None where there are hardly any."""
        return cls(min(masks / HIDDEN, 1.0), token) if token is not None and masks > 0.002 else None

    def explains(
        self, lengths: NDArray[np.int64], masks: NDArray[np.int64], others: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether so many changes of so many tokens are masking's: bool, same shape."""
        changed = self.share * (HIDDEN + OTHER)
        return ~_beyond(lengths, masks + others, changed) & ~_beyond(lengths, others, self.share * OTHER)

    def weak(self, lengths: NDArray[np.int64]) -> float:
        """How many rows of these lengths masking leaves without evidence (`Pairs.weak`), on average."""
        shares = np.array(_weak_shares(self.share))
        text = lengths - 2
        return float(shares[np.clip(text, 0, _LONGEST_WEAK)][text <= _LONGEST_WEAK].sum())


@lru_cache
def _weak_shares(share: float) -> tuple[float, ...]:
    """For each number of text tokens, the probability that masking leaves no evidence."""
    hidden, other = share * HIDDEN, share * OTHER
    return tuple(
        sum(
            math.comb(n, k) * math.comb(n - k, o) * (1 - hidden - other) ** k * other**o * hidden ** (n - k - o)
            for k in range(n + 1)
            for o in range(2 * k, n - k + 1)
        )
        for n in range(_LONGEST_WEAK + 1)
    )


def _beyond(count: NDArray[np.int64], hits: NDArray[np.int64], chance: float) -> NDArray[np.bool_]:
    """Whether so many hits or more are next to impossible, by Chernoff's bound on the binomial distribution."""
    share = hits / np.maximum(count, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        yes = np.where(share > 0, share * np.log(share / chance), 0.0)
        no = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - chance)), 0.0)
    beyond: NDArray[np.bool_] = (share > chance) & (count * (yes + no) > -np.log(UNLIKELY))
    return beyond


def windows(
    tokens: Tokens, width: int, places: NDArray[np.int64] = GRID
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of windows with their places, and the number of the row that each is of."""
    at = tokens.starts[:, None] + places
    owner, column = np.nonzero(at + width <= tokens.ends[:, None])
    at = at[owner, column]
    factors = draws(np.arange(width + 1, dtype=np.uint64), "order window") | np.uint64(1)
    with np.errstate(over="ignore"):
        keys = places[column].astype(np.uint64) * factors[width]
        for i in range(width):
            keys += (tokens.values[at + i].astype(np.uint64) + np.uint64(1)) * factors[i]
            keys ^= keys >> np.uint64(29)
            keys *= factors[width]
    return keys, owner


@dataclass(frozen=True)
class Pairs:
    """Rows with their samples, by number, and what masking did to each; int64 all.

    Attributes:
        masks, others: tokens that became the mask, and others.
        evidence: twice the tokens of text that are kept, less those that are others without being the mask: some
            logarithm of how much likelier the row is made of this sample than of another one. The framing tokens are in
            every sample, so they say nothing.
    """

    rows: NDArray[np.int64]
    samples: NDArray[np.int64]
    masks: NDArray[np.int64]
    others: NDArray[np.int64]
    evidence: NDArray[np.int64]

    def __getitem__(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        return Pairs(*(getattr(self, field.name)[kept] for field in fields(self)))

    @classmethod
    def none(cls) -> Pairs:
        return cls(*[np.zeros(0, np.int64)] * 5)

    def of(self, rows: NDArray[np.int64], samples: NDArray[np.int64]) -> Pairs:
        """These pairs of some rows and some samples, by the numbers that these have among all."""
        return replace(self, rows=rows[self.rows], samples=samples[self.samples])

    @property
    def weak(self) -> NDArray[np.bool_]:
        """Which rows nothing in them ties to their sample: another one of that length would do as well."""
        return self.evidence <= 0

    @classmethod
    def together(cls, parts: list[Pairs]) -> Pairs:
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def compare_pairs(
    rows: Tokens, samples: Tokens, pairs: tuple[NDArray[np.int64], NDArray[np.int64]], masking: Masking
) -> Pairs:
    """Of candidates (numbers of rows and of samples) those that masking explains."""
    lengths = rows.lengths[pairs[0]]
    same = np.flatnonzero((lengths == samples.lengths[pairs[1]]) & (lengths > 0))
    if len(same) == 0:
        return Pairs.none()
    cuts = np.flatnonzero(np.diff(np.cumsum(lengths[same]) // _PORTION)) + 1
    return Pairs.together(
        [_compare(rows, samples, pairs[0][mine], pairs[1][mine], masking) for mine in np.split(same, cuts)]
    )


def _compare(
    rows: Tokens, samples: Tokens, which: NDArray[np.int64], whose: NDArray[np.int64], masking: Masking
) -> Pairs:
    """`compare_pairs` of so many pairs, each of one length, that their tokens can be held."""
    left, right = rows[which], samples[whose]
    lengths = left.lengths
    begins = np.cumsum(lengths) - lengths
    a = left.flat()
    differ = a != right.flat()
    masks = np.add.reduceat((differ & (a == masking.token)).astype(np.int64), begins)
    others = np.add.reduceat(differ.astype(np.int64), begins) - masks
    frame = [(differ[at], a[at] != masking.token) for at in (begins, begins + lengths - 1)]
    kept = lengths - masks - others - sum(~changed for changed, _ in frame)
    evidence = 2 * kept - others + sum(changed & other for changed, other in frame)
    found = Pairs(which, whose, masks, others, evidence)
    return found[masking.explains(lengths, masks, others) & (evidence >= _LEAST)]


def votes(
    keys: NDArray[np.uint64], owners: NDArray[np.int64], others: NDArray[np.uint64], theirs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of an owner on each side that share keys, and how many they share; keys of a crowd do not count."""
    order = np.argsort(others, kind="stable")
    others, theirs = others[order], theirs[order]
    low, high = np.searchsorted(others, keys, "left"), np.searchsorted(others, keys, "right")
    counts = np.where(high - low > _CROWD, 0, high - low)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    right = theirs[np.repeat(low, counts) + within]
    left = np.repeat(owners, counts)
    width = int(right.max(initial=0)) + 1
    both, shared = np.unique(left * width + right, return_counts=True)
    return both // width, both % width, shared
