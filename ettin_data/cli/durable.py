"""The commands about trust in a run: `verify`, `repair`, `diff`, and `chaos` (in `cli.chaos`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin_data.cli.shared import Json, Kind, RayAddress, Workers, bar, parallel, tell, tell_json

if TYPE_CHECKING:
    from ettin_data.inspect.changes import Change
    from ettin_data.inspect.diff import Comparison, Difference
    from ettin_data.verify import Report
    from ettin_data.verify.repair import Repaired

SHOWN = 40  # findings of a phase that are printed; `--json` has them all

Run = Annotated[Path, typer.Argument(help="A run folder, or one of its phases: runs/demo, runs/demo/pretrain")]
Full = Annotated[bool, typer.Option("--full", help="Decode every sample, derive everything again.")]


def verify(
    run: Run,
    full: Full = False,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Verify a run: every byte against its hash, or with --full every sample against every law. Changes nothing.

    Exits with 0 if all is sound, 1 if anything is wrong, 3 if a build has not ended and what is there is sound.
    """
    from ettin_data.executor import open_workers
    from ettin_data.storage.phase import phases_in
    from ettin_data.verify.phase import VerifyOptions, verify_phase

    reports = []
    with open_workers(parallel(executor, workers, ray_address)) as opened:
        for phase in phases_in(run):
            options = VerifyOptions(full, opened, bar(phase.name))
            reports.append(verify_phase(phase.folder, options))
            if not as_json:
                show_report(reports[-1])
    if as_json:
        tell_json([report.to_json() for report in reports])
    raise typer.Exit(_worst([report.status for report in reports]))


def _worst(statuses: list[int]) -> int:
    from ettin_data.verify import DAMAGED

    return DAMAGED if DAMAGED in statuses else max(statuses)


