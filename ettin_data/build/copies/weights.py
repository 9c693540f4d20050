"""How often documents are taken in each pass, where a recipe takes copies as a weight (ARCHITECTURE 5.11).

A pass over a source is then as many layers as the heaviest document has: the first has every document, the next those
that are taken twice or more, and so on. What a layer leaves out is an attribute, as everything else that is left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ettin_data.base import files
from ettin_data.base.errors import RecipeError
from ettin_data.build import attributes as steps
from ettin_data.build.copies.duplicates import Copies, keyed_splits
from ettin_data.build.pool import Pools
from ettin_data.dedup import weights as of_copies
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.recipe import Recipe
from ettin_data.storage import attributes
from ettin_data.storage.attributes import Attribute, AttributeFile, read_attribute
from ettin_data.storage.phase import ATTRIBUTE_RECORD, COPIES, Phase, attribute_file, parse_copy, weight_attribute
from ettin_data.storage.split import fingerprint

REASON = "taken_often_enough"


@dataclass(frozen=True)
class Layers:
    """The layers of each pass.

    Attributes:
        left_out: for each layer `<source>/<folder>` -> what it leaves out.
        files: that say so, relative to the phase.
    """

    left_out: tuple[Mapping[str, AttributeFile], ...] = ({},)
    files: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.left_out)

    def of(self, name: str, layer: int) -> tuple[AttributeFile, ...]:
        """What a layer leaves out of a split."""
        return (self.left_out[layer][name],) if name in self.left_out[layer] else ()


def check_weights(recipe: Recipe) -> None:
    """Raise `RecipeError` where documents cannot be taken as often as they have copies."""
    if recipe.dedup is not None and recipe.dedup.weight is not None and recipe.pack.strategy.several:
        raise RecipeError(
            "a sample of several documents cannot be taken as often as one of them has copies",
            where="dedup.weight",
            remedy="leave it out, or pack with a strategy of one document a sample, such as backfill",
        )


def find_layers(phase: Phase, recipe: Recipe, pools: Pools, copies: Copies) -> Layers:
    """The layers of a recipe's passes; one, that leaves out nothing, where it asks for none."""
    if recipe.dedup is None or recipe.dedup.weight is None:
        return Layers()
    chosen, splits = recipe.dedup.weight, keyed_splits(recipe.dedup, pools, {})
    made_from: dict[str, Any] = {
        "version": of_copies.VERSION,
        "weight": {str(size): weight for size, weight in chosen.items()},
        "tables": {name: file.digest for name, file in copies.tables.items()},
        "splits": [split.made_from() for split in splits],
    }
    least = [of_copies.threshold(chosen, layer) for layer in range(of_copies.layers(chosen))]
    folders = {each: phase.attribute(weight_attribute(each)) for each in sorted({*least} - {0})}
    found = {each: steps.finished(folder, {**made_from, "above": each}) for each, folder in folders.items()}
    if None in found.values():
        entries: dict[int, dict[str, Any]] = {each: {} for each in folders}
        for folder in folders.values():
            (folder / ATTRIBUTE_RECORD).unlink(missing_ok=True)
        for name, each, attribute in layer_attributes(phase, chosen, splits, phase.join / "sizes"):
            path = folders[each] / attribute_file(name)
            files.write(path, attribute.to_bytes())
            left_out = int((attribute.codes > 0).sum())
            entries[each][attribute_file(name)] = {**files.digest(path), "left_out": left_out}
        for each, folder in folders.items():
            said = {**made_from, "above": each}
            record = {"fingerprint": fingerprint(said), "made_from": said, "files": entries[each]}
            attributes.write_record(folder, record)
            found[each] = record
        shutil.rmtree(phase.join, ignore_errors=True)
    records = {each: record for each, record in found.items() if record is not None}
    of_phase = [(folder.relative_to(phase.folder).as_posix(), records[each]) for each, folder in folders.items()]
    return Layers(
        tuple(_files(folders.get(each), records.get(each)) for each in least),
        tuple(f"{folder}/{name}" for folder, record in of_phase for name in (ATTRIBUTE_RECORD, *record["files"])),
    )


def layer_attributes(
    phase: Phase, chosen: Mapping[int, int], splits: list[KeyedSplit], work: Path
) -> Iterator[tuple[str, int, Attribute]]:
    """For each split of the phase, and each weight but the largest, the attribute that leaves out what has no more."""

    def table(number: int) -> Attribute | None:
        split = splits[number]
        return read_attribute(phase.attribute(COPIES) / attribute_file(split.name)) if split.taken is None else None

    sizes, begin = of_copies.cluster_sizes(table, [split.documents for split in splits], work), 0
    thresholds = {of_copies.threshold(chosen, layer) for layer in range(of_copies.layers(chosen))} - {0}
    for split in splits:
        mine = np.array(sizes[begin : begin + split.documents])
        begin += split.documents
        if split.taken is None:
            weight = of_copies.weights(mine, chosen)
            for each in sorted(thresholds):
                yield split.name, each, Attribute((REASON,), (weight <= each).astype(np.uint8), {"equals": mine})


def left_out_by_weight(recipe: Mapping[str, Any], split: str) -> tuple[str, ...]:
    """The attribute by which the layer of `train/<source or copy>/<folder>` is cut, of a recipe as a run has it."""
    said = (recipe.get("dedup") or {}).get("weight") or {}
    chosen = {int(size): weight for size, weight in said.items()}
    above = of_copies.threshold(chosen, parse_copy(split.split("/")[1])[1] % of_copies.layers(chosen))
    return (weight_attribute(above),) if above else ()


def _files(folder: Path | None, record: Mapping[str, Any] | None) -> dict[str, AttributeFile]:
    if folder is None or record is None:
        return {}
    return {
        name.removesuffix(attribute_file("")): AttributeFile(folder.name, folder / name, entry["xxh3_64"])
        for name, entry in record["files"].items()
        if entry["left_out"]
    }
