"""From files on disk to finished, hashed, marked splits: the pipeline beside the bare loop, case by case.

    python -m benchmarks.end_to_end [--megabytes 20] [--rounds 7] [--cases jsonl.gz/1024/backfill ...] [--json FILE]

A case is a form of the files, a length and a packing strategy. Both sides run in this process on one core, in turn, on
the same files, with their tokenizers loaded and warm; `build_split` is the pipeline as a worker runs it, with the
shipped recipe's settings, the keyed checks of the tokenizer, ledger, statistics, fsync and marker, and no text filters.
The bare loop cuts every document and packs nothing, whatever the strategy: it is a limit, not a rival.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

from benchmarks import bare, text
from benchmarks.measure import in_turn, ratio, report
from ettin_data import recipe
from ettin_data.build.pool import SplitJob, build_split
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.tokenizer.encoder import Tokenizer
from ettin_data.tokenizer.encoder import resolve as resolve_tokenizer

CASES = (
    "jsonl.gz/1024/backfill",
    "jsonl.gz/8000/backfill",
    "jsonl.zst/1024/backfill",
    "parquet/1024/backfill",
    "mds/1024/backfill",
    "mds/8000/backfill",
    "jsonl.gz/1024/best_fit",
    "jsonl.gz/8000/best_fit",
    "jsonl.gz/1024/concat",
    "jsonl.gz/8000/concat",
)


def write_input(folder: Path, form: str, texts: Sequence[str], tokenizer: Tokenizer) -> Path:
    """The texts in the form, once; returns the file or folder."""
    path = folder / f"bench.{form}"
    if path.exists():
        return path
    if form == "parquet":
        text.write_parquet(path, texts)
    elif form == "mds":  # ids of ModernBERT's own tokenizer, which the pipeline does not know to be that
        text.write_mds(path, texts, tokenizer.file.path)
    else:
        text.write_jsonl(path, texts)
    return path


def split_job(path: Path, out: Path, tokenizer: Tokenizer, length: int, strategy: str) -> SplitJob:
    """The job that builds the file with the settings of the shipped recipe, without filters."""
    [job] = split_jobs(path, out, tokenizer, length, strategy)
    return job


def split_jobs(
    path: Path, out: Path, tokenizer: Tokenizer, length: int, strategy: str, part_bytes: int | None = None
) -> list[SplitJob]:
    """The same for a file that may be cut into parts."""
    part = "null" if part_bytes is None else part_bytes
    overrides = [f"length={length}", f"pack.strategy={strategy}", "filters=[]", f"part_bytes={part}"]
    if path.is_dir():
        overrides += ["sources.bench.format=mds", f"sources.bench.tokenizer={tokenizer.file.path}"]
    shipped = recipe.load_recipe("pretrain")
    loaded = recipe.load_recipe(
        "pretrain", overrides=overrides, add_sources=[f"bench={path}:1"], drop_sources=list(shipped.sources)
    )
    resolved = resolve(loaded, BuildOptions(out))
    source = resolved.plan.sources["bench"]
    return [resolved.job(source, split) for split in source.listed]


def reader(path: Path, tokenizer: Tokenizer) -> Callable[[Path], bare.Batches]:
    """How the bare loop reads a form."""
    if path.is_dir():
        return bare.mds_reader(tokenizer.file.path)
    return {".gz": bare.read_gzip, ".zst": bare.read_zstd, ".parquet": bare.read_parquet}[path.suffix]


def measure(case: str, texts: Sequence[str], folder: Path, tokenizer: Tokenizer, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    form, length_text, strategy = case.split("/")
    length = int(length_text)
    path = write_input(folder, form, texts, tokenizer)
    read, encode = reader(path, tokenizer), bare.fast_encoder(tokenizer.file)
    job = split_job(path, folder / "run", tokenizer, length, strategy)
    numbers = count()
    tokens: dict[str, int] = {}
    samples: dict[str, float] = {}

    def bare_loop() -> None:
        out = folder / f"bare-{next(numbers)}"
        out.mkdir()
        tokens["bare"] = bare.bare_loop(read(path), encode, out, length)
        shutil.rmtree(out)

    def pipeline() -> None:
        marker = build_split(job)
        tokens["pipeline"] = marker.tally["tokens_in"]
        samples["fill"] = marker.tokens / max(marker.samples, 1) / length
        samples["skipped"] = sum(marker.tally["skipped"].values())
        shutil.rmtree(job.folder)

    timings = in_turn({"bare": bare_loop, "pipeline": pipeline}, rounds)
    if tokens["bare"] != tokens["pipeline"]:
        raise SystemExit(f"{case}: the bare loop has {tokens['bare']:,} tokens, the pipeline {tokens['pipeline']:,}")
    million = tokens["bare"] / 1e6
    ours, limit = timings["pipeline"], timings["bare"]
    return {
        "case": case,
        "M tokens": round(million, 2),
        "bare CPU s/M": round(limit.cpu_s / million, 4),
        "CPU s/M": round(ours.cpu_s / million, 4),
        "M tokens/CPU s": round(million / ours.cpu_s, 2),
        "M tokens/wall s": round(million / ours.wall_s, 2),
        "of the bare loop": round(ratio(limit, ours), 3),
        "full": round(samples["fill"], 5),
        "tokens skipped": int(samples["skipped"]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=20, help="of text, UTF-8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="FORM/LENGTH/STRATEGY")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    tokenizer = Tokenizer(resolve_tokenizer())
    tokenizer.encode_batch(["warm up"])
    texts = text.documents(options.megabytes)
    with tempfile.TemporaryDirectory() as folder:
        one = partial(measure, texts=texts, folder=Path(folder), tokenizer=tokenizer, rounds=options.rounds)
        rows = [one(case) for case in options.cases]
    ratios = {f"end_to_end {row['case']}": row["of the bare loop"] for row in rows}
    report("End to end: one worker, beside the bare loop on the same files", rows, options.json, ratios)


if __name__ == "__main__":
    main()
