"""What the reader's step counts."""

from __future__ import annotations

from pathlib import Path

from ettin_data.sources import ReadOptions, own_source
from ettin_data.sources.listing import list_files
from ettin_data.stages.batches import Tally
from ettin_data.stages.read import Read, RejectLog


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n  \n{"text": ""}\n\n')
    source = own_source("own", str(tmp_path))
    files, tally = tuple(list_files(source)), Tally()
    log = RejectLog(tmp_path / "rejects.jsonl", files, tally)
    documents = list(Read(source, files, ReadOptions(), tally, log).run())
    log.close()
    assert [(document.text, document.metadata["position"]) for document in documents] == [("one", 0), ("two", 2)]
    assert (tally.records, tally.rejected, tally.noted) == (3, {"text_empty": 1}, {"blank_lines": 3})
    assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 1
