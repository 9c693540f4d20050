"""`plan diff`: what changes from one recipe or run to another, before anything of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ettin_data.base.errors import EttinError
from ettin_data.base.progress import SILENT
from ettin_data.base.redact import redact_all
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.inspect.changes import (
    Change,
    Fingerprints,
    MovedDocuments,
    documents_apart,
    pools_of,
    recipe_changes,
    recipe_of,
)
from ettin_data.recipe import load_recipe
from ettin_data.storage.phase import Phase, open_phase
from ettin_data.storage.split import fingerprint

_NOWHERE = Path("runs/plan-diff")  # where nothing is, so that listings are made and none is frozen


@dataclass(frozen=True)
class Side:
    """One of the two: a recipe or a phase.

    Attributes:
        recipe: as JSON, with what its tokenizer decides where that could be found.
        pools: source -> split -> what decides its content; of a phase what is finished, of a recipe what is planned.
        phase: None for a recipe.
        unknown: why the pools of a recipe are not known; None where they are.
    """

    name: str
    recipe: Mapping[str, Any]
    pools: Fingerprints
    phase: Phase | None = None
    unknown: str | None = None


@dataclass
class PoolChange:
    """The splits of a source on both sides: the same, made anew since something else decides them, or in one alone."""

    same: int = 0
    anew: dict[str, int] = field(default_factory=dict)
    only_a: int = 0
    only_b: int = 0


@dataclass(frozen=True)
class PlanDiff:
    """From `a` to `b`.

    Attributes:
        recipe: keys whose values differ.
        targets: source -> tokens that train shall have, where they differ; None for a source that takes passes.
        pools: source -> its splits; None where one side is not known.
        documents: source -> documents of train, of two runs that are there.
        unknown: what could not be found out, and why.
    """

    recipe: list[Change]
    targets: dict[str, tuple[int | None, int | None]]
    pools: dict[str, PoolChange] | None
    documents: dict[str, MovedDocuments] | None
    unknown: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def open_side(name: str, sources_root: str | None = None) -> Side:
    """A phase, if the name is that of a folder, else a recipe, whose sources are listed.

    Raises `RecipeError` for a recipe that cannot be read, `BuildError` for a folder that is no phase.
    """
    if Path(name).is_dir():
        phase = open_phase(Path(name))
        return Side(name, recipe_of(phase) or {"sources": {}}, pools_of(phase), phase)
    recipe = load_recipe(name)
    try:
        resolved = resolve(recipe, BuildOptions(_NOWHERE, sources_root, progress=SILENT))
    except EttinError as error:
        return Side(name, redact_all(recipe.model_dump(mode="json")), {}, None, error.what)
    pools = {
        key: {split.name: resolved.job(plan, split).made_from() for split in plan.splits}
        for key, plan in resolved.plan.sources.items()
    }
    return Side(name, redact_all(resolved.recipe.model_dump(mode="json")), pools)


def plan_diff(a: Side, b: Side) -> PlanDiff:
    """What differs from the one to the other."""
    unknown = [f"the pools of {side.name}: {side.unknown}" for side in (a, b) if side.unknown]
    pools = None if unknown else _pools(a.pools, b.pools)
    documents = None
    if a.phase is not None and b.phase is not None and a.phase.finished and b.phase.finished:
        documents = documents_apart(a.phase, b.phase)
    elif a.phase is None or b.phase is None:
        unknown.append("the documents that enter or leave: that is decided when both are built")
    names = sorted(a.recipe["sources"].keys() | b.recipe["sources"].keys())
    targets = {name: (_target(a.recipe, name), _target(b.recipe, name)) for name in names}
    changed = {name: both for name, both in targets.items() if both[0] != both[1]}
    return PlanDiff(recipe_changes(a.recipe, b.recipe), changed, pools, documents, unknown)


def _target(recipe: Mapping[str, Any], source: str) -> int | None:
    choice = recipe["sources"].get(source, {"tokens": 0})
    return None if choice.get("passes") is not None else int(choice["tokens"])


def _pools(a: Fingerprints, b: Fingerprints) -> dict[str, PoolChange]:
    made = {}
    for source in sorted(a.keys() | b.keys()):
        ours, theirs = a.get(source, {}), b.get(source, {})
        change = made[source] = PoolChange(
            only_a=len(ours.keys() - theirs.keys()), only_b=len(theirs.keys() - ours.keys())
        )
        for name in sorted(ours.keys() & theirs.keys()):
            if why := _why(ours[name], theirs[name]):
                change.anew[why] = change.anew.get(why, 0) + 1
            else:
                change.same += 1
    return made


def _why(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The options that decide a split and differ, as they stand in its marker."""
    if fingerprint(dict(one)) == fingerprint(dict(other)):
        return ""
    names = sorted(one.keys() | other.keys())
    differing = [name for name in names if fingerprint({"": one.get(name)}) != fingerprint({"": other.get(name)})]
    return ", ".join(differing)
