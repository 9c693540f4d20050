"""Decontaminate: documents that have an evaluation text are dropped, relieved of it, or only written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import groupby
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from ettin_data.base.words import word_hashes
from ettin_data.stages.batches import WORDS
from ettin_data.stages.contamination.options import Decontamination
from ettin_data.stages.contamination.search import Hit, search, search_hashed
from ettin_data.stages.filters.measured import Reason

REASON = "contaminated"
_CHARACTERS, _DOCUMENTS = 1 << 22, 4096  # of a batch: a look at the candidates takes some ms, however few they are

Noted = Callable[[Document, str, list[dict[str, Any]]], None]
Dropped = Callable[[Document, Reason], None]


class Decontaminate(PipelineStep):
    """The step: `Document`s in, those out that may be used, in their order.

    Args:
        chosen: which texts, and what to do.
        dropped: called with a document that is left out, whose `metadata["hits"]` say why.
        noted: called with a document that is used, the reason, and its hits.
        keep_words: the step behind wants the words too: each document has their hashes as `metadata[WORDS]`, but one
            that was masked has not.

    Statistics: `hits`, and documents that were `dropped`, `masked` or `reported`; `items` counts the hits of each text.
    """

    name = "🧪 decontaminate"
    type = "🔻 - FILTER"

    def __init__(self, chosen: Decontamination, dropped: Dropped, noted: Noted, keep_words: bool = False) -> None:
        super().__init__()
        self.chosen, self.dropped, self.noted, self.keep_words = chosen, dropped, noted, keep_words
        self.items: Counter[str] = Counter()

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Generator[Document, None, None]:
        batch: list[Document] = []
        held = 0
        for document in data:
            batch.append(document)
            held += len(document.text)
            if held > _CHARACTERS or len(batch) == _DOCUMENTS:
                yield from self._judged(batch)
                batch, held = [], 0
        yield from self._judged(batch)

    def _judged(self, batch: list[Document]) -> Generator[Document, None, None]:
        index, texts = self.chosen.index(), [document.text for document in batch]
        if self.keep_words:
            words, bounds = word_hashes(texts)
            found = search_hashed(index, texts, words, bounds)
            for document, begin, end in zip(batch, bounds.tolist(), bounds[1:].tolist(), strict=False):
                document.metadata[WORDS] = words[begin:end]
        else:
            found = search(index, texts)
        if not found:
            yield from batch
            return
        hits = {number: list(group) for number, group in groupby(found, key=lambda hit: hit.document)}
        for number, document in enumerate(batch):
            if number in hits:
                for hit in hits[number]:
                    self.stat_update("hits")
                    self.items[hit.name] += 1
                if not self._keep(document, hits[number]):
                    continue
            yield document

    def _keep(self, document: Document, hits: list[Hit]) -> bool:
        """Do what the recipe says; whether the document is used."""
        said = [{"text": h.name, "characters": [h.begin, h.end], "score": h.score} for h in hits]
        if self.chosen.action == "drop":
            self.stat_update("dropped")
            document.metadata["hits"] = said
            worst = max(hits, key=lambda hit: hit.score)
            least = self.chosen.rule.least(len(self.chosen.index().words_of(worst.text)))
            self.dropped(document, Reason(REASON, worst.score, least))
            return False
        if self.chosen.action == "mask":
            self.stat_update("masked")
            document.text = self._masked(document.text, hits)
            document.metadata.pop(WORDS, None)
        else:
            self.stat_update("reported")
        self.noted(document, REASON, said)
        return True

    def _masked(self, text: str, hits: Sequence[Hit]) -> str:
        """The text without its hits, and without what becomes one when they are gone."""
        while hits:
            end = 0
            kept = []
            for hit in sorted(hits, key=lambda hit: hit.begin):
                kept.append(text[end : max(hit.begin, end)])
                end = max(end, hit.end)
            text = "".join([*kept, text[end:]])
            hits = search(self.chosen.index(), [text])
        return text
