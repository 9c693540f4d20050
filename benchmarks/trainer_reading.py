"""CPU time to read a stored sample at random, beside what people use: reading must not hold up a trainer.

    python -m benchmarks.trainer_reading [--data runs/demo/pretrain/train] [--reads 20000] [--rounds 7] [--json FILE]

Without `--data`, 40,000 samples with the lengths of chunked text are written to a temporary folder first. Every reader
gives the `input_ids` of a sample as a numpy array, in this process, in turn, over the same random positions:

* `SampleDataset`: the trainer's dataset, asked with step and position as its sampler does; `MdsReader`: what is below.
* map-style: a plain dataset over streaming's own shard readers (`reader_from_json`), located by its `Spanner`, which is
  how ModernBERT's loader reads.
* `StreamingDataset`, indexed at the same positions; and iterated in order, without shuffling.

The claim: at least 3 times as fast, in CPU time, as the map-style reader and `StreamingDataset`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import in_turn, ratio, report
from ettin_data.load.samples import SampleDataset
from ettin_data.storage.mds import Layout, MdsReader, ShardWriter, import_streaming
from ettin_data.tokenizer.vocabulary import MODERNBERT

CLAIMED_RATIO = 3.0
OURS = "SampleDataset"
RIVALS = ("map-style", "StreamingDataset, indexed", "StreamingDataset, iterated")


def write_samples(folder: Path, samples: int) -> None:
    """Samples of 600 tokens on average, at most 1,024."""
    random = np.random.default_rng(0)
    lengths = np.minimum(random.lognormal(6.6, 0.8, samples).astype(np.int64) + 23, 1024)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = random.integers(2, 50279, offsets[-1]).astype(np.uint16)
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = MODERNBERT.open, MODERNBERT.close
    writer = ShardWriter(folder, Layout())
    writer.write([f"document-{i:08}" for i in range(samples)], tokens, offsets)
    writer.finish()


class MapStyle:
    """A map-style dataset on streaming's shard readers."""

    def __init__(self, folder: Path) -> None:
        from streaming.base.format import reader_from_json
        from streaming.base.spanner import Spanner

        index = json.loads((folder / "index.json").read_text())
        self.shards = [reader_from_json(str(folder), None, entry) for entry in index["shards"]]
        self.spanner = Spanner(np.array([len(shard) for shard in self.shards], np.int64))

    def __getitem__(self, position: int) -> Any:
        shard, row = self.spanner[position]
        return self.shards[shard][row]


def readers(folder: Path) -> tuple[dict[str, Callable[[int], np.ndarray]], Any]:
    """Each reader as a function from position to tokens, after a look whether they agree; and streaming's data set."""
    streaming = import_streaming()
    streaming.base.util.clean_stale_shared_memory()
    stream = streaming.StreamingDataset(local=str(folder), shuffle=False, batch_size=1)
    dataset, reader, plain = SampleDataset(folder), MdsReader(folder), MapStyle(folder)
    functions: dict[str, Callable[[int], np.ndarray]] = {
        OURS: lambda i: dataset[0, i].tokens,
        "MdsReader": reader.tokens,
        "map-style": lambda i: plain[i]["input_ids"],
        "StreamingDataset, indexed": lambda i: stream[i]["input_ids"],
    }
    for position in range(0, len(dataset), max(len(dataset) // 500, 1)):
        first, *others = (get(position) for get in functions.values())
        if not all(np.array_equal(first, other) for other in others):
            raise SystemExit(f"the readers do not agree on sample {position}")
    return functions, stream


def over(get: Callable[[int], np.ndarray], positions: list[int]) -> Callable[[], None]:
    def read() -> None:
        for position in positions:
            get(position)

    return read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=40_000)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ettin-reading-") as temporary:
        folder = arguments.data or Path(temporary)
        if arguments.data is None:
            write_samples(folder, arguments.samples)
        functions, stream = readers(folder)
        total = len(stream)
        positions = np.random.default_rng(1).integers(0, total, arguments.reads).tolist()
        candidates = {name: over(get, positions) for name, get in functions.items()}
        candidates["StreamingDataset, iterated"] = lambda: [len(sample["input_ids"]) for sample in stream] and None
        timings = in_turn(candidates, arguments.rounds)
    reads = dict.fromkeys(candidates, arguments.reads) | {"StreamingDataset, iterated": total}
    for name, timing in timings.items():  # to one sample
        timing.cpu = [seconds / reads[name] for seconds in timing.cpu]
    ratios = {name: ratio(timings[name], timings[OURS]) for name in RIVALS}
    rows = [
        {"reader": name, "CPU us a sample": timing.cpu_s * 1e6, f"{OURS} is ... times as fast": ratios.get(name, "")}
        for name, timing in timings.items()
    ]
    report(f"Reading one of {total:,} samples at random", rows, arguments.json, ratios)
    nearest = min(ratios.values())
    print(f"{nearest:.1f} times as fast as the nearest; claimed: {CLAIMED_RATIO:g}")
    return int(nearest < CLAIMED_RATIO)


if __name__ == "__main__":
    raise SystemExit(main())
