"""Documents whose text stood before in the same split. Costs about a millisecond for a megabyte of text."""

from __future__ import annotations

import xxhash
from datatrove.data import Document

from ettin_data.stages.filters.base import Answer, Filter
from ettin_data.stages.filters.digest_set import Seen

NAME, VERSION = "exact_duplicate", 1


class ExactDuplicate(Filter):
    """Keep the first document of each text **within one split**; reason `exact_duplicate`.

    A split is the unit of work, so the answer depends on nothing but the split's own inputs: not on workers, nor on the
    order in which splits are built. Equal texts in two splits are both kept.

    Texts are compared by 128-bit xxh3 of their UTF-8: among a billion documents the chance that any two different texts
    are taken for one is below 1e-20. The digests of half a million documents kept are held in memory, some 50 MB;
    more of them cost 16 bytes of a temporary file each (`digest_set.py`).
    """

    name = "🪞 Exact duplicate"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.start()

    def start(self) -> None:
        self._seen = Seen()

    def filter(self, document: Document) -> Answer:
        # "surrogatepass": a lone surrogate is legal in a JSON string, and must not stop a build here
        digest = xxhash.xxh3_128_intdigest(document.text.encode("utf-8", "surrogatepass"))
        return True if self._seen.add(digest) else (False, "exact_duplicate")
