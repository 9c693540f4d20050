"""What published rows look like, from some hundred of them, and what that suggests when none of them is in the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ettin_data.order.data import Data
from ettin_data.order.proof.catalog import Catalog
from ettin_data.order.published import iter_rows
from ettin_data.tokenizer.vocabulary import AnyTokens, Vocabulary

_ROWS = 300  # of the first, the middle and the last file each
_SAMPLES = 500
MANY_PACKED = 0.2
"""Share of rows with several opening tokens from which on a publication is taken for packed."""
_COMMON = 200  # most frequent tokens, in which two texts of one vocabulary agree


@dataclass(frozen=True)
class Look:
    """Some rows, described.

    Attributes:
        rows: looked at. lengths: shortest, median and longest without padding. padding: "left", "right", "" for none.
        pad: the id of the padding, None without any.
        masked: share of the tokens that are the mask token. opened, closed: share of the rows that begin, and end, with
            the framing tokens. packed: share of the rows with several opening tokens. largest: the largest id.
        familiar: share of the rows' tokens that are among the most frequent tokens of the data, over that share in the
            data itself: near 1 for the same vocabulary; 0 without data. longest_sample: of some samples of the data.
    """

    rows: int
    lengths: tuple[int, int, int]
    padding: str
    pad: int | None
    masked: float
    opened: float
    closed: float
    packed: float
    largest: int
    familiar: float
    longest_sample: int


def look(catalog: Catalog, words: Vocabulary, data: Data | None = None) -> Look:
    """Describe rows of the beginning, the middle and the end of a publication; with data, beside some samples of it."""
    raw = list(_some_rows(catalog))
    pad = _padding_id(raw, words)
    rows, padding = [], set[str]()
    for row in raw:
        kept = np.flatnonzero(row != pad) if pad is not None else np.arange(len(row))
        first, end = (int(kept[0]), int(kept[-1]) + 1) if len(kept) else (0, 0)
        padding |= {"left"} if first else set()
        padding |= {"right"} if end < len(row) else set()
        rows.append(row[first:end])
    full = [row for row in rows if len(row)]
    tokens = np.concatenate([np.zeros(0, np.int64), *full])
    lengths = np.array([len(row) for row in rows] or [0])
    samples = list(_some_samples(data)) if data else []
    text = np.concatenate([np.zeros(0, np.int64), *samples])

    def share(hits: list[bool]) -> float:
        return sum(hits) / max(len(rows), 1)

    return Look(
        rows=len(rows),
        lengths=(int(lengths.min()), int(np.median(lengths)), int(lengths.max())),
        padding=" and ".join(sorted(padding)),
        pad=pad if padding else None,
        masked=float((tokens == words.mask).mean()) if words.mask is not None and len(tokens) else 0.0,
        opened=share([row[0] == words.open for row in full]),
        closed=share([row[-1] == words.close for row in full]),
        packed=share([int((row == words.open).sum()) > 1 for row in full]),
        largest=int(tokens.max(initial=-1)),
        familiar=_familiar(tokens, text),
        longest_sample=max((len(sample) for sample in samples), default=0),
    )


def _some_rows(catalog: Catalog) -> Iterator[NDArray[np.int64]]:
    files = np.unique(catalog.runs[:, 0])
    for number in dict.fromkeys(files[[0, len(files) // 2, -1]].tolist()):
        path = catalog.files[number].path
        # with a padding id that no token has, so that rows come as they are
        for batch in iter_rows(catalog.root, path, np.dtype(np.int64), -1, 0, _ROWS):
            for i in range(len(batch)):
                yield np.asarray(batch.row(i), np.int64)


def _some_samples(data: Data) -> Iterator[AnyTokens]:
    """Samples of one shard: more would have to be fetched."""
    for shard in np.flatnonzero(data.here)[:1].tolist():
        start, end = (int(edge) for edge in data.reader.starts[shard : shard + 2])
        for _, tokens in data.tokens(np.arange(start, min(end, start + _SAMPLES))):
            yield tokens.astype(np.int64)


def _padding_id(rows: list[NDArray[np.int64]], words: Vocabulary) -> int | None:
    """The vocabulary's id, or that which several rows of one length repeat at their end or their beginning."""
    long = [row for row in rows if len(row) > 4]
    if any(words.pad in (row[0], row[-1]) for row in rows if len(row)):
        return words.pad
    for side in (slice(-3, None), slice(0, 3)):
        ends = [int(row[side][0]) for row in long if (row[side] == row[side][0]).all()]
        values, counts = np.unique(ends, return_counts=True)
        if len(values) and counts.max() >= max(3, len(long) // 10):
            return int(values[counts.argmax()])
    return None


def _familiar(tokens: NDArray[np.int64], text: NDArray[np.int64]) -> float:
    if len(tokens) == 0 or len(text) == 0:
        return 0.0
    values, counts = np.unique(text, return_counts=True)
    common = values[np.argsort(-counts, kind="stable")[:_COMMON]]
    return float(np.isin(tokens, common).mean() / np.isin(text, common).mean())


def describe(found: Look, words: Vocabulary) -> list[str]:
    """What the rows look like, in sentences."""
    short, middle, long = found.lengths
    frame = words.frame
    lines = [
        f"{found.rows:,} rows looked at: {short:,} to {long:,} tokens, half of them up to {middle:,}; ids up to "
        f"{found.largest:,}",
        f"{found.opened:.0%} begin with {frame.open}, {found.closed:.0%} end with {frame.close}, {found.packed:.0%} "
        f"have several {frame.open}; {found.masked:.1%} of the tokens are {frame.mask or 'a mask'}",
    ]
    if found.pad is not None:
        lines.append(f"padded on the {found.padding} with id {found.pad}")
    return lines


def suggest(found: Look, words: Vocabulary) -> str:
    """What rows of which none is in the data most likely are."""
    frame = words.frame
    if found.lengths[2] == 0:
        return "the rows have no tokens, or nothing but padding"
    if found.largest >= words.size:
        return f"they are of another tokenizer: id {found.largest:,} is beyond this vocabulary of {words.size:,}"
    if found.packed > MANY_PACKED:
        return f"they are packed, several samples a row: {frame.open} stands in the middle of {found.packed:.0%}"
    if found.lengths[1] < 8:
        return f"half of them have at most {found.lengths[1]} tokens, too few to tell samples apart"
    if found.masked > 0.005:
        return f"they were masked ({found.masked:.1%} are {frame.mask}), and of other samples or in another way"
    if found.opened < 0.5 and found.familiar < 0.5:
        return "they are of another tokenizer: their frequent ids are not those of this data"
    if found.padding and "left" in found.padding:
        return "they are padded on the left, where no row of this form has padding"
    if found.lengths[2] > 1.5 * found.longest_sample:
        return f"they are longer than the samples of this data ({found.longest_sample:,} tokens): of another phase"
    return "they look like rows of this vocabulary: of another phase, of another data set, or cut at other places"
