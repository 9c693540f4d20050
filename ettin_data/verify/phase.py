"""Verifying a phase: the files beside the splits, every split in parallel, and what holds between splits."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ettin_data.base import lock, sealed_json
from ettin_data.base.errors import BuildError, ShardError
from ettin_data.base.progress import SILENT, Progress
from ettin_data.executor import ExecutorOptions, Task, perform
from ettin_data.recipe import TokenizerChoice
from ettin_data.stages.pack import from_recipe
from ettin_data.storage.digests import DIGESTS, PARTS, Digests
from ettin_data.storage.split import MARKER, splits_in
from ettin_data.tokenizer.encoder import Tokenizer, resolve
from ettin_data.tokenizer.vocabulary import MODERNBERT, Vocabulary
from ettin_data.verify.between import check_between
from ettin_data.verify.full import check_held_out, check_samples
from ettin_data.verify.model import Finding, Report, Rules, SplitCheck, SplitFacts
from ettin_data.verify.order import UNIT as ORDER
from ettin_data.verify.order import check_order
from ettin_data.verify.quick import check_files

PLAN, RUN = "plan.json", "run.json"
_SMALL = 32 << 20  # bytes of a phase that are read in less time than workers need to start


@dataclass(frozen=True)
class VerifyOptions:
    """How to verify.

    Attributes:
        full: decode every sample and make the order again, instead of hashing files.
        executor: workers; None does everything in this process.
        progress: told of the stage `verify` or `verify full`, in bytes.
    """

    full: bool = False
    executor: ExecutorOptions | None = None
    progress: Progress = SILENT


def phases(path: Path) -> list[Path]:
    """The phase folders that a path names: itself, or those in it. Raises `BuildError` when there is none."""
    path = Path(path)
    candidates = [path, *sorted(path.iterdir())] if path.is_dir() else []
    found = [folder for folder in candidates if any((folder / name).exists() for name in (PLAN, RUN, DIGESTS, "pools"))]
    if not found:
        raise BuildError(
            "there is no run here", where=path, remedy="name a run folder, or one of its phases (<run>/pretrain)"
        )
    return found[:1] if found[0] == path else found


@dataclass
class Seen:
    """The files beside the splits, as far as they can be trusted, and what is wrong with them."""

    folder: Path
    plan: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    digests: Digests | None = None
    complete: bool = False
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """The recipe of the run; of the plan, where there is no run."""
        described = self.summary or self.plan
        return described["recipe"] if described else None


def look(folder: Path) -> Seen:
    """Read `plan.json`, `run.json` and `digests.json` of a phase."""
    seen = Seen(folder, complete=(folder / RUN).exists())
    seen.plan = _read(seen, PLAN, needed=True)
    if not seen.complete:
        _note_progress(seen)
        return seen
    seen.summary = _read(seen, RUN, needed=True)
    body = _read(seen, DIGESTS, needed=True)
    if body is not None:
        try:
            seen.digests = Digests.from_json(body, folder / DIGESTS)
        except ShardError as error:
            seen.findings.append(Finding(DIGESTS, "wrong_digests", f"{error.what}: {error.why}"))
    if seen.summary is not None and seen.digests is not None:
        carried = sealed_json.digest((folder / DIGESTS).read_bytes())
        if seen.summary["digests"] != carried or seen.summary["root"] != seen.digests.root:
            detail = f"digest {carried}, root {seen.digests.root}: run.json says others"
            seen.findings.append(Finding(DIGESTS, "foreign_digests", detail))
    if seen.summary is not None and seen.plan is not None and seen.plan["recipe"] != seen.summary["recipe"]:
        seen.notes.append("plan.json is of another recipe than the run: a plan was made here since")
    return seen


def _read(seen: Seen, name: str, needed: bool) -> dict[str, Any] | None:
    try:
        return sealed_json.read(seen.folder / name)
    except FileNotFoundError:
        if needed:
            seen.findings.append(Finding(name, "missing_file", "the file is missing"))
    except ShardError as error:
        seen.findings.append(Finding(name, "damaged_file", f"{error.what}: {error.why}"))
    except OSError as error:
        seen.findings.append(Finding(name, "unreadable_file", f"the file cannot be read: {error.strerror}"))
    return None


def _note_progress(seen: Seen) -> None:
    holder = lock.holder(seen.folder)
    doing = f"a build is at work here ({holder})" if holder else "its build was stopped; the same command continues it"
    planned = sum(len(splits) for splits in seen.plan["split_files"].values()) if seen.plan else None
    there = len(splits_in(seen.folder / "pools"))
    seen.notes.append(f"incomplete: {there:,} of {planned or 'unknown'} planned splits are finished; {doing}")


def verify(folder: Path, options: VerifyOptions | None = None) -> Report:
    """Verify one phase. Reads only.

    Raises:
        BuildError: there is nothing to verify.
        TaskFailure: a worker died again and again.
    """
    options = options or VerifyOptions()
    started = time.monotonic()
    folder = Path(folder)
    seen = look(folder)
    rules = _rules(seen) if options.full else None
    checks = _checks(seen, rules)
    jobs: list[SplitCheck | _OrderCheck] = [*checks]
    if seen.complete or (folder / ORDER).is_dir():
        samples = None
        if seen.digests is not None:
            samples = sum(entry.samples for splits in seen.digests.parts["train"].values() for entry in splits.values())
        order = seen.recipe["order"] if seen.recipe else None
        jobs.append(_OrderCheck(folder, samples, (order["seed"], order["epoch"]) if order else None, options.full))
    results = perform(
        check,
        [Task(job.name, job, max(_weight(job), 1)) for job in jobs],
        None if _soon_done(jobs) else options.executor,
        options.progress,
        title="verify full" if options.full else "verify",
        tokens=lambda facts: facts.tokens,
    )
    facts = {result.name: result for result in results}
    findings = [*seen.findings, *check_between(seen.folder, seen.digests, seen.summary, facts, full=options.full)]
    findings += [finding for result in results for finding in result.findings]
    checked = [result for result in results if not result.linked]
    return Report(
        folder=folder,
        phase=folder.name,
        depth="full" if options.full else "quick",
        state="complete" if seen.complete else "incomplete",
        root=seen.summary["root"] if seen.summary else None,
        checked={
            "splits": len(checks),
            **{name: sum(getattr(r, name) for r in checked) for name in ("files", "bytes", "samples", "tokens")},
        },
        findings=_with_links(folder, findings, checks),
        notes=seen.notes,
        seconds=time.monotonic() - started,
    )


def _checks(seen: Seen, rules: Rules | None) -> list[SplitCheck]:
    """One check for each split of the run, or for each that is there while there are no digests."""
    entries = seen.digests.entries() if seen.digests is not None else None
    there = [f"{part}/{name}" for part in PARTS for name in splits_in(seen.folder / part)]
    if entries is None:
        names = [name for name in there if (seen.folder / name / MARKER).exists() or seen.complete]
        entries = {}
    else:
        others = [name for name in there if name not in entries]
        # A held-out part may come out empty; such a folder belongs to the run, but nothing of it is in the index.
        empty = [name for name in others if not name.startswith("pools/") and _is_empty(seen.folder / name)]
        names = [*entries, *empty]
        if len(others) > len(empty):
            example = next(name for name in others if name not in empty)
            seen.notes.append(f"{len(others) - len(empty)} folders are not part of this run, such as {example}")
    held_out: dict[str, list[str]] = {}
    for name in names:
        if name.startswith("validation/"):
            held_out.setdefault(_source(name), []).append(name)
    checks = []
    for name in names:
        part, _, split = name.split("/")
        pool = None if part == "pools" else f"pools/{_source(name)}/{split}"
        held = tuple(held_out.get(_source(name), ())) if part == "train" and rules else ()
        checks.append(SplitCheck(seen.folder, name, entries.get(name), pool, rules, held))
    return checks


def _source(name: str) -> str:
    """The source's key in `<part>/<source or copy>/<folder>`: a further pass is named `books-dup`, `books-dup_2`."""
    return name.split("/")[1].split("-dup")[0]