def repair(
    run: Run,
    full: Full = False,
    recipe: Annotated[str | None, typer.Option(help="Of the build, where the run does not say it.")] = None,
    sources_root: Annotated[str | None, typer.Option(help="The mirror; default: where the run was made from.")] = None,
    scale: Annotated[float, typer.Option(help="As for the build.")] = 1.0,
    sets: Annotated[list[str] | None, typer.Option("--set", help="As for the build.")] = None,
    add_source: Annotated[list[str] | None, typer.Option(help="As for the build.")] = None,
    drop_source: Annotated[list[str] | None, typer.Option(help="As for the build.")] = None,
    executor: Kind = "local",
    workers: Workers = None,
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Build again exactly what is damaged in a run, which then has the root that it had.

    Without --full, what was made from a damaged split is made again as well; with it, only what a full verification
    finds wrong.
    """
    from ettin_data import recipe as recipes
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.executor import open_workers
    from ettin_data.storage.phase import phases_in
    from ettin_data.verify import VerifyOptions
    from ettin_data.verify.repair import repair as mend

    loaded = None
    if recipe is not None:
        changes: dict[str, Any] = {"overrides": sets or (), "add_sources": add_source or ()}
        loaded = recipes.load_recipe(recipe, scale=scale, drop_sources=drop_source or (), **changes)
    done = []
    with open_workers(parallel(executor, workers, ray_address), run) as opened:
        for phase in phases_in(run):
            shown = bar(phase.name)
            building = BuildOptions(phase.folder.parent, sources_root, opened, progress=shown)
            done.append(mend(phase.folder, VerifyOptions(full, opened, shown), building, loaded))
            if not as_json:
                _show_repaired(done[-1])
    if as_json:
        tell_json([repaired.to_json() for repaired in done])


def _show_repaired(repaired: Repaired) -> None:
    show_report(repaired.found)
    for name in repaired.made_again:
        tell(f"  made again: {name}")
    if repaired.found.findings:
        tell(f"  root {repaired.root}{'' if repaired.known else ' (what it was before is not known)'}")


def diff(
    a: Annotated[Path, typer.Argument(help="A run, a phase, or a digests.json")],
    b: Annotated[Path, typer.Argument(help="Another")],
    samples: Annotated[int, typer.Option(help="Differing splits whose first differing sample is decoded.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare two runs by their recipes and roots, and walk down to the first source, split and sample that differ.

    Exits with 0 if they are equal, 1 if not.
    """
    from ettin_data.inspect.changes import recipes_apart
    from ettin_data.inspect.diff import compare

    pairs = _pairs(a, b)
    comparisons = [compare(one, other, samples=samples) for one, other in pairs]
    recipes = [recipes_apart(one, other) for one, other in pairs]
    if as_json:
        plain = [None if each is None else [dataclasses.asdict(change) for change in each] for each in recipes]
        tell_json([one.to_json() | {"recipe": each} for one, each in zip(comparisons, plain, strict=True)])
    else:
        for comparison, changes in zip(comparisons, recipes, strict=True):
            _show_comparison(comparison, changes)
    raise typer.Exit(0 if all(comparison.equal for comparison in comparisons) else 1)


def _pairs(a: Path, b: Path) -> list[tuple[Path, Path]]:
    """The phases of two runs by name; two phases, or files, as they are."""
    from ettin_data.base.errors import BuildError
    from ettin_data.storage.phase import phases_in

    ours, theirs = ([path] if path.is_file() else [phase.folder for phase in phases_in(path)] for path in (a, b))
    if len(ours) == 1 and len(theirs) == 1:
        return [(ours[0], theirs[0])]
    names = [{path.name: path for path in side} for side in (ours, theirs)]
    if names[0].keys() != names[1].keys():
        raise BuildError(
            f"the runs have different phases: {', '.join(names[0])}; {', '.join(names[1])}",
            remedy="name the two phases to compare",
        )
    return [(names[0][name], names[1][name]) for name in names[0]]


def show_report(report: Report) -> None:
    """A verification for people: one line, or one for each thing that is wrong."""
    from ettin_data.base.units import duration, size
    from ettin_data.verify import SOUND

    checked = report.checked
    what = f"{checked['splits']:,} splits, {checked['files']:,} files, {size(checked['bytes'])}"
    if report.depth == "full":
        what += f", {checked['samples']:,} samples, {checked['tokens']:,} tokens decoded"
    verdict = (
        "sound" if report.status == SOUND else f"{len(report.findings):,} wrong" if report.findings else "unfinished"
    )
    tell(f"{report.phase}: {verdict} ({report.depth}; {what}; {duration(report.seconds)})")
    for finding in report.findings[:SHOWN]:
        tell(f"  {finding}")
    if len(report.findings) > SHOWN:
        tell(f"  … and {len(report.findings) - SHOWN:,} more (--json has them all)")
    for note in report.notes:
        tell(f"  note: {note}")
    if report.root is not None and not report.findings:
        tell(f"  root {report.root}")


def _show_comparison(comparison: Comparison, changes: list[Change] | None) -> None:
    name = comparison.a.digests.phase
    if changes:
        tell(f"{name}: {len(changes):,} keys of the recipes differ")
        tell(*(f"  {change}" for change in changes[:SHOWN]))
    elif changes is not None and not comparison.equal:
        tell(f"{name}: the recipes are the same")
    if comparison.equal:
        tell(f"{name}: equal, root {comparison.a.digests.root}")
        return
    tell(f"{name}: different", f"  a {comparison.a.digests.root}  {comparison.a.path}")
    tell(f"  b {comparison.b.digests.root}  {comparison.b.path}")
    for difference in comparison.differences[:SHOWN]:
        depth = difference.path.count("/") + 1
        sign = {"only_a": "only in a", "only_b": "only in b", "differs": "differs"}[difference.kind]
        tell(f"{'  ' * depth}{difference.path}: {sign}: {difference.detail}")
        _show_samples(difference, "  " * (depth + 1))
    if len(comparison.differences) > SHOWN:
        tell(f"  … and {len(comparison.differences) - SHOWN:,} more (--json has them all)")


def _show_samples(difference: Difference, indent: str) -> None:
    if difference.a is None and difference.b is None:
        return
    for side, sample in (("a", difference.a), ("b", difference.b)):
        if sample is None:
            tell(f"{indent}{side}: there is no such sample")
            continue
        tell(f"{indent}{side}: sample {sample.row}, id {sample.id!r}, {sample.tokens:,} tokens")
        tell(f"{indent}   … {sample.around if sample.text is None else repr(sample.text)} …")


COMMANDS = (verify, repair, diff)
