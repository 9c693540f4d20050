"""Real text for the benchmarks, gathered from this Python installation, in the forms in which upstreams have it."""

from __future__ import annotations

import gzip
import json
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SPREAD = (300, 900, 2_000, 400, 5_000, 1_200, 12_000, 700, 40_000)
"""Characters of the documents, in turn: many are short, and few hold most of the text, as in a crawl."""


def documents(megabytes: float) -> list[str]:
    """About so many MB of code, documentation and prose as documents of a realistic spread of lengths.

    Files come in the order of their names and are cut at line ends by a fixed rule, so that every benchmark of a run
    has the same text.
    """
    result: list[str] = []
    held, limit = 0, int(megabytes * 1e6)
    for file in _installed():
        text = file.read_text(encoding="utf-8", errors="replace")
        while text:
            end = text.find("\n", SPREAD[len(result) % len(SPREAD)])
            piece, text = (text, "") if end < 0 else (text[: end + 1], text[end + 1 :])
            if piece.strip():
                result.append(piece)
                held += len(piece.encode("utf-8", "replace"))
        if held >= limit:
            break
    return result


def _installed() -> Iterator[Path]:
    """Text files of the standard library and the installed packages, by name."""
    for name in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(name)).rglob("*")):
            if path.suffix in (".py", ".md", ".rst", ".txt", ".pyi") and path.is_file():
                yield path


def records(texts: Sequence[str]) -> list[dict[str, Any]]:
    """The texts as Dolma's records: `id`, `text`, `source` and some metadata."""
    return [
        {"id": f"doc-{number:08}", "text": text, "source": "bench", "metadata": {"length": len(text)}}
        for number, text in enumerate(texts)
    ]


def write_jsonl(path: Path, texts: Sequence[str]) -> None:
    """One file as Dolma (`.gz`, level 6) and Dolmino (`.zst`, level 3) have them, by the end of its name."""
    data = b"".join(json.dumps(record).encode() + b"\n" for record in records(texts))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data, 6, mtime=0))
    else:
        import zstandard

        path.write_bytes(zstandard.ZstdCompressor(level=3).compress(data))


def write_parquet(path: Path, texts: Sequence[str]) -> None:
    """One file as DCLM has them: zstd, row groups of a thousand, columns that nobody reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[Mapping[str, Any]] = [
        {"id": r["id"], "text": r["text"], "url": f"https://example.org/{r['id']}", "language_score": 0.9}
        for r in records(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", row_group_size=1000)


def write_mds(folder: Path, texts: Sequence[str], tokenizer_json: Path) -> None:
    """A folder as ProLong has them, without ids: int32 token ids that some tokenizer has to decode."""
    import numpy as np
    from tokenizers import Tokenizer

    from ettin_data.storage.mds import import_streaming

    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    columns = {"domain": "str", "input_ids": "ndarray:int32", "length": "int"}
    with import_streaming().MDSWriter(out=str(folder), columns=columns) as writer:
        for text in texts:
            ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int32)
            writer.write({"domain": "bench", "input_ids": ids, "length": len(ids)})
