"""OLMo's token files: the ids of all samples end to end, without a header, and a table of where each document lies.

The form is that of `dolma tokens`, which OLMo and OLMo-core read as memory maps: `<stem>.npy` holds little-endian
uint16 or uint32 although it has no numpy header, and `<stem>.csv.gz` has a line `start,end,id,src,loc` for each
document. A document ends with the tokenizer's closing token, which is the `eos_token_id` to give to OLMo. Here a
document is a sample, with its framing.
"""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np

from ettin_data.export.format import ExportFormat, Samples
from ettin_data.tokenizer.vocabulary import Vocabulary


def write_olmo(samples: Samples, vocabulary: Vocabulary, folder: Path, stem: str) -> None:
    """Both files, one sample in memory at a time."""
    dtype = np.dtype(vocabulary.dtype).newbyteorder("<")
    start = 0
    with (
        open(folder / f"{stem}.npy", "wb") as ids_file,
        open(folder / f"{stem}.csv.gz", "wb") as table_file,
        gzip.GzipFile(filename="", fileobj=table_file, mode="wb", mtime=0) as packed,  # no name, no time: same bytes
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        lines = csv.writer(text, lineterminator="\n")
        for row, (name, ids) in enumerate(samples):
            ids_file.write(ids.astype(dtype, copy=False).tobytes())
            lines.writerow((start, start + len(ids), name, stem, row))
            start += len(ids)


EXPORT = ExportFormat("olmo-numpy", "for OLMo and OLMo-core: ids end to end in .npy, documents in .csv.gz", write_olmo)
