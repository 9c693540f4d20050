"""Ratios between different kinds of work: what one gains by the pipeline, or pays for a step of it.

    python -m benchmarks.other_kinds [--megabytes 4] [--rounds 5] [--json FILE]

Compiled code stands here beside Python, or one start of a process beside another, so a ratio depends on the processor
and on what else runs: on a machine that was busy they moved by a third without a change in the code. No test judges
them; ratios of one kind of work are in `benchmarks.quick`.

* our fast tokenizer, with its checks, in times as fast as `tokenizers`
* shards written in bulk, in times as fast as streaming's `MDSWriter`
* a sample read at random, in times as fast as with streaming's readers, as ModernBERT's loader has them
* tokenizing as a share of what the filters of a recipe and each heuristic filter take
* the start of Python with numpy as a share of the start of the command line
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")

import numpy as np

from benchmarks import quick
from benchmarks.measure import in_turn, ratio, ratio_of_best, report

FILTERS = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


def referee(setting: quick.Setting) -> quick.Ratios:
    texts = setting.texts[: len(setting.texts) // 4]
    other = setting.tokenizer.with_backend("tokenizers")
    timings = in_turn(
        {"fast": quick.encoding(setting.tokenizer, texts), "referee": quick.encoding(other, texts)}, setting.rounds
    )
    return {"the fast tokenizer beside `tokenizers`": ratio(timings["referee"], timings["fast"])}


def mds_writer(setting: quick.Setting) -> quick.Ratios:
    from ettin_data.storage.mds import import_streaming

    ids, tokens, offsets = quick.samples_to_write()
    writer_of = import_streaming().MDSWriter

    def theirs() -> None:
        columns = {"id": "str", "input_ids": "ndarray:uint16"}
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            with writer_of(out=f"{folder}/shards", columns=columns, hashes=["xxh3_64"]) as writer:
                for number, name in enumerate(ids):
                    writer.write({"id": name, "input_ids": tokens[offsets[number] : offsets[number + 1]]})

    ours = quick.writing(setting.folder, ids, tokens, offsets)
    timings = in_turn({"ours": ours, "theirs": theirs}, setting.rounds)
    return {"shards beside MDSWriter": ratio_of_best(timings["theirs"], timings["ours"])}


def map_style(setting: quick.Setting) -> quick.Ratios:
    from benchmarks.trainer_reading import OURS, MapStyle, over, write_samples
    from ettin_data.load.samples import SampleDataset
    from ettin_data.storage.mds import import_streaming

    import_streaming()  # with which `MapStyle` reads
    folder = setting.new("samples")
    write_samples(folder, 8000)
    positions = np.random.default_rng(1).integers(0, 8000, 6000).tolist()
    dataset, plain = SampleDataset(folder), MapStyle(folder)
    timings = in_turn(
        {
            OURS: over(lambda position: dataset[0, position].tokens, positions),
            "map-style": over(lambda position: plain[position]["input_ids"], positions),
        },
        setting.rounds,
    )
    return {"a sample beside a map-style reader": ratio(timings["map-style"], timings[OURS])}


def filters(setting: quick.Setting) -> quick.Ratios:
    from benchmarks.filters import anew, through
    from ettin_data.stages.filters.registry import choose_filters

    texts = setting.texts[: len(setting.texts) // 3]
    names = {"the light filters": ["length", "exact_duplicate"]} | {name: [name] for name in FILTERS}
    rows = {row: choose_filters(chosen) for row, chosen in names.items()}
    timings = in_turn(
        {"tokenize": lambda: setting.tokenizer.encode_batch(texts)}
        | {name: anew(lambda chosen=chosen: through(chosen, texts)) for name, chosen in rows.items()},
        rounds=3,
    )
    return {f"tokenizing beside {name}": ratio(timings["tokenize"], timings[name]) for name in rows}


def start_up(setting: quick.Setting) -> quick.Ratios:
    def starting(module: str) -> Callable[[], None]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True) and None

    def of_children() -> float:
        times = os.times()
        return times.children_user + times.children_system

    candidates = {"numpy": starting("numpy"), "ours": starting("ettin_data.cli.main")}
    timings = in_turn(candidates, setting.rounds, clock=of_children)
    return {"numpy's start beside the command line's": ratio(timings["numpy"], timings["ours"])}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=4, help="of text, UTF-8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    ratios: quick.Ratios = {}
    with tempfile.TemporaryDirectory(prefix="ettin-kinds-") as folder:
        setting = quick.Setting(Path(folder), options.megabytes, options.rounds)
        for measure in (referee, mds_writer, map_style, filters, start_up):
            ratios |= measure(setting)
    rows = [{"what": name, "ratio": value} for name, value in ratios.items()]
    report("Different kinds of work beside each other", rows, options.json, ratios)


if __name__ == "__main__":
    main()
