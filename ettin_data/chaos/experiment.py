"""The experiment: a reference, then the same build under a schedule, until every step has been taken."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ettin_data.base.errors import BuildError, EttinError
from ettin_data.base.files import TEMPORARY
from ettin_data.build.prepare import BuildOptions
from ettin_data.chaos import disk
from ettin_data.chaos.child import Attempt, Job, as_json, attempt, attempt_preloaded
from ettin_data.chaos.damage import harm
from ettin_data.chaos.network import moody_server
from ettin_data.chaos.refusals import shim
from ettin_data.chaos.schedule import Step, make_schedule
from ettin_data.executor import ExecutorOptions
from ettin_data.recipe import Recipe
from ettin_data.sources import formats, globs
from ettin_data.storage.phase import ASIDE, CARD, DIGESTS, LISTINGS, LOCK, LOGS, PLAN, POOLS, RUN, WORK
from ettin_data.verify import VerifyOptions, verify_phase
from ettin_data.verify.repair import repair

_UNCOMPARED = frozenset({RUN, PLAN, DIGESTS, CARD, LOCK})
"""Files that say how and when a run was made; the digests in them are compared as roots."""

_MOST_BUILDS = 5  # builds that may end well while one step finds nothing to hit
_AT_ONCE = 1e-6  # of a stage


@dataclass(frozen=True)
class Experiment:
    """What chaos is done to.

    Attributes:
        recipe: one phase.
        folder: where everything goes; made, and emptied of what an earlier experiment left.
        seed: of the schedule.
        kills, damages, full_disks, refused: how many of each.
        network: share of the answers of a local server that are faults; 0 reads the files as they are. Only sources
            whose files can be named over HTTP go through it, the others are read as they are.
        sources_root: a mirror that is a folder, or None where the recipe names its own.
        executor: arguments of `ExecutorOptions`.
    """

    recipe: Recipe
    folder: Path
    seed: int = 0
    kills: int = 10
    damages: int = 3
    full_disks: int = 1
    refused: int = 0
    network: float = 0.0
    sources_root: str | None = None
    executor: dict[str, object] = field(default_factory=dict)

    def schedule(self) -> list[Step]:
        return make_schedule(
            self.seed, self.kills, damages=self.damages, full_disks=self.full_disks, refused=self.refused
        )


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        root: of the reference.
        log: one line for everything that happened, in order.
        kills: signals that were sent to a driver or worker that was there.
        builds: that ended well, each compared with the reference byte by byte.
        repairs: how often `repair` was needed, after damage that leaves no trace in times.
        problems: what should not have happened; none means that every promise was kept.
    """

    root: str = ""
    log: list[str] = field(default_factory=list)
    kills: int = 0
    builds: int = 0
    repairs: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def run_chaos(experiment: Experiment, tell: Callable[[str], None] = lambda line: None) -> Outcome:
    """Do it; `tell` hears each line of the log as it comes.

    Raises:
        EttinError: the undisturbed build fails: there is nothing to compare with.
    """
    folder = experiment.folder.absolute()
    for name in ("reference", "disturbed", "kept"):
        shutil.rmtree(folder / name, ignore_errors=True)
    reference = folder / "reference" / experiment.recipe.phase
    options = {"workers": 2, "retry_delay_s": 0.1, "time_limit_s": 600.0, **experiment.executor}
    calm = {**options, "kind": "local"}
    with _served(experiment, 0.0) as recipe:  # markers say of inputs what the way to them says: it must be the same way
        undisturbed = attempt(Job(as_json(recipe), folder / "reference", experiment.sources_root, calm))
    if undisturbed.how != "built":
        raise BuildError("the undisturbed build failed", where=reference, why=undisturbed.message)
    outcome = Outcome(undisturbed.root)
    tell(f"undisturbed: root {outcome.root} in {sum(undisturbed.stages.values()):.1f} s")
    capacity = 4 * sum(path.stat().st_size for path in reference.rglob("*") if path.is_file()) + (8 << 20)
    out = folder / "disturbed"
    with contextlib.ExitStack() as stack:
        mounted = bool(experiment.full_disks) and stack.enter_context(disk.small_disk(out, capacity))
        recipe = stack.enter_context(_served(experiment, experiment.network))
        job = Job(as_json(recipe), out, experiment.sources_root, options)
        bench = _Bench(experiment, job, reference, undisturbed.stages, mounted, outcome, tell)
        bench.play(experiment.schedule())
        if mounted and outcome.problems:  # what there is to be looked at would go with the disk
            shutil.copytree(out, folder / "kept")
    if (folder / "kept").exists():
        os.rmdir(out)
        shutil.move(folder / "kept", out)
    return outcome


