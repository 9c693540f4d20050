"""Documents that come as token ids: filters judge their text, and the ids stay unless a filter edits it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datatrove.data import Document

from ettin_data.sources import ReadOptions, Record, SourceFile, own_source
from ettin_data.stages import read
from ettin_data.stages.batches import Tally
from ettin_data.stages.filters.registry import choose_filters
from ettin_data.stages.read import Read, RejectLog
from ettin_data.stages.tokenize import Tokenize
from ettin_data.tokenizer.encoder import Tokenizer

TEXTS = ["Hills and rivers.", "Hills and rivers.", "no", "A longer text about the sea, the shore and the wind."]


def rows(tmp_path: Path, monkeypatch, tokenizer: Tokenizer, specs: list, *, as_ids: bool) -> dict[str, list[int]]:
    """Id -> tokens of the documents that filters keep, of the same texts as text or as ids."""
    ids = [tokenizer.encode_batch([text])[0].astype(np.uint32) for text in TEXTS]
    records = [
        Record("" if as_ids else text, str(n), n, {}, ids[n] if as_ids else None) for n, text in enumerate(TEXTS)
    ]
    monkeypatch.setattr(read, "read_file", lambda *_, **__: iter(records))
    source, files, tally = own_source("own", str(tmp_path / "a.mds")), (SourceFile("a.mds", 9),), Tally()
    log = RejectLog(tmp_path / "rejects.jsonl", files, tally)
    steps = [
        Read(source, files, ReadOptions(), tally, log, decode=tokenizer.decode if specs else None),
        *(chosen.step(log.filtered) for chosen in choose_filters(specs)),
        Tokenize(tokenizer, 1, "own/a", tally, log),
    ]
    data = None
    for step in steps:
        data = step(data, 0, 1)
    found = {}
    for batch in data:
        parts = np.split(batch.tokens, batch.offsets[1:-1])
        found |= dict(zip(batch.ids, (part.tolist() for part in parts), strict=True))
    log.close()
    return found


def shouted(document: Document) -> bool:
    """A filter that edits."""
    document.text = document.text.upper() if document.id == "3" else document.text
    return True


def test_filters_decide_about_ids_as_about_text(tmp_path: Path, monkeypatch, tokenizer: Tokenizer) -> None:
    for specs, kept in (
        ([], "0123"),
        ([{"length": {"min_chars": 1}}], "0123"),
        ([{"length": {"min_words": 2}}, "exact_duplicate"], "03"),
        ([f"{__name__}:shouted"], "0123"),
    ):
        as_text = rows(tmp_path, monkeypatch, tokenizer, specs, as_ids=False)
        assert "".join(as_text) == kept
        assert rows(tmp_path, monkeypatch, tokenizer, specs, as_ids=True) == as_text
