"""How far a build is, as whoever looks at its folder sees it: finished splits, logs, and who is at work.

Reads only, takes no lock, and writes nothing: it may be asked from any machine that mounts the folder, at any time, of
a run that is being built, was killed, or is finished.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ettin_data.base.errors import BuildError, ShardError
from ettin_data.base.units import duration
from ettin_data.storage import records, worklog
from ettin_data.storage.phase import MARKER, POOLS, Phase, phases_in, splits_in
from ettin_data.storage.records import PlanRecord, StageTime
from ettin_data.storage.split import read_marker
from ettin_data.storage.worklog import Beat

PLANNED, BUILDING, STOPPED, FINISHED = "planned", "building", "stopped", "finished"
"""The states of a phase."""

_SHOWN_S = 0.05  # of a stage that is named
_WINDOW_S = 1800.0  # of the last splits, from which speed follows


@dataclass
class SourceStatus:
    """How far one source is, or all of them.

    Attributes:
        splits, planned_splits: finished, and wanted.
        tokens: in finished splits; `target_tokens` are what the mix takes, which may be several passes.
        records: read; of them `rejected` and `filtered`.
        lost_files: damaged files whose rest is lost.
        bytes, planned_bytes: of input that finished splits, and all, are made from.
        tokens_per_s: of late; None where nothing has been finished of late.
        seconds_left: of the splits, at that speed; None where it is not known.
    """

    splits: int = 0
    planned_splits: int = 0
    tokens: int = 0
    target_tokens: int = 0
    records: int = 0
    rejected: int = 0
    filtered: int = 0
    lost_files: int = 0
    bytes: int = 0
    planned_bytes: int = 0
    tokens_per_s: float | None = None
    seconds_left: float | None = None


_ADDED = tuple(name for name in vars(SourceStatus()) if name not in ("tokens_per_s", "seconds_left"))


@dataclass
class _Recent:
    """What was finished of late, of which speed is made."""

    tokens: int = 0
    bytes: int = 0

    def add(self, tokens: int, size: int) -> None:
        self.tokens, self.bytes = self.tokens + tokens, self.bytes + size


@dataclass(frozen=True)
class Worker:
    """A process that builds, or has ended with an error or without a word.

    Attributes:
        who: "build", or "share 3/64".
        alive: at work; of another machine as far as its last word, `silent_s` seconds ago, tells.
        stage, done, jobs: what it does or did last.
        ended: the error that it ended with.
    """

    who: str
    host: str
    pid: int
    alive: bool
    since: float
    silent_s: float
    stage: str
    done: int
    jobs: int
    ended: str


@dataclass(frozen=True)
class SplitStatus:
    """A split that is not finished and has a log: `word` is the last one there ("began", "failed", "stopped")."""

    name: str
    word: str
    who: str
    at: float
    text: str
    log: str


@dataclass(frozen=True)
class PhaseStatus:
    """How far a phase is.

    Attributes:
        at: when this was looked at, in seconds since 1970.
        state: "planned", "building", "stopped" (or killed: the same command continues) or "finished".
        total, sources: see `SourceStatus`.
        workers: who builds, or was at it last.
        begun: splits that are being made, or were when their worker was killed; of a source the longest at it first.
        failures: splits whose last attempt failed.
        root: of a finished phase.
        stages: stage -> {"seconds", "cpu_s"} that it took: of a finished phase, or of the build that is at work.
    """

    phase: str
    at: float
    state: str
    total: SourceStatus
    sources: Mapping[str, SourceStatus]
    workers: tuple[Worker, ...] = ()
    begun: tuple[SplitStatus, ...] = ()
    failures: tuple[SplitStatus, ...] = ()
    root: str | None = None
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Its attributes as JSON."""
        return asdict(self)

    @property
    def ends_at(self) -> float | None:
        """When its splits will be finished at this speed."""
        return None if self.total.seconds_left is None else self.at + self.total.seconds_left


@dataclass(frozen=True)
class _Made:
    """What is kept of the marker of a finished split; a run may have some ten thousand."""

    name: str
    tokens: int
    records: int
    rejected: int
    filtered: int
    lost_files: int

    @classmethod
    def read(cls, folder: Path) -> _Made:
        marker = read_marker(folder)
        tally = marker.tally
        return cls(
            f"{POOLS}/{marker.source}/{marker.name}",
            marker.tokens,
            tally["records"],
            sum(tally["rejected"].values()),
            sum(tally["filtered"].values()),
            sum(tally["damaged"].values()),
        )


