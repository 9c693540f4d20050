"""Everything that works on metadata, at the size of a full phase: time and memory, and how they grow.

    python -m benchmarks.scale [--splits 1000 10000] [--parts plan mix ...] [--order 2.8e7] [--json FILE]
    python -m benchmarks.scale --splits 1000 10000 100000          # full: 100,000 splits, 2.8 billion samples

Each part runs in a process of its own, for its own peak memory:

* plan: the plan of all sources from their listings, and its text;
* mix: which samples of which splits, for every source, from synthetic ledgers;
* ledgers: reading the ledgers that the mix asks for (one real ledger, as often as the mix has asked for any);
* markers: whether every split of the pools and of `train/` is finished; all markers are held, as a build holds them;
* index: the index of `train/` from those of its splits, written and opened again;
* digests: the tree over all splits, written and read;
* order: the permutation and its index, at most `--order` samples (`benchmarks.order` does all 2.8 billion);
* verify: the quick verification; step: tracing one step; document: looking for a document that is not there.

`growth` is CPU time for each step in size, as a multiple of what n log n would take; 1 and below is as good as that.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import scale_phase
from benchmarks.measure import in_fresh_process, peak_rss, report
from ettin_data.storage.phase import POOLS, TRAIN, VALIDATION, Phase, open_phase, splits_in

BATCH = 4608


def measured(part: Callable[[Path, int, int], dict[str, Any]], folder: Path, splits: int, order: int) -> dict[str, Any]:
    """CPU, wall and peak memory of one part in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    notes = part(folder, splits, order)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_s": cpu, "wall_s": wall, "peak": peak_rss(), **notes}


def plan(folder: Path, splits: int, order: int) -> dict[str, Any]:
    made = scale_phase.plan(splits)
    text = made.record().model_dump_json(indent=1)
    planned = sum(len(source.splits) for source in made.sources.values())
    return {"note": f"{planned:,} splits, plan.json of {len(text) / 1e6:.0f} MB"}


