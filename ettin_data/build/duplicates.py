"""The step of a build that finds copies, between the pools and the mix (ARCHITECTURE 5.11).

It asks `dedup.join` for a table of each split of the pools, and hands them to the mix as one more attribute: a document
that has a better-ranked copy is left out by its row, and counted by the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ettin_data.base import sealed_json
from ettin_data.base.errors import BuildError, RecipeError, ShardError, near
from ettin_data.base.progress import Progress
from ettin_data.build import attributes as steps
from ettin_data.build.attributes import LeftOut
from ettin_data.build.pool import Pools
from ettin_data.dedup import runs
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.executor import Executor
from ettin_data.recipe import Recipe
from ettin_data.storage import attributes
from ettin_data.storage.attributes import AttributeFile
from ettin_data.storage.phase import (
    ATTRIBUTE_RECORD,
    COPIES,
    KEYS,
    POOLS,
    TRAIN,
    Phase,
    attribute_file,
    open_phase,
)
from ettin_data.storage.split import fingerprint, read_marker


def check_choice(recipe: Recipe) -> None:
    """Raise `RecipeError` or `BuildError` for what can be seen to be wrong with `dedup` before anything is built."""
    choice = recipe.dedup
    if choice is None:
        return
    for name in choice.priority:
        if name not in recipe.sources:
            raise RecipeError(
                f"the recipe has no source {name!r}", where="dedup.priority", remedy=near(name, recipe.sources)
            )
    if any(step.step.endswith(f":{COPIES}") for step in recipe.attributes):
        raise RecipeError(f"an attribute is called {COPIES!r}, as the tables of copies are", where="recipe: attributes")
    for folder in choice.earlier:
        _earlier(Path(folder), choice)


def find(
    phase: Phase, recipe: Recipe, pools: Pools, left_out: LeftOut, workers: Executor | None, progress: Progress
) -> tuple[LeftOut, list[str]]:
    """Find the copies that the recipe asks for.

    Args:
        left_out: what attributes leave out; such documents are nobody's twins.

    Returns: `left_out` with the tables of copies, and the files that were written, relative to the phase.

    Raises:
        ShardError: keys are missing or damaged.
        BuildError: an earlier phase is not there, is not finished, or has other keys.
    """
    choice = recipe.dedup
    if choice is None:
        return left_out, []
    ours = [
        KeyedSplit(
            f"{key}/{split.folder.name}",
            key,
            split.folder,
            split.folder / KEYS,
            int(split.marker.tally["documents"]),
            split.marker.digest,
            left_out[f"{key}/{split.folder.name}"],
        )
        for key, members in sorted(pools.items())
        for split in members
    ]
    earlier = [split for folder in choice.earlier for split in _earlier(Path(folder), choice)]
    made_from = {
        "version": runs.VERSION,
        "seed": recipe.seed,
        "options": choice.model_dump(mode="json"),
        "keys": choice.keys.made_from(),
        "splits": [split.made_from() for split in (*earlier, *ours)],
    }
    folder = phase.attribute(COPIES)
    tables = {split.name: folder / attribute_file(split.name) for split in ours}
    record = steps.finished(folder, made_from)
    if record is None:
        (folder / ATTRIBUTE_RECORD).unlink(missing_ok=True)
        join = Join((*earlier, *ours), choice, recipe.seed, phase.join)
        written = find_copies(join, tables, workers, progress)
        entries = {attribute_file(name): entry for name, entry in sorted(written.items())}
        record = {"fingerprint": fingerprint(made_from), "made_from": made_from, "files": entries}
        attributes.write_record(folder, record)
        shutil.rmtree(phase.join, ignore_errors=True)
    made = dict(left_out)
    for split in ours:
        entry = record["files"][attribute_file(split.name)]
        if entry["left_out"]:
            made[split.name] = (*made[split.name], AttributeFile(COPIES, tables[split.name], entry["xxh3_64"]))
    sealed_json.write(phase.copies_json, _said(choice, made_from, record))
    of_phase = folder.relative_to(phase.folder).as_posix()
    names = [f"{of_phase}/{name}" for name in (ATTRIBUTE_RECORD, *record["files"])]
    return made, [*names, phase.copies_json.name]


def _said(choice: DedupChoice, made_from: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What `dedup.json` holds: the options, the splits by the numbers that tables call them, and a digest of all."""
    return {
        "options": choice.model_dump(mode="json"),
        "seed": made_from["seed"],
        "splits": [name for name, *_ in made_from["splits"]],
        "tables": {name: entry["xxh3_64"] for name, entry in record["files"].items()},
        "digest": fingerprint(record),
    }


def _earlier(folder: Path, choice: DedupChoice) -> Sequence[KeyedSplit]:
    """The splits of a finished phase, of which what stands in `train/` is not taken again."""
    phase = open_phase(folder)
    if not phase.run_json.exists():
        raise BuildError("an earlier phase is not finished", where=folder, remedy="build it first")
    found = []
    for name in phase.splits(TRAIN):
        _, source, split = name.split("/")
        pool = phase.pool(source, split)
        if not pool.is_dir():  # a further pass, which has no document that the first has not
            continue
        try:
            marker = read_marker(pool)
        except ShardError as error:
            raise BuildError(
                "an earlier phase has lost a split of its pools", where=pool, why=error, remedy="`ettin-data repair`"
            ) from error
        if marker.made_from.get("keys") != choice.keys.made_from():
            raise BuildError(
                "an earlier phase was built without the keys that its copies are found by",
                where=phase.folder / POOLS / source / split,
                remedy="build it with the same `dedup` options",
            )
        label = f"{phase.folder.parent.name}/{phase.name}:{source}/{split}"
        documents = int(marker.tally["documents"])
        found.append(KeyedSplit(label, source, pool, pool / KEYS, documents, marker.digest, taken=phase.folder / name))
    return found
