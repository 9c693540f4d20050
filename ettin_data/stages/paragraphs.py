"""Repeated paragraphs leave the text (ARCHITECTURE 5.11): one pass over a source says what stands in it, a join of that
which of several equal ones stays, and the pass that tokenizes leaves the others out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from ettin_data.base.errors import BuildError
from ettin_data.dedup.paragraphs import ParagraphChoice, paragraph_keys, paragraphs
from ettin_data.stages.batches import Tally
from ettin_data.stages.filters.measured import Reason
from ettin_data.stages.keys import WriteKeys
from ettin_data.storage import ledger
from ettin_data.storage.attributes import AttributeFile, read_attribute
from ettin_data.storage.keys import Keys

REASON = "repeated_paragraphs"
_FILE_BITS = np.int64(40)  # records of a file: their number stands below that of the file


@dataclass(frozen=True)
class Paragraphs:
    """What a split does about paragraphs.

    Attributes:
        choice: of the recipe.
        rows: folder with one row for each paragraph of the split, that a first pass has left (`WriteParagraphs`).
        table: which of these go; None if none does, or nobody has looked yet.
        only: this is that first pass.
    """

    choice: ParagraphChoice
    rows: Path
    table: AttributeFile | None = None
    only: bool = False

    def made_from(self) -> dict[str, Any]:
        """What decides the content of a split."""
        if self.only:
            return {"paragraphs": {**self.choice.rows_made_from(), "only": True}}
        said = {"paragraphs": {**self.choice.rows_made_from(), "drop_above": self.choice.drop_above}}
        return {**said, **({"repeated": self.table.digest} if self.table else {})}


class WriteParagraphs(WriteKeys):
    """The last step of a first pass: `Document`s in, `documents.parquet` and `keys.parquet` out, of paragraphs.

    A row has the place of its document, and as `key`, a label, the paragraph's number in it.
    """

    def __init__(self, folder: Path, choice: ParagraphChoice, tally: Tally) -> None:
        super().__init__(folder, 0, tally)
        self.choice = choice

    def rows(self, batch: list[Document]) -> tuple[ledger.Table, Keys]:
        of_text, number, keys = paragraph_keys([document.text for document in batch], self.choice)
        documents: ledger.Table = {
            "key": number.astype(np.uint64),
            "file": np.array([document.metadata["file"] for document in batch], np.int32)[of_text],
            "position": np.array([document.metadata["position"] for document in batch], np.int64)[of_text],
            "tokens": np.zeros(len(number), np.int64),
            "url_key": np.zeros(len(number), np.uint64),
        }
        return documents, keys


class CutParagraphs(PipelineStep):
    """The step: `Document`s in, the same out without their repeated paragraphs.

    Args:
        chosen: with the table of what goes.
        dropped: called with a document that goes as a whole, and the reason.

    Statistics: `paragraphs` and `characters` that left documents which stay, `documents` that lost some, `dropped`.
    """

    name = "📄 paragraphs"
    type = "🔻 - FILTER"

    def __init__(self, chosen: Paragraphs, dropped: Callable[[Document, str], None]) -> None:
        super().__init__()
        self.chosen, self.dropped = chosen, dropped

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Generator[Document, None, None]:
        if self.chosen.table is None:
            yield from data
            return
        places, numbers = _repeated(self.chosen.rows, self.chosen.table.path)
        for document in data:
            place = _place(document.metadata["file"], document.metadata["position"])
            begin, end = np.searchsorted(places, [place, place + 1]).tolist()
            if begin == end or self._cut(document, numbers[begin:end].tolist()):
                yield document

    def _cut(self, document: Document, gone: list[int]) -> bool:
        """Take these paragraphs out; whether the document stays."""
        kept = paragraphs(document.text)
        if gone[-1] >= len(kept):
            raise BuildError(
                f"a text of {len(kept):,} paragraphs has lost number {gone[-1]:,} of those that were looked at",
                where=document.id,
                remedy="the input has changed meanwhile: start the same command again",
            )
        size = sum(map(len, kept))
        for number in reversed(gone):
            del kept[number]
        characters = size - sum(map(len, kept))
        text = "\n".join(kept)
        share, most = characters / size, self.chosen.choice.drop_above
        if share > most or not text.strip():
            self.stat_update("dropped")
            self.dropped(document, Reason(REASON, share, most))
            return False
        document.text = text
        self.stat_update("documents")
        self.stat_update("paragraphs", value=len(gone))
        self.stat_update("characters", value=characters)
        return True


def _place(file: Any, position: Any) -> Any:
    return np.int64(file) << _FILE_BITS | position


def _repeated(rows: Path, table: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The paragraphs that go: the places of their documents, rising, and their numbers there, rising in each."""
    gone = np.flatnonzero(read_attribute(table).codes)
    documents = ledger.read_table(rows, ledger.DOCUMENTS, ["key", "file", "position"])
    place = (documents["file"].astype(np.int64) << _FILE_BITS | documents["position"])[gone]
    number = documents["key"].astype(np.int64)[gone]
    order = np.lexsort((number, place))
    return place[order], number[order]
