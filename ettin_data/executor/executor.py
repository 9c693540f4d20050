"""The executor as its users see it: opened once, used for several runs, and gone without a trace."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from ettin_data.executor import worker
from ettin_data.executor.model import Event, ExecutorError, ExecutorOptions, Task, TaskFailure
from ettin_data.executor.pool import WorkerPool
from ettin_data.executor.schedule import Roster, Run

Result = TypeVar("Result")
OnEvent = Callable[[Event], None]


def run_tasks(
    fn: Callable[[Any], Result],
    tasks: Iterable[Task],
    options: ExecutorOptions | None = None,
    *,
    on_result: Callable[[Task, Result], None] | None = None,
    on_event: OnEvent | None = None,
) -> dict[str, Result]:
    """One run with workers of its own; see `Executor.run`. Several runs cost less start-up in one `Executor`."""
    with Executor(options) as executor:
        return executor.run(fn, tasks, on_result=on_result, on_event=on_event)


class Executor:
    """Workers that live for several runs. A context manager; at its end no worker is left.

    In the main thread SIGTERM is a `KeyboardInterrupt` while it is open, unless it has a handler already, and a
    `KeyboardInterrupt` ends the workers (asked first, forced after five seconds) before it goes on.
    """

    def __init__(self, options: ExecutorOptions | None = None) -> None:
        self.options = options or ExecutorOptions()
        self._pool: WorkerPool | None = None
        self._workers = Roster()
        self._sigterm: Any = None

    @property
    def cpu_s(self) -> float:
        """Seconds of processors that its workers have used, as far as they have ended jobs."""
        return self._workers.cpu_s

    def __enter__(self) -> Executor:
        if worker.importing_main:
            raise ExecutorError(
                "a worker started a run of its own while it imported the main script",
                why="the script sends functions or classes of its own to workers, which import the script to find them",
                remedy='put the code that starts the run under `if __name__ == "__main__":`',
            )
        main_thread = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGTERM)
        self._pool = _open_pool(self.options)
        if main_thread:  # after the pool: importing Ray sets a handler of its own
            signal.signal(signal.SIGTERM, before if callable(before) else _interrupt)
            self._sigterm = before if before is not None else signal.SIG_DFL
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close()
        finally:
            if self._sigterm is not None:
                signal.signal(signal.SIGTERM, self._sigterm)
                self._sigterm = None

    def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def run(
        self,
        fn: Callable[[Any], Result],
        tasks: Iterable[Task],
        *,
        on_result: Callable[[Task, Result], None] | None = None,
        on_event: OnEvent | None = None,
    ) -> dict[str, Result]:
        """Call `fn(task.payload)` for every task; returns the results by task name, in the order of `tasks`.

        `fn`, payloads and results are pickled; `fn` must be importable, or on Ray at least known to cloudpickle.
        `on_result` and `on_event` are called in this thread, when something has happened; workers go on meanwhile.

        Raises:
            TaskFailure: tasks failed for good.
            ExecutorError: tasks cannot be started at all.
        """
        if self._pool is None:
            raise ExecutorError("the executor is not open", remedy="use it in a `with` statement")
        run: Run[Result] = Run(self._pool, self._workers, self.options, fn, tuple(tasks), on_result, on_event)
        try:
            return run.results()
        except TaskFailure:
            raise
        except BaseException:  # workers may be in the middle of tasks that nobody will hear of
            self._close()
            raise


def _open_pool(options: ExecutorOptions) -> WorkerPool:
    if options.kind == "ray":
        from ettin_data.executor.ray import RayPool

        return RayPool(options)
    from ettin_data.executor.local import LocalPool

    return LocalPool(options)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt("SIGTERM")
