"""Speed of both encoders, on one core, over the same unseen text, in one run.

    python -m benchmarks.tokenizer [--megabytes 20] [--repeats 3] [--json FILE]

The text is what every machine with Python has: the sources of the standard library and of the installed packages, their
licences and descriptions, the language reference. Each backend and repeat runs in a fresh process, fed as the build
feeds it (`CheckedEncoder`, batches of 256 documents), so the figures hold the keyed checks, the split in documents and
the conversion to uint16. Both must give the same ids, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sysconfig
import time
from itertools import islice
from pathlib import Path
from typing import Any

import xxhash

from benchmarks.measure import report
from ettin_data.tokenizer.encoder import Tokenizer, TokenizerFile, resolve

SUFFIXES = {".py", ".pyi", ".md", ".rst", ".txt", ".h", ".c", ".js", ".html", ".css", ".yaml", ".toml"}
LARGEST = 1_000_000  # bytes; larger files are tables
BATCH = 256
BACKENDS = ("fastokens", "tokenizers")


def documents(megabytes: float) -> list[str]:
    """Text files of this Python, in sorted order, up to a total size in UTF-8."""
    paths = sysconfig.get_paths()
    texts: list[str] = []
    left = megabytes * 1e6
    # Half from each place, so that small runs see prose and foreign code too.
    for share, folder in ((0.5, paths["stdlib"]), (1.0, paths["purelib"])):
        budget = left * share
        for path in sorted(Path(folder).rglob("*")):
            if budget <= 0:
                break
            if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= LARGEST:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
                size = len(texts[-1].encode())
                budget -= size
                left -= size
    return texts


def measure(file: TokenizerFile, backend: str, megabytes: float) -> dict[str, Any]:
    """Encode everything once in this process."""
    texts = documents(megabytes)
    size = sum(len(text.encode()) for text in texts)
    named = iter([(f"text#{i}", text) for i, text in enumerate(texts)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    encoder = Tokenizer(file, backend).encoder(seed=1, split="benchmark")  # type: ignore[arg-type]
    load = time.perf_counter() - start
    digest, tokens = xxhash.xxh3_64(), 0
    start, cpu = time.perf_counter(), time.process_time()
    while batch := list(islice(named, BATCH)):
        flat, _ = encoder.encode(*map(list, zip(*batch, strict=True)))
        tokens += len(flat)
        digest.update(flat.tobytes())
    encoder.finish()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "backend": encoder.backend, "bytes": size, "tokens": tokens, "digest": digest.hexdigest(),
        "checked": encoder.checked, "load_s": load, "seconds": seconds, "cpu_s": cpu,
        "peak_mib_over_text": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=20.0, help="of text, UTF-8")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    file = resolve()
    context = multiprocessing.get_context("spawn")
    results: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        for backend in BACKENDS:
            with context.Pool(1) as pool:
                results.append(pool.apply(measure, (file, backend, options.megabytes)))
    if len({(result["tokens"], result["digest"]) for result in results}) != 1:
        raise SystemExit("the backends do not give the same ids")
    rows = [row(backend, [result for result in results if result["backend"] == backend]) for backend in BACKENDS]
    fast, referee = ([result["cpu_s"] for result in results if result["backend"] == name] for name in BACKENDS)
    times = statistics.median(slow / quick for slow, quick in zip(referee, fast, strict=True))
    report("Both tokenizers, the same ids", rows, options.json, {"fastokens beside tokenizers": times})


def row(backend: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the repeats of one backend."""
    seconds, cpu, load, peak = (
        statistics.median(result[key] for result in results)
        for key in ("seconds", "cpu_s", "load_s", "peak_mib_over_text")
    )
    size, tokens = results[0]["bytes"], results[0]["tokens"]
    return {
        "backend": backend,
        "MB of text": size / 1e6,
        "MB/s": size / 1e6 / seconds,
        "M tokens/s": tokens / 1e6 / seconds,
        "CPU s/M": cpu / tokens * 1e6,
        "load s": load,
        "peak MiB over the text": peak,
        "checked": results[0]["checked"],
    }


if __name__ == "__main__":
    main()
