"""Steps that need whole sources (duplicates, scores, languages), between the pools and the mix (ARCHITECTURE 5.10).

A step is a function `step(splits, **options)`: it goes over finished splits of all sources, as often as it likes, and
yields an `Attribute` for each. What it leaves out is not there for the mix, and is counted by reason in `run.json`. A
recipe names it as `package.module:name`; a step's version is `VERSION` of its module, or its source.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files
from ettin_data.base.errors import BuildError, RecipeError
from ettin_data.base.modules import named, version_of
from ettin_data.build.pool import Pools
from ettin_data.recipe import AttributeChoice
from ettin_data.storage import attributes, ledger
from ettin_data.storage.attributes import Attribute, AttributeFile
from ettin_data.storage.phase import ATTRIBUTE_RECORD, Phase, attribute_file
from ettin_data.storage.split import Marker, fingerprint


@dataclass(frozen=True)
class FinishedSplit:
    """A split of a pool as a step sees it.

    Attributes:
        source: its key.
        name: `<source>/<folder>`, unique in the phase.
        folder: with shards and ledger.
        marker: what it was made from.
    """

    source: str
    name: str
    folder: Path
    marker: Marker

    def documents(self, *columns: str) -> dict[str, NDArray[Any]]:
        """Columns of its `documents.parquet` (`storage.ledger`), one row for each document that was used."""
        return ledger.read_table(self.folder, ledger.DOCUMENTS, list(columns))


Step = Callable[..., Iterable[tuple[FinishedSplit, Attribute]]]
LeftOut = Mapping[str, tuple[AttributeFile, ...]]
"""`<source>/<folder>` of a split -> the attributes that leave something of it out."""


@dataclass(frozen=True)
class ChosenStep:
    """A step that a recipe names, found and checked."""

    name: str
    step: Step
    options: Mapping[str, Any]
    version: str


def choose(choices: Sequence[AttributeChoice]) -> list[ChosenStep]:
    """The steps of a recipe. Raises `RecipeError` when one is not to be had, or does not take its options."""
    chosen = []
    for place, choice in enumerate(choices):
        where = f"recipe: attributes.{place}"
        step = named(choice.step, where=where)
        try:
            inspect.signature(step).bind([], **choice.options)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{choice.step} does not take these options", where=where, why=error) from error
        chosen.append(ChosenStep(choice.step.partition(":")[2], step, choice.options, version_of(step)))
    if twice := [name for name, number in Counter(each.name for each in chosen).items() if number > 1]:
        raise RecipeError(f"two attributes are called {twice[0]!r}", where="recipe: attributes")
    return chosen


def take_steps(phase: Phase, steps: Sequence[ChosenStep], pools: Pools) -> tuple[LeftOut, list[str]]:
    """Take the steps whose attributes are not there yet, in the order of the recipe.

    Returns:
        what leaves something out of each split, and the files of all attributes, relative to the phase.

    Raises:
        BuildError: a step gave no attribute for a split, or one that does not fit its documents.
    """
    splits = [
        FinishedSplit(source, f"{source}/{split.folder.name}", split.folder, split.marker)
        for source, members in sorted(pools.items())
        for split in members
    ]
    made: dict[str, tuple[AttributeFile, ...]] = {split.name: () for split in splits}
    names = []
    for step in steps:
        folder = phase.attribute(step.name)
        made_from = {
            "step": step.name,
            "version": step.version,
            "options": dict(step.options),
            "splits": {split.name: split.marker.digest for split in splits},
        }
        record = finished(folder, made_from) or _take(folder, step, splits, made_from)
        of_phase = folder.relative_to(phase.folder)
        names += [f"{of_phase.as_posix()}/{name}" for name in (ATTRIBUTE_RECORD, *record["files"])]
        for split in splits:
            name = attribute_file(split.name)
            if record["files"][name]["left_out"]:
                file = AttributeFile(step.name, folder / name, record["files"][name]["xxh3_64"])
                made[split.name] = (*made[split.name], file)
    return made, names


def counts_by_reason(made: LeftOut, pools: Pools) -> dict[str, dict[str, int]]:
    """For each source, how many documents each reason has left out. A document counts for the first that did."""
    counts: dict[str, dict[str, int]] = {}
    for source, members in pools.items():
        reasons: Counter[str] = Counter()
        for split in members:
            gone: NDArray[np.bool_] | None = None
            for file in made.get(f"{source}/{split.folder.name}", ()):
                attribute = attributes.read_attribute(file.path)
                fresh = attribute.codes if gone is None else np.where(gone, np.uint8(0), attribute.codes)
                for code, number in enumerate(np.bincount(fresh, minlength=len(attribute.reasons) + 1)[1:].tolist()):
                    reasons[attribute.reasons[code]] += number
                gone = attribute.codes > 0 if gone is None else gone | (attribute.codes > 0)
        counts[source] = {reason: number for reason, number in sorted(reasons.items()) if number}
    return counts


def finished(folder: Path, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of an attribute that is there, made from just this, with every file as it was written."""
    record = attributes.read_record(folder)
    if record is None or record["fingerprint"] != fingerprint(made_from):
        return None
    for name, entry in record["files"].items():
        path = folder / name
        if not path.is_file() or files.digest(path)["xxh3_64"] != entry["xxh3_64"]:
            return None
    return record


def _take(
    folder: Path, step: ChosenStep, splits: Sequence[FinishedSplit], made_from: Mapping[str, Any]
) -> dict[str, Any]:
    """Take a step and write what it says, the record last."""
    (folder / ATTRIBUTE_RECORD).unlink(missing_ok=True)
    entries: dict[str, dict[str, Any]] = {}
    for split, attribute in step.step(splits, **step.options):
        documents = len(split.documents("key")["key"])
        if len(attribute.codes) != documents:
            raise BuildError(
                f"{step.name} gave {len(attribute.codes):,} values for {documents:,} documents",
                where=split.name,
                remedy="an attribute has one value for each row of documents.parquet, in that order",
            )
        name = attribute_file(split.name)
        files.write(folder / name, attribute.to_bytes())
        entries[name] = {**files.digest(folder / name), "left_out": int((attribute.codes > 0).sum())}
    missing = [split.name for split in splits if attribute_file(split.name) not in entries]
    if missing:
        raise BuildError(
            f"{step.name} said nothing of {len(missing)} splits, such as {missing[0]}",
            remedy="yield an attribute for every split, with zeros where all documents stay",
        )
    record = {
        "fingerprint": fingerprint(made_from),
        "made_from": dict(made_from),
        "files": dict(sorted(entries.items())),
    }
    attributes.write_record(folder, record)
    return record
