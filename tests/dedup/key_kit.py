"""Splits that have documents and keys, and nothing else: what the search for copies reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import record_kit

from ettin_data.base import sealed_json
from ettin_data.base.draws import document_keys
from ettin_data.dedup.keys import KeyChoice, text_keys
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.storage.keys import Keys, KeysWriter
from ettin_data.storage.ledger import DOCUMENTS, TableWriter
from ettin_data.storage.phase import KEYS, MARKER
from ettin_data.storage.split import Marker


def write_keyed(
    folder: Path, source: str, keys: Keys, urls: Sequence[str] | None = None, part: str = "pools"
) -> KeyedSplit:
    """A split of one upstream file whose documents have these keys."""
    folder.mkdir(parents=True)
    count = len(keys)
    columns = {
        "key": np.arange(count, dtype=np.uint64),
        "file": np.zeros(count, np.int32),
        "position": np.arange(count),
        "tokens": np.ones(count, np.int64),
        "url_key": document_keys(list(urls)) if urls else np.zeros(count, np.uint64),
    }
    with TableWriter(folder, DOCUMENTS) as table:
        table.add(columns)
    with KeysWriter(folder / KEYS, keys.shape[1] - 16) as file:
        file.add(keys)
    path = f"{source}/{folder.name}.jsonl"
    tally = record_kit.pool_tally()
    marker = Marker(folder.name, source, "f", {}, [{"path": path, "size": 1, "etag": None}], tally, 0, 0, "r", "c")
    sealed_json.write(folder / MARKER, marker.to_json())
    return KeyedSplit(f"{source}/{folder.name}", source, folder, folder / KEYS, count, marker.digest + folder.name)


def write_texts(folder: Path, source: str, texts: Sequence[str], choice: KeyChoice) -> KeyedSplit:
    return write_keyed(folder, source, text_keys(texts, choice))
