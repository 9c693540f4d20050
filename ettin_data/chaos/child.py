"""The build that is killed: in a process of its own, which tells where it is and waits at every boundary."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ettin_data.base import disk_errors
from ettin_data.base.errors import BuildError
from ettin_data.chaos.refusals import Refusal, preload, refuse
from ettin_data.chaos.schedule import Step

_DRAIN_S = 30.0  # for an interrupted build to end
_MOMENT_S = 0.02
_PATIENCE_S = 600.0  # without a word from a build that should work
PRELOADED = [
    *("ettin_data.build.build", "ettin_data.chaos.ready", "ettin_data.order.index", "ettin_data.executor.local"),
    *("tokenizers", "pyarrow.parquet"),
]


@dataclass(frozen=True)
class Job:
    """What is built.

    Attributes:
        recipe: as JSON.
        out, sources_root: as for a build.
        executor: arguments of `ExecutorOptions`.
        file_limit: bytes that a file may have (`RLIMIT_FSIZE`), None for no limit: a small disk for those without one.
        refusal: what the file system refuses.
    """

    recipe: str
    out: Path
    sources_root: str | None
    executor: dict[str, Any]
    file_limit: int | None = None
    refusal: Refusal | None = None


@dataclass
class Attempt:
    """How an attempt at a build ended.

    Attributes:
        how: "built", "failed" (an error of ours, `message`), "broken" (another one), "interrupted" or "killed".
        root: of what was built.
        used: how many of the steps were done.
        struck: what they hit, for the log.
        stages: seconds from each boundary to the next.
    """

    how: str
    root: str = ""
    message: str = ""
    used: int = 0
    struck: list[str] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)


def _build(job: Job, boundary: Callable[[str], None] = lambda name: None) -> tuple[str, str]:
    """Build; `Attempt.how` with the root, or with what the command line would have said."""
    from ettin_data.base.errors import EttinError
    from ettin_data.base.progress import Silent
    from ettin_data.build import build as run
    from ettin_data.build.prepare import BuildOptions
    from ettin_data.executor import ExecutorOptions
    from ettin_data.recipe import Recipe

    class Boundaries(Silent):
        def start(self, title: str, jobs: int, work: int) -> None:
            boundary(title)

    options = BuildOptions(job.out, job.sources_root, ExecutorOptions(**job.executor), progress=Boundaries())
    try:
        boundary("start")
        built = run.build_phase(Recipe.model_validate_json(job.recipe), options)
        boundary("end")
        return "built", built.root
    except EttinError as error:
        return "failed", error.full_text()
    except OSError as error:  # as the command line shows it
        found = disk_errors.said(error)
        return ("failed", found.full_text()) if found else ("broken", traceback.format_exc())
    except KeyboardInterrupt:
        return "interrupted", ""


def _main(job: Job, line: Connection) -> None:
    """The child."""
    os.setpgid(0, 0)  # an interrupt is sent to the group, as a terminal does

    def boundary(name: str) -> None:
        line.send(("at", name))
        line.recv()  # until we may go on, or are killed

    if job.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_limit, job.file_limit))
    if job.refusal is not None:
        refuse(job.refusal, job.out)
    line.send(_build(job, boundary))


def attempt_preloaded(job: Job, shim: Path, refusal: Refusal) -> Attempt:
    """Build in a process tree of its own in which a library refuses calls (`refusals.shim`), to the end."""
    with tempfile.NamedTemporaryFile() as count, tempfile.NamedTemporaryFile() as result:
        count.write(bytes(8))
        count.flush()
        environment = {**os.environ, **preload(shim, refusal, job.out, Path(count.name))}
        command = [sys.executable, "-c", "from ettin_data.chaos.child import _alone; _alone()", result.name]
        done = subprocess.run(
            command, env=environment, input=pickle.dumps(job), capture_output=True, timeout=_PATIENCE_S, check=False
        )
        told = Path(result.name).read_bytes()
    if not told:  # it never came to its end
        return Attempt("broken", message=done.stderr.decode(errors="replace") or f"status {done.returncode}")
    how, said = json.loads(told)
    return Attempt(how, said if how == "built" else "", "" if how == "built" else said)


def _alone() -> None:
    """What that process does: a job from its input, the end into the file that it is given."""
    Path(sys.argv[1]).write_text(json.dumps(_build(pickle.load(sys.stdin.buffer))))


@functools.cache
def _context() -> Any:
    """Children are forked from a process that has imported everything: an attempt costs its work, not its imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def attempt(job: Job, steps: Sequence[Step] = (), stages: Mapping[str, float] | None = None) -> Attempt:
    """Build until the first step that ends a build, or to the end.

    Args:
        job: what to build.
        steps: kills and interrupts, in order; those that are not reached are not used.
        stages: seconds that each stage takes in an undisturbed build, the unit of `Step.after`.

    Raises:
        BuildError: the child went away by itself or said nothing for ten minutes.
    """
    ours, theirs = _context().Pipe()
    process = _context().Process(target=_main, args=(job, theirs), name="build")
    process.start()
    theirs.close()
    try:
        return _Following(process, ours, list(steps), stages or {}).to_the_end()
    finally:
        process.kill()
        process.join()
        ours.close()


