"""How many copies a search has missed: a block of documents, each compared with all others by its words.

The block is drawn by a key, its documents are ranked as the search ranks them, and of each the most alike better-ranked
one is found exactly, from the n-grams and not from sketches. Those that are alike should have been left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import words
from ettin_data.base.draws import draws, generator, key64
from ettin_data.dedup.keys import KeyChoice
from ettin_data.dedup.runs import KeyedSplit, ranks
from ettin_data.inspect.duplicates import drawn, texts, tokens_of
from ettin_data.inspect.search import Numbers, Search, numbered, rows_of, split_of, splits_of
from ettin_data.inspect.similarity import ALIKE, precision, wilson
from ettin_data.storage.attributes import AttributeFile, excluded_documents, read_record
from ettin_data.storage.phase import COPIES, KEYS, Phase, attribute_file
from ettin_data.storage.records import read_run
from ettin_data.tokenizer.encoder import Tokenizer

_EDGES = (ALIKE, 0.6, 0.7, 0.8, 0.9, 1.0)  # the last bin is 1 alone
_TOKENS = 20_000_000  # of all texts of a block, whose n-grams are held together
_AT_ONCE = 1024  # documents whose tokens are


def measured(
    phase: Phase, search: Search, within: bool | None, tokenizer: Tokenizer | None, count: int
) -> dict[str, Any]:
    """`precision` of so many drawn pairs, by reason, and `recall` in a block of so many documents.

    Both None without a tokenizer, or where none are wanted; `recall` too where only some pairs are looked at.
    """
    if tokenizer is None or not count:
        return {"precision": None, "recall": None}
    return {
        "precision": precision(search, drawn(search, within, count), tokenizer),
        "recall": recall(phase, search, tokenizer, count) if within is None else None,
    }


def recall(phase: Phase, search: Search, tokenizer: Tokenizer, documents: int) -> dict[str, Any] | None:
    """How many of a block's documents that are alike to a better-ranked one of it were left out.

    Returns `documents` of the block and `of` how many, and `bins` of similarity to the most alike better-ranked one:
    `from`, number of `alike` documents, of them `left_out`, the `share` with its `interval`, and what is `expected` of
    the bands with that one alone, whatever `verify` says. None where texts of copies are in no pool. Texts too short
    for a sketch, and documents that an attribute leaves out, are in no block.
    """
    if not search.tokens_known:
        return None
    numbers, of = _block(phase, search, documents)
    numbers = numbers[np.argsort(_ranks(search, numbers), kind="stable")]
    choice, near, across = search.choice.keys, search.choice.near, "source" in search.choice.across
    apart = {split.source: np.uint64(key64("copies within", split.source)) for split in search.splits}
    hashes, lengths, kept = [np.zeros(0, np.uint64)], list[int](), list[int]()
    for begin in range(0, len(numbers), _AT_ONCE):
        some = numbers[begin : begin + _AT_ONCE]
        tokens = texts(search, some, tokenizer.vocabulary)
        there = [number for number in some.tolist() if number in tokens]
        decoded = tokenizer.decode_batch([tokens[number] for number in there])
        for number, grams in zip(there, _grams(decoded, choice), strict=True):
            if len(grams):
                kept.append(number)
                hashes.append(grams if across else grams ^ apart[split_of(search, number)[0].source])
                lengths.append(len(grams))
    found = nearest(np.concatenate(hashes), np.array(lengths, np.int64))
    gone = np.isin(np.array(kept, np.int64), search.pairs[0])
    chance = np.zeros(len(found)) if near is None else 1 - (1 - found**near.rows) ** near.bands
    chance[found == 1] = 1.0 if search.choice.exact or near else 0.0
    bins = []
    for low, high in zip(_EDGES, (*_EDGES[1:], np.inf), strict=True):
        mask = (found >= low) & (found < high)
        alike, left_out = int(mask.sum()), int((mask & gone).sum())
        if alike:
            bins.append({
                "from": low, "alike": alike, "left_out": left_out, "share": left_out / alike,
                "interval": list(wilson(left_out, alike)), "expected": float(chance[mask].mean()),
            })  # fmt: skip
    return {"documents": len(kept), "of": of, "bins": bins}


def nearest(grams: NDArray[np.uint64], lengths: Numbers) -> NDArray[np.float64]:
    """Jaccard similarity of each set to the most alike one before it, shape (sets,); 0 for the first.

    Args:
        grams: of all sets end to end, each once in its set.
        lengths: of each set.
    """
    _, ids, counts = np.unique(grams, return_inverse=True, return_counts=True)
    ids, of = ids.reshape(-1), np.repeat(np.arange(len(lengths)), lengths)
    several = counts[ids] > 1
    ids, of = ids[several], of[several]
    order = np.argsort(ids, kind="stable")  # who has each n-gram, rising
    having, first = of[order], np.searchsorted(ids[order], np.arange(len(counts) + 1))
    bounds = np.searchsorted(of, np.arange(len(lengths) + 1))
    found = np.zeros(len(lengths))
    for number in range(1, len(lengths)):
        mine = ids[bounds[number] : bounds[number + 1]]
        sizes = first[mine + 1] - first[mine]
        at = np.arange(sizes.sum()) + np.repeat(first[mine] - np.cumsum(sizes) + sizes, sizes)
        common = np.bincount(having[at], minlength=number)[:number]
        found[number] = (common / (lengths[number] + lengths[:number] - common)).max()
    return found


def _grams(texts: list[str], choice: KeyChoice) -> list[NDArray[np.uint64]]:
    """The n-grams of each text, each once; none of one that is too short for a sketch."""
    hashes, offsets = words.word_hashes(texts)
    long = np.diff(offsets) >= choice.min_words
    if choice.unit == "character":
        hashes, offsets = words.letter_hashes(texts)
    grams, limits = words.ngrams(hashes, offsets, choice.ngram)
    return [
        np.unique(grams[begin:end]) if is_long else grams[:0]
        for begin, end, is_long in zip(limits[:-1].tolist(), limits[1:].tolist(), long.tolist(), strict=True)
    ]


def _block(phase: Phase, search: Search, documents: int) -> tuple[Numbers, int]:
    """Numbers of the drawn documents, and of how many they were drawn."""
    ours = [(number, split) for number, split in enumerate(search.splits) if split.table is not None]
    ends = np.cumsum([len(split.documents["key"]) for _, split in ours])
    total = int(ends[-1]) if len(ends) else 0
    drawn = generator(search.seed, "block of recall").choice(total, min(documents, total), replace=False)
    drawn.sort()
    at, found = np.searchsorted(ends, drawn, side="right"), [np.zeros(0, np.int64)]
    for place, (number, split) in enumerate(ours):
        count = len(split.documents["key"])
        rows = drawn[at == place] - (int(ends[place]) - count)
        if len(rows):
            out = excluded_documents(_left_out(phase, split.name), count)
            found.append(numbered(number, rows[~out[rows]]))
    numbers = np.concatenate(found)
    order = np.argsort(
        draws(numbers.astype(np.uint64), search.seed, "block of recall")
    )  # whom the limit leaves is drawn
    some = numbers[order][np.cumsum(tokens_of(search, numbers[order])) <= _TOKENS]
    return some, total


def _left_out(phase: Phase, name: str) -> tuple[AttributeFile, ...]:
    """What attributes of the recipe say of a split, by which documents were nobody's twins."""
    steps = [step["step"].partition(":")[2] for step in read_run(phase).recipe.get("attributes", ())]
    found = []
    for step in steps:
        entry = (read_record(phase.attribute(step)) or {"files": {}})["files"].get(attribute_file(name))
        if entry is not None and entry["left_out"] and step != COPIES:
            found.append(AttributeFile(step, phase.attribute(step) / attribute_file(name), entry["xxh3_64"]))
    return tuple(found)


def _ranks(search: Search, numbers: Numbers) -> NDArray[np.uint64]:
    """The ranks that the search gave to these documents."""
    found = np.zeros(len(numbers), np.uint64)
    for number in np.unique(splits_of(numbers)).tolist():
        mine, split = splits_of(numbers) == number, search.splits[number]
        assert split.folder is not None
        keyed = KeyedSplit(split.name, split.source, split.folder, split.folder / KEYS, 0, "")
        found[mine] = ranks(keyed, search.choice, search.seed)[rows_of(numbers[mine])]
    return found
