"""Megatron-LM's indexed data set: `<stem>.bin`, all token ids end to end, and `<stem>.idx`, where each sample lies.

The form is that of `megatron/core/datasets/indexed_dataset.py`, little-endian: `MMIDIDX` and two zero bytes, uint64
version 1, uint8 code of the dtype, uint64 sequences, uint64 entries of the table of documents, int32 length of each
sequence, int64 first byte of each, int64 number of the first sequence of each document and of the one behind the last.
A sequence is a sample and a document of its own, with its framing; the closing token is the end-of-document id to give
to Megatron. It knows no 32-bit ids without a sign, so those are int32. The ids of the samples are not kept.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

import numpy as np

from ettin_data.export.format import ExportFormat, Samples
from ettin_data.tokenizer.vocabulary import Vocabulary

_TYPES = {"uint16": ("<u2", 8), "uint32": ("<i4", 4)}
"""dtype of the vocabulary -> dtype in the file, Megatron's code for it."""


def write_megatron(samples: Samples, vocabulary: Vocabulary, folder: Path, stem: str) -> None:
    """Both files, one sample and eight bytes for each in memory."""
    dtype, code = _TYPES[vocabulary.dtype]
    sizes = array("q")
    with open(folder / f"{stem}.bin", "wb") as tokens:
        for _, ids in samples:
            tokens.write(ids.astype(dtype).tobytes())
            sizes.append(len(ids))
    lengths = np.array(sizes, np.int64)
    begins = (np.cumsum(lengths) - lengths) * np.dtype(dtype).itemsize
    with open(folder / f"{stem}.idx", "wb") as index:
        index.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(lengths), len(lengths) + 1))
        index.write(lengths.astype("<i4").tobytes())
        index.write(begins.astype("<i8").tobytes())
        index.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


EXPORT = ExportFormat("megatron", "for Megatron-LM and NeMo: an indexed data set of .bin and .idx", write_megatron)
