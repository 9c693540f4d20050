"""How long each stage of a build takes, by the wall and of processors: of record only, and of no digest."""

from __future__ import annotations

import time

from ettin_data.executor import Executor
from ettin_data.storage.records import StageTime
from ettin_data.storage.worklog import Beat


class Clock:
    """Adds up stages that follow each other; all of the time since it was made belongs to one of them.

    Those of a build are `start` (tokenizer, lock and a cluster), `plan` (what the recipe names is found and listed),
    `tokenize` (the splits of the pools), `copies` (what needs whole sources), `mix` (what is taken), `train`,
    `validation`, `order` and `records` (digests, card, and all of it on the disk).

    Attributes:
        workers: whose processor time counts as well, as far as they have ended jobs.
        beat: what the build says of itself, which has the stages too.
    """

    def __init__(self) -> None:
        self.workers: Executor | None = None
        self.beat: Beat | None = None
        self._stages: dict[str, StageTime] = {}
        self._began = self._last = time.monotonic()
        self._cpu = time.process_time()

    def ended(self, stage: str) -> None:
        """What was done since the last stage was of this one."""
        now, cpu = time.monotonic(), self._processors()
        before = self._stages.get(stage, StageTime(seconds=0.0, cpu_s=0.0))
        spent = StageTime(seconds=before.seconds + now - self._last, cpu_s=max(before.cpu_s + cpu - self._cpu, 0.0))
        self._stages[stage], self._last, self._cpu = spent, now, cpu
        if self.beat is not None:
            self.beat.stages = self.stages

    def _processors(self) -> float:
        return time.process_time() + (self.workers.cpu_s if self.workers is not None else 0.0)

    @property
    def seconds(self) -> float:
        """Of all that has ended, since the clock was made, to a tenth."""
        return round(self._last - self._began, 1)

    @property
    def stages(self) -> dict[str, StageTime]:
        """Stage -> its time, in the order in which they first ended."""
        return {
            name: StageTime(seconds=round(spent.seconds, 3), cpu_s=round(spent.cpu_s, 3))
            for name, spent in self._stages.items()
        }
