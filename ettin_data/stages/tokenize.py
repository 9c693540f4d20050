"""Tokenize: documents become token rows, many at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from numpy.typing import NDArray

from ettin_data.base import draws
from ettin_data.stages.batches import Tally, TokenRows, keys_of
from ettin_data.stages.read import RejectLog
from ettin_data.tokenizer.encoder import CheckedEncoder, Tokenizer
from ettin_data.tokenizer.vocabulary import Tokens

BATCH_SIZE, BATCH_DOCUMENTS = 500_000, 4096
"""Characters (or given tokens) and documents of a batch: enough to hide the cost of a call, few enough to keep a worker
small, and less than the tokenizer takes in one piece (`tokenizer.backends.PORTION`)."""


class Tokenize(PipelineStep):
    """The step: `Document`s in, `TokenRows` out. Documents that carry `tokens` already pass as they are.

    Raises `BackendMismatch` when the fast backend and the referee disagree about a checked document.
    """

    name = "🔢 tokenize"
    type = "🔢 - TOKENIZER"

    def __init__(self, tokenizer: Tokenizer, seed: int, split: str, tally: Tally, rejects: RejectLog) -> None:
        super().__init__()
        self.tokenizer, self.seed, self.split = tokenizer, seed, split
        self.tally, self.rejects = tally, rejects

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Generator[TokenRows, None, None]:
        encoder = self.tokenizer.encoder(self.seed, self.split)
        batch: list[Document] = []
        held = 0
        for document in data:
            if "tokens" in document.metadata:
                _without_text(document)
            size = len(document.text) or len(document.metadata.get("tokens", ()))
            if batch and (held + size > BATCH_SIZE or len(batch) == BATCH_DOCUMENTS):
                yield from self._rows(encoder, batch)
                batch, held = [], 0
            batch.append(document)
            held += size
        if batch:
            yield from self._rows(encoder, batch)
        self.tally.checked_documents = encoder.finish()

    def _rows(self, encoder: CheckedEncoder, batch: list[Document]) -> Generator[TokenRows, None, None]:
        tokens, offsets = encoder.encode([d.id for d in batch], [d.text for d in batch])
        if any("tokens" in document.metadata for document in batch):
            tokens, offsets = _with_given_tokens(batch, tokens, offsets)
        for document in batch:  # a text may be large, and nobody needs it any more
            document.text = ""
        lengths = np.diff(offsets)
        if not lengths.all():  # an empty row takes no tokens, so dropping it leaves the tokens as they are
            for number in np.flatnonzero(lengths == 0).tolist():
                self.rejects.filtered(batch[number], "no_tokens")
            batch = [document for document, length in zip(batch, lengths.tolist(), strict=True) if length]
            offsets = np.concatenate([[0], np.cumsum(lengths[lengths > 0])])
            if not batch:
                return
        urls = [document.metadata.get("url") for document in batch]
        self.stat_update("tokens", value=int(offsets[-1]), unit="batch")
        yield TokenRows(
            ids=[document.id for document in batch],
            files=np.array([document.metadata["file"] for document in batch], np.int32),
            positions=np.array([document.metadata["position"] for document in batch], np.int64),
            url_keys=np.array([draws.document_key(url) if url else 0 for url in urls], np.uint64),
            tokens=tokens,
            offsets=offsets,
            keys=keys_of(batch) if "keys" in batch[0].metadata else None,
        )


def _without_text(document: Document) -> None:
    """Leave a document that came as token ids these, or the text that a filter made of theirs."""
    decoded = document.metadata.pop("decoded", document.text)
    if document.text == decoded:
        document.text = ""
    else:
        del document.metadata["tokens"]


def _with_given_tokens(
    batch: list[Document], tokens: Tokens, offsets: NDArray[np.int64]
) -> tuple[Tokens, NDArray[np.int64]]:
    """Put the tokens that documents brought with them in the place of the encoded (empty) text."""
    rows = [
        np.asarray(document.metadata["tokens"], tokens.dtype)
        if "tokens" in document.metadata
        else tokens[offsets[number] : offsets[number + 1]]
        for number, document in enumerate(batch)
    ]
    return np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])])
