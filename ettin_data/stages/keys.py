"""Keys: by what copies of a document are found, in the pass that reads its text anyway (ARCHITECTURE 5.11).

Where samples hold several documents, copies have to be known before they are packed. Then a first pass over the text
ends in `WriteKeys`, and the pass that packs begins with `Known`, which leaves out what was found in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from ettin_data.base import draws
from ettin_data.base.errors import BuildError
from ettin_data.base.words import Hashed, word_hashes
from ettin_data.dedup.keys import KeyChoice, text_keys
from ettin_data.stages.batches import WORDS, Tally, keys_of
from ettin_data.stages.tokenize import BATCH_DOCUMENTS, BATCH_SIZE
from ettin_data.storage import ledger
from ettin_data.storage.attributes import Attribute
from ettin_data.storage.keys import Keys as KeyRows
from ettin_data.storage.keys import KeysWriter
from ettin_data.storage.phase import KEYS
from ettin_data.storage.split import leaves_root


class Keys(PipelineStep):
    """The step: `Document`s in, the same out, each with its row of keys as bytes, `metadata["keys"]` (`storage.keys`).

    It stands behind the filters, so that keys are of the text that is tokenized.

    Args:
        choice: what keys are made of.
    """

    name = "🔑 keys"
    type = "🫂 - DEDUP"

    def __init__(self, choice: KeyChoice) -> None:
        super().__init__()
        self.choice = choice

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Generator[Document, None, None]:
        for batch in batches(data):
            yield from self._keyed(batch)

    def _keyed(self, batch: list[Document]) -> Generator[Document, None, None]:
        texts = [document.text for document in batch]
        keys = text_keys(texts, self.choice, _hashed(batch))
        if self.choice.values:
            short = int((~keys[:, -self.choice.values :].any(axis=1)).sum())
            self.stat_update("short", value=short, unit="batch")
        rows, width = keys.tobytes(), keys.shape[1]
        for number, document in enumerate(batch):
            document.metadata["keys"] = rows[number * width : (number + 1) * width]
            yield document


def _hashed(batch: list[Document]) -> Hashed | None:
    """The words of a batch that a step before has hashed, which are not needed any more; None where none has."""
    if not any(WORDS in document.metadata for document in batch):
        return None
    each = [document.metadata.pop(WORDS, None) for document in batch]
    each = [
        word_hashes([document.text])[0] if words is None else words for document, words in zip(batch, each, strict=True)
    ]
    return np.concatenate(each), np.cumsum([0, *map(len, each)])


class Known(PipelineStep):
    """The step: `Document`s whose keys were made in an earlier pass get these; copies of others go to the reject log.

    Args:
        keys: of the documents that will come, in their order.
        found: which of them are copies, and why; None where none is.
        drop: told of a document that goes, and the reason.

    Raises `BuildError` when other documents come than those that have keys.
    """

    name = "🔑 keys"
    type = "🫂 - DEDUP"

    def __init__(self, keys: KeyRows, found: Attribute | None, drop: Callable[[Document, str], None]) -> None:
        super().__init__()
        self.keys, self.drop = keys, drop
        self.reasons = found.reasons if found else ()
        self.codes = found.codes if found else np.zeros(len(keys), np.uint8)

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Generator[Document, None, None]:
        row = -1
        for row, document in enumerate(data):
            if row == len(self.keys):
                break
            if code := int(self.codes[row]):
                self.drop(document, self.reasons[code - 1])
                self.stat_update(self.reasons[code - 1])
                continue
            document.metadata["keys"] = self.keys[row].tobytes()
            yield document
        if row + 1 != len(self.keys):
            raise BuildError(
                f"copies were looked for among {len(self.keys):,} documents, and {row + 1:,} or more are there now",
                remedy="the input has changed meanwhile: start the same command again",
            )


class WriteKeys(PipelineStep):
    """The last step of a pass for keys alone: `Document`s with keys in, `documents.parquet` and `keys.parquet` out.

    It has the attributes of `stages.write.Write`, for a split without samples.
    """

    name = "💾 write"
    type = "💾 - WRITER"

    def __init__(self, folder: Path, sketch: int, tally: Tally) -> None:
        super().__init__()
        self.folder, self.sketch, self.tally = folder, sketch, tally
        self.shards: list[Any] = []
        self.root: str | None = None
        self.written: dict[str, dict[str, Any]] = {}

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Generator[None, None, None]:
        with ExitStack() as files:
            table = files.enter_context(ledger.TableWriter(self.folder, ledger.DOCUMENTS))
            keys = files.enter_context(KeysWriter(self.folder / KEYS, self.sketch))
            for batch in batches(data):
                self.tally.documents += len(batch)
                documents, rows = self.rows(batch)
                table.add(documents)
                keys.add(rows)
        self.written = {ledger.DOCUMENTS: table.digest, KEYS: keys.digest}
        self.root = leaves_root(np.zeros((0, 2), np.uint64))
        yield from ()

    def rows(self, batch: list[Document]) -> tuple[ledger.Table, KeyRows]:
        """What is written of some documents, one row of each for each."""
        urls = [document.metadata.get("url") for document in batch]
        documents: ledger.Table = {
            "key": draws.document_keys([document.id for document in batch]),
            "file": np.array([document.metadata["file"] for document in batch], np.int32),
            "position": np.array([document.metadata["position"] for document in batch], np.int64),
            "tokens": np.zeros(len(batch), np.int64),
            "url_key": np.array([draws.document_key(url) if url else 0 for url in urls], np.uint64),
        }
        return documents, keys_of(batch)


def batches(data: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in their order, as many at a time as are worked on together; none is empty."""
    batch: list[Document] = []
    held = 0
    for document in data:
        if batch and (held + len(document.text) > BATCH_SIZE or len(batch) == BATCH_DOCUMENTS):
            yield batch
            batch, held = [], 0
        batch.append(document)
        held += len(document.text)
    if batch:
        yield batch
