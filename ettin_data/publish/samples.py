"""Decoded samples of a phase as parquet: what the hub's viewer shows, and what one can read without a tokenizer."""

from __future__ import annotations

import io
from collections.abc import Callable

from ettin_data.base.redact import redact
from ettin_data.inspect.lookup import Phase
from ettin_data.inspect.report.facts import examples_of
from ettin_data.tokenizer.vocabulary import AnyTokens

COLUMNS = {
    "source": ("sc:Text", "Source of the sample."),
    "id": ("sc:Text", "Id of its document, as upstream has it."),
    "position": ("sc:Integer", "Place of the sample in train/index.json, from 0."),
    "tokens": ("sc:Integer", "How many tokens it has."),
    "file": ("sc:Text", "Upstream file of its first document."),
    "record": ("sc:Integer", "Ordinal of that document in the file, from 0."),
    "text": ("sc:Text", "Its beginning, decoded."),
}
"""Column -> its type in Croissant's terms, and a sentence."""

_CHARACTERS = 4000


def samples_parquet(phase: Phase, decode: Callable[[AnyTokens], str], number: int) -> bytes:
    """`number` samples of each source, drawn by a key: the same run gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "source": example.source,
            "id": _clean(example.sample.id),
            "position": example.sample.position,
            "tokens": len(example.sample.tokens),
            "file": _clean(redact(example.sample.spans[0].file)),
            "record": example.sample.spans[0].record,
            "text": _clean(example.text),
        }
        for example in examples_of(phase, decode, number, _CHARACTERS)
    ]
    types = {name: pa.int64() if kind == "sc:Integer" else pa.string() for name, (kind, _) in COLUMNS.items()}
    held = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(types)), held, compression="zstd")
    return held.getvalue()


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no UTF-8
