"""A step over whole sources, for runs that have attributes: it leaves out every n-th document of each split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ettin_data.build.attributes import FinishedSplit
from ettin_data.storage.attributes import Attribute

VERSION = 1


def every(splits: Sequence[FinishedSplit], nth: int = 9) -> Iterator[tuple[FinishedSplit, Attribute]]:
    for split in splits:
        rows = np.arange(len(split.documents("key")["key"]))
        yield split, Attribute(("nth",), (rows % nth == nth - 1).astype(np.uint8), {"score": rows / 7})
