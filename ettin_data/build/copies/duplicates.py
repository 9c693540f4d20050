"""The step of a build that finds copies, between the pools and the mix (ARCHITECTURE 5.11).

It asks `dedup.join` for a table of each split of the pools, and hands them to the mix as one more attribute: a document
that has a better-ranked copy is left out by its row, and counted by the reason. Where samples hold several documents,
the search comes before packing, and copies are in no pool.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettin_data.base import sealed_json
from ettin_data.base.errors import BuildError, RecipeError, ShardError, near
from ettin_data.base.progress import Progress
from ettin_data.build import attributes as steps
from ettin_data.build.attributes import LeftOut
from ettin_data.build.pool import Pools, PoolSplit
from ettin_data.dedup import runs
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice
from ettin_data.dedup.runs import KeyedSplit
from ettin_data.executor import Executor
from ettin_data.recipe import Recipe
from ettin_data.storage import attributes, ledger
from ettin_data.storage.attributes import AttributeFile
from ettin_data.storage.keys import keyed_split
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
from ettin_data.storage.split import fingerprint


def check_choice(recipe: Recipe, ours: Phase) -> None:
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
    labels: dict[str, int] = {}
    for number, folder in enumerate(choice.earlier):
        if Path(folder).resolve() == ours.folder.resolve():
            raise RecipeError(
                f"{folder} is the phase that is built", where="dedup.earlier", remedy="name phases that come before it"
            )
        phase, _ = _earlier(Path(folder), choice)
        if (other := labels.setdefault(_label(phase), number)) != number:
            raise RecipeError(
                f"{choice.earlier[other]} and {folder} are both called {_label(phase)}, as tables name their documents",
                where="dedup.earlier",
                remedy="name a phase once, and rename the folder of one of two runs",
            )


@dataclass(frozen=True)
class Copies:
    """What a search for copies has found.

    Attributes:
        tables: `<source>/<folder>` -> the table of each split that loses something.
        files: all that the search has written, relative to the phase.
    """

    tables: Mapping[str, AttributeFile] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def beside(self, left_out: LeftOut) -> LeftOut:
        """What is left out of each split, with the copies."""
        added = {name: (*left_out[name], table) for name, table in self.tables.items()}
        return {**left_out, **added}


def before_packing(recipe: Recipe) -> bool:
    """Whether copies have to be known before documents are packed, since several of them share a sample."""
    return recipe.dedup is not None and recipe.pack.strategy.several


def find(
    phase: Phase, recipe: Recipe, pools: Pools, left_out: LeftOut, workers: Executor | None, progress: Progress
) -> Copies:
    """Find the copies that a recipe asks for; nothing where it asks for none.

    Args:
        pools: finished splits with keys, of all sources.
        left_out: what attributes leave out; such documents are nobody's twins.

    Raises:
        ShardError: keys are missing or damaged.
        BuildError: an earlier phase is not there, is not finished, or has other keys.
    """
    choice = recipe.dedup
    if choice is None:
        phase.copies_json.unlink(missing_ok=True)  # of an earlier build, which left out what this one has
        return Copies()
    if choice.url and (without := [key for key, members in pools.items() if not _has_urls(members[0])]):
        progress.say(f"dedup.url: the first split of {', '.join(sorted(without))} has no URL in any document")
    splits = keyed_splits(choice, pools, left_out)
    made_from = {
        "version": runs.VERSION,
        "seed": recipe.seed,
        "options": choice.finds(),
        "keys": choice.keys.made_from(),
        "splits": [split.made_from() for split in splits],
    }
    join = Join(splits, choice, recipe.seed, phase.join)
    found, record = made_tables(phase, COPIES, made_from, join, workers, progress)
    sealed_json.write(phase.copies_json, _said(choice, made_from, record))
    return Copies(found.tables, (*found.files, phase.copies_json.name))


def made_tables(
    phase: Phase,
    name: str,
    made_from: Mapping[str, Any],
    join: Join,
    workers: Executor | None,
    progress: Progress,
) -> tuple[Copies, dict[str, Any]]:
    """The tables of the splits of this phase, made where they are not there already, and the record of them.

    Args:
        name: of the attribute that they are.
        made_from: what decides them.
        join: its folder is removed when it is done.
    """
    folder = phase.attribute(name)
    paths = {split.name: folder / attribute_file(split.name) for split in join.splits if split.taken is None}
    record = steps.finished(folder, made_from)
    if record is None:
        (folder / ATTRIBUTE_RECORD).unlink(missing_ok=True)
        written = find_copies(join, paths, workers, progress, title="copies" if name == COPIES else name)
        entries = {attribute_file(split): entry for split, entry in sorted(written.items())}
        record = {"fingerprint": fingerprint(made_from), "made_from": made_from, "files": entries}
        attributes.write_record(folder, record)
        shutil.rmtree(join.work, ignore_errors=True)
    return Copies(_losing(name, folder, record), _files(phase, folder, record)), record


def last_tables(phase: Phase, name: str) -> Copies:
    """The tables that an earlier build has left, whatever they were made from; none where it has left none."""
    folder = phase.attribute(name)
    record = attributes.read_record(folder)
    return Copies(_losing(name, folder, record), _files(phase, folder, record)) if record else Copies()


def _losing(name: str, folder: Path, record: Mapping[str, Any]) -> dict[str, AttributeFile]:
    return {
        file.removesuffix(attribute_file("")): AttributeFile(name, folder / file, entry["xxh3_64"])
        for file, entry in record["files"].items()
        if entry["left_out"]
    }


def _files(phase: Phase, folder: Path, record: Mapping[str, Any]) -> tuple[str, ...]:
    of_phase = folder.relative_to(phase.folder).as_posix()
    return tuple(f"{of_phase}/{name}" for name in (ATTRIBUTE_RECORD, *record["files"]))


def keyed_splits(choice: DedupChoice, pools: Pools, left_out: LeftOut) -> list[KeyedSplit]:
    """The splits among which copies are looked for, those of earlier phases first. Raises `BuildError` as `find`."""
    ours = [
        KeyedSplit(
            f"{key}/{split.folder.name}",
            key,
            split.folder,
            split.folder / KEYS,
            int(split.marker.tally["documents"]),
            split.marker.digest,
            left_out.get(f"{key}/{split.folder.name}", ()),
        )
        for key, members in sorted(pools.items())
        for split in members
    ]
    return [*(split for folder in choice.earlier for split in _earlier(Path(folder), choice)[1]), *ours]


def _has_urls(split: PoolSplit) -> bool:
    return bool(ledger.read_table(split.folder, ledger.DOCUMENTS, ["url_key"])["url_key"].any())


def _said(choice: DedupChoice, made_from: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What `dedup.json` holds: the options, the splits by the numbers that tables call them, and a digest of all."""
    return {
        "options": choice.finds(),
        "seed": made_from["seed"],
        "splits": [name for name, *_ in made_from["splits"]],
        "tables": {name: entry["xxh3_64"] for name, entry in record["files"].items()},
        "digest": fingerprint(record),
    }