def _is_empty(folder: Path) -> bool:
    return (folder / MARKER).exists() and not any(folder.glob("shard.*"))


def _rules(seen: Seen) -> Rules:
    recipe = seen.recipe
    if recipe is None:
        raise BuildError(
            "a full verification needs the recipe, and neither plan.json nor run.json can be read",
            where=seen.folder,
            remedy="verify without --full, or repair the run first",
        )
    choice = TokenizerChoice.model_validate(recipe["tokenizer"])
    digest = seen.summary["tokenizer"]["sha256"] if seen.summary else choice.sha256 or MODERNBERT.digest
    if seen.summary and "vocabulary" in seen.summary:
        vocabulary = Vocabulary.from_json(seen.summary["vocabulary"])
    elif digest == MODERNBERT.digest:
        vocabulary = MODERNBERT
    else:
        vocabulary = Tokenizer(resolve(choice.name, sha256=digest), frame=choice.frame).vocabulary
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
    if isinstance(job, _OrderCheck):
        facts.findings = check_order(job.folder, job.samples, job.draw, job.full)
        return facts
    marker, _ = check_files(job, facts)
    if job.rules is not None and job.folder.is_dir():
        if not facts.linked:
            check_samples(job, job.rules, marker, facts)
        if job.held_out:
            check_held_out(job, facts)
    return facts


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
