"""The published harnesses: what we ship keeps their laws, and what breaks one is named."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from filter_options import specs

from ettin_data.check import LawBroken, check_filter, check_format, check_strategy
from ettin_data.sources.base import Record
from ettin_data.sources.formats import FORMATS
from ettin_data.sources.formats.format import Format
from ettin_data.stages.filters.base import Filter
from ettin_data.stages.filters.registry import choose_filters
from ettin_data.stages.pack import choose, strategies
from ettin_data.stages.pack.strategy import Cut, Pieces

TEXTS = ["Quiet words of no length.", "LOUD WORDS", "", "lorem ipsum { }", "a " * 400, "The cat sat on the mat. " * 30]
SMALL = {"min_length": 16, "always_skip": 4, "window": 500}


@pytest.mark.parametrize("length", [32, 257])
@pytest.mark.parametrize("name", strategies())
def test_our_strategies_keep_the_law(name: str, length: int) -> None:
    check_strategy(choose(name, SMALL), length)


def lossy(lengths, draw, length, options):
    """Forgets the last token of every document, and says nothing of it."""
    short = np.minimum(lengths, length - 2) - 1
    kept = short > 0
    return Cut(Pieces(np.flatnonzero(kept), np.zeros(int(kept.sum()), np.int64), short[kept]))


def too_long(lengths, draw, length, options):
    return Cut(Pieces(np.arange(len(lengths)), np.zeros(len(lengths), np.int64), lengths))


@pytest.mark.parametrize(("cut", "told"), [(lossy, "tokens in"), (too_long, "with its framing")])
def test_a_strategy_that_breaks_the_law_is_caught(cut, told: str) -> None:
    choice = choose("concat", SMALL)
    with pytest.raises(LawBroken, match=told):
        check_strategy(replace(choice, strategy=replace(choice.strategy, cut=cut, own_open=True)), 32)


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: next(iter(spec)))
def test_our_filters_keep_the_law(spec: dict[str, dict[str, Any]]) -> None:
    (chosen,), (name,) = choose_filters([spec]), spec
    check_filter(chosen.step, [*TEXTS, TEXTS[0]], remembers=name == "exact_duplicate")


class Forgetful(Filter):
    """Drops every second document that it sees in its life."""

    name = "Forgetful"

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def filter(self, document: Document) -> bool:
        self.seen += 1
        return self.seen % 2 == 0


def test_a_filter_that_remembers_another_split_is_caught() -> None:
    with pytest.raises(LawBroken, match="as the second split of one worker"):
        check_filter(Forgetful, TEXTS[:5], remembers=True)
    with pytest.raises(LawBroken, match="each document alone"):
        check_filter(Forgetful, TEXTS[:4])


LINES = b"".join(
    json.dumps({"id": str(n), "text": f"text {n} \u00e9 " * (n % 7 + 1)}).encode() + b"\n" for n in range(40)
)


def parquet() -> bytes:
    file = io.BytesIO()
    table = pa.table({"id": [str(n) for n in range(60)], "text": [f"text {n} " * 9 for n in range(60)]})
    pq.write_table(table, file, row_group_size=20)
    return file.getvalue()


@pytest.mark.parametrize(("name", "content", "records"), [("jsonl", LINES, 40), ("parquet", parquet(), 60)])
def test_our_formats_keep_the_law(name: str, content: bytes, records: int) -> None:
    assert len(check_format(FORMATS[name], content, name=f"a.{name}", rounds=60)) == records


def careless(given):
    """Takes what a block holds for a record."""
    for position, block in enumerate(given.blocks):
        yield Record(block.decode(errors="replace"), str(position), position, {})


def crashing(given):
    for position, line in enumerate(b"".join(given.blocks).splitlines()):
        yield Record(json.loads(line)["text"], str(position), position, {})


@pytest.mark.parametrize(("read", "told"), [(careless, "give other records"), (crashing, "leaves the reader")])
def test_a_format_that_breaks_the_law_is_caught(read, told: str) -> None:
    with pytest.raises(LawBroken, match=told):
        check_format(Format("toy", 1, read), LINES, name="a.toy")