class _Following:
    """One child and what is done to it."""

    def __init__(self, process: Any, line: Connection, steps: list[Step], stages: Mapping[str, float]) -> None:
        self.process, self.line, self.steps, self.stages = process, line, steps, stages
        self.passed: dict[str, float] = {}  # when the child came to each boundary
        self.not_before = 0.0
        self.result = Attempt("killed")

    def to_the_end(self) -> Attempt:
        while True:
            step = self.steps[self.result.used] if self.result.used < len(self.steps) else None
            due = self.due(step)
            if not self.line.poll(_PATIENCE_S if due is None else max(due - time.monotonic(), 0)):
                if step is None or due is None:
                    raise BuildError(f"the build said nothing for {_PATIENCE_S:g} s", where="chaos")
                if self.strike(step):
                    return self.result
                continue
            try:
                kind, said = self.line.recv()
            except EOFError:
                why = f"status {self.process.exitcode}"
                raise BuildError("the build went away by itself", where="chaos", why=why) from None
            if kind != "at":
                times = [*self.passed.values(), time.monotonic()]
                self.result.stages = {
                    name: after - at for (name, at), after in zip(self.passed.items(), times[1:], strict=True)
                }
                self.result.how, self.result.message = kind, said
                self.result.root = said if kind == "built" else ""
                return self.result
            self.passed.setdefault(said, time.monotonic())
            if step is not None and self.strike_here(step, said):
                return self.result
            self.go_on()

    def due(self, step: Step | None) -> float | None:
        """When the next step is to be done; None while its boundary has not come."""
        if step is None or step.at not in self.passed or not step.after:
            return None
        return max(self.passed[step.at] + step.after * self.stages.get(step.at, 0.0), self.not_before)

    def go_on(self) -> None:
        with suppress(OSError):
            self.line.send("go")

    def strike_here(self, step: Step, boundary: str) -> bool:
        """At a boundary between stages: do the step that belongs here, or one that missed the stage before."""
        if step.at == boundary:
            return not step.after and self.strike(step)
        return step.at in self.passed and self.strike(step, f", late, at {boundary}")

    def strike(self, step: Step, when: str = "") -> bool:
        """Do it; whether that ends the attempt."""
        if step.kind == "kill worker":
            workers = workers_of(self.process.pid)
            if not workers:  # a moment between two of them: try again
                self.not_before = time.monotonic() + _MOMENT_S
                return False
            with suppress(ProcessLookupError):
                os.kill(workers[step.pick % len(workers)], signal.SIGKILL)
        elif step.kind == "interrupt":
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.kill()
            self.process.join()
        self.result.used += 1
        self.result.struck.append(f"{step}{when}")
        if step.kind == "interrupt":
            self.go_on()
            self.await_end()
        return step.ends_the_build

    def await_end(self) -> None:
        """An interrupted build must end by itself, and soon; it may also have been finished already."""
        deadline = time.monotonic() + _DRAIN_S
        self.result.how = "interrupted"
        while self.line.poll(max(deadline - time.monotonic(), 0)):
            try:
                kind, said = self.line.recv()
            except EOFError:
                return
            if kind != "at":
                if kind == "built":
                    self.result.how, self.result.root = kind, said
                return
            self.go_on()
        raise BuildError(f"an interrupted build did not end within {_DRAIN_S:g} s", where="chaos")


def workers_of(pid: int) -> list[int]:
    """The processes below the driver that do its tasks: its children, or on Ray the actors."""
    import psutil

    below = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                command = " ".join(process.cmdline())
                if "ettin_data.executor.process" in command or command.startswith("ray::_Worker"):
                    below.append(process.pid)
    return sorted(below)


def as_json(recipe: Any) -> str:
    """A recipe as a child gets it."""
    return json.dumps(recipe.model_dump(mode="json"))
