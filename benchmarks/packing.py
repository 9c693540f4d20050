"""How full the packed samples are, and what packing costs, on the document lengths of the demo mirror.

    python -m benchmarks.packing [--megabytes 20] [--tokens 32M] [--json FILE]

The mirror's documents are read and tokenized by the sources' own readers. Packing sees lengths only, so more tokens
than the mirror holds are had by drawing its lengths again, keyed: `--tokens` of them fill several of its windows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

import numpy as np

from benchmarks.measure import report
from ettin_data import sources
from ettin_data.base import draws
from ettin_data.base.units import parse_count
from ettin_data.demo.mirror import write_mirror
from ettin_data.sources.base import Record
from ettin_data.stages.batches import Tally, TokenRows
from ettin_data.stages.pack import choose, strategies
from ettin_data.stages.pack.framing import Framing
from ettin_data.stages.pack.step import Pack
from ettin_data.tokenizer.encoder import Tokenizer, resolve

BATCH = 500


def demo_lengths(root: Path, megabytes: float) -> np.ndarray:
    """Tokens of every document of the mirror, source by source."""
    write_mirror(root, megabytes=megabytes)
    tokenizer, texts = Tokenizer(resolve()), []
    for key in sources.REGISTRY:
        source = sources.with_root(sources.get(key), str(root))
        for file in sources.list_files(source):
            texts += [item.text for item in sources.read_file(source, file) if isinstance(item, Record)]
    _, offsets = tokenizer.encode_batch(texts)
    lengths = np.diff(offsets)
    return lengths[lengths > 0]


def drawn(lengths: np.ndarray, tokens: int) -> np.ndarray:
    """Lengths drawn from these until they hold so many tokens."""
    mean = lengths.mean()
    result = draws.generator("packing benchmark").choice(lengths, int(tokens / mean * 1.2) + 10)
    return result[: int(np.searchsorted(np.cumsum(result), tokens)) + 1]


def measure(name: str, lengths: np.ndarray, length: int, strategy: str) -> dict[str, Any]:
    """Pack documents of these lengths with the shipped options; the tokens are all zero."""
    pack = Pack(choose(strategy), Framing(length, open=1, close=2), 42, "bench", tally := Tally())
    batches = []
    for first in range(0, len(lengths), BATCH):
        part = lengths[first : first + BATCH]
        offsets = np.concatenate([[0], np.cumsum(part)])
        ids = [str(first + i) for i in range(len(part))]
        places = np.arange(len(part))
        empty = np.zeros(len(part), np.uint64)
        tokens = np.zeros(int(offsets[-1]), np.uint16)
        batches.append(TokenRows(ids, places.astype(np.int32), places, empty, tokens, offsets))
    cpu = time.process_time()
    for _ in pack.run(batches):
        pass
    cpu = time.process_time() - cpu
    return {
        "lengths": name,
        "length": length,
        "strategy": strategy,
        "tokens": tally.tokens_in,
        "documents": tally.documents,
        "samples": tally.samples,
        "full %": round(100 * tally.tokens / (tally.samples * length), 3),
        "dropped %": round(100 * sum(tally.skipped.values()) / tally.tokens_in, 3),
        "CPU s/M": round(cpu / tally.tokens_in * 1e6, 5),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=20, help="size of the demo mirror")
    parser.add_argument("--tokens", type=parse_count, default=32_000_000, help="of the lengths that are drawn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        demo = demo_lengths(Path(folder) / "mirror", options.megabytes)
    many = drawn(demo, options.tokens)
    rows = [
        measure(name, lengths, length, strategy)
        for strategy in strategies()
        for length in (1024, 8000)
        for name, lengths in (("demo", demo), ("drawn", many))
    ]
    fill = {
        f"packing {row['length']}/{row['strategy']}": row["full %"] / 100 for row in rows if row["lengths"] == "drawn"
    }
    report("Packing: the demo's document lengths, shipped options", rows, options.json, fill)


if __name__ == "__main__":
    main()
