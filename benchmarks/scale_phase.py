"""A phase of any number of splits with the metadata of a real one and no data: what `benchmarks.scale` runs on.

The recipe has all sources of the three phases with their own targets, 1.9T tokens together, scaled so that a full phase
of 100,000 splits has 2.8 billion samples and a smaller one has splits of the same size. Decisions about samples are
made from synthetic ledgers. On disk, every split folder holds links to the files of one that was written by the
package's own writers, 28,000 samples of one text token and a ledger, and a marker of its own. So a folder costs its
links, and everything that reads it reads what it would read at full scale, but for the tokens.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data import sources
from ettin_data.base import draws, files, sealed_json
from ettin_data.build.mix import SampleTable
from ettin_data.build.plan import Plan, make_plan
from ettin_data.build.summary import SUMMED, counted
from ettin_data.recipe import PHASES, Recipe, load_recipe
from ettin_data.sources.base import SourceFile
from ettin_data.stages.batches import Tally
from ettin_data.stages.write import content_hashes, write_statistics
from ettin_data.storage import digests, records
from ettin_data.storage.ledger import Ledger
from ettin_data.storage.mds import ShardWriter, merged_index, write_index
from ettin_data.storage.phase import INDEX, MARKER, POOLS, TRAIN, VALIDATION, Phase
from ettin_data.storage.split import Marker, fingerprint, publish, samples_root
from ettin_data.tokenizer.vocabulary import MODERNBERT
from tests.record_kit import built_source, plan_record, pool_tally, run_record

FULL = 100_000
SAMPLES = 28_000
"""Of a split: 2.8 billion in 100,000."""
FILES_A_SPLIT = 4
_LISTED = 2  # upstreams hold more than is taken
_LINKS = 50_000  # of one file: ext4 ends at 65,000


def scaled_recipe(splits: int) -> Recipe:
    """All sources, with targets for which about so many splits are planned."""
    recipes = [load_recipe(phase) for phase in PHASES]
    chosen = {key: choice for recipe in reversed(recipes) for key, choice in recipe.sources.items()}
    body = recipes[0].model_dump()
    body["sources"] = {key: choice.model_dump() for key, choice in chosen.items()}
    body["split_bytes"] = 1 << 25
    for choice in body["sources"].values():
        choice["tokens"] = max(int(choice["tokens"] * splits / FULL), 1)
    return Recipe.model_validate(body)


def listings(recipe: Recipe, splits: int) -> dict[str, list[SourceFile]]:
    """Files of each source: `FILES_A_SPLIT` for a split, and twice what is needed."""
    total = sum(choice.tokens for choice in recipe.sources.values())
    result = {}
    for key, choice in recipe.sources.items():
        number = max(round(_LISTED * FILES_A_SPLIT * splits * choice.tokens / total), 3 * FILES_A_SPLIT)
        size = recipe.split_bytes // FILES_A_SPLIT
        result[key] = [SourceFile(f"{key}/part-{i:07}.json.gz", size, f"{i:032x}") for i in range(number)]
    return result


def plan(splits: int) -> Plan:
    """The plan of such a phase."""
    recipe = scaled_recipe(splits)
    return make_plan(recipe, {key: sources.get(key) for key in recipe.sources}, listings(recipe, splits))


def synthetic_table(source: str, number: int) -> SampleTable:
    """Ledger of a split that is nowhere: 21,000 documents, every third of two samples."""
    keys = draws.draws(np.arange(SAMPLES * 3 // 4, dtype=np.uint64), source, number)
    first = np.repeat(np.arange(len(keys)), np.tile([1, 1, 2], len(keys) // 3))
    tokens = 3 + (keys[first] % np.uint64(1361)).astype(np.int64)  # 683 on average, as phase 1 has
    return SampleTable(keys, first, tokens)


def write_phase(folder: Path, splits: int) -> Path:
    """Write a finished phase of so many splits; everything is linked into `train/`. Returns the phase's folder."""
    phase = folder / "pretrain"
    names = [f"{key}/{key}_{i:06}-synthetic" for key, number in _shares(splits).items() for i in range(number)]
    seed, one = _write_split(folder / "seed-0")
    markers: dict[str, Marker] = {}
    common = _common()
    for number, name in enumerate(sorted(names)):
        if number and number % (_LINKS // 2) == 0:  # pools and train
            seed, one = _write_split(folder / f"seed-{number}")
        pools, train = (phase / part / name for part in (POOLS, TRAIN))
        for target in (pools, train):
            target.mkdir(parents=True)
            for file in one.outputs:
                os.link(seed / file, target / file)
        markers[name] = _marker(one, common, *name.removesuffix("-synthetic").split("/"))
        (pools / MARKER).write_bytes(sealed_json.seal(markers[name].to_json()))
        os.link(pools / MARKER, train / MARKER)
    _write_top(Phase(phase, phase.name), markers)
    return phase


def _shares(splits: int) -> dict[str, int]:
    targets = {key: choice.tokens for key, choice in scaled_recipe(FULL).sources.items()}
    return {key: max(round(splits * tokens / sum(targets.values())), 1) for key, tokens in sorted(targets.items())}


def _write_split(folder: Path) -> tuple[Path, Marker]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{folder.name}.tmp")
    temporary.mkdir()
    rows = np.arange(SAMPLES)
    ids = [f"synthetic-{i:08}" for i in rows.tolist()]
    text = (rows * 7919 % 50_000).astype(np.uint16)
    tokens = np.stack(
        [np.full(SAMPLES, MODERNBERT.open, np.uint16), text, np.full(SAMPLES, MODERNBERT.close, np.uint16)], axis=1
    ).reshape(-1)
    offsets = np.arange(SAMPLES + 1) * 3
    writer = ShardWriter(temporary)
    writer.write(ids, tokens, offsets)
    zeros = np.zeros(SAMPLES, np.int64)
    ledger = Ledger(
        {"key": draws.document_keys(ids), "file": zeros, "position": rows, "tokens": zeros + 1, "url_key": zeros},
        {"document": rows, "start": zeros, "length": zeros + 1, "tokens": zeros + 3,
         "content": content_hashes(tokens, offsets)},
    )  # fmt: skip
    shards = writer.finish()
    ledger.write(temporary)
    write_statistics(temporary, 0)
    tally = Tally(records=SAMPLES, documents=SAMPLES, tokens_in=SAMPLES, text_tokens=SAMPLES)
    tally.samples, tally.tokens = SAMPLES, 3 * SAMPLES
    counts = {**pool_tally(), **tally.to_json()}
    marker = Marker(
        "synthetic", "synthetic", "", {}, inputs("synthetic"), counts, SAMPLES, 3 * SAMPLES, samples_root(ledger), "c"
    )
    marker = publish(temporary, folder, marker, shards)
    shutil.rmtree(temporary, ignore_errors=True)
    return folder, marker


def inputs(split: str) -> list[dict[str, Any]]:
    """The upstream files of a split."""
    return [
        {"path": f"{split}/part-{i:07}.json.gz", "size": 1 << 23, "etag": f"{i:032x}"} for i in range(FILES_A_SPLIT)
    ]


def _common() -> dict[str, Any]:
    """What all splits are made from, as far as `verify` compares it with the run."""
    recipe, words = scaled_recipe(FULL), MODERNBERT
    frame = {"length": recipe.length, "open": words.open, "close": words.close}
    return {"seed": recipe.seed, "tokenizer": words.digest, "frame": frame, "pack": recipe.pack.made_from()}


def _marker(one: Marker, common: Mapping[str, Any], source: str, split: str) -> Marker:
    made_from = {**common, "split": split, "source": source, "inputs": inputs(split)}
    return replace(one, source=source, name=split, fingerprint=fingerprint(made_from), made_from=made_from)


def _write_top(phase: Phase, markers: Mapping[str, Marker]) -> None:
    """The files beside the splits: indexes, frozen listings, digests, plan and summary; the order is not among them."""
    write_index(phase.folder / VALIDATION, [])
    write_index(phase.train, merged_index([(name, phase.train / name) for name in markers]))
    recipe = scaled_recipe(FULL).model_dump(mode="json")
    for key in {marker.source for marker in markers.values()}:
        files.write(phase.listing(key), "{}\n")
    files.write(phase.order_json, "{}\n")
    tree = digests.describe(phase, {POOLS: markers, TRAIN: markers, VALIDATION: {}}, "0" * 64)
    roots, rows = tree.source_roots(TRAIN), {}
    for key, mine in itertools.groupby(markers.values(), lambda marker: marker.source):
        held = list(mine)
        sums = counted(held, held, held, [])
        recipe["sources"][key]["tokens"] = sums["tokens"]
        rows[key] = built_source(
            **sums, target_tokens=sums["tokens"], pool_tokens=sums["tokens"], roots={key: roots[key]}
        )
    made = run_record(
        {}, recipe=recipe, root=tree.root, roots=tree.roots(), sources=rows, totals=records.totals(rows, *SUMMED),
        digests=digests.write_digests(phase, tree),
    )  # fmt: skip
    records.write_record(phase, plan_record(made))
    records.write_record(phase, made)


def index_file(phase: Path) -> Path:
    """The index of `train/`."""
    return phase / TRAIN / INDEX
