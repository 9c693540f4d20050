"""The laws that a filter, a file format and a packing strategy must keep, as functions for the tests of your own.

    from ettin_data.check import check_filter, check_format, check_strategy

    def test_my_filter():
        check_filter(lambda: MyFilter(most=0.3), ["quiet words", "LOUD WORDS"])

Each tries many inputs, drawn from a seed, and raises `LawBroken` with the input that breaks the law. That a filter
decides *rightly* is for your own examples; here is what every build relies on without looking.
"""

from __future__ import annotations

import pickle
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from ettin_data.sources.base import Damaged, ReadOptions, Record, Source, SourceFile
from ettin_data.sources.formats.format import Format, Input
from ettin_data.stages.pack.strategy import Choice, Cut


class LawBroken(AssertionError):
    """A law does not hold for the input that the message names."""


def check_filter(make: Callable[[], PipelineStep], texts: Sequence[str], *, remembers: bool = False) -> None:
    """A filter's decisions depend on its documents and on nothing else.

    Args:
        make: gives a fresh step; called many times.
        texts: some that are kept and some that are dropped.
        remembers: it may decide by the documents before (as duplicates are found); then only whole runs are compared.

    Raises:
        LawBroken: a run differs from its repetition, from one after pickling, from one that came after other documents,
            or documents come out in another order, or (without `remembers`) a document fares otherwise alone.
    """
    whole = _kept(make(), texts)
    if whole != sorted(whole) or len(set(whole)) != len(whole):
        raise LawBroken(f"documents come out as {whole}: a filter passes on what it keeps, once and in order")
    _same(whole, _kept(make(), texts), "the same documents a second time")
    _same(whole, _kept(pickle.loads(pickle.dumps(make())), texts), "after pickling, as for a worker")
    used = make()
    _kept(used, list(reversed(texts)))
    _same(whole, _kept(used, texts), "as the second split of one worker")
    if not remembers:
        alone = [n for n, text in enumerate(texts) if _kept(make(), [text])]
        _same(whole, alone, "each document alone")


def _kept(step: PipelineStep, texts: Sequence[str]) -> list[int]:
    documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
    return [int(document.id) for document in step.run(iter(documents), 0, 1)]


def _same(expected: list[int], found: list[int], how: str) -> None:
    if expected != found:
        raise LawBroken(f"{how}: kept {found}, not {expected}")


def check_strategy(choice: Choice, length: int, *, rounds: int = 200, seed: int = 0) -> None:
    """A packing strategy keeps the conservation law and the form of a sample, whatever the lengths of the documents.

    Args:
        choice: the strategy with its options (`stages.pack.choose`).
        length: tokens of a full sample, framing included.
        rounds: batches of documents to try; 0 to 40 documents of 1 to 5 * `length` tokens.
        seed: of the lengths and draws.

    Raises:
        LawBroken: tokens are lost or doubled, a sample is empty or too long, a cut repeated differs, or a document
            loses more at its end than the strategy says.
    """
    draw = random.Random(seed)
    for _ in range(rounds):
        longest = draw.choice([3, length, 5 * length])
        lengths = np.array([draw.randint(1, longest) for _ in range(draw.randint(0, 40))], np.int64)
        keys = np.array([draw.getrandbits(64) for _ in lengths], np.uint64)
        made, again = (choice.cut(lengths.copy(), keys.copy, length) for _ in range(2))
        problem = _cut_problem(made, choice, lengths, length)
        if not problem and pickle.dumps(made) != pickle.dumps(again):
            problem = "the same documents are cut in another way the second time"
        if problem:
            raise LawBroken(f"{choice.name}, length {length}: {problem}; documents of {lengths.tolist()} tokens")


