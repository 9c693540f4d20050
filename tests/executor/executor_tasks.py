"""Functions for `test_executor.py` to run in workers, and a driver to kill.

Apart from the tests, so that a worker that imports it does not import pytest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_data.base.errors import SourceError
from ettin_data.executor import Event, Executor, ExecutorOptions, Task


def double(value: int) -> int:
    return 2 * value


def process_id(_: object) -> int:
    return os.getpid()


def environment(key: str) -> str | None:
    return os.environ.get(key)


def late(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@dataclass(frozen=True)
class Plan:
    """What a task does in each of its attempts; the last entry holds for all further ones. `folder` counts attempts."""

    name: str
    folder: Path
    steps: tuple[str, ...]

    def attempts(self) -> int:
        return len(list(self.folder.glob(f"{self.name}.*")))


def follow(plan: Plan) -> str:
    attempt = plan.attempts()
    (plan.folder / f"{plan.name}.{attempt}").touch()
    step = plan.steps[min(attempt, len(plan.steps) - 1)]
    match step:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            print("leaving now", flush=True)
            os._exit(7)
        case "hang":
            hang_here()
        case "slow":
            time.sleep(0.5)
        case "machine":
            raise ConnectionResetError("peer went away")
        case "data":
            raise ValueError(f"bad value in {plan.name}")
        case "source":
            raise SourceError("the file is not what it should be", where="part-0.json.gz", remedy="get it again")
        case "unpicklable":
            return (n for n in range(3))  # type: ignore[return-value]
        case "memory":
            held = []
            while True:
                held.append(bytearray(os.urandom(2**20)) * 4)
                time.sleep(0.001)
        case "secret":
            raise ValueError("GET https://someone:hunter2@example.org/x?token=tok123456 failed")
        case "print":
            print("a word from the worker")
    return plan.name


def hang_here() -> None:
    time.sleep(3600)


def hold(folder: str) -> None:
    """A long task with a temporary file that its end should remove."""
    temporary = Path(folder) / f"{os.getpid()}.tmp"
    temporary.touch()
    try:
        time.sleep(3600)
    finally:
        temporary.unlink()


@dataclass(frozen=True)
class Mine:
    """Defined in the main module when this file is run."""

    value: int


def mine(value: Mine) -> Mine:
    return Mine(value.value + 1)


def _tell(event: Event) -> None:
    said = {"kind": event.kind, "task": event.task, "pid": event.pid, "message": event.message}
    print(json.dumps(said) + "\n", end="", flush=True)  # in one piece: Ray writes to the same stream


def drive_hold(folder: str, options: dict[str, Any]) -> None:
    with Executor(ExecutorOptions(**options)) as executor:
        try:
            executor.run(hold, [Task(f"task {n}", folder) for n in range(4)], on_event=_tell)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            raise


def drive_main(_: str, options: dict[str, Any]) -> None:
    with Executor(ExecutorOptions(**options)) as executor:
        results = executor.run(mine, [Task(str(n), Mine(n)) for n in range(3)])
    assert list(results.values()) == [Mine(1), Mine(2), Mine(3)], results
    print("equal", flush=True)


def drive_cluster(folder: str, options: dict[str, Any]) -> None:
    """One node, to which a second comes when a task is done; it goes when it has tasks of its own."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node, lost, workers = None, False, 0

    def change(event: Event) -> None:
        nonlocal node, lost, workers
        _tell(event)
        workers += event.kind == "worker_started"
        if node is None and event.kind == "finished":
            node = cluster.add_node(num_cpus=2)
        elif not lost and workers == 3 and event.kind == "finished":
            lost = True
            cluster.remove_node(node, allow_graceful=False)

    try:
        shared = ExecutorOptions(ray_address=cluster.address, shared=folder, max_attempts=1, **options)
        with Executor(shared) as executor:
            plans = [Plan(f"t{n}", Path(folder), ("ok", "ok")) for n in range(20)]
            results = executor.run(follow_slowly, [Task(plan.name, plan) for plan in plans], on_event=change)
        print(json.dumps({"kind": "results", "results": results}), flush=True)
    finally:
        cluster.shutdown()


def drive_lost_head(folder: str, options: dict[str, Any]) -> None:
    """The head goes in the middle of a task, and everything on it at once."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})

    def lose(event: Event) -> None:
        if event.kind == "finished":
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)

    with Executor(ExecutorOptions(ray_address=cluster.address, shared=folder, **options)) as executor:
        plans = [Plan(f"t{n}", Path(folder), ("ok", "ok")) for n in range(20)]
        executor.run(follow_slowly, [Task(plan.name, plan) for plan in plans], on_event=lose)


def follow_slowly(plan: Plan) -> str:
    (plan.folder / f"{plan.name}.{plan.attempts()}").touch()
    time.sleep(2)
    return plan.name


if __name__ == "__main__":
    what, where, given = sys.argv[1:]
    {"hold": drive_hold, "main": drive_main, "cluster": drive_cluster, "lost_head": drive_lost_head}[what](
        where, json.loads(given)
    )
