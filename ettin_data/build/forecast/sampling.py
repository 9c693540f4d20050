"""A keyed sample of a source: some of the files that a build would read first, and some of their documents.

The same recipe and the same listing give the same sample. It reads as a build does, and writes nothing.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from ettin_data.base import draws
from ettin_data.build.plan import SourcePlan
from ettin_data.build.prepare import Resolved
from ettin_data.sources import cut_files, formats, read_file
from ettin_data.sources.base import BLANK_LINE, ReadOptions, Record, Reject, Source, SourceFile

LEAST, MOST = 200, 20_000
"""Documents of a source that are looked at, whatever the share."""

FILES = 4
"""Of a source are looked into at least, where it has so many: how they differ shows only between several."""

_LEAST_BYTES, _MOST_BYTES = 4 << 20, 64 << 20  # that are read of one file, as stored
_ITEMS = 1024  # whose draws are made at once

Ask = float | int
"""How much: a share of the documents of each source (a float, up to 1.0), or a number of them (an int)."""


@dataclass(frozen=True)
class LookedInto:
    """A file, or the part of a large one, that was read for a sample.

    Attributes:
        file: what was read.
        records: of it; `rejected` could not be read.
        text_bytes: of all its documents, in UTF-8; of documents that come as token ids their number.
        cpu_s, seconds: that reading it took.
    """

    file: SourceFile
    records: int
    rejected: int
    text_bytes: int
    cpu_s: float
    seconds: float


@dataclass(frozen=True)
class KeyedSample:
    """The sample of a source: what was read, and of it the documents, each with the number of its file, in order."""

    looked: tuple[LookedInto, ...]
    documents: tuple[tuple[int, Record], ...]


def sample(resolved: Resolved, source: SourcePlan, ask: Ask) -> KeyedSample:
    """A keyed sample of a source, `LEAST` to `MOST` documents where it has so many.

    Files are taken in the keyed order of the splits, each whole or, of a large one, a part, until they are some, hold
    the share of all bytes, and have enough documents. Of those the ones with the lowest draws are kept.
    """
    total = sum(split.bytes for split in source.listed)
    wanted = ask * total if isinstance(ask, float) else 0.0
    portion = int(min(max(wanted / FILES, _LEAST_BYTES), _MOST_BYTES))
    kept: list[tuple[int, int, int, Record]] = []  # as a heap: the largest draw is thrown out first
    looked: list[LookedInto] = []
    read, documents, number = 0, 0, 0
    whole = isinstance(ask, float) and ask >= 1
    enough = LEAST if isinstance(ask, float) else ask
    for split in source.listed:
        options = resolved.job(source, split).read
        for listed in split.files:
            file = listed if whole else _portion(source.source, listed, portion, options, resolved.recipe.seed)
            records = rejected = size = 0
            cpu, began = time.process_time(), time.monotonic()
            for batch in _batches(read_file(source.source, file, options=options)):
                good = [item for item in batch if isinstance(item, Record)]
                bad = [item for item in batch if isinstance(item, Reject) and item.loss is None]
                rejected += sum(item.reason != BLANK_LINE for item in bad)
                records += len(good) + sum(item.reason != BLANK_LINE for item in bad)
                documents += len(good)
                size += sum(map(text_bytes, good))
                if isinstance(ask, float):
                    most = int(min(max(LEAST, ask * documents * total / max(read + file.bytes, 1)), MOST))
                else:
                    most = min(ask, MOST)
                places = np.full(len(good), draws.document_key(file.name), np.uint64)
                keys = draws.place_keys(places, np.array([item.position for item in good], np.int64))
                drawn = draws.draws(keys, resolved.recipe.seed, "preview", source.source.key).tolist()
                for draw, item in zip(drawn, good, strict=True):
                    if len(kept) < most:
                        heapq.heappush(kept, (-draw, number, len(looked), item))
                    elif -draw > kept[0][0]:
                        heapq.heapreplace(kept, (-draw, number, len(looked), item))
                    number += 1
            spent = time.process_time() - cpu, time.monotonic() - began
            looked.append(LookedInto(file, records, rejected, size, *spent))
            read += file.bytes
            if not whole and len(looked) >= FILES and read >= wanted and documents >= enough:
                return _made(looked, kept)
    return _made(looked, kept)


def _made(looked: list[LookedInto], kept: list[tuple[int, int, int, Record]]) -> KeyedSample:
    in_order = sorted(kept, key=lambda one: one[1])
    return KeyedSample(tuple(looked), tuple((file, record) for _, _, file, record in in_order))


def text_bytes(record: Record) -> int:
    """The size of a document: of its text in UTF-8, or of token ids their number."""
    if record.tokens is not None:
        return len(record.tokens)
    text = record.text
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _batches(items: Iterator[Record | Reject]) -> Iterator[list[Record | Reject]]:
    while batch := list(islice(items, _ITEMS)):
        yield batch


def _portion(source: Source, file: SourceFile, size: int, options: ReadOptions, seed: int) -> SourceFile:
    """A file, or about `size` bytes of a large one: a keyed part of it where it can be cut, else its start."""
    if file.part is not None or file.bytes <= 2 * size or source.encoding:
        return file
    parts = cut_files(source, [file], size, options.transport)
    if len(parts) > 1:
        return parts[draws.key64(seed, "preview", file.path) % len(parts)]
    format = formats.by_name(file.path) or formats.LINES
    # Of compressed lines the start can be read, up to the last line that is whole: the rest is damage, and no record.
    return file if format.cut is None or format.signed else replace(file, part=(0, size))
