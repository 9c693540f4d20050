"""Lightning's `litdata`: chunks of samples, and one `index.json` of them all, as `litdata.optimize` writes them.

A chunk, little-endian, is uint32 n, n + 1 uint32 offsets from its beginning, and the samples. A sample is `id` and
`input_ids` (uint16 or uint32): the uint32 size of each, then the id in UTF-8 and the values. The files in the order of
the index are read by `StreamingDataset(folder, shuffle=False)` as `{"id": …, "input_ids": array}`.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.base.errors import ShardError
from ettin_data.export.format import ExportFormat, Samples, Whole
from ettin_data.storage.phase import INDEX
from ettin_data.tokenizer.vocabulary import Vocabulary

_CODES = {"uint16": 5, "uint32": 6}  # of litdata's table of numpy dtypes
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
_SPEC = {"type": "builtins.dict", "context": json.dumps(["id", "input_ids"]), "children_spec": [_LEAF, _LEAF]}
"""`{"id": *, "input_ids": *}` as torch writes down the shape of a tree (`torch.utils._pytree`)."""


def write_litdata(samples: Samples, vocabulary: Vocabulary, folder: Path, stem: str) -> None:
    """One chunk, one sample and four bytes for each in memory."""
    dtype = np.dtype(vocabulary.dtype).newbyteorder("<")
    sizes = array("q")
    body = folder / f"{stem}.body"
    with open(body, "wb") as file:
        for name, ids in samples:
            word, values = name.encode(), ids.astype(dtype, copy=False).tobytes()
            file.write(struct.pack("<II", len(word), len(values)) + word + values)
            sizes.append(8 + len(word) + len(values))
    ends = np.cumsum([4 + 4 * (len(sizes) + 1), *sizes])
    if ends[-1] >= 1 << 32:
        raise ShardError(f"a chunk of {ends[-1]:,} bytes", where=stem, why="at most 4 GiB", remedy="--files with more")
    with open(folder / f"{stem}.bin", "wb") as chunk, open(body, "rb") as file:
        chunk.write(struct.pack("<I", len(sizes)) + ends.astype("<u4").tobytes())
        while block := file.read(1 << 24):
            chunk.write(block)
    body.unlink()


def index_text(whole: Whole) -> Mapping[str, str]:
    """The index of the chunks; of no date, so that the same samples give the same bytes."""
    chunks = [
        {"chunk_bytes": size, "chunk_size": samples, "dim": None, "filename": name}
        for name, (size, samples) in whole.files.items()
    ]
    config = {
        "chunk_bytes": max((size for size, _ in whole.files.values()), default=0),
        "chunk_size": None,
        "compression": None,
        "data_format": ["str", f"no_header_numpy:{_CODES[whole.vocabulary.dtype]}"],
        "data_spec": json.dumps([1, _SPEC]),
        "encryption": None,
        "item_loader": "PyTreeLoader",
    }
    return {INDEX: json.dumps({"chunks": chunks, "config": config, "updated_at": "0"}, sort_keys=True)}


EXPORT = ExportFormat("litdata", "for Lightning's litdata: chunks of id and input_ids", write_litdata, index_text)
