"""Keys: by what copies of a document are found, in the pass that reads its text anyway (ARCHITECTURE 5.11)."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from ettin_data.dedup.keys import KeyChoice, text_keys
from ettin_data.stages.tokenize import BATCH_DOCUMENTS, BATCH_SIZE


class Keys(PipelineStep):
    """The step: `Document`s in, the same out, each with its row of keys as `metadata["keys"]` (`storage.keys.Keys`).

    It stands behind the filters, so that keys are of the text that is tokenized.
    """

    name = "🔑 keys"
    type = "🫂 - DEDUP"

    def __init__(self, choice: KeyChoice) -> None:
        super().__init__()
        self.choice = choice

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Generator[Document, None, None]:
        batch: list[Document] = []
        held = 0
        for document in data:
            if batch and (held + len(document.text) > BATCH_SIZE or len(batch) == BATCH_DOCUMENTS):
                yield from self._keyed(batch)
                batch, held = [], 0
            batch.append(document)
            held += len(document.text)
        yield from self._keyed(batch)

    def _keyed(self, batch: list[Document]) -> Generator[Document, None, None]:
        keys = text_keys([document.text for document in batch], self.choice)
        if self.choice.values:
            short = int((~keys[:, -self.choice.values :].any(axis=1)).sum())
            self.stat_update("short", value=short, unit="batch")
        for document, row in zip(batch, keys, strict=True):
            document.metadata["keys"] = row
            yield document
