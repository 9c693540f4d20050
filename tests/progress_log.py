"""A `Progress` for tests: what a stage promised and what was told of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stage:
    title: str
    jobs: int
    work: int
    steps: list[tuple[int, int]] = field(default_factory=list)  # (work, tokens) of each job that was done
    ended: bool = False


@dataclass
class ProgressLog:
    """Keeps everything, and fails where stages overlap or work is told outside of one."""

    stages: list[Stage] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def start(self, title: str, jobs: int, work: int) -> None:
        assert not self.stages or self.stages[-1].ended
        self.stages.append(Stage(title, jobs, work))

    def advance(self, work: int, tokens: int = 0, note: str = "") -> None:
        assert not self.stages[-1].ended
        self.stages[-1].steps.append((work, tokens))

    def say(self, message: str) -> None:
        self.said.append(message)

    def done(self) -> None:
        assert not self.stages[-1].ended
        self.stages[-1].ended = True

    def jobs(self) -> list[tuple[str, int]]:
        """(title, number of jobs) of each stage."""
        return [(stage.title, stage.jobs) for stage in self.stages]
