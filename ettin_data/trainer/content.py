"""The hashes that the build wrote, beside what is stored now."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from functools import cache, partial
from pathlib import PurePosixPath

import numpy as np
import xxhash
from numpy.typing import NDArray

from ettin_data.base.errors import EttinError
from ettin_data.storage import ledger
from ettin_data.storage.mds import MdsReader
from ettin_data.tokenizer.vocabulary import AnyTokens


class VerificationError(EttinError):
    """What reached the model, or came out of it, is not what it has to be."""


class ContentHashes:
    """The hash of each sample's stored token bytes, from the ledgers beside the splits. Where a split has no ledger:
    the hash of the whole shard from the index, checked once, when its first sample is asked for.

    Ledgers are read when needed and kept: 8 bytes a sample.
    """

    def __init__(self, index: MdsReader) -> None:
        self.index = index
        self.checked: Counter[str] = Counter()  # "ledger", "shard", "none" -> samples
        folders = [str(PurePosixPath(info.basename).parent) for info in index.infos]
        firsts = [i for i, folder in enumerate(folders) if i == 0 or folder != folders[i - 1]]
        self._folders = [folders[i] for i in firsts]  # of the splits, as they follow each other in the index
        self._starts = [*index.starts[firsts].tolist(), len(index)]
        self._of_split = cache(self._read)
        self._of_shard = cache(partial(_shard_hash_problem, index))

    def problem(self, position: int, tokens: AnyTokens) -> str | None:
        """Why these tokens are not what the build stored at this position, or None."""
        split = bisect_right(self._starts, position) - 1
        content = self._of_split(split)
        if content is None:
            number, _ = self.index.locate(position)
            self.checked["shard" if self.index.infos[number].hashes else "none"] += 1
            return self._of_shard(number)
        self.checked["ledger"] += 1
        found, wanted = xxhash.xxh3_64_intdigest(tokens.data), int(content[position - self._starts[split]])
        return None if found == wanted else f"its tokens have the hash {found:016x}, the ledger says {wanted:016x}"

    def _read(self, split: int) -> NDArray[np.uint64] | None:
        """The hashes of a split's samples, uint64; None where it has no ledger."""
        folder = self.index.folder / self._folders[split]
        if not (folder / ledger.SAMPLES).exists():
            return None
        content = ledger.read_table(folder, ledger.SAMPLES, ["content"])["content"]
        samples = self._starts[split + 1] - self._starts[split]
        if len(content) != samples:
            raise VerificationError(f"the ledger has {len(content):,} samples, the index {samples:,}", where=folder)
        return content


def _shard_hash_problem(index: MdsReader, number: int) -> str | None:
    info = index.infos[number]
    path = index.folder / info.basename
    if not path.exists():  # only the compressed file is there; the reader checks its length
        return None
    for name, wanted in info.hashes.items():
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, getattr(xxhash, name, name)).hexdigest()
        if digest != wanted:
            return f"its shard has the {name} {digest}, the index says {wanted}"
    return None
