"""What two runs or recipes differ in before any digest is compared: keys, pools, and documents of train.

Reads records, markers and ledgers; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base.errors import EttinError, ShardError
from ettin_data.storage import ledger, records
from ettin_data.storage import split as markers
from ettin_data.storage.phase import POOLS, TRAIN, Phase, source_of

ABSENT = "absent"
"""What stands for a key that one side does not have."""


@dataclass(frozen=True)
class Change:
    """A key of a recipe, with dots, whose values differ; `ABSENT` where a side has none."""

    path: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{self.path}: {_short(self.a)} -> {_short(self.b)}"


def _short(value: Any) -> str:
    text = value if value == ABSENT else repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def recipe_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """The keys of two recipes, as JSON, whose values differ, in their order. A source that one lacks is one change."""
    ours, theirs = dict(_leaves(a)), dict(_leaves(b))
    made = []
    for path in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(path, ABSENT), theirs.get(path, ABSENT)
        if one == other:
            continue
        if path[0] == "sources" and len(path) > 2 and not all(path[1] in side["sources"] for side in (a, b)):
            continue
        made.append(Change(".".join(path), one, other))
    for side, kind in ((a, 0), (b, 1)):
        for name in sorted(side["sources"].keys() - (b, a)[kind]["sources"].keys()):
            said = {key: value for key, value in side["sources"][name].items() if value}
            made.append(Change(f"sources.{name}", *((said, ABSENT) if kind == 0 else (ABSENT, said))))
    return made


def _leaves(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def recipe_of(phase: Phase) -> dict[str, Any] | None:
    """The recipe that a run was made of, or of one that is not finished is planned with; None where neither says it."""
    for read in (records.read_run, records.read_plan):
        try:
            return read(phase).recipe
        except EttinError:
            continue
    return None


Fingerprints = dict[str, dict[str, dict[str, Any]]]
"""Source -> split -> what decides its content."""


def recipes_apart(a: Path, b: Path) -> list[Change] | None:
    """The changes from the recipe of one phase folder to that of another; None where one of them says none."""
    recipes = [recipe_of(Phase(path, path.name)) for path in (a, b)]
    return None if recipes[0] is None or recipes[1] is None else recipe_changes(recipes[0], recipes[1])


def pools_of(phase: Phase) -> Fingerprints:
    """What the finished splits of the pools are made from."""
    found: Fingerprints = {}
    for name in phase.splits(POOLS):
        try:
            marker = markers.read_marker(phase.folder / name)
        except ShardError:
            continue
        found.setdefault(marker.source, {})[marker.name] = dict(marker.made_from)
    return found


@dataclass(frozen=True)
class MovedDocuments:
    """Documents of train of a source: in both, and in one alone."""

    both: int
    leave: int
    enter: int


def documents_apart(a: Phase, b: Phase) -> dict[str, MovedDocuments]:
    """Source -> which documents of train leave and enter from the one phase to the other.

    A document is its place: a file of that name and the record in it. All places of one source are held at once, eight
    bytes for each.
    """
    ours, theirs = _train(a), _train(b)
    made = {}
    for source in sorted(ours.keys() | theirs.keys()):
        one, other = (_places(phase, side.get(source, [])) for phase, side in ((a, ours), (b, theirs)))
        both = len(np.intersect1d(one, other, assume_unique=True))
        made[source] = MovedDocuments(both, len(one) - both, len(other) - both)
    return made


def _train(phase: Phase) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in phase.splits(TRAIN):
        found.setdefault(source_of(name), []).append(name)
    return found


def _places(phase: Phase, splits: list[str]) -> NDArray[np.uint64]:
    keys = [np.zeros(0, np.uint64)]
    for name in splits:
        folder = phase.folder / name
        table = ledger.read_table(folder, ledger.DOCUMENTS, ["file", "position"])
        places = markers.document_places(markers.read_marker(folder).inputs, table)
        used = ledger.read_table(folder, ledger.SAMPLES, ["document"])["document"]
        more = np.zeros(0, np.int64)
        if (folder / ledger.SEGMENTS).exists():
            more = ledger.read_table(folder, ledger.SEGMENTS, ["document"])["document"]
        keys.append(places[np.unique(np.concatenate([used, more]))])
    return np.unique(np.concatenate(keys))
