"""`mosaicml-streaming-v1`: what a `StreamingDataset` of one stream gives to the ranks, unshuffled or shuffled.

The rules are those of MosaicML's documentation ("Shuffling", "Elastic determinism") with the draws of its release
0.13: an epoch's samples are laid out as canonical nodes of equal size; step k takes the next samples of every one in
turn, so that it is the same for any number of ranks. Shuffles move samples inside a canonical node:

* naive: all samples are permuted at once.
* py1s: shards are dealt to canonical nodes by the seed, in another order each epoch, and shuffled each in itself.
* py2s: as py1s, and each shard is shuffled before it is cut where a canonical node ends.
* py1br: as py1s, but shuffled in blocks of a drawn size, whose limits are shifted by a draw for each canonical node.
* py1e: as py1s, and then each sample moves by a draw, so far that a shard spreads over a block.

tests/order/test_law_streaming.py compares all of them with the library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import OrderError, near
from ettin_data.order.law import Positions, position_dtype
from ettin_data.order.laws.reading import Reading, Samples, require


@dataclass(frozen=True)
class Streaming(Reading):
    """Parameters of a `StreamingDataset` and of the ranks that read it.

    Attributes:
        batch: samples of a step over all ranks.
        shuffle: name of the shuffle, None for none.
        seed, epoch: `shuffle_seed` (9176 by default) and the epoch from 0.
        nodes, ranks: nodes, and ranks of each; their product divides `batch`.
        canonical: canonical nodes; None for the library's choice: 64 a node for py1s and py2s, else 1 a node.
        block: `shuffle_block_size`; None for the library's: 4,000,000 shared by the canonical nodes, at least 2**18.

    Raises:
        OrderError: there is no such shuffle, or the numbers do not divide each other as the library demands.
    """

    name: ClassVar[str] = "mosaicml-streaming-v1"
    batch: int
    shuffle: str | None = None
    seed: int = 9176
    epoch: int = 0
    nodes: int = 1
    ranks: int = 1
    canonical: int | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        require(self, batch=self.batch, nodes=self.nodes, ranks=self.ranks, canonical_nodes=self.canonical_nodes)
        if self.block_size < 2:
            raise OrderError(f"a block of {self.block_size} samples cannot be shuffled", why="at least 2")
        if self.shuffle is not None and self.shuffle not in _SHUFFLES:
            raise OrderError(f"{self.shuffle!r} is no shuffle of streaming", remedy=near(self.shuffle, _SHUFFLES))
        if self.batch % (self.nodes * self.ranks):
            raise OrderError(f"a batch of {self.batch} does not divide by {self.nodes} nodes of {self.ranks} ranks")
        large, small = max(self.canonical_nodes, self.nodes), min(self.canonical_nodes, self.nodes)
        if large % small:
            raise OrderError(
                f"{self.canonical_nodes} canonical nodes and {self.nodes} nodes: neither divides by the other",
                why="streaming refuses that",
            )

    @property
    def canonical_nodes(self) -> int:
        return self.canonical or self.nodes * (64 if self.shuffle in ("py1s", "py2s") else 1)

    @property
    def block_size(self) -> int:
        return self.block or max(4_000_000 // self.canonical_nodes, 1 << 18)

    def order(self, samples: Samples) -> Positions:
        number = samples.number
        if number == 0:
            return np.zeros(0, position_dtype(0))
        order = _layout(number, self.canonical_nodes, self.nodes, self.ranks).astype(position_dtype(number))
        if self.shuffle is None:
            return order
        moved = _SHUFFLES[self.shuffle](
            samples.sizes.astype(np.int64), self.canonical_nodes, self.seed, self.epoch, self.block_size
        )
        return moved[order]

    def read(self, number: int) -> int:
        rounds = _padded(number, self.canonical_nodes, self.nodes) * self.canonical_nodes // self.nodes
        return -(-rounds // self.ranks) * self.ranks * self.nodes


def _padded(number: int, canonical: int, nodes: int) -> int:
    """Samples of a canonical node; where nodes share it, it has as many for each."""
    repeat = nodes // canonical or 1
    share = -(-number // canonical)
    return -(-share // repeat) * repeat


def _layout(number: int, canonical: int, nodes: int, ranks: int) -> NDArray[np.int64]:
    """The places that all ranks read together, in turn, shape (n,) int64, with n a multiple of nodes * ranks."""
    share, repeat, padded = -(-number // canonical), nodes // canonical or 1, _padded(number, canonical, nodes)
    if number > canonical or (number == canonical >= nodes):
        begin = np.arange(canonical)[:, None] * number // canonical
        end = np.arange(1, canonical + 1)[:, None] * number // canonical
        grid = np.minimum(begin + np.arange(share), end - 1)  # a short one has its last sample twice
        if padding := padded - share:
            # What is missing for the last round of its nodes is repeated from the rounds before.
            end_of_repeated = padded - padding - repeat + 1
            again = grid[:, max(end_of_repeated - padding, 0) : max(end_of_repeated, 0)]
            if again.shape[1] not in (1, padding):  # a single one is repeated as often as needed
                raise OrderError(
                    f"{number} samples are too few for {nodes} nodes on {canonical} canonical nodes",
                    why="streaming fails there",
                )
            grid = np.concatenate([grid, np.broadcast_to(again, (canonical, padding))], axis=1)
    else:
        grid = np.resize(np.arange(number), (canonical, padded))
    # Canonical nodes take turns; node p has every `nodes`-th of that, and its ranks take turns in what it has.
    rounds = grid.T.reshape(-1, nodes)
    if missing := -len(rounds) % ranks:
        if ranks + missing - 1 <= len(rounds):
            again = rounds[len(rounds) - ranks - missing + 1 : len(rounds) - ranks + 1]
        else:
            again = rounds[np.resize(np.arange(len(rounds)), missing)]
        rounds = np.concatenate([rounds, again])
    return rounds.reshape(-1, ranks, nodes).transpose(0, 2, 1).reshape(-1)  # ranks are numbered node by node


@dataclass(frozen=True)
class _Pieces:
    """Shards, or parts of them, in the order in which they are read: samples [begin, end), in which canonical node.

    All of shape (n,), int64.
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    node: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        return self.end - self.begin


