"""Repairing a run: exactly what is damaged is made again, and the phase must end with the root that it had.

A damaged split is set aside, not deleted, until the build has put a good one in its place and the root is the old one;
if the sources cannot be had any more, nothing more is lost than was. What `train/` and `validation/` link from a
damaged split of the pool goes with it: it is the same file under another name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ettin_data.base.errors import BuildError, EttinError, OrderError, ShardError
from ettin_data.build import build as run
from ettin_data.build import tidy
from ettin_data.build.copies.duplicates import before_packing
from ettin_data.build.of_run import recipe_of, sources_root_of
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.build.shares import alone
from ettin_data.order.appended import APPENDED, AppendedLaw, positions_digest, read_earlier
from ettin_data.order.index import OrderIndex, index_digest, write_order
from ettin_data.recipe import Recipe
from ettin_data.storage import split as markers
from ettin_data.storage.attributes import read_record
from ettin_data.storage.phase import (
    ATTRIBUTES,
    CARD,
    COPIES,
    COPIES_RECORD,
    DIGESTS,
    EARLIER,
    INDEX,
    LISTINGS,
    ORDER,
    PARAGRAPHS,
    PARTS,
    PLAN,
    POOLS,
    RUN,
    TRAIN,
    VALIDATION,
    Phase,
    is_order_file,
    is_split_folder,
    open_phase,
    pool_of,
    splits_in,
)
from ettin_data.storage.records import OrderRecord
from ettin_data.verify import Finding, Report, Seen, VerifyOptions, look, verify_phase

_REWRITTEN = (PLAN, RUN, DIGESTS, CARD, f"{TRAIN}/{INDEX}", f"{VALIDATION}/{INDEX}", COPIES_RECORD)


def _is_rewritten(where: str) -> bool:
    """Whether a build writes a file again that is not as it was, an attribute's for one, and cuts by the new."""
    return where in _REWRITTEN or where.startswith(f"{ATTRIBUTES}/")


@dataclass(frozen=True)
class Repaired:
    """What a repair did.

    Attributes:
        found: the verification before.
        made_again: `<part>/<source>/<folder>`, "order", frozen listings: what was set aside and built.
        root: of the phase now; the same as before, where that was known.
        known: whether the root before was known.
    """

    found: Report
    made_again: tuple[str, ...]
    root: str | None
    known: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "found": self.found.to_json(),
            "made_again": list(self.made_again),
            "root": self.root,
            "root_was_known": self.known,
        }


def repair(folder: Path, checking: VerifyOptions, building: BuildOptions, recipe: Recipe | None = None) -> Repaired:
    """Verify a phase, make what is damaged again, and verify it once more.

    Args:
        folder: of the phase.
        checking: how to verify. A quick look finds every changed byte; what was made from a damaged split is then
            made again too, since it may have been made after the damage.
        building: as for the build; its `out` is not used, and `sources_root` None means where the run was made from.
        recipe: of the run; None takes the one in `run.json` or `plan.json`.

    Raises:
        BuildError: the damage is not of a kind that building again removes, the recipe or the inputs are not those of
            the run, or the phase does not come out as it was.
        FormatError: the phase is of a newer version of this package.
    """
    folder = Path(folder).absolute()
    phase = open_phase(folder)
    seen = look(phase)
    found = verify_phase(folder, checking)
    before = seen.run.root if seen.run else seen.digests.root if seen.digests else None
    interrupted = not phase.finished and phase.aside.is_dir()  # a repair that was killed while it built
    if not found.findings and not interrupted:
        return Repaired(found, (), before, before is not None)
    units = _units(phase, found.findings, dependents=not checking.full)
    recipe = recipe or recipe_of(phase, seen.recipe, seen.run.vocabulary if seen.run else None)
    if recipe.phase != phase.name:
        raise BuildError(f"the recipe is for the phase {recipe.phase!r}, the folder is {phase.name!r}", where=folder)
    root = building.sources_root or sources_root_of(phase, recipe)
    building = replace(building, out=folder.parent, sources_root=root)
    with alone(phase):
        longer = _order_going_on(phase, seen) if ORDER in units else None
        _set_aside(phase, units)
        try:
            _refuse_other_inputs(recipe, building, seen, units)
        except EttinError:
            _put_back(phase, units)
            raise
        if longer is not None:
            write_order(phase.order, longer.law, interval_steps=longer.interval_steps, phase=phase.name,
                        data_digest=longer.data_digest)  # fmt: skip
    run.build_phase(recipe, building)
    after = verify_phase(folder, checking)
    if after.findings or (before is not None and after.root != before):
        first = f"; {after.findings[0]}" if after.findings else ""
        raise BuildError(
            "the phase was built again, but it is not what it was",
            where=folder,
            why=f"root {after.root}, before {before}{first}",
            remedy=f"what was set aside is in {phase.aside}; compare with `ettin-data diff`",
        )
    _forget(phase, units)
    return Repaired(found, tuple(units), after.root, before is not None)