@dataclass
class Watcher:
    """Looks at a phase again and again; a finished split is read once."""

    phase: Phase
    _known: dict[Path, tuple[int, _Made]] = field(default_factory=dict)
    _plan: tuple[int, PlanRecord] | None = None

    def look(self) -> PhaseStatus:
        """How far it is now.

        Raises:
            BuildError: nothing is planned there.
            ShardError: the plan is damaged.
            FormatError: it is of a newer version of this package.
        """
        now, plan = time.time(), self._read_plan()
        beats = [beat for path in self.phase.beats() if (beat := worklog.read_beat(path))]
        alive = [beat for beat in beats if beat.alive]
        again = {name: beat.since for beat in beats for name in beat.again}
        made: dict[str, _Made] = {}
        times: dict[str, float] = {}
        for changed, split in self._finished():
            if changed >= max(again.get(split.name, 0), times.get(split.name, 0)):
                made[split.name], times[split.name] = split, changed
        since = min((beat.since for beat in alive), default=now)
        if any(when > now - _WINDOW_S for when in times.values()):
            since = max(since, now - _WINDOW_S)
        total, all_recent = SourceStatus(), _Recent()
        sources: dict[str, SourceStatus] = {}
        unfinished: list[SplitStatus] = []
        for key, planned in sorted(plan.sources.items()):
            source, recent = SourceStatus(planned_splits=planned.splits, target_tokens=planned.target_tokens), _Recent()
            splits = plan.split_files.get(key, {})
            for name, described in splits.items():
                size = _bytes(described)
                source.planned_bytes += size
                done = made.get(f"{POOLS}/{key}/{name}")
                if done is not None:
                    _add(source, done, size)
                    if times[done.name] > since:
                        recent.add(done.tokens, size)
            _speed(source, recent, now - since)
            sources[key] = source
            all_recent.add(recent.tokens, recent.bytes)
            unfinished += self._unfinished(key, splits, made)
        for name in _ADDED:
            setattr(total, name, sum(getattr(source, name) for source in sources.values()))
        _speed(total, all_recent, now - since)
        state = PLANNED if not (made or beats or unfinished) else BUILDING if alive else STOPPED
        run = records.read_run(self.phase) if self.phase.run_json.exists() else None
        root, stages = (run.root, run.stages) if run is not None else (None, _stages(beats))
        failed = [split for split in unfinished if split.word == worklog.FAILED]
        begun = sorted((split for split in unfinished if split.word != worklog.FAILED), key=lambda split: split.at)
        return PhaseStatus(
            phase=plan.phase,
            at=now,
            state=state if root is None else FINISHED,
            total=total,
            sources=sources,
            workers=tuple(_worker(beat, now) for beat in sorted(beats, key=lambda beat: beat.since)),
            begun=tuple(begun),
            failures=tuple(failed),
            root=root,
            stages={name: {"seconds": spent.seconds, "cpu_s": spent.cpu_s} for name, spent in stages.items()},
        )

    def _read_plan(self) -> PlanRecord:
        try:
            changed = self.phase.plan_json.stat().st_mtime_ns
        except OSError:
            changed = -1
        if self._plan is None or self._plan[0] != changed:
            self._plan = changed, records.read_plan(self.phase)
        return self._plan[1]

    def _finished(self) -> Iterator[tuple[float, _Made]]:
        """(when it was finished, what it holds) of the splits in the pools."""
        root = self.phase.folder / POOLS
        for name in splits_in(root):
            path = root / name / MARKER
            try:
                changed = path.stat().st_mtime_ns
                if self._known.get(path, (0,))[0] != changed:
                    self._known[path] = changed, _Made.read(path.parent)
            except (
                OSError,
                ShardError,
                KeyError,
                AttributeError,
            ):  # not finished, of a mix, or put in place at this moment
                continue
            yield changed / 1e9, self._known[path][1]

    def _unfinished(self, key: str, splits: Mapping[str, Any], made: Mapping[str, _Made]) -> Iterator[SplitStatus]:
        logs = self.phase.log(key, "x").parent
        try:
            names = sorted(path.stem for path in logs.iterdir() if path.suffix == ".log")
        except OSError:
            return
        for split in names:
            if split in splits and f"{POOLS}/{key}/{split}" not in made:
                log = self.phase.log(key, split)
                if (entry := worklog.last_entry(log)) and entry.word != worklog.FINISHED:
                    where = str(log.relative_to(self.phase.folder))
                    yield SplitStatus(f"{key}/{split}", entry.word, entry.who, entry.at, entry.text, where)


def watchers(run: Path) -> list[Watcher]:
    """One for each phase of a run, or for a phase, that a build has planned.

    Raises:
        BuildError: there is no such phase.
    """
    found = [Watcher(phase) for phase in phases_in(run) if phase.plan_json.exists()]
    if not found:
        raise BuildError(
            "no build has planned anything here", where=run, remedy="name the folder that a build writes to"
        )
    return found


def where_time_went(stages: Mapping[str, Mapping[str, float]]) -> str:
    """Each stage with its seconds by the wall and of processors, in a line; empty where nothing is known."""
    return ", ".join(
        f"{name} {_seconds(spent['seconds'])} ({_seconds(spent['cpu_s'])} of processors)"
        for name, spent in stages.items()
        if spent["seconds"] >= _SHOWN_S
    )


def _seconds(value: float) -> str:
    return duration(value) if value >= 10 else f"{value:.1f}s"


def _bytes(described: list[dict[str, Any]]) -> int:
    """Bytes of input of a split, of what the plan says of its files; a part counts alone, an unknown size nothing."""
    total = 0
    for entry in described:
        part, size = entry.get("part"), entry.get("size", 0)
        total += part[1] - part[0] if isinstance(part, list) and len(part) == 2 else max(size, 0)
    return total


def _add(source: SourceStatus, made: _Made, size: int) -> None:
    source.splits += 1
    source.bytes += size
    for name in ("tokens", "records", "rejected", "filtered", "lost_files"):
        setattr(source, name, getattr(source, name) + getattr(made, name))


def _speed(source: SourceStatus, recent: _Recent, seconds: float) -> None:
    left = source.planned_splits - source.splits
    if recent.bytes and seconds > 0:
        source.tokens_per_s = recent.tokens / seconds
        source.seconds_left = max(source.planned_bytes - source.bytes, 0) * seconds / recent.bytes
    if left <= 0:
        source.seconds_left = 0.0


def _stages(beats: list[Beat]) -> Mapping[str, StageTime]:
    """Of the build of the whole, if there is one; shares do one stage."""
    return next((beat.stages for beat in beats if not beat.share), {})


def _worker(beat: Beat, now: float) -> Worker:
    silent = max(now - beat.seen, 0.0)
    return Worker(
        beat.who, beat.host, beat.pid, beat.alive, beat.since, silent, beat.stage, beat.done, beat.jobs, beat.ended
    )
