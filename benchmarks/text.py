"""Real text for the benchmarks, gathered from this Python installation: the same for every benchmark of a run."""

from __future__ import annotations

import gzip
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def documents(megabytes: float) -> list[str]:
    """About so many MB of code, documentation and prose as documents of a realistic spread of lengths.

    Files come in the order of their names, and long ones are cut at line ends by a fixed rule, so that many documents
    are short and some are very long.
    """
    result: list[str] = []
    held, limit = 0, int(megabytes * 1e6)
    spread = (300, 900, 2_000, 400, 5_000, 1_200, 12_000, 700, 40_000)
    for file in _installed():
        text = file.read_text(encoding="utf-8", errors="replace")
        while text:
            size = spread[len(result) % len(spread)]
            end = text.find("\n", size)
            piece, text = (text, "") if end < 0 else (text[: end + 1], text[end + 1 :])
            if piece.strip():
                result.append(piece)
                held += len(piece.encode("utf-8", "replace"))
        if held >= limit:
            break
    return result


def write_jsonl_gz(path: Path, texts: list[str]) -> None:
    """One file as Dolma has them: `id`, `text`, `source` and some metadata, gzip level 6."""
    with gzip.GzipFile(path, "wb", compresslevel=6, mtime=0) as out:
        for number, text in enumerate(texts):
            record = {"id": f"doc-{number:08}", "text": text, "source": "bench", "metadata": {"length": len(text)}}
            out.write(json.dumps(record).encode() + b"\n")


def _installed() -> Iterator[Path]:
    """Text files of the standard library and the installed packages, by name."""
    for name in ("stdlib", "purelib"):
        for path in sorted(Path(sysconfig.get_path(name)).rglob("*")):
            if path.suffix in (".py", ".md", ".rst", ".txt", ".pyi") and path.is_file():
                yield path