def _units(phase: Phase, findings: Sequence[Finding], *, dependents: bool) -> list[str]:
    """What has to be made again; raises when something else than that is wrong."""
    units = {finding.unit for finding in findings if finding.unit is not None}
    others = [finding for finding in findings if finding.unit is None and not _is_rewritten(finding.where)]
    units |= {finding.where for finding in others if finding.where.startswith(f"{LISTINGS}/")}
    others = [finding for finding in others if finding.where not in units]
    if others and not units:
        raise BuildError(
            "what is wrong would be the same after building again",
            where=phase.folder,
            why="\n       ".join(map(str, others[:5])),
            remedy="build the phase with its recipe into another folder, and compare the two with `ettin-data diff`",
        )
    bad_pools = {unit for unit in units if unit.startswith(f"{POOLS}/")}
    for user in phase.splits(*PARTS[1:]):
        pool = pool_of(user)
        if pool in bad_pools and (dependents or _shares_a_file(phase.folder / user, phase.folder / pool)):
            units.add(user)
    return sorted(units)


def _shares_a_file(one: Path, other: Path) -> bool:
    for path in one.iterdir():
        try:
            if os.path.samefile(path, other / path.name):
                return True
        except OSError:
            continue
    return False


@dataclass(frozen=True)
class _GoingOn:
    """An order that goes on from earlier ones, whose `order.json` is what is damaged."""

    law: AppendedLaw
    interval_steps: int
    data_digest: str


def _order_going_on(phase: Phase, seen: Seen) -> _GoingOn | None:
    """What a build does not see of an order that is to be made again.

    Where its `order.json` is whole, a build takes the law from there, also when it is set aside. Where it is not, the
    law is that of `run.json`, if that gives the very order. None for an order without a past, which the recipe gives.

    Raises:
        BuildError: where the earlier samples are now is not known any more.
    """
    places = (phase.order, phase.aside / ORDER)  # the latter of a repair that did not end
    record = seen.run.order if seen.run is not None else None
    for folder in places:
        with suppress(OrderError):
            index = OrderIndex.open(folder)
            index.check_earlier()
            if record is None or _is_of(index.info.record(), record):
                return None
    if record is None or record.law != APPENDED:
        return None
    for folder in places:
        with suppress(ValueError, OrderError):
            earlier = read_earlier(folder / EARLIER, [each.model_dump() for each in record.earlier])
            law = AppendedLaw(record.seed, record.epoch, record.samples, record.batch, earlier=earlier)
            if record.interval_steps and positions_digest([law.permutation()[: law.used]]) == record.digest:
                listed = seen.digests.files.get(f"{TRAIN}/{INDEX}") if seen.digests else None
                return _GoingOn(law, record.interval_steps, listed["xxh3_64"] if listed else index_digest(phase.train))
    raise BuildError(
        "the order goes on from an earlier build's, and which samples that had is not known any more",
        where=phase.order / EARLIER,
        why="it is damaged, and stands nowhere else: an order of the recipe would have other steps",
        remedy=f"let it go on once more: ettin-data order append {phase.folder} --after the folder of the earlier "
        "build; then repair what else is damaged",
    )


def _is_of(there: OrderRecord, stated: OrderRecord) -> bool:
    """Whether an index says of its law what `run.json` does."""
    names = ("law", "seed", "epoch", "samples", "batch", "digest")
    return all(getattr(there, name) == getattr(stated, name) for name in names)


def _set_aside(phase: Phase, units: Sequence[str]) -> None:
    for unit in units:
        if (phase.folder / unit).exists():
            tidy.remove(phase.aside / unit)  # of a repair that did not end
            (phase.aside / unit).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(phase.folder / unit, phase.aside / unit)  # by copies, where folders cannot be renamed


def _put_back(phase: Phase, units: Sequence[str]) -> None:
    for unit in units:
        if (phase.aside / unit).exists() and not (phase.folder / unit).exists():
            shutil.move(phase.aside / unit, phase.folder / unit)
    _forget(phase, ())


def _forget(phase: Phase, units: Sequence[str]) -> None:
    """Remove what was set aside, now or by a repair that did not end, and the folders that are empty then."""
    splits = (f"{part}/{name}" for part in PARTS for name in splits_in(phase.aside / part))
    earlier = [name for name in splits if is_split_folder(phase.aside / name)]
    order = phase.aside / ORDER
    if order.is_dir() and all(is_order_file(path.name) for path in order.iterdir()):
        earlier.append(ORDER)
    for unit in (*units, *earlier):
        tidy.remove(phase.aside / unit)
    for folder, _, _ in os.walk(phase.aside, topdown=False):
        with suppress(OSError):  # it holds something that is not ours
            os.rmdir(folder)


def _refuse_other_inputs(recipe: Recipe, building: BuildOptions, seen: Seen, units: Sequence[str]) -> None:
    """A repair makes only what is damaged: everything else must be what the build would leave as it is."""
    resolved = resolve(recipe, building)
    tables = [COPIES] if before_packing(recipe) else []
    tables += [PARAGRAPHS] if recipe.paragraphs else []
    if any(read_record(resolved.phase.attribute(name)) is None for name in tables):
        return  # pools were made by tables of which nobody knows what they were, until they are made again
    for key, source in resolved.plan.sources.items():
        for split in source.splits:
            job = resolved.job(source, split)
            name = f"{POOLS}/{key}/{job.folder.name}"
            if name in units:
                continue
            why = job.problem()
            if why is None or (seen.digests is None and not _is_split(job.folder)):
                continue
            raise BuildError(
                "the recipe or the inputs are not those that the run was built from",
                where=name,
                why=why,
                remedy="give the recipe, the changes and the sources root of the build; or use `ettin-data build`",
            )


def _is_split(folder: Path) -> bool:
    try:
        markers.read_marker(folder)
    except ShardError:
        return False
    return True
