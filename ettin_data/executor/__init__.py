"""Runs independent tasks in parallel, on this machine or on a Ray cluster, and survives what goes wrong with them.

    with open_workers(ExecutorOptions(workers=8, time_limit_s=3600)) as workers:
        markers = perform(build_split, [Task("pools/arxiv/arxiv_0004", payload, weight=bytes), …], workers, Bar())

A task is one call of a picklable function with one small picklable payload, in a worker that lives for many tasks and
so imports once. Bulk data never passes through here: a task reads its input from storage and writes its output there.

* A worker that dies (SIGKILL, out of memory, a lost node), or exceeds its memory or the time limit, is replaced and its
  task is tried again, `max_attempts` times in all. So is a task that met an error of the machine or the network. An
  error of the data or the code is final at once.
* After a final failure nothing new starts, what is in flight may finish, and the error of a task arrives as it is; what
  is no `EttinError` comes as `TaskFailure`, which names every failed task, and whose `results` hold what was finished.
* Results come in the order of the tasks: nothing depends on the number of workers or on who was faster.

Rooms: `perform` (what every command calls: here or on workers), `model` and `executor` (what the caller sees),
`schedule` (the one loop), `pool` (what the loop asks of workers),
`local` and `ray` (the two kinds of workers), `worker` and `process` (what runs inside one), `machine` (cores,
environment, exits).
"""

from ettin_data.executor.executor import Executor, run_tasks
from ettin_data.executor.machine import usable_cores
from ettin_data.executor.model import Event, ExecutorError, ExecutorOptions, Failure, Task, TaskFailure
from ettin_data.executor.perform import open_workers, perform

__all__ = [
    "Event", "Executor", "ExecutorError", "ExecutorOptions", "Failure", "Task", "TaskFailure", "open_workers",
    "perform", "run_tasks", "usable_cores",
]  # fmt: skip
