"""Copies of held-out documents, which stay out of train: a validation that deserves the name (ARCHITECTURE 5.11).

Which documents are held out is known when the mix is decided. Their keys are few, so every split of the pools is held
against all of them; what shares words with one, or a band where the recipe asks for near copies, is an attribute that
only train is cut by. A copy that is held out itself stays where it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.progress import Progress
from ettin_data.build import assemble
from ettin_data.build.attributes import LeftOut
from ettin_data.build.mix import SourceMix, held_out
from ettin_data.build.pool import Pools, PoolSplit
from ettin_data.dedup import arrays, sketch
from ettin_data.executor import Executor, Task, perform
from ettin_data.recipe import Recipe
from ettin_data.storage import attributes
from ettin_data.storage.attributes import Attribute, AttributeFile
from ettin_data.storage.keys import TEXT_BYTES, Keys, read_keys
from ettin_data.storage.phase import ATTRIBUTE_RECORD, KEYS, TWINS, Phase, attribute_file
from ettin_data.storage.split import fingerprint

VERSION = 1
"""Raised when other documents count as copies of held-out ones."""

REASON = "twin_of_validation"


@dataclass(frozen=True)
class Compared:
    """What of keys is compared.

    Attributes:
        values: bytes of a sketch in the keys.
        bands, rows: of it; no bands where only equal words make a copy.
    """

    values: int
    bands: int
    rows: int

    @classmethod
    def of(cls, recipe: Recipe) -> Compared:
        assert recipe.keys is not None
        near = recipe.dedup.near if recipe.dedup is not None else None
        bands, rows = (near.bands, near.rows) if near is not None else (14, 8)
        return cls(recipe.keys.values, bands if recipe.twins == "near" else 0, rows)

    def hashes(self, keys: Keys) -> list[NDArray[np.uint64]]:
        """What is compared, each shape (documents,): 64 bits of the words, then the bands; 0 is nothing to compare."""
        found = keys[:, TEXT_BYTES:]
        words = np.ascontiguousarray(keys[:, :8]).view("<u8").reshape(-1).astype(np.uint64, copy=False)
        bands = sketch.band_keys(found, range(self.bands), self.rows)
        return [words, *(np.where(sketch.has_sketch(found), band, np.uint64(0)) for band in bands)]


@dataclass(frozen=True)
class _TwinJob:
    keys: Path
    held: Path
    held_digest: str
    mine: NDArray[np.int64]
    shape: Compared
    table: Path


def find_twins_of_validation(
    phase: Phase,
    recipe: Recipe,
    pools: Pools,
    left_out: LeftOut,
    mixes: Mapping[str, SourceMix],
    workers: Executor | None,
    progress: Progress,
) -> tuple[dict[str, AttributeFile], list[str]]:
    """The copies of what the mixes hold out.

    Returns: `<source>/<folder>` of a split -> what stays out of train for that, where anything does; and the files that
        were written, relative to the phase. Nothing of either where the recipe does not ask.
    """
    if recipe.twins is None:
        return {}, []
    shape, folder = Compared.of(recipe), phase.attribute(TWINS)
    splits = {f"{key}/{split.folder.name}": split for key, members in sorted(pools.items()) for split in members}
    rows = {
        f"{key}/{pools[key][number].folder.name}": _held_out_rows(pools[key][number], left_out, key, mix, number)
        for key, mix in mixes.items()
        for number in (mix.validation_splits if mix.validation is not None else ())
    }
    made_from: dict[str, Any] = {
        "version": VERSION,
        "twins": recipe.twins,
        "splits": {name: split.marker.digest for name, split in splits.items()},
        "held_out": {name: mine.tolist() for name, mine in rows.items()},
    }
    record = attributes.read_record(folder)
    if record is None or record["fingerprint"] != fingerprint(made_from) or not _whole(folder, record):
        (folder / ATTRIBUTE_RECORD).unlink(missing_ok=True)
        held = phase.join / "held_out"
        arrays.make_once(held, fingerprint(made_from), lambda: _hashes(splits, rows, shape))
        none = np.zeros(0, np.int64)
        jobs = {
            name: _TwinJob(
                split.folder / KEYS,
                held,
                fingerprint(made_from),
                rows.get(name, none),
                shape,
                folder / attribute_file(name),
            )
            for name, split in splits.items()
        }
        tasks = [Task(name, job, 1) for name, job in jobs.items()]
        entries = perform(_write_twins, tasks, workers, progress, title="twins of validation")
        of_split = {attribute_file(name): entry for name, entry in zip(jobs, entries, strict=True)}
        record = {"fingerprint": fingerprint(made_from), "made_from": {"twins": recipe.twins}, "files": of_split}
        attributes.write_record(folder, record)
        shutil.rmtree(phase.join, ignore_errors=True)
    found = {
        name: AttributeFile(TWINS, folder / attribute_file(name), record["files"][attribute_file(name)]["xxh3_64"])
        for name in splits
        if record["files"][attribute_file(name)]["left_out"]
    }
    of_phase = folder.relative_to(phase.folder).as_posix()
    return found, [f"{of_phase}/{name}" for name in (ATTRIBUTE_RECORD, *record["files"])]


def _held_out_rows(split: PoolSplit, left_out: LeftOut, key: str, mix: SourceMix, number: int) -> NDArray[np.int64]:
    """The documents of a split that validation has any part of, rising."""
    table = assemble.sample_table(split.folder, split.marker.inputs, left_out[f"{key}/{split.folder.name}"])
    assert mix.validation is not None
    return np.flatnonzero(table.documents(held_out(table, mix.validation, number)))


def _hashes(
    splits: Mapping[str, PoolSplit], rows: Mapping[str, NDArray[np.int64]], shape: Compared
) -> list[tuple[str, arrays.Array]]:
    """The sorted hashes of all held-out documents, `hash_0` of their words and the others of their bands."""
    keys = [read_keys(splits[name].folder / KEYS, shape.values)[mine] for name, mine in rows.items()]
    every = np.concatenate([np.zeros((0, TEXT_BYTES + shape.values), np.uint8), *keys])
    return [(f"hash_{number}", np.unique(hashes)) for number, hashes in enumerate(shape.hashes(every))]


def _write_twins(job: _TwinJob) -> dict[str, Any]:
    """Write the attribute of one split; returns its digest, and how many documents it keeps out of train."""
    wanted, codes = arrays.Arrays(job.held, job.held_digest), np.zeros(0, np.uint8)
    keys = read_keys(job.keys, job.shape.values)
    codes = np.zeros(len(keys), np.uint8)
    for number, hashes in enumerate(job.shape.hashes(keys)):
        codes[np.isin(hashes, wanted[f"hash_{number}"]) & (hashes != 0)] = 1
    codes[job.mine] = 0
    files.write(job.table, Attribute((REASON,), codes).to_bytes())
    return {**files.digest(job.table), "left_out": int(codes.sum())}


def _whole(folder: Path, record: Mapping[str, Any]) -> bool:
    return all(files.is_still(folder / name, {k: entry[k] for k in ("bytes", "xxh3_64")}, folder / ATTRIBUTE_RECORD)
               for name, entry in record["files"].items())  # fmt: skip