def _cut(begin: NDArray[np.int64], sizes: NDArray[np.int64], canonical: int) -> _Pieces:
    """Shards in a row, cut where one canonical node ends and the next begins."""
    ends = np.cumsum(sizes)
    bounds = int(sizes.sum()) * np.arange(1, canonical + 1) // canonical
    # The bounds inside each shard, between its first sample and its end, part it into one piece more than they are.
    cuts = np.unique(bounds)
    low, high = np.searchsorted(cuts, ends - sizes, "right"), np.searchsorted(cuts, ends, "left")
    inside = np.maximum(high - low, 0)
    shard = np.repeat(np.arange(len(sizes)), inside + 1)
    last = np.cumsum(inside + 1) - 1
    number = np.arange(len(shard)) - (last - inside)[shard]  # of the piece in its shard
    piece_end = ends[shard]
    inner = number < inside[shard]
    piece_end[inner] = cuts[(low[shard] + number)[inner]]
    piece_begin = (ends - sizes)[shard]
    piece_begin[number > 0] = piece_end[:-1][number[1:] > 0]
    shift = begin[shard] - (ends - sizes)[shard]
    return _Pieces(piece_begin + shift, piece_end + shift, np.searchsorted(bounds, piece_end, "left"))


def _dealt(sizes: NDArray[np.int64], canonical: int, seed: int, epoch: int) -> tuple[_Pieces, np.random.Generator]:
    """Shards dealt to canonical nodes by the seed, in the epoch's order in each; and the epoch's generator."""
    dealt = np.random.default_rng(seed).permutation(len(sizes))
    starts = np.cumsum(sizes) - sizes
    pieces, draws = _cut(starts[dealt], sizes[dealt], canonical), np.random.default_rng(seed + epoch)
    return _reordered(pieces, canonical, draws), draws


def _reordered(pieces: _Pieces, canonical: int, draws: np.random.Generator) -> _Pieces:
    """The pieces of each canonical node in a drawn order."""
    order = np.arange(len(pieces.begin))
    bounds = np.searchsorted(pieces.node, np.arange(canonical + 1))
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        draws.shuffle(order[begin:end])
    return _Pieces(pieces.begin[order], pieces.end[order], pieces.node)


def _filled(pieces: _Pieces) -> Positions:
    """The samples of all pieces, one after the other."""
    sizes = pieces.sizes
    number = int(sizes.sum())
    out = np.arange(number, dtype=position_dtype(number))
    for at, begin, size in zip((np.cumsum(sizes) - sizes).tolist(), pieces.begin.tolist(), sizes.tolist(), strict=True):
        out[at : at + size] = np.arange(begin, begin + size)
    return out