def _label(phase: Phase) -> str:
    """What tables and people call an earlier phase."""
    return f"{phase.folder.parent.name}/{phase.name}"


def _earlier(folder: Path, choice: DedupChoice) -> tuple[Phase, Sequence[KeyedSplit]]:
    """A finished phase and its splits, of which what stands in `train/` is not taken again."""
    try:
        phase = open_phase(folder)
    except BuildError as error:
        where = f"dedup.earlier: {folder}"
        raise BuildError(
            error.what, where=where, why=error.why, remedy=error.remedy, status=error.exit_status
        ) from error
    if not phase.run_json.exists():
        raise BuildError("an earlier phase is not finished", where=folder, remedy="build it first")
    found = []
    for name in phase.splits(TRAIN):
        _, source, split = name.split("/")
        pool = phase.pool(source, split)
        if not pool.is_dir():  # a further pass, which has no document that the first has not
            continue
        try:
            keyed = keyed_split(pool, phase.keyed(source, split), choice.keys.made_from())
        except ShardError as error:
            raise BuildError(
                "an earlier phase has lost a split of its pools", where=pool, why=error, remedy="`ettin-data repair`"
            ) from error
        if keyed is None:
            raise BuildError(
                "an earlier phase was built without the keys that its copies are found by",
                where=phase.folder / POOLS / source / split,
                remedy=f"`ettin-data dedup {folder} --keys` makes those of the options by default; for others build it "
                "with the same `dedup`",
            )
        rows, marker = keyed
        label = f"{_label(phase)}:{source}/{split}"
        documents = int(marker.tally["documents"])
        found.append(KeyedSplit(label, source, rows, rows / KEYS, documents, marker.digest, taken=phase.folder / name))
    return phase, found