def _cut_problem(made: Cut, choice: Choice, lengths: NDArray[np.int64], length: int) -> str | None:
    pieces = made.pieces
    held = np.zeros(len(lengths), np.int64)
    np.add.at(held, pieces.document, pieces.length)
    if int(held.sum()) + sum(made.skipped.values()) != int(lengths.sum()):
        return f"{int(lengths.sum())} tokens in, {int(held.sum())} kept and {dict(made.skipped)} skipped"
    ends = np.zeros(len(lengths), np.int64)
    for document, start, size in zip(*(column.tolist() for column in (pieces.document, pieces.start, pieces.length))):
        if size < 1 or start < ends[document] or start + size > lengths[document]:
            return f"document {document} has a piece of {size} tokens at {start}: empty, doubled or beyond its end"
        ends[document] = start + size
    if (worst := int((lengths - ends).max(initial=0))) > choice.longest_loss:
        return f"a document loses {worst} tokens at its end, {choice.longest_loss} are allowed"
    samples = [[n] for n in range(len(pieces.length))] if made.samples is None else made.samples
    if sorted(n for members in samples for n in members) != list(range(len(pieces.length))):
        return "a piece is in no sample, or in two"
    for members in samples:
        opened = len(members) if choice.strategy.own_open else 1
        size = int(pieces.length[members].sum()) + opened + len(members)
        if size > length:
            return f"a sample has {size} tokens with its framing"
    return None


def check_format(format: Format, content: bytes, *, name: str, rounds: int = 200, seed: int = 0) -> list[Record]:
    """A reader loses nothing without a word, whatever the blocks are and wherever a file breaks off.

    Args:
        format: under test.
        content: a whole file, without compression.
        name: of such a file, `a.jsonl`.
        rounds: files to break off and to change a byte of.
        seed: of the places.

    Returns:
        the records of the whole file, for your own assertions.

    Raises:
        LawBroken: other blocks give other records; positions do not count up; a file that breaks off gives a record
            that the whole one has not, or fewer without a reject or `Damaged`; or any other error leaves the reader.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        source = Source(
            key="checked", category="test", title="checked", root=f"{folder}/", globs=("*",), format=format.name
        )
        file = SourceFile(name, len(content))
        draw = random.Random(seed)
        whole, whole_lost = _records(format, source, file, content, [len(content)])
        if whole_lost:
            raise LawBroken(f"the whole file is damaged, says the reader: {whole_lost}")
        known = {(record.position, record.text) for record in whole}
        for _ in range(rounds):
            sizes = [draw.randint(1, max(len(content) // 3, 1)) for _ in range(8)]
            again, lost = _records(format, source, file, content, sizes)
            if lost or [_told(r) for r in again] != [_told(r) for r in whole]:
                raise LawBroken(f"blocks of {sizes} bytes give other records")
            end = draw.randint(1, max(len(content) - 1, 1))
            path.write_bytes(content[:end])
            some, lost = _records(format, source, SourceFile(name, end), content[:end], sizes)
            strange = [record for record in some[:-1] if (record.position, record.text) not in known]
            if strange:
                raise LawBroken(f"the first {end} bytes give a record that the whole file has not: {strange[0]!r}")
            changed = bytearray(content)
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            path.write_bytes(bytes(changed))
            _records(format, source, file, bytes(changed), sizes)
            path.write_bytes(content)
    return whole


def _told(record: Record) -> tuple[Any, ...]:
    return record.position, record.id, record.text


def _records(
    format: Format, source: Source, file: SourceFile, content: bytes, sizes: Sequence[int]
) -> tuple[list[Record], str | None]:
    """The records of a content in blocks of these sizes, over and over; and what the reader says is damaged."""

    def blocks() -> Any:
        at, turn = 0, 0
        while at < len(content):
            yield content[at : at + sizes[turn % len(sizes)]]
            at, turn = at + sizes[turn % len(sizes)], turn + 1

    records: list[Record] = []
    seen = 0
    try:
        for item in format.read(Input(source, file, ReadOptions(), blocks())):
            if item.position != seen:
                raise LawBroken(f"item {seen} says that it is record {item.position}: {item!r}")
            seen += 1
            if isinstance(item, Record):
                records.append(item)
    except Damaged as damage:
        if damage.seen != seen:
            raise LawBroken(f"damage after {seen} records says {damage.seen}: {damage}") from None
        return records, str(damage)
    except LawBroken:
        raise
    except Exception as error:
        raise LawBroken(f"{type(error).__name__} leaves the reader after {seen} records: {error}") from error
    return records, None
