"""Full verification of copies: the search is made again from the keys, and has to leave out just these documents."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.errors import EttinError, ShardError
from ettin_data.base.options import read_options
from ettin_data.base.progress import Progress
from ettin_data.build.attributes import LeftOut
from ettin_data.build.copies.duplicates import keyed_splits
from ettin_data.build.copies.paragraphs import EQUAL, paragraph_splits
from ettin_data.build.copies.twins import Compared
from ettin_data.build.copies.weights import layer_attributes
from ettin_data.build.pool import Pools, PoolSplit
from ettin_data.dedup.join import Join, find_copies
from ettin_data.dedup.options import DedupChoice
from ettin_data.executor import Executor, ExecutorOptions
from ettin_data.recipe import Recipe
from ettin_data.stages.pack import from_recipe
from ettin_data.storage import ledger
from ettin_data.storage.attributes import Attribute, AttributeFile, read_attribute, read_record
from ettin_data.storage.digests import Digests
from ettin_data.storage.keys import read_keys
from ettin_data.storage.phase import (
    ATTRIBUTES,
    COPIES,
    KEYS,
    PARAGRAPHS,
    POOLS,
    TRAIN,
    TWINS,
    VALIDATION,
    Phase,
    attribute_file,
    pool_of,
    weight_attribute,
)
from ettin_data.storage.records import RunRecord
from ettin_data.storage.split import document_places, read_marker
from ettin_data.verify.model import Finding, sentence


def check_copies(
    phase: Phase,
    run: RunRecord,
    digests: Digests,
    workers: Executor | ExecutorOptions | None,
    progress: Progress,
) -> Iterator[Finding]:
    """What tables of copies say otherwise than the keys: documents that stay or go, their twins and likeness.

    The search has its files, some 350 bytes a document, in the system's temporary folder; nothing is written here.
    """
    if not run.recipe.get("dedup"):
        return
    try:
        choice = read_options(DedupChoice, run.recipe["dedup"], "dedup")
        before_packing = from_recipe(run.recipe["pack"]).strategy.several
        pools, left_out = (
            _splits(phase, digests, before_packing),
            {} if before_packing else _left_out(phase, run, digests),
        )
        splits = keyed_splits(choice, pools, left_out)
        with tempfile.TemporaryDirectory(prefix="ettin-verify-") as folder:
            tables = {split.name: Path(folder) / attribute_file(split.name) for split in splits if split.taken is None}
            join = Join(splits, choice, run.recipe["seed"], Path(folder) / "join")
            find_copies(join, tables, workers, progress)
            for name, path in tables.items():
                made_from = read_marker(phase.folder / POOLS / name).made_from
                stated = (made_from.get("copies"),) if before_packing else ()
                yield from _compared(phase, COPIES, name, path, stated)
            if choice.weight:
                again = Path(folder) / "again"
                for name, above, made in layer_attributes(phase, choice.weight, splits, Path(folder) / "sizes"):
                    again.write_bytes(made.to_bytes())
                    yield from _compared(phase, weight_attribute(above), name, again, ())
    except EttinError as error:
        yield Finding(
            f"{ATTRIBUTES}/{COPIES}", "unproven_copies", f"the search cannot be made again: {sentence(error)}"
        )


def check_paragraphs(
    phase: Phase,
    run: RunRecord,
    digests: Digests,
    workers: Executor | ExecutorOptions | None,
    progress: Progress,
) -> Iterator[Finding]:
    """What tables of repeated paragraphs say otherwise than what a first pass has left, and pools that had others."""
    if not run.recipe.get("paragraphs"):
        return
    try:
        splits = paragraph_splits(_passed(phase, digests, phase.paragraphs))
        with tempfile.TemporaryDirectory(prefix="ettin-verify-") as folder:
            tables = {split.name: Path(folder) / attribute_file(split.name) for split in splits}
            find_copies(Join(splits, EQUAL, run.recipe["seed"], Path(folder) / "join"), tables, workers, progress)
            for name, path in tables.items():
                made_from = read_marker(phase.folder / POOLS / name).made_from
                yield from _compared(phase, PARAGRAPHS, name, path, (made_from.get("repeated"),))
    except EttinError as error:
        yield Finding(
            f"{ATTRIBUTES}/{PARAGRAPHS}", "unproven_paragraphs", f"they cannot be looked for again: {sentence(error)}"
        )


def check_twins(phase: Phase, run: RunRecord, digests: Digests) -> Iterator[Finding]:
    """Documents of train that are copies of held-out ones, where the recipe keeps these apart; by the keys."""
    if not run.recipe.get("validation_twins"):
        return
    try:
        compared = Compared.of(Recipe.model_validate(run.recipe))
        held, wanted = dict[str, NDArray[np.int64]](), list[list[NDArray[np.uint64]]]()
        for name in _names(digests, VALIDATION):
            pool = phase.folder / pool_of(name)
            held[pool_of(name)] = _rows_of(phase.folder / name, pool)
            wanted.append(compared.hashes(read_keys(pool / KEYS, compared.values)[held[pool_of(name)]]))
        every = [np.unique(np.concatenate(hashes)) for hashes in zip(*wanted, strict=True)]
        for name in _names(digests, TRAIN):
            pool = phase.folder / pool_of(name)
            mine = np.setdiff1d(_rows_of(phase.folder / name, pool), held.get(pool_of(name), ()))
            keys = compared.hashes(read_keys(pool / KEYS, compared.values)[mine])
            twins = np.zeros(len(mine), bool)
            for hashes, others in zip(keys, every, strict=False):
                twins |= np.isin(hashes, others) & (hashes != 0)
            if twins.any():
                detail = f"{int(twins.sum())} of its documents are copies of held-out ones"
                yield Finding(name, "twin_in_train", detail, name)
    except (EttinError, ValueError) as error:
        yield Finding(f"{ATTRIBUTES}/{TWINS}", "unproven_twins", f"copies cannot be looked for: {error!s:.300}")


def _names(digests: Digests, part: str) -> list[str]:
    return [name for name in digests.entries() if name.startswith(f"{part}/")]


def _rows_of(folder: Path, pool: Path) -> NDArray[np.int64]:
    """The rows that the documents of a split have in that of the pool, rising."""
    inputs = read_marker(pool).inputs
    ours, theirs = (
        document_places(inputs, ledger.read_table(each, ledger.DOCUMENTS, ["file", "position"]))
        for each in (folder, pool)
    )
    return np.flatnonzero(np.isin(theirs, ours))


def _splits(phase: Phase, digests: Digests, before_packing: bool) -> Pools:
    """The splits whose documents were compared: those of the pools, or of the pass before packing."""
    return _passed(phase, digests, phase.keyed) if before_packing else _found(digests, phase.pool)


def _passed(phase: Phase, digests: Digests, where: Callable[[str, str], Path]) -> Pools:
    """The splits that a first pass has left, which are in no digest: their files are hashed."""
    for source, splits in digests.parts[POOLS].items():
        for folder in (where(source, name) for name in splits):
            for name, output in read_marker(folder).outputs.items():
                if not (folder / name).is_file() or files.digest(folder / name) != output:
                    what = "keys" if name == KEYS else name
                    raise ShardError(f"the {what} are not those that were written", where=folder / name)
    return _found(digests, where)


def _found(digests: Digests, where: Callable[[str, str], Path]) -> Pools:
    return {
        source: sorted(
            (PoolSplit(where(source, name), read_marker(where(source, name))) for name in splits),
            key=lambda split: split.marker.name,
        )
        for source, splits in digests.parts[POOLS].items()
    }


def _left_out(phase: Phase, run: RunRecord, digests: Digests) -> LeftOut:
    """What the attributes of the recipe leave out of each split."""
    found: dict[str, tuple[AttributeFile, ...]] = {}
    for step in run.recipe.get("attributes", ()):
        attribute = step["step"].partition(":")[2]
        entries: dict[str, Any] = (read_record(phase.attribute(attribute)) or {"files": {}})["files"]
        for source, splits in digests.parts[POOLS].items():
            for name in (f"{source}/{split}" for split in splits):
                entry = entries.get(attribute_file(name), {"left_out": 0})
                if entry["left_out"]:
                    path = phase.attribute(attribute) / attribute_file(name)
                    found[name] = (*found.get(name, ()), AttributeFile(attribute, path, entry["xxh3_64"]))
    return found


def _compared(
    phase: Phase, attribute: str, name: str, again: Path, stated: tuple[str | None, ...]
) -> Iterator[Finding]:
    """The difference between the table of a split and the one that was made again, or what its pool was made by.

    Args:
        stated: digest of the table that the pool says; empty where pools do not depend on tables.
    """
    path = phase.attribute(attribute) / attribute_file(name)
    where = path.relative_to(phase.folder).as_posix()
    said, right = read_attribute(path), read_attribute(again)
    if (row := _first_difference(said, right)) is not None:
        yield Finding(where, "wrong_copies", f"document {row:,}: {_shown(said, row)}, should be {_shown(right, row)}")
    elif stated:
        expected = files.digest(path)["xxh3_64"] if (right.codes > 0).any() else None
        if stated != (expected,):
            detail = f"it was made by the table {stated[0]}, {where} is {expected}"
            yield Finding(f"{POOLS}/{name}", "wrong_copies", detail, f"{POOLS}/{name}")


def _first_difference(said: Attribute, right: Attribute) -> int | None:
    columns = [(said.codes, right.codes), *((said.columns.get(each), right.columns[each]) for each in right.columns)]
    if said.reasons != right.reasons or any(one is None or len(one) != len(other) for one, other in columns):
        return 0
    rows = np.flatnonzero(np.any([one != other for one, other in columns], axis=0))
    return int(rows[0]) if len(rows) else None


def _shown(table: Attribute, row: int) -> str:
    if row >= len(table.codes):
        return "not there"
    code = int(table.codes[row])
    twin = ", ".join(f"{name} {column[row]}" for name, column in table.columns.items() if row < len(column))
    return f"{table.reasons[code - 1]} ({twin})" if code else "no copy"