def _shuffle_each(out: Positions, sizes: NDArray[np.int64], draws: np.random.Generator) -> None:
    """Shuffle stretches of these sizes, each in itself, one after the other."""
    at = 0
    for size in sizes.tolist():
        draws.shuffle(out[at : at + size])
        at += size


def _naive(sizes: NDArray[np.int64], canonical: int, seed: int, epoch: int, block: int) -> Positions:
    number = int(sizes.sum())
    return np.random.default_rng(seed + epoch).permutation(number).astype(position_dtype(number))


def _py1s(sizes: NDArray[np.int64], canonical: int, seed: int, epoch: int, block: int) -> Positions:
    pieces, draws = _dealt(sizes, canonical, seed, epoch)
    out = _filled(pieces)
    _shuffle_each(out, pieces.sizes, draws)
    return out


def _py2s(sizes: NDArray[np.int64], canonical: int, seed: int, epoch: int, block: int) -> Positions:
    fixed, draws = np.random.default_rng(seed), np.random.default_rng(seed + epoch)
    dealt, starts = fixed.permutation(len(sizes)), np.cumsum(sizes) - sizes
    shuffled = _filled(_Pieces(starts[dealt], (starts + sizes)[dealt], np.zeros(len(sizes), np.int64)))
    _shuffle_each(shuffled, sizes[dealt], fixed)
    # What is cut is what was shuffled: pieces are stretches of that.
    in_a_row = np.cumsum(sizes[dealt]) - sizes[dealt]
    pieces = _cut(in_a_row, sizes[dealt], canonical)
    order = np.arange(len(pieces.begin))
    bounds = np.searchsorted(pieces.node, np.arange(canonical + 1))
    parts = []
    for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        draws.shuffle(order[first:end])
        for number in order[first:end].tolist():
            part = shuffled[pieces.begin[number] : pieces.end[number]].copy()
            draws.shuffle(part)
            parts.append(part)
    return np.concatenate(parts)


def _py1br(sizes: NDArray[np.int64], canonical: int, seed: int, epoch: int, block: int) -> Positions:
    pieces, draws = _dealt(sizes, canonical, seed, epoch)
    out = _filled(pieces)
    low, high = int(0.75 * block), int(1.25 * block)
    shifts = draws.integers(0, low, (canonical,)).tolist()
    ends = np.cumsum(np.bincount(pieces.node, weights=pieces.sizes, minlength=canonical).astype(np.int64)).tolist()
    begin = 0
    for end, shift in zip(ends, shifts, strict=True):
        limits, at = [], begin
        while at < end:  # all of a node's blocks are drawn before one is shuffled
            first, last = max(at - shift, begin), min(at + int(draws.integers(low, high)) - shift, end)
            limits.append((first, last))
            at += last - first
        for first, last in limits:
            draws.shuffle(out[first:last])
        begin = end
    return out


def _py1e(sizes: NDArray[np.int64], canonical: int, seed: int, epoch: int, block: int) -> Positions:
    pieces, draws = _dealt(sizes, canonical, seed, epoch)
    out, sizes_of = _filled(pieces), pieces.sizes
    low, high = int(0.75 * block), int(1.25 * block)
    begin = 0
    for node in range(canonical):
        mine = sizes_of[pieces.node == node]
        number = int(mine.sum())
        if number == 0:
            raise OrderError(
                f"canonical node {node} of {canonical} has no samples", why="py1e of streaming refuses that"
            )
        part = out[begin : begin + number]
        _shuffle_each(part, mine, draws)
        places, at = np.arange(number, dtype=np.float64), 0
        for size in mine.tolist():
            reach = max((int(draws.integers(low, high)) - size) / 2, 0)
            bounds = max(-reach, -at), min(reach, number - at - size)
            places[at : at + size] += draws.uniform(*bounds, size=size)
            at += size
        part[:] = part[np.argsort(places)]
        begin += number
    return out


_SHUFFLES: dict[str, Callable[[NDArray[np.int64], int, int, int, int], Positions]] = {
    "naive": _naive,
    "py1s": _py1s,
    "py2s": _py2s,
    "py1br": _py1br,
    "py1e": _py1e,
}
SHUFFLES = (None, *_SHUFFLES)
"""Values of `Streaming.shuffle`."""