def mix(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.build.mix import mix_source

    recipe, made, loads, pieces = scale_phase.scaled_recipe(splits), scale_phase.plan(splits), 0, 0
    tokens = int(scale_phase.synthetic_table("", 0).tokens.sum())
    for key, source in made.sources.items():

        def load(number: int, key: str = key):
            nonlocal loads
            loads += 1
            return scale_phase.synthetic_table(key, number)

        names = sorted(split.name for split in source.splits)
        target = int(len(names) * tokens * 0.8)
        mixed = mix_source(
            key, target, names, [tokens] * len(names), load,
            seed=recipe.seed, validation=recipe.validation, max_epochs=recipe.max_epochs,
        )  # fmt: skip
        pieces += len(mixed.pieces)
    return {"note": f"{pieces:,} pieces, {loads / splits:.1f} ledgers a split", "loads": loads}


def ledgers(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.build.assemble import sample_table

    seed = folder / "seed-0"
    for _ in range(splits):
        sample_table(seed)
    return {"note": "one for each split"}


def markers(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.storage import split as marker

    held = []
    phase = open_phase(folder / "pretrain")
    for name in phase.splits(POOLS, TRAIN):
        found = marker.read_marker(phase.folder / name)
        if problem := marker.problem(phase.folder / name, found.fingerprint):
            raise SystemExit(f"{name}: {problem}")
        held.append(found)
    return {"note": f"{len(held):,} splits"}


def index(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.storage.mds import MdsReader, merged_index, write_index

    train = folder / "pretrain" / TRAIN
    names = splits_in(train)
    write_index(folder, merged_index([(name, train / name) for name in names]))
    reader = MdsReader(folder)
    size = (folder / "index.json").stat().st_size
    return {"note": f"{len(reader.infos):,} shards, {len(reader):,} samples, {size / 1e6:.0f} MB"}


def digests(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.storage import digests as tree
    from ettin_data.storage import split as marker

    pools, written = folder / "pretrain" / POOLS, Phase(folder, folder.name)
    names = splits_in(pools)
    one = marker.read_marker(pools / names[0])
    parts = {POOLS: dict.fromkeys(names, one), TRAIN: dict.fromkeys(names, one), VALIDATION: {}}
    tree.write_digests(written, tree.grow("pretrain", parts, "0" * 64, {}))
    again = tree.read_digests(written.digests_json)
    return {"note": f"{len(again.entries()):,} entries, {written.digests_json.stat().st_size / 1e6:.0f} MB"}


def order(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.order.index import OrderLaw, write_order
    from ettin_data.storage.mds import MdsReader

    phase = folder / "pretrain"
    samples = len(MdsReader(phase / "train"))
    written = min(samples, order)
    info = write_order(phase / "order", OrderLaw(21, 0, written, BATCH), interval_steps=3000, phase="pretrain")
    return {"note": f"{written:,} of {samples:,} samples, {info.law.steps:,} steps", "rows": written}


def verify(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.verify import verify_phase as run

    checked = run(folder / "pretrain")
    # The order may be of fewer samples than the splits hold; nothing else may be wrong.
    wrong = [finding for finding in checked.findings if not finding.where.startswith("order")]
    if wrong:
        raise SystemExit(f"the synthetic phase does not verify: {wrong[0]}")
    return {"note": f"{checked.checked['splits']:,} splits, {checked.checked['bytes'] / 1e9:.1f} GB"}


def step(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.inspect.lookup import Phase

    opened = Phase(folder / "pretrain")
    rows = opened.samples(opened.order.step(0).tolist())
    return {"note": f"{len(rows):,} samples of {len({row.split.name for row in rows}):,} splits"}


def document(folder: Path, splits: int, order: int) -> dict[str, Any]:
    from ettin_data.inspect.lookup import Phase
    from ettin_data.inspect.trace import trace_document

    opened = Phase(folder / "pretrain")
    found = trace_document([opened], id="no such document")
    return {"note": f"{len(found)} of {len(opened.reader):,} samples"}


PARTS = {part.__name__: part for part in (plan, mix, ledgers, markers, index, digests, order, verify, step, document)}
_NO_FOLDER = {"plan", "mix"}
_WHOLE_ORDER = {"step", "document"}  # need an order of all samples


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--order", type=float, default=2.8e7, help="most samples of the order; 2.8e9 needs 12 GB")
    parser.add_argument("--tmp", type=Path, default=Path(tempfile.gettempdir()), help="1 GB for 100,000 splits")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    before: dict[str, tuple[int, float]] = {}
    for splits in sorted(options.splits):
        folder = Path(tempfile.mkdtemp(prefix="ettin-scale-", dir=options.tmp))
        try:
            if set(options.parts) - _NO_FOLDER:
                in_fresh_process(scale_phase.write_phase, folder, splits)
            for name in options.parts:
                if name in _WHOLE_ORDER and splits * scale_phase.SAMPLES > options.order * 1.1:
                    continue
                result = in_fresh_process(measured, PARTS[name], folder, splits, int(options.order * 1.1))
                size = result.get("rows", splits)
                rows.append(
                    {
                        "part": name,
                        "splits": splits,
                        "CPU s": round(result["cpu_s"], 2),
                        "wall s": round(result["wall_s"], 2),
                        "peak MB": round(result["peak"] / 1e6),
                        "growth": _growth(before.get(name), size, result["cpu_s"]),
                        "note": result["note"],
                    }
                )
                print(f"{name} {splits:,}: {rows[-1]['CPU s']} CPU s, {rows[-1]['peak MB']} MB, {result['note']}")
                before[name] = size, result["cpu_s"]
        finally:
            shutil.rmtree(folder)
    report("Scale: metadata of a phase of 18 sources, 28,000 samples a split", rows, options.json)


def _growth(before: tuple[int, float] | None, size: int, seconds: float) -> float | str:
    if before is None or before[0] == size:
        return ""
    expected = before[1] * size * math.log(size) / (before[0] * math.log(before[0]))
    return round(seconds / expected, 2)


if __name__ == "__main__":
    main()