@contextlib.contextmanager
def _served(experiment: Experiment, share: float) -> Iterator[Recipe]:
    """The recipe with the sources that HTTP can name behind a server of which a share of the answers are faults."""
    if not experiment.network:
        yield experiment.recipe
        return
    from ettin_data.build.prepare import resolve

    resolved = resolve(experiment.recipe, BuildOptions(experiment.folder / "reference", experiment.sources_root))
    with contextlib.ExitStack() as stack:
        choices = dict(experiment.recipe.sources)
        for key, plan in resolved.plan.sources.items():
            source = plan.source
            if any(globs.has_wildcard(pattern) or formats.index_of(pattern) for pattern in source.globs):
                continue
            url = stack.enter_context(moody_server(Path(source.root), experiment.seed, share))
            changes = {"root": url, "globs": list(source.globs)}
            choices[key] = choices[key].model_copy(update=changes)
        yield experiment.recipe.model_copy(update={"sources": choices})


@dataclass
class _Bench:
    """The state of an experiment between two attempts."""

    experiment: Experiment
    job: Job
    reference: Path
    stages: dict[str, float]
    mounted: bool
    outcome: Outcome
    tell: Callable[[str], None]
    rotten: bool = False  # damage was done that only a verification can see

    @property
    def phase(self) -> Path:
        return self.job.out / self.experiment.recipe.phase

    def say(self, line: str) -> None:
        self.outcome.log.append(line)
        self.tell(line)

    def problem(self, line: str) -> None:
        self.outcome.problems.append(line)
        self.say(f"PROBLEM: {line}")

    def play(self, steps: list[Step]) -> None:
        ended_well = 0
        while steps and not self.outcome.problems:
            step = steps[0]
            if step.kind == "damage":
                self.damage(step)
                steps.pop(0)
                continue
            if step.kind == "full disk":
                self.full_disk()
                steps.pop(0)
                continue
            if step.kind == "refusal":
                self.refusal(step)
                steps.pop(0)
                continue
            done = attempt(self.job, list(_until_damage(steps)), self.stages)
            for line in done.struck:
                self.say(line)
            self.outcome.kills += len(done.struck)
            del steps[: done.used]
            if done.how == "built" and not done.used:  # it came too late: in the next build it comes at once
                ended_well += 1
                steps[0] = replace(step, after=_AT_ONCE)
            else:
                ended_well = 0
            if ended_well > _MOST_BUILDS:
                self.problem(f"{step} found nothing to hit in {_MOST_BUILDS} builds")
            self.ended(done)
        if not self.outcome.problems:
            self.build_to_the_end()

    def build_to_the_end(self) -> None:
        """The same command again until it is done."""
        for _ in range(3):
            done = attempt(self.job)
            self.ended(done)
            if done.how == "built" or self.outcome.problems:
                return
        self.problem(f"three undisturbed attempts did not end the build: {done.message}")

    def ended(self, done: Attempt) -> None:
        """After an attempt: a build that ended must be the reference's; one that failed must say why."""
        if done.how == "built":
            self.compare(done.root)
        elif done.how == "failed":
            self.say(f"the build stopped: {done.message.splitlines()[0]}")
            if self.rotten and "SIGKILL" not in done.message:  # a build that meets what a disk has spoilt must stop
                self.mend()
            elif "killed by SIGKILL" not in done.message and "actor" not in done.message:
                self.problem(f"the build failed without being killed: {done.message}")

    def compare(self, root: str) -> None:
        if self.rotten:
            self.mend()
        report = verify_phase(self.phase, VerifyOptions(full=True))
        if report.status or report.root != self.outcome.root or (not self.rotten and root != self.outcome.root):
            first = str(report.findings[0]) if report.findings else ""
            self.problem(f"root {report.root}, not {self.outcome.root}; {first}")
        for name in sorted(_content(self.reference) ^ _content(self.phase)):
            self.problem(f"{name} is not in both")
        for name in sorted(_content(self.reference) & _content(self.phase)):
            if (self.reference / name).read_bytes() != (self.phase / name).read_bytes():
                self.problem(f"{name} has other bytes")
        if self.outcome.problems:
            return  # what there is to be looked at stays
        self.outcome.builds += 1
        self.rotten = False
        self.say(f"build {self.outcome.builds} ended: the same root and bytes, verified in full")
        for path in self.job.out.iterdir():
            shutil.rmtree(path)

    def mend(self) -> None:
        """`repair`, as a person would call it after `verify` found something."""
        try:
            arguments = {**self.job.executor, "kind": "local"}
            options = BuildOptions(self.job.out, self.experiment.sources_root, ExecutorOptions(**arguments))
            recipe = Recipe.model_validate_json(self.job.recipe)
            done = repair(self.phase, VerifyOptions(), options, recipe)
        except EttinError as error:
            self.problem(f"repair: {error}")
            return
        self.outcome.repairs += bool(done.made_again)
        self.say(f"repair made {len(done.made_again)} again: {', '.join(done.made_again) or 'nothing'}")
        if not done.found.findings:
            self.rotten = False

    def damage(self, step: Step) -> None:
        """Harm what there is. If that is nothing yet, run a build that is killed late, then one killed at its end."""
        for death in (None, Step("kill driver", "tokenize", 0.9), Step("kill driver", "end")):
            if death is not None:
                attempt(self.job, [death], self.stages)
            if self.phase.exists() and (done := harm(self.phase, step.harm, step.pick)):
                self.rotten = True
                self.say(f"damage: {done}")
                return
        self.problem(f"{step} found nothing to harm in a build that was killed at its end")

    def full_disk(self) -> None:
        """The disk is full; the build must say so, lose nothing, and go on when there is room."""
        before = _content(self.phase)
        if self.mounted:
            with disk.filled(self.job.out) as filled:
                done = attempt(self.job)
        else:
            filled = f"files limited to {disk.FILE_LIMIT:,} bytes"
            job = Job(**{**vars(self.job), "file_limit": disk.FILE_LIMIT})
            done = attempt(job)
        self.say(f"full disk ({filled}): {done.how} {done.message.splitlines()[0] if done.message else ''}")
        if done.how == "failed":
            if "disk is full" not in done.message and "file is larger" not in done.message:
                self.problem(f"a full disk is not named: {done.message}")
            lost = sorted(before - _content(self.phase))
            lost = [name for name in lost if name.startswith(f"{POOLS}/") and TEMPORARY not in name]
            if lost and not self.rotten:
                self.problem(f"a full disk has lost {lost[0]}")
        else:
            self.ended(done)

    def refusal(self, step: Step) -> None:
        """The file system refuses calls: the build ends with the right root, or says what and what to do."""
        assert step.refusal is not None
        calm = {**self.job.executor, "kind": "local"}
        if library := shim(self.experiment.folder):
            done = attempt_preloaded(replace(self.job, executor=calm), library, step.refusal)
        else:  # only the process that builds can be met, so it does all the work
            done = attempt(replace(self.job, executor={**calm, "workers": 1}, refusal=step.refusal))
        self.say(f"{step}: {done.how} {done.message.splitlines()[0] if done.message else ''}")
        if done.how == "failed":
            if "\n  do: " not in done.message and not self.rotten:
                self.problem(f"a refusal without a remedy: {done.message}")
        elif done.how == "broken":
            self.problem(f"a refusal is not explained: {done.message}")
        else:
            self.ended(done)


def _until_damage(steps: list[Step]) -> Iterator[Step]:
    """The steps that one child can take: up to the first that ends it."""
    for step in steps:
        if step.kind in ("damage", "full disk", "refusal"):
            return
        yield step
        if step.ends_the_build:
            return


def _content(phase: Path) -> set[str]:
    """The files that must be equal, byte by byte."""
    names = set()
    for folder, _, files in os.walk(phase):
        base = Path(folder).relative_to(phase)
        if base.parts[:1] in ((LISTINGS,), (ASIDE,), (WORK,), (LOGS,)):
            continue
        names |= {str(base / name) for name in files if name not in _UNCOMPARED or base.parts}
    return names
