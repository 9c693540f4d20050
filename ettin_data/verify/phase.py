"""Verifying a phase: the files beside the splits, every split in parallel, and what holds between splits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from ettin_data.base import files, lock, sealed_json
from ettin_data.base.errors import BuildError, OrderError, RecipeError, ShardError, TokenizerError
from ettin_data.base.options import read_options
from ettin_data.base.progress import SILENT, Progress
from ettin_data.build.copies.weights import left_out_by_weight
from ettin_data.build.shares import shares_at_work
from ettin_data.executor import Executor, ExecutorOptions, Task, perform
from ettin_data.recipe import TokenizerChoice
from ettin_data.stages.pack import from_recipe
from ettin_data.storage import digests, records
from ettin_data.storage.digests import Digests
from ettin_data.storage.phase import (
    COPIES,
    DIGESTS,
    INDEX,
    MARKER,
    OF_A_PHASE,
    PARTS,
    PLAN,
    POOLS,
    RUN,
    SHARDS,
    TRAIN,
    TWINS,
    VALIDATION,
    Phase,
    open_phase,
    pool_of,
    source_of,
    splits_in,
)
from ettin_data.storage.records import PlanRecord, RunRecord
from ettin_data.tokenizer.encoder import Tokenizer, resolve
from ettin_data.tokenizer.vocabulary import MODERNBERT, Vocabulary
from ettin_data.verify.between import check_between
from ettin_data.verify.contamination import check_contamination, searched
from ettin_data.verify.copies import check_copies, check_paragraphs, check_twins
from ettin_data.verify.full import check_held_out, check_left_out, check_samples
from ettin_data.verify.model import Finding, Report, Rules, SplitCheck, SplitFacts, sentence
from ettin_data.verify.order import UNIT as ORDER
from ettin_data.verify.order import check_order
from ettin_data.verify.origin import check_origins
from ettin_data.verify.quick import STRAYS, check_files, strays
from ettin_data.verify.record import check_record

T = TypeVar("T")
UNFORESEEN = "unforeseen"
_SMALL = 32 << 20  # bytes of a phase that are read in less time than workers need to start


@dataclass(frozen=True)
class VerifyOptions:
    """How to verify.

    Attributes:
        full: decode every sample and make the order again, instead of hashing files.
        executor: workers, or how to open some; None does everything in this process.
        progress: told of the stage `verify` or `verify full`, in bytes.
    """

    full: bool = False
    executor: Executor | ExecutorOptions | None = None
    progress: Progress = SILENT


@dataclass
class Seen:
    """The files beside the splits, as far as they can be trusted, and what is wrong with them."""

    phase: Phase
    plan: PlanRecord | None = None
    run: RunRecord | None = None
    digests: Digests | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """The recipe of the run; of the plan, where there is no run."""
        described = self.run or self.plan
        return described.recipe if described else None


def look(phase: Phase) -> Seen:
    """Read `plan.json`, `run.json` and `digests.json` of a phase. Raises `FormatError` if one is of a newer format."""
    seen = Seen(phase)
    seen.plan = _read(seen, phase.plan_json, lambda _: records.read_plan(phase))
    if not phase.finished:
        _note_progress(seen)
        return seen
    seen.run = _read(seen, phase.run_json, lambda _: records.read_run(phase))
    seen.digests = _read(seen, phase.digests_json, digests.read_digests)
    if seen.run is not None and seen.digests is not None:
        carried = sealed_json.digest(files.read(phase.digests_json))
        if seen.run.digests != carried or seen.run.root != seen.digests.root:
            detail = f"digest {carried}, root {seen.digests.root}: run.json says others"
            seen.findings.append(Finding(DIGESTS, "foreign_digests", detail))
    stated = seen.run.plan if seen.run is not None and seen.plan is not None else None
    if stated is not None and (carried := sealed_json.digest(files.read(phase.plan_json))) != stated:
        detail = f"a whole plan, but not the one of this run: its digest is {carried}, run.json has {stated:.80}"
        seen.findings.append(Finding(PLAN, "foreign_plan", detail))
        seen.plan = None
    if seen.run is not None and seen.plan is not None and seen.plan.recipe != seen.run.recipe:
        if stated is not None:
            seen.findings.append(Finding(RUN, "wrong_record", f"its recipe is not that of {PLAN}"))
        else:
            seen.notes.append("plan.json is of another recipe than the run: a plan was made here since")
    for key, source in seen.run.sources.items() if seen.run is not None else ():
        if source.damaged_files:
            seen.notes.append(
                f"{key} was built without {sum(source.damaged_files.values()):,} damaged files, which held about "
                f"{source.lost_records:,} of {source.records + source.lost_records:,} records: "
                f"{'; '.join(source.lost_files)}"
            )
        if number := source.repaired:
            seen.notes.append(f"{number:,} documents of {key} had characters replaced that are not UTF-8")
    return seen


def _read(seen: Seen, path: Path, read: Callable[[Path], T]) -> T | None:
    if not path.exists():
        seen.findings.append(Finding(path.name, "missing_file", "the file is missing"))
        return None
    try:
        return read(path)
    except ShardError as error:
        seen.findings.append(Finding(path.name, "damaged_file", sentence(error)))
    except OSError as error:
        seen.findings.append(Finding(path.name, "unreadable_file", f"the file cannot be read: {error.strerror}"))
    return None


def _note_progress(seen: Seen) -> None:
    doing = "its build was stopped; the same command continues it"
    if holder := lock.holder(seen.phase.lock):
        doing = f"a build is at work here ({holder})"
    elif shares := shares_at_work(seen.phase):
        doing = f"{len(shares):,} shares of a build are at work here, such as {shares[0]}"
    planned = sum(len(splits) for splits in seen.plan.split_files.values()) if seen.plan else None
    there = len(seen.phase.splits(POOLS))
    seen.notes.append(f"incomplete: {there:,} of {planned or 'unknown'} planned splits are finished; {doing}")


def verify_phase(folder: Path, options: VerifyOptions | None = None) -> Report:
    """Verify one phase. Reads only.

    Raises:
        BuildError: there is nothing to verify.
        FormatError: it is of a newer version of this package.
        TaskFailure: a worker died again and again.
    """
    options = options or VerifyOptions()
    started = time.monotonic()
    phase = open_phase(folder)
    seen = look(phase)
    rules = _rules_or_finding(seen) if options.full else None
    if options.full and (said := searched(phase)):
        seen.notes.append(said)
    checks = _checks(seen, rules)
    jobs: list[SplitCheck | _OrderCheck] = [*checks]
    if phase.finished or phase.order.is_dir():
        samples = None
        if seen.digests is not None:
            samples = sum(entry.samples for splits in seen.digests.parts[TRAIN].values() for entry in splits.values())
        law = seen.recipe["order"] if seen.recipe else None
        draw = (law["seed"], law["epoch"]) if law else None
        jobs.append(_OrderCheck(phase.folder, samples, draw, options.full))
    results = perform(
        check,
        [Task(job.name, job, max(_weight(job), 1)) for job in jobs],
        None if _soon_done(jobs) else options.executor,
        options.progress,
        title="verify full" if options.full else "verify",
        tokens=lambda facts: facts.tokens,
    )
    facts = {result.name: result for result in results}
    findings = [*seen.findings, *check_between(phase.folder, seen.digests, seen.run, facts, full=options.full)]
    findings += [*_check_whole(seen, facts), *_check_folders(seen)]
    if options.full and seen.run is not None and seen.digests is not None:
        findings += check_copies(phase, seen.run, seen.digests, options.executor, options.progress)
        findings += check_paragraphs(phase, seen.run, seen.digests, options.executor, options.progress)
        findings += check_twins(phase, seen.run, seen.digests)
    findings += [finding for result in results for finding in result.findings]
    checked = [result for result in results if not result.linked]
    return Report(
        folder=phase.folder,
        phase=phase.name,
        depth="full" if options.full else "quick",
        state="complete" if phase.finished else "incomplete",
        root=seen.run.root if seen.run else None,
        checked={
            "splits": len(checks),
            **{name: sum(getattr(r, name) for r in checked) for name in ("files", "bytes", "samples", "tokens")},
        },
        findings=_with_links(phase.folder, findings, checks),
        notes=seen.notes,
        seconds=time.monotonic() - started,
    )


def _checks(seen: Seen, rules: Rules | None) -> list[SplitCheck]:
    """One check for each split of the run, or for each that is there while there are no digests."""
    entries = seen.digests.entries() if seen.digests is not None else None
    folder, there = seen.phase.folder, seen.phase.splits(*PARTS)
    if entries is None:
        names = [name for name in there if (folder / name / MARKER).exists() or seen.phase.finished]
        entries = {}
    else:
        others = [name for name in there if name not in entries]
        # A held-out part may come out empty; such a folder belongs to the run, but nothing of it is in the index.
        empty = [name for name in others if not name.startswith(f"{POOLS}/") and _is_empty(folder / name)]
        names = [*entries, *empty]
        if len(others) > len(empty):
            example = next(name for name in others if name not in empty)
            seen.notes.append(f"{len(others) - len(empty)} folders are not part of this run, such as {example}")
    held_out: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(f"{VALIDATION}/"):
            held_out.setdefault(source_of(name), []).append(name)
    steps = (seen.recipe or {}).get("attributes", ())
    # Where samples hold several documents, copies are in no pool, and nothing is left out of one for them.
    recipe = seen.recipe or {}
    copies = [COPIES] if recipe.get("dedup") and not from_recipe(recipe["pack"]).strategy.several else []
    attributes = (*(step["step"].partition(":")[2] for step in steps), *copies)
    twins = bool(recipe.get("validation_twins"))
    checks = []
    for name in names:
        part = name.partition("/")[0]
        pool = None if part == POOLS else pool_of(name)
        held = tuple(held_out.get(source_of(name), ())) if part == TRAIN and rules else ()
        gone = (*attributes, TWINS) if part == TRAIN and twins else attributes
        gone = (*gone, *left_out_by_weight(recipe, name)) if part == TRAIN else gone
        checks.append(SplitCheck(folder, name, entries.get(name), pool, rules, held, gone))
    return checks


def _check_whole(seen: Seen, facts: Mapping[str, SplitFacts]) -> Iterator[Finding]:
    """What the run says of all its splits together, where both it and they can be trusted."""
    if seen.run is None or seen.digests is None:
        return
    plan = seen.plan if seen.plan is not None and seen.plan.recipe == seen.run.recipe else None
    entries = seen.digests.entries()
    markers = {name: marker for name in entries if (marker := facts[name].marker) is not None}
    yield from check_origins(seen.run, plan, seen.digests, markers)
    yield from check_record(seen.phase, seen.run, plan, seen.digests, markers)


def _check_folders(seen: Seen) -> Iterator[Finding]:
    """Splits in `train/` and `validation/` that the run does not have; what else lies about, and links, are noted."""
    phase, others = seen.phase, strays(seen.phase.folder, set(OF_A_PHASE))
    for part in PARTS:
        folder = phase.folder / part
        links = [path for path in (folder, *sorted(folder.glob("*"))) if path.is_symlink() and path.is_dir()]
        seen.notes += [f"{path.relative_to(phase.folder)} is a link to {os.path.realpath(path)}" for path in links]
        sources = [path for path in folder.glob("*") if path not in links]
        others += [] if folder in links else _loose(phase.folder, [folder, *sorted(sources)])
        if seen.digests is None or part == POOLS or folder in links:
            continue
        known = seen.digests.parts[part]
        for name in splits_in(folder):
            source, _, split = name.partition("/")
            path = folder / name
            if split not in known.get(source, {}) and not _is_empty(path) and path.parent not in links:
                detail = "the run has no such split; move it elsewhere, or build the phase again"
                yield Finding(f"{part}/{name}", "stray_folder", detail)
    if others:
        # No reader lists these folders, unlike those of splits and of the order: what lies here harms nobody.
        named = ", ".join(others[:STRAYS]) + (", …" if len(others) > STRAYS else "")
        seen.notes.append(f"not of this run, and read by nobody: {named} ({len(others):,})")


def _loose(root: Path, folders: Iterable[Path]) -> list[str]:
    """Files that lie beside the folders of sources or splits, as paths below the phase."""
    found = []
    for folder in folders:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                names = {entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")}
            found += [f"{folder.relative_to(root)}/{name}" for name in sorted(names - {INDEX})]
    return found


def _is_empty(folder: Path) -> bool:
    return (folder / MARKER).exists() and not any(folder.glob(SHARDS))


def _rules_or_finding(seen: Seen) -> Rules | None:
    """The rules of the phase, or None where its recipe does not give them, which is a finding: the rest is checked."""
    try:
        return _rules(seen)
    except (RecipeError, TokenizerError, OrderError) as error:
        seen.findings.append(Finding(RUN if seen.run else PLAN, "bad_recipe", sentence(error)))
        return None


def _rules(seen: Seen) -> Rules:
    recipe = seen.recipe
    if recipe is None:
        raise BuildError(
            "a full verification needs the recipe, and neither plan.json nor run.json can be read",
            where=seen.phase.folder,
            remedy="verify without --full, or repair the run first",
        )
    choice = read_options(TokenizerChoice, recipe["tokenizer"], "tokenizer")
    digest = seen.run.tokenizer["sha256"] if seen.run else choice.sha256 or MODERNBERT.digest
    if seen.run and seen.run.vocabulary:
        vocabulary = Vocabulary.from_json(seen.run.vocabulary)
    elif digest == MODERNBERT.digest:
        vocabulary = MODERNBERT
    else:
        vocabulary = Tokenizer(resolve(choice.name, sha256=digest, asked_for=False), frame=choice.frame).vocabulary
    pack = from_recipe(recipe["pack"])
    return Rules(recipe["length"], vocabulary, pack.strategy.own_open, pack.longest_loss)


@dataclass(frozen=True)
class _OrderCheck:
    folder: Path
    samples: int | None
    draw: tuple[int, int] | None
    full: bool
    name: str = ORDER


def _soon_done(jobs: Sequence[SplitCheck | _OrderCheck]) -> bool:
    """Whether all is done in this process sooner than workers start."""
    known = all(isinstance(job, _OrderCheck) or job.entry is not None for job in jobs)
    return known and sum(_weight(job) for job in jobs) < _SMALL


def check(job: SplitCheck | _OrderCheck) -> SplitFacts:
    """What a worker does: one split, or the order index."""
    facts = SplitFacts(job.name)
    try:
        _check(job, facts)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, TypeError, ValueError) as error:
        # of files that nobody foresaw: they must not keep the others from being looked at
        detail = f"it cannot be checked: {type(error).__name__}: {error!s:.300}"
        facts.findings.append(Finding(job.name, UNFORESEEN, detail, job.name))
    return facts


def _check(job: SplitCheck | _OrderCheck, facts: SplitFacts) -> None:
    if isinstance(job, _OrderCheck):
        facts.findings = check_order(job.folder, job.samples, job.draw, job.full)
        return
    marker, _ = check_files(job, facts)
    facts.documents = marker.tally["documents"] if marker is not None else None
    if job.rules is not None and job.folder.is_dir():
        if not facts.linked:
            check_samples(job, job.rules, marker, facts)
        if job.name.startswith(f"{TRAIN}/") and marker is not None:
            check_held_out(job, marker, facts)
        if job.attributes and marker is not None:
            check_left_out(job, marker, facts)
        if job.name.startswith(f"{POOLS}/") and marker is not None:
            check_contamination(job, marker, facts)


def _weight(job: SplitCheck | _OrderCheck) -> int:
    if isinstance(job, _OrderCheck):
        return 4 * (job.samples or 0)
    return 2 * job.entry.tokens if job.entry is not None else 1


def _with_links(folder: Path, findings: Sequence[Finding], checks: Sequence[SplitCheck]) -> list[Finding]:
    """A file of the pool that is also in `train/` or `validation/` is checked once, and named with all its paths."""
    users: dict[str, list[str]] = {}
    for check in checks:
        if check.pool is not None:
            users.setdefault(check.pool, []).append(check.name)
    result = []
    for finding in findings:
        also: list[str] = []
        if finding.unit in users:
            file = finding.where.removeprefix(f"{finding.unit}/")
            also = [
                f"{user}/{file}" for user in users[finding.unit] if _same(folder / finding.where, folder / user / file)
            ]
        result.append(replace(finding, also=tuple(also)))
    return sorted(result, key=lambda finding: (finding.where, finding.row or 0))


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
