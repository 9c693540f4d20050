"""What travels between the stages after the text is gone: columnar batches, and the tally of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from datatrove.data import Document
from numpy.typing import NDArray

from ettin_data.sources.base import Loss
from ettin_data.storage.keys import Keys
from ettin_data.storage.ledger import Table
from ettin_data.tokenizer.vocabulary import Tokens

WORDS = "hashes of words"
"""In a document's metadata: what `base.words.word_hashes` says of its text, from the step that made it to the next."""


def keys_of(documents: Sequence[Document]) -> Keys:
    """The keys of some documents, none of which is without, one row for each."""
    rows = b"".join([document.metadata["keys"] for document in documents])
    keys: Keys = np.frombuffer(rows, np.uint8).reshape(len(documents), -1)
    return keys


@dataclass(slots=True)
class TokenRows:
    """Tokenized documents.

    Attributes:
        ids: n document ids.
        files: shape (n,), int32, index of the upstream file among the split's inputs.
        positions: shape (n,), int64, ordinal of the record in its file.
        url_keys: shape (n,), uint64, key of the document's URL or 0.
        tokens: all documents' text tokens end to end, without special tokens; uint16 or uint32.
        offsets: shape (n + 1,), int64.
        keys: by which copies are found, one row a document; None where nobody asked for them.
    """

    ids: list[str]
    files: NDArray[np.int32]
    positions: NDArray[np.int64]
    url_keys: NDArray[np.uint64]
    tokens: Tokens
    offsets: NDArray[np.int64]
    keys: Keys | None = None


@dataclass(slots=True)
class Samples:
    """Finished samples, and the documents that they were cut from.

    Attributes:
        ids: n sample ids, each the id of the sample's (first) document.
        tokens: all samples' tokens end to end, with the framing tokens; uint16 or uint32.
        offsets: shape (n + 1,), int64.
        rows: the samples' rows for the ledger: `document`, `start`, `length`, each shape (n,).
        documents: rows of `documents.parquet` for the documents that arrived with this batch.
        cu_seqlens: n int32 arrays where samples hold several documents, else None.
        segments: rows of `segments.parquet` (`sample` counted from this batch's first sample), else None.
        keys: rows of `keys.parquet` for the same documents, else None.
    """

    ids: list[str]
    tokens: Tokens
    offsets: NDArray[np.int64]
    rows: dict[str, NDArray[np.int64]]
    documents: Table
    cu_seqlens: list[NDArray[np.int32]] | None = None
    segments: dict[str, NDArray[np.int64]] | None = None
    keys: Keys | None = None


@dataclass(frozen=True, slots=True)
class LostFile:
    """A file of which the rest could not be read.

    Attributes:
        file: its name (`SourceFile.name`).
        reason, detail: of its reject.
        seen: records of it before.
        bytes: of it as listed.
        loss: what is known of the rest.
    """

    file: str
    reason: str
    detail: str
    seen: int
    bytes: int
    loss: Loss

    def __str__(self) -> str:
        """The file, the place, the reason and what it probably held, as one line."""
        detail = " ".join(self.detail.split())
        detail = detail if len(detail) <= 160 else f"{detail[:157]}…"
        place = f"after {self.seen:,} records" if self.seen else "before any record"
        return f"{self.file}: {self.reason} {place}; {self.loss.said()} ({detail})"

    @property
    def changes(self) -> bool:
        """Whether it was not there as it was listed: that is no fact of its bytes, and is never skipped."""
        return self.reason == "size_mismatch" or (self.reason == "file_missing" and self.bytes > 0)

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> LostFile:
        """What a marker's tally says."""
        return cls(**{**said, "loss": Loss(**said["loss"])})


@dataclass
class Tally:
    """What happened to everything that a split read. Two laws hold when the split is complete (ARCHITECTURE 5.3):

    `records = documents + rejected + filtered` and `tokens_in = text_tokens + skipped`, counters summed over reasons.

    `rejected` counts records that could not be read, `filtered` those that a filter dropped, `damaged` files of which
    the rest could not be read; `lost` says of each of them what is known of that rest (`LostFile`), whose
    records are in no count here. `noted` counts blank lines, and
    documents that are used although the reader had to give them another id, repair characters, or take them cut or
    joined.
    """

    records: int = 0
    text_bytes: int = 0
    documents: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    lost: list[LostFile] = field(default_factory=list)
    noted: Counter[str] = field(default_factory=Counter)
    tokens_in: int = 0
    text_tokens: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    tokens: int = 0
    checked_documents: int = 0

    def broken_law(self) -> str | None:
        """A sentence about the law that does not hold, or None."""
        unused = sum(self.rejected.values()) + sum(self.filtered.values())
        skipped = sum(self.skipped.values())
        if self.records != self.documents + unused:
            return f"{self.records:,} records read, but {self.documents:,} used + {unused:,} rejected or filtered"
        if self.tokens_in != self.text_tokens + skipped:
            return f"{self.tokens_in:,} tokens in, but {self.text_tokens:,} written + {skipped:,} skipped"
        return None

    def to_json(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "text_bytes": self.text_bytes,
            "documents": self.documents,
            "rejected": dict(sorted(self.rejected.items())),
            "filtered": dict(sorted(self.filtered.items())),
            "damaged": dict(sorted(self.damaged.items())),
            "lost": [asdict(file) for file in self.lost],
            "noted": dict(sorted(self.noted.items())),
            "tokens_in": self.tokens_in,
            "text_tokens": self.text_tokens,
            "skipped": dict(sorted(self.skipped.items())),
            "samples": self.samples,
            "tokens": self.tokens,
            "checked_documents": self.checked_documents,
        }
