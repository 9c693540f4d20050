"""Rows whose tokens were masked before they were saved: which sample a row is, and whether masking alone changed it.

A collator hides a share p of the tokens for an encoder to guess: 80% of these become the mask token, 10% some other
token, 10% stay (BERT's law; ModernBERT's `mlm_masking` draws the others from 0 to the largest id of the batch). Nothing
moves, so a row is as long as its sample, and windows of a few tokens at the same places survive in both: at 30% a
window of three survives with 0.73 ** 3 = 39%. They find the sample; then all tokens are compared, and what changed has
to be what masking makes likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.draws import draws
from ettin_data.tokenizer.vocabulary import AnyTokens

HIDDEN, OTHER = 0.8, 0.1
"""Of the tokens that are drawn: which become the mask, and which some other token."""

_GRID = np.concatenate([np.arange(1, 25), np.arange(32, 1024, 32)])
"""Places at which windows are taken: many at the beginning for short rows, and some all along."""

_UNLIKELY = 1e-9  # probability of a number of changes from which on masking did not make them
_CROWD = 64  # rows that share a window from which on it tells nothing
_ROUNDS = 4  # of giving samples to rows, when several rows want the same one
_BRUTE = 1 << 20  # pairs of what is left over that are compared one by one
_PORTION = 1 << 20  # tokens of a side that are compared at a time
_GROUP = 1 << 14  # rows whose windows are held at a time, unless more are of one length
_PASSES = [np.arange(first, 25, 3) for first in (1, 2, 3)]
"""Places of windows that are looked up one after the other; those of a pass have no token in common."""

_WORTH = 0.1  # share of the rows looked up that a pass has to find, so that there is another one


@dataclass(frozen=True)
class Tokens:
    """Some rows or samples: number i is `values[starts[i]:ends[i]]`."""

    values: AnyTokens
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

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


def _beyond(count: NDArray[np.int64], hits: NDArray[np.int64], chance: float) -> NDArray[np.bool_]:
    """Whether so many hits or more are next to impossible, by Chernoff's bound on the binomial distribution."""
    share = hits / np.maximum(count, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        yes = np.where(share > 0, share * np.log(share / chance), 0.0)
        no = np.where(share < 1, (1 - share) * np.log((1 - share) / (1 - chance)), 0.0)
    beyond: NDArray[np.bool_] = (share > chance) & (count * (yes + no) > -np.log(_UNLIKELY))
    return beyond


def windows(
    tokens: Tokens, width: int, places: NDArray[np.int64] = _GRID
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
    """Rows with their samples, by number, and how many tokens of each became the mask and others; int64 all."""

    rows: NDArray[np.int64]
    samples: NDArray[np.int64]
    masks: NDArray[np.int64]
    others: NDArray[np.int64]

    def __getitem__(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        return Pairs(self.rows[kept], self.samples[kept], self.masks[kept], self.others[kept])

    @classmethod
    def together(cls, parts: list[Pairs]) -> Pairs:
        return cls(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("rows", "samples", "masks", "others"))
        )


def compare_pairs(
    rows: Tokens, samples: Tokens, pairs: tuple[NDArray[np.int64], NDArray[np.int64]], masking: Masking
) -> tuple[Pairs, NDArray[np.bool_]]:
    """The changes of candidates (numbers of rows and of samples), of those of one length, and which are masking's.

    A row that shares less than half as many text tokens with the sample as differ without being masked is not it,
    however short: two other samples of ten tokens share three by a chance of one in some ten thousand.
    """
    lengths = rows.lengths[pairs[0]]
    same = np.flatnonzero((lengths == samples.lengths[pairs[1]]) & (lengths > 0))
    if len(same) == 0:
        none = np.zeros(0, np.int64)
        return Pairs(none, none, none, none), np.zeros(0, bool)
    portion = np.cumsum(lengths[same]) // _PORTION
    cuts = np.flatnonzero(np.diff(portion)) + 1
    found, fits = zip(
        *(_compare(rows, samples, pairs[0][mine], pairs[1][mine], masking) for mine in np.split(same, cuts)),
        strict=True,
    )
    return Pairs.together(list(found)), np.concatenate(fits)


def _compare(
    rows: Tokens, samples: Tokens, which: NDArray[np.int64], whose: NDArray[np.int64], masking: Masking
) -> tuple[Pairs, NDArray[np.bool_]]:
    """`compare_pairs` of so many pairs, each of one length, that their tokens can be held."""
    left, right = rows[which], samples[whose]
    lengths = left.lengths
    begins = np.cumsum(lengths) - lengths
    a = left.flat()
    differ = a != right.flat()
    masked = np.add.reduceat((differ & (a == masking.token)).astype(np.int64), begins)
    others = np.add.reduceat(differ.astype(np.int64), begins) - masked
    # The framing tokens are in every sample, so those that are kept say nothing, and those that changed count for less.
    changed = [(differ[at], a[at] != masking.token) for at in (begins, begins + lengths - 1)]
    kept = lengths - masked - others - sum(~each for each, _ in changed)
    other_text = others - sum(each & other for each, other in changed)
    fits = masking.explains(lengths, masked, others) & (other_text <= 2 * np.maximum(kept, 1))
    return Pairs(which, whose, masked, others), fits


def pair(rows: Tokens, samples: Tokens, masking: Masking) -> Pairs:
    """Give each row the sample that it is but for masking; a sample goes to one row only.

    Most rows are found by a window that one row and one sample of that length have at a place, which takes a sort. Only
    the others are held against all samples with which they share windows: of three tokens, then, where more are left
    over than can be compared one by one, of two and of one. So the work grows with the rows and not with
    the pairs of them.
    """
    count = min(len(rows.starts), len(samples.starts))
    in_order = np.arange(count)
    found, fits = compare_pairs(rows, samples, (in_order, in_order), masking)  # the usual case
    parts = [found[fits]]
    parts += _pair_unique(rows, samples, parts, masking)
    for _ in range(_ROUNDS):
        left, right = _rest(rows, samples, parts)
        new = _candidates(rows[left], samples[right], 3)
        kept = _one_each(new[0], new[1], -new[2])
        found, fits = compare_pairs(rows, samples, (left[new[0][kept]], right[new[1][kept]]), masking)
        if not fits.any():
            break
        parts.append(found[fits])
    for width in (2, 1, 0):  # 0: without windows
        left, right = _rest(rows, samples, parts)
        every = _of_one_length(rows.lengths[left], samples.lengths[right])
        if every is None and width == 0:
            break
        which, whose = every or _candidates(rows[left], samples[right], width)[:2]
        found, fits = compare_pairs(rows, samples, (left[which], right[whose]), masking)
        parts += _cheapest(found[fits])
        if every is not None:
            break
    return Pairs.together(parts)


def _pair_unique(rows: Tokens, samples: Tokens, known: list[Pairs], masking: Masking) -> list[Pairs]:
    """Pairs of rows and samples that share a window which no other one of that length has at that place.

    What two rows or two samples have in common says nothing and is passed over, so near duplicates are left to
    the comparison of all windows.
    """
    parts = list[Pairs]()
    for places in _PASSES:
        looked_up, before = len(_rest(rows, samples, known + parts)[0]), len(parts)
        for place in places:
            left, right = _rest(rows, samples, known + parts)
            (keys, owners), (others, theirs) = (
                _keys(side, 3, np.array([place])) for side in (rows[left], samples[right])
            )
            # Each side's keys that occur once, sorted; those of both sides are the pairs.
            (keys, first), (others, second) = _singles(keys), _singles(others)
            _, mine, their = np.intersect1d(keys, others, assume_unique=True, return_indices=True)
            which, whose = left[owners[first[mine]]], right[theirs[second[their]]]
            found, fits = compare_pairs(rows, samples, (which, whose), masking)
            parts.append(found[fits])
        if sum(len(part.rows) for part in parts[before:]) <= _WORTH * looked_up:
            break
    return parts


def _singles(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The keys that occur once, rising, and their numbers."""
    values, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return values[counts == 1], first[counts == 1]


def _rest(rows: Tokens, samples: Tokens, parts: list[Pairs]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the rows and of the samples that are in no pair yet."""
    alone = np.ones(len(rows.starts), bool), np.ones(len(samples.starts), bool)
    for part in parts:
        alone[0][part.rows], alone[1][part.samples] = False, False
    return np.flatnonzero(alone[0]), np.flatnonzero(alone[1])


def _keys(tokens: Tokens, width: int, places: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """`windows` that are never the same for rows of different lengths, which cannot be a row and its sample."""
    keys, owners = windows(tokens, width, places)
    with np.errstate(over="ignore"):
        keys += draws(tokens.lengths[owners].astype(np.uint64), "order row length")
    return keys, owners


def _candidates(
    rows: Tokens, samples: Tokens, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows and samples of one length that share windows, and how many; some lengths at a time."""
    none = np.zeros(0, np.int64)
    found = [(none, none, none)]
    left, right = (np.argsort(side.lengths, kind="stable") for side in (rows, samples))
    # A group is about `_GROUP` rows, and all of their lengths, since a row and its sample are of one length.
    lengths, their = rows.lengths[left], samples.lengths[right]
    begin = 0
    while begin < len(left):
        end = int(np.searchsorted(lengths, lengths[min(begin + _GROUP, len(left)) - 1], "right"))
        low, high = np.searchsorted(their, lengths[begin], "left"), np.searchsorted(their, lengths[end - 1], "right")
        mine, theirs = left[begin:end], right[low:high]
        a, b, shared = votes(*_keys(rows[mine], width, _GRID), *_keys(samples[theirs], width, _GRID))
        found.append((mine[a], theirs[b], shared))
        begin = end
    a, b, shared = (np.concatenate(each) for each in zip(*found, strict=True))
    return a, b, shared


def _of_one_length(
    lengths: NDArray[np.int64], their: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """All pairs of a row and a sample of one length, row by row; None when they are too many."""
    right = np.argsort(their, kind="stable")
    ordered = their[right]
    low, high = np.searchsorted(ordered, lengths, "left"), np.searchsorted(ordered, lengths, "right")
    counts = high - low
    if counts.sum() > _BRUTE:
        return None
    # The samples of each row's length follow each other from `low` on: their numbers, row after row.
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(np.arange(len(lengths)), counts), right[np.repeat(low, counts) + within]


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


def _cheapest(pairs: Pairs) -> list[Pairs]:
    """Of these pairs the cheapest, so that no row and no sample is in two, until none is left that could be added."""
    parts = list[Pairs]()
    while len(pairs.rows):
        kept = _one_each(pairs.rows, pairs.samples, pairs.masks + 8 * pairs.others)
        parts.append(pairs[kept])
        taken = np.isin(pairs.rows, pairs.rows[kept]) | np.isin(pairs.samples, pairs.samples[kept])
        pairs = pairs[~taken]
        # Rows that are masks alone would all want the same sample next, so what costs the same comes in a keyed order.
        both = (pairs.rows << 32) + pairs.samples
        pairs = pairs[np.argsort(draws(both.astype(np.uint64), "order masked pairs"), kind="stable")]
    return parts


def _one_each(rows: NDArray[np.int64], samples: NDArray[np.int64], cost: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of pairs, the cheapest first, so that no row and no sample is in two of them."""
    order = np.argsort(cost, kind="stable")
    order = order[np.sort(np.unique(rows[order], return_index=True)[1])]  # the cheapest of each row
    chosen: NDArray[np.int64] = order[np.sort(np.unique(samples[order], return_index=True)[1])]
    return chosen
