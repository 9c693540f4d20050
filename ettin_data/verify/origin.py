"""What the splits say they were made from, against the recipe, the plan and each other.

A split's hashes may agree with each other and with every digest, and be those of another mixture: made with another
seed, from other files, of a pool that is not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ettin_data.base.errors import RecipeError
from ettin_data.stages.pack import from_recipe
from ettin_data.storage.digests import Digests
from ettin_data.storage.phase import MARKER, PLAN, POOLS, pool_of, source_of
from ettin_data.storage.records import PlanRecord, RunRecord
from ettin_data.storage.split import Marker
from ettin_data.tokenizer.vocabulary import Vocabulary
from ettin_data.verify.model import Finding

_OF_ITS_OWN = frozenset({"split", "inputs", "formats", "copies", "repeated"})
"""What splits of one source need not have in common."""


def check_origins(
    run: RunRecord, plan: PlanRecord | None, digests: Digests, markers: Mapping[str, Marker]
) -> Iterator[Finding]:
    """Splits that were not made as the run says, and planned ones that are not among its splits.

    Args:
        plan: of the same recipe; None if there is none that can be trusted.
        markers: `<part>/<source or copy>/<folder>` -> marker, of the splits that can be trusted.
    """
    expected, entries = _of_recipe(run), digests.entries()
    first: dict[str, tuple[str, Marker]] = {}
    for name, marker in markers.items():
        key, problems = source_of(name), []
        if name.startswith(f"{POOLS}/"):
            other, model = first.setdefault(key, (name, marker))
            problems = [
                *_differences(marker.made_from, {**expected, "source": key, **_of_plan(plan, marker)}, "the recipe's"),
                *_differences(marker.made_from, _in_common(model), f"that of {other}"),
            ]
        elif (pool := markers.get(pool_of(name))) is not None:
            problems = list(_cut_problems(marker, pool, run.recipe["seed"]))
            if not marker.cut_from_pool and entries[name].marker != entries[pool_of(name)].marker:
                problems.append("it is said to be the whole split of the pool, which is another")
        for detail in problems:
            yield Finding(f"{name}/{MARKER}", "wrong_origin", detail, name)
    if plan is not None:
        there = {(source_of(name), marker.name) for name, marker in markers.items() if name.startswith(f"{POOLS}/")}
        for key, splits in plan.split_files.items():
            for split in splits:
                if (key, split) not in there:
                    yield Finding(f"{POOLS}/{key}", "lost_split", f"{PLAN} has the split {split}, the run has not")


def _of_recipe(run: RunRecord) -> dict[str, Any]:
    """What every split of a pool was made from, as far as the run says it and nothing has to be looked for."""
    recipe = run.recipe
    expected: dict[str, Any] = {"seed": recipe["seed"], "tokenizer": run.tokenizer["sha256"]}
    if run.vocabulary is not None:
        words = Vocabulary.from_json(run.vocabulary)
        expected["frame"] = {"length": recipe["length"], "open": words.open, "close": words.close}
    try:
        expected["pack"] = from_recipe(recipe["pack"]).made_from()
    except RecipeError:
        pass  # found where the recipe is looked at
    return expected


def _of_plan(plan: PlanRecord | None, marker: Marker) -> dict[str, Any]:
    planned = plan.split_files.get(marker.source, {}).get(marker.name) if plan is not None else None
    return {"split": marker.name, **({} if planned is None else {"inputs": planned})}


def _in_common(model: Marker) -> dict[str, Any]:
    return {name: value for name, value in model.made_from.items() if name not in _OF_ITS_OWN}


def _differences(made_from: Mapping[str, Any], expected: Mapping[str, Any], whose: str) -> Iterator[str]:
    for name, value in expected.items():
        if name not in made_from or made_from[name] != value:
            yield f"it was made with {name} {made_from.get(name)!r:.120}; {whose} is {value!r:.120}"


def _cut_problems(marker: Marker, pool: Marker, seed: int) -> Iterator[str]:
    """A split that is whole is the pool's own; one that was cut says from which, and with which draw."""
    cut = marker.cut_from_pool
    if not cut:
        return
    if (cut["pool"], cut["pool_root"]) != (pool.fingerprint, pool.root):
        yield "it was cut from another split than that of the pool"
    if marker.inputs != pool.inputs:
        yield "its files upstream are not those of the split of the pool"
    named = [("cut", cut["cut"]), ("held_out", cut["held_out"]), *(("cut", each) for each in cut.get("also", ()))]
    for name, stated in named:
        if isinstance(stated, list) and stated[0][:1] != [seed]:
            yield f"its {name} was drawn with {stated[0]!r:.120}, the recipe's seed is {seed}"
