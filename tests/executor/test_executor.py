"""The executor with real worker processes and a real Ray: what it returns, and what it survives."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import executor_tasks as work
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import SourceError
from ettin_data.executor import (
    Event,
    Executor,
    ExecutorError,
    ExecutorOptions,
    Failure,
    Task,
    TaskFailure,
    run_tasks,
    usable_cores,
)
from ettin_data.executor.worker import is_transient, unseen

Events = list[Event]

RAY_AUTH_MODE, RAY_AUTH_TOKEN = os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN")


def options(**changes: Any) -> ExecutorOptions:
    """Two local workers; a time limit that only a test that means it will meet."""
    return ExecutorOptions(**{"workers": 2, "retry_delay_s": 0.01, "time_limit_s": 60.0} | changes)


@pytest.fixture(scope="module")
def local() -> Iterator[Executor]:
    with Executor(options()) as executor:
        yield executor


@pytest.fixture(scope="module")
def ray() -> Iterator[Executor]:
    """One local Ray instance for all tests. Its time limit is met by the one test that hangs."""
    with Executor(options(kind="ray", time_limit_s=5.0)) as executor:
        yield executor


@pytest.fixture(params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    """Both kinds: what a test with this fixture says holds for local processes and for Ray alike."""
    return request.getfixturevalue(request.param)


def plans(folder: Path, **steps: str) -> list[Task]:
    """One task a keyword: `name="first attempt, second attempt, …"`."""
    made = [work.Plan(name, folder, tuple(words.split(", "))) for name, words in steps.items()]
    return [Task(plan.name, plan) for plan in made]


def kinds(events: Events, task: str | None = None) -> list[str]:
    return [event.kind for event in events if task is None or event.task == task]


# What comes back


def test_results_come_in_the_order_of_the_tasks(executor: Executor) -> None:
    tasks = [Task(f"t{n}", n, weight=n % 7) for n in range(50)]
    seen: dict[str, int] = {}
    results = executor.run(work.double, tasks, on_result=lambda task, result: seen.update({task.name: result}))
    assert list(results.items()) == [(f"t{n}", 2 * n) for n in range(50)]
    assert seen == results


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same(workers: int) -> None:
    tasks = [Task(f"t{n}", n) for n in range(20)]
    events: Events = []
    results = run_tasks(work.double, tasks, options(workers=workers), on_event=events.append)
    assert list(results.items()) == [(f"t{n}", 2 * n) for n in range(20)]
    assert 1 <= kinds(events).count("worker_started") <= workers
    assert {event.pid for event in events}.isdisjoint({os.getpid()})  # one worker is a process of its own too


def test_a_run_without_tasks_starts_nothing(local: Executor) -> None:
    events: Events = []
    assert local.run(work.double, [], on_event=events.append) == {}
    assert events == []


def test_no_more_workers_than_tasks_are_started_and_they_serve_the_next_run() -> None:
    events: Events = []
    with Executor(options(workers=4)) as executor:
        first = executor.run(work.process_id, [Task("only", 0)], on_event=events.append)
        second = executor.run(work.process_id, [Task("again", 0)], on_event=events.append)
    assert kinds(events).count("worker_started") == 1
    assert first["only"] == second["again"]


def test_the_heaviest_start_first() -> None:
    events: Events = []
    tasks = [Task(str(weight), weight, weight=weight) for weight in (3, 9, 1, 7)]
    results = run_tasks(work.double, tasks, options(workers=1), on_event=events.append)
    assert [event.task for event in events if event.kind == "started"] == ["9", "7", "3", "1"]
    assert list(results) == ["3", "9", "1", "7"]


def test_workers_have_one_thread_each(executor: Executor) -> None:
    keys = ["OMP_NUM_THREADS", "RAYON_NUM_THREADS", "FASTOKENS_BPE_THREADS", "TOKENIZERS_PARALLELISM"]
    own = dict(os.environ)
    results = executor.run(work.environment, [Task(key, key) for key in keys])
    assert list(results.values()) == ["1", "1", "1", "false"]
    assert dict(os.environ) == own, "the driver's own environment stays as it was"


def test_a_thousand_tiny_tasks_cost_little(executor: Executor) -> None:
    executor.run(work.double, [Task("warm", 0)])
    began = time.monotonic()
    results = executor.run(work.double, [Task(str(n), n) for n in range(1000)])
    assert len(results) == 1000
    assert time.monotonic() - began < 20  # the promise is 0.1 s a task; `benchmarks/executor.py` has the true numbers


def test_what_a_script_defines_itself_reaches_its_workers() -> None:
    script = Path(work.__file__)
    done = subprocess.run([sys.executable, script, "main", "", "{}"], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("equal\n", 0), done.stderr


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from ettin_data.executor import ExecutorOptions, Task, run_tasks\n"
        "def own(x): return x\n"
        "run_tasks(own, [Task('t', 1)], ExecutorOptions(workers=1))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert 'if __name__ == "__main__"' in done.stderr


def test_a_run_in_another_thread(local: Executor) -> None:
    found: list[dict[str, int]] = []
    thread = threading.Thread(
        target=lambda: found.append(run_tasks(work.double, [Task("t", 4)], options(workers=1))), daemon=True
    )
    thread.start()
    thread.join(60)
    assert found == [{"t": 8}]


# What is survived


def test_a_worker_that_is_killed_is_replaced_and_its_task_tried_again(executor: Executor, tmp_path: Path) -> None:
    events: Events = []
    results = executor.run(work.follow, plans(tmp_path, a="kill, ok", b="ok", c="ok"), on_event=events.append)
    assert list(results) == ["a", "b", "c"]
    assert kinds(events, "a") == ["started", "retried", "started", "finished"]
    assert "worker_died" in kinds(events)


def test_a_worker_that_dies_always_is_a_failure_with_a_name(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as caught:
        executor.run(work.follow, plans(tmp_path, fine="ok", also="ok", fatal="kill"))
    [failure] = caught.value.failures
    assert (failure.task, failure.kind, failure.attempts) == ("fatal", "died", 3)
    assert "Plan(name='fatal'" in failure.payload
    assert caught.value.results == {"fine": "fine", "also": "also"}
    for said in ("1 of 3 tasks failed", "fatal (3 attempts)", "memory"):
        assert said in str(caught.value)


def test_the_signal_or_status_of_a_dead_worker_and_its_last_words(local: Executor, tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as killed:
        local.run(work.follow, plans(tmp_path, fatal="kill"))
    assert "killed by SIGKILL" in killed.value.failures[0].reason
    with pytest.raises(TaskFailure) as left:
        local.run(work.follow, plans(tmp_path, leaver="exit"))
    assert "exited with status 7" in left.value.failures[0].reason
    assert "leaving now" in left.value.failures[0].detail


def test_an_error_of_the_data_is_final_at_once_and_loses_nothing(executor: Executor, tmp_path: Path) -> None:
    tasks = plans(tmp_path, good="ok", bad="data", slow="slow")
    with pytest.raises(TaskFailure) as caught:
        executor.run(work.follow, tasks)
    [failure] = caught.value.failures
    assert (failure.task, failure.kind, failure.attempts) == ("bad", "error", 1)
    assert failure.reason == "ValueError: bad value in bad"
    assert "in follow" in failure.detail and "raise ValueError" in failure.detail
    began = {path.stem for path in tmp_path.iterdir()}
    assert set(caught.value.results) == began - {"bad"}  # what had begun was finished
    assert len(caught.value.results) + caught.value.not_started == 2


def test_an_error_of_ours_is_shown_by_its_message(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as caught:
        executor.run(work.follow, plans(tmp_path, bad="source"))
    [failure] = caught.value.failures
    assert failure.reason == str(
        SourceError("the file is not what it should be", where="part-0.json.gz", remedy="get it again")
    )
    assert failure.detail == "" and failure.attempts == 1


def test_an_error_of_the_machine_is_tried_again(executor: Executor, tmp_path: Path) -> None:
    events: Events = []
    results = executor.run(work.follow, plans(tmp_path, net="machine, machine, ok"), on_event=events.append)
    assert results == {"net": "net"}
    assert kinds(events, "net") == ["started", "retried"] * 2 + ["started", "finished"]
    assert "worker_died" not in kinds(events)
    assert "ConnectionResetError: peer went away; attempt 2 of 3" in events[kinds(events).index("retried")].message


def test_an_error_of_the_machine_that_stays_is_a_failure(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as caught:
        executor.run(work.follow, plans(tmp_path, net="machine"))
    assert [(f.task, f.kind, f.attempts) for f in caught.value.failures] == [("net", "error", 3)]


def test_a_task_that_hangs_is_ended_and_tried_again(ray: Executor, tmp_path: Path) -> None:
    events: Events = []
    with Executor(options(workers=1, time_limit_s=1.0)) as executor:
        results = executor.run(work.follow, plans(tmp_path, here="hang, ok"), on_event=events.append)
    assert results == {"here": "here"}
    assert kinds(events, "here") == ["started", "timed_out", "retried", "started", "finished"]
    events.clear()
    assert ray.run(work.follow, plans(tmp_path, there="hang, ok"), on_event=events.append) == {"there": "there"}
    assert kinds(events, "there") == ["started", "timed_out", "retried", "started", "finished"]


def test_a_task_that_hangs_always_fails_with_the_limit_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as caught:
        run_tasks(work.follow, plans(tmp_path, stuck="hang"), options(workers=1, time_limit_s=1.0, max_attempts=2))
    [failure] = caught.value.failures
    assert (failure.kind, failure.attempts) == ("timed_out", 2)
    assert "time limit of 1s" in failure.reason
    assert "in hang_here" in failure.detail


def test_a_result_that_cannot_be_pickled(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as caught:
        executor.run(work.follow, plans(tmp_path, bad="unpicklable"))
    assert "returned a generator that cannot be pickled" in caught.value.failures[0].reason


def test_a_payload_that_cannot_be_pickled(executor: Executor) -> None:
    with pytest.raises(TaskFailure) as caught:
        executor.run(work.double, [Task("bad", threading.Lock())])
    assert "the payload cannot be pickled" in caught.value.failures[0].reason


def test_memory_over_the_limit_is_a_failure_that_shows_where(tmp_path: Path) -> None:
    events: Events = []
    with pytest.raises(TaskFailure) as caught:
        run_tasks(
            work.follow,
            plans(tmp_path, greedy="memory"),
            options(workers=1, memory_limit=150 * 2**20, max_attempts=2),
            on_event=events.append,
        )
    [failure] = caught.value.failures
    assert "over its limit of 150.0 MiB" in failure.reason and failure.attempts == 2
    assert "in follow" in failure.detail
    assert len({event.pid for event in events if event.kind == "started"}) == 2  # a fresh worker for the second attempt


def test_memory_within_the_limit_is_left_alone(tmp_path: Path) -> None:
    limited = options(workers=1, memory_limit=400 * 2**20)
    assert run_tasks(work.follow, plans(tmp_path, a="slow"), limited) == {"a": "a"}


def test_what_a_task_prints_is_an_event(local: Executor, tmp_path: Path) -> None:
    events: Events = []
    local.run(work.follow, plans(tmp_path, speaker="print"), on_event=events.append)
    assert [event.message for event in events if event.kind == "output"] == ["a word from the worker"]


def test_a_task_that_prints_much_does_not_wait_for_anyone(local: Executor) -> None:
    assert local.run(print_much, [Task("t", 3_000_000)]) == {"t": 3_000_000}


def print_much(characters: int) -> int:
    print("x" * characters)
    return characters


def test_secrets_are_not_shown(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(TaskFailure) as caught:
        executor.run(work.follow, plans(tmp_path, bad="secret"))
    assert "example.org" in str(caught.value)
    assert "hunter2" not in str(caught.value) and "tok123456" not in str(caught.value)


def test_after_a_failure_the_others_have_a_bounded_time(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TaskFailure) as caught:
        run_tasks(work.follow, plans(tmp_path, stuck="hang", bad="slow, ok", worse="data"), options(drain_s=1.0))
    assert [failure.task for failure in caught.value.failures] == ["worse"]
    assert caught.value.stopped == ("stuck",)
    assert time.monotonic() - began < 30


def test_a_failing_callback_leaves_no_worker() -> None:
    pids: set[int] = set()

    def fail(event: Event) -> None:
        pids.add(event.pid)
        if event.kind == "finished":
            raise RuntimeError("no more")

    with Executor(options()) as executor:
        with pytest.raises(RuntimeError, match="no more"):
            executor.run(work.late, [Task("short", 0.1), Task("long", 3600.0)], on_event=fail)
        assert gone_within(pids - {0}, 2)
        with pytest.raises(ExecutorError, match="not open"):
            executor.run(work.double, [])


steps = st.lists(st.sampled_from(["ok", "ok", "kill", "machine", "exit", "data"]), min_size=1, max_size=4)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=st.lists(steps, min_size=1, max_size=6))
def test_any_schedule_of_failures_ends_as_the_rules_say(
    local: Executor, tmp_path_factory: pytest.TempPathFactory, schedule: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("schedule")
    tasks = plans(folder, **{f"t{n}": ", ".join([*steps, "ok"]) for n, steps in enumerate(schedule)})
    expected = {f"t{n}": attempts_needed([*steps, "ok"]) for n, steps in enumerate(schedule)}
    try:
        results = local.run(work.follow, tasks)
    except TaskFailure as failure:
        assert None in expected.values()
        failed = {failed.task: failed for failed in failure.failures}
        assert any(expected[name] is None for name in failed)
        assert failed.keys().isdisjoint(failure.results)
        assert len(failed) + len(failure.results) + failure.not_started + len(failure.stopped) == len(tasks)
        results = failure.results
    else:
        assert list(results) == [task.name for task in tasks]
    for name, result in results.items():
        assert result == name
        assert expected[name] == next(task.payload for task in tasks if task.name == name).attempts()


def attempts_needed(steps: list[str]) -> int | None:
    """How many attempts a task of these steps takes; None when it fails for good."""
    for attempt, step in enumerate(steps[:3], start=1):
        if step in ("ok", "data"):
            return attempt if step == "ok" else None
    return None


# How it ends


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def gone_within(pids: set[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


class Driver:
    """A process that runs tasks and tells its events, to be killed. In a group of its own, as from a terminal."""

    def __init__(self, what: str, folder: Path, **options: Any) -> None:
        arguments = [sys.executable, work.__file__, what, str(folder), json.dumps(options)]
        self.process = subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # who tests in the background ignores it
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.decode())
        self.lines.put("")

    def workers(self, count: int) -> set[int]:
        """The pids of this many workers with a task."""
        pids: set[int] = set()
        while len(pids) < count:
            line = self.lines.get(timeout=120)
            assert line, self.process.stderr and self.process.stderr.read()
            event = json.loads(line)
            pids |= {event["pid"]} if event["kind"] == "started" else set()
        return pids

    def wait(self, timeout: float) -> int:
        try:
            return self.process.wait(timeout)
        finally:
            self.process.kill()
            self.process.wait()
            self.reader.join(10)
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None
                pipe.close()


def files_appear(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(folder.iterdir())) == count


def test_workers_die_with_their_driver(tmp_path: Path) -> None:
    driver = Driver("hold", tmp_path, workers=2)
    pids = driver.workers(2)
    files_appear(tmp_path, 2)
    driver.process.kill()
    assert gone_within(pids, 2)
    assert driver.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("send", ["ctrl-c", "term"])
def test_an_interrupt_ends_everything_cleanly(tmp_path: Path, send: str) -> None:
    driver = Driver("hold", tmp_path, workers=2)
    pids = driver.workers(2)
    files_appear(tmp_path, 2)
    if send == "ctrl-c":
        os.killpg(driver.process.pid, signal.SIGINT)  # a terminal's goes to the whole group, workers included
    else:
        driver.process.terminate()
    assert gone_within({*pids, driver.process.pid}, 10)
    assert driver.wait(10) != 0
    assert "interrupted\n" in list(driver.lines.queue)
    assert list(tmp_path.iterdir()) == []  # the tasks had time to remove their temporary files


@pytest.mark.slow
def test_actors_die_with_their_driver(tmp_path: Path) -> None:
    driver = Driver("hold", tmp_path, workers=2, kind="ray")
    pids = driver.workers(2)
    driver.process.kill()
    assert gone_within(pids, 20)  # about 3 seconds when the machine is idle; Ray's own agents take a minute to give up
    driver.wait(10)


@pytest.mark.slow
def test_a_node_that_joins_is_used_and_one_that_is_lost_costs_no_attempt(tmp_path: Path) -> None:
    script = [sys.executable, work.__file__, "cluster", str(tmp_path), json.dumps({"kind": "ray"})]
    done = subprocess.run(script, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"kind"')]
    assert events[-1]["results"] == {f"t{n}": f"t{n}" for n in range(20)}
    seen = [event["kind"] for event in events]
    assert seen.count("worker_started") >= 3 and "worker_died" in seen
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_worker_looks_for_what_the_driver_left_in_the_shared_folder(tmp_path: Path) -> None:
    token, other = tmp_path / "token", tmp_path / "other"
    token.write_text("of this driver")
    other.write_bytes(b"\xff")
    assert unseen((str(token), "of this driver")) is None
    assert unseen((str(token), "of another")) == f"{token} is another file there"
    assert unseen((str(tmp_path / "no folder" / "token"), ""))
    assert unseen((str(tmp_path / "not there"), ""), patience_s=0.0)
    assert unseen((str(other), ""), patience_s=0.0)


def test_a_file_server_may_show_it_a_moment_later(tmp_path: Path) -> None:
    token = tmp_path / "token"
    threading.Timer(0.3, token.write_text, ["here"]).start()
    assert unseen((str(token), "here"), patience_s=20.0) is None


# What is refused


def test_no_worker_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExecutorError, match="3 workers in a row died before they could take a task"):
        run_tasks(work.double, [Task("t", 1)], options(workers=1))


def test_a_worker_that_does_not_come_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"  # starts for the first worker only
    python.write_text(f'#!/bin/sh\nmkdir {tmp_path}/first 2>&- && exec {sys.executable} "$@"\nexec sleep 600\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    used = time.process_time()
    results = run_tasks(work.late, [Task(str(n), 1.2) for n in range(4)], options(start_limit_s=2.5))
    assert len(results) == 4
    assert time.process_time() - used < 1.0  # waiting is not spinning


def test_a_worker_that_dies_between_two_runs_costs_no_attempt(tmp_path: Path) -> None:
    events: Events = []
    with Executor(options(workers=1, max_attempts=1)) as executor:
        pid = executor.run(work.process_id, [Task("first", 0)])["first"]
        descriptor = os.pidfd_open(pid)  # readable when the last of its threads has ended, as a zombie's state is not
        os.kill(pid, signal.SIGKILL)
        assert select.select([descriptor], [], [], 5)[0]
        os.close(descriptor)
        assert executor.run(work.double, [Task("second", 1)], on_event=events.append) == {"second": 2}
    assert kinds(events)[0] == "worker_died"


def test_ray_without_room_says_what_there_is(ray: Executor) -> None:
    ray.run(work.late, [Task("a", 0.5), Task("b", 0.5)])  # its two actors hold the two CPUs
    with Executor(options(kind="ray", start_limit_s=1.5)) as second:
        with pytest.raises(ExecutorError, match="no worker could start within 2s") as caught:
            second.run(work.double, [Task("t", 1)])
    assert "1 Ray nodes with 2 CPUs" in str(caught.value)
    assert ray.run(work.double, [Task("t", 1)]) == {"t": 2}  # a second user of the same Ray does not end it


def test_a_head_that_does_not_answer_is_waited_for_and_then_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is asked of a Ray without a head: this pool has none to ask."""
    module = importlib.import_module("ettin_data.executor.ray")
    pool = module.RayPool.__new__(module.RayPool)
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    pool._answered, pool._silent_since, pool._nodes_there = 0.0, None, {"node": 2}
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool._head = f"127.0.0.1:{server.getsockname()[1]}"
        assert pool._answers()
    assert not pool._answers()
    assert pool._alive() == {"node": 2} and "no head" in pool.resources()
    with socket.create_server(("127.0.0.1", int(pool._head.rpartition(":")[2]))):  # it was started again
        assert pool._answers() and pool._silent_since is None
    monkeypatch.setattr(module, "_SILENT_S", 0.0)
    with pytest.raises(ExecutorError, match=r"the head of the Ray cluster at 127\.0\.0\.1.* is lost") as caught:
        pool.wait(1.0)
    assert "the same command" in str(caught.value)


@pytest.mark.slow
def test_a_lost_head_ends_in_our_words(tmp_path: Path) -> None:
    """Before Ray, a minute after, ends the process with one line of its own."""
    start = time.monotonic()
    script = [sys.executable, work.__file__, "lost_head", str(tmp_path), json.dumps({"kind": "ray"})]
    done = subprocess.run(script, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stderr
    assert "is lost" in done.stderr and "start the cluster again, then the same command" in done.stderr
    assert time.monotonic() - start < 100


def test_ray_does_not_change_how_other_rays_of_this_process_start(ray: Executor) -> None:
    ray.run(work.double, [Task("t", 1)])
    assert os.environ.get("RAY_AUTH_MODE") == RAY_AUTH_MODE
    assert os.environ.get("RAY_AUTH_TOKEN") == RAY_AUTH_TOKEN


def test_ray_listens_on_loopback_only(ray: Executor) -> None:
    ray.run(work.double, [Task("t", 1)])
    listening = {
        connection.laddr.ip
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening and all(address.removeprefix("::ffff:").startswith("127.") for address in listening)


def test_a_function_that_no_worker_can_find(local: Executor) -> None:
    with pytest.raises(ExecutorError, match="cannot be sent to a worker"):
        local.run(lambda x: x, [Task("t", 1)])


def test_names_are_unique(local: Executor) -> None:
    with pytest.raises(ExecutorError, match="two tasks have the same name: a"):
        local.run(work.double, [Task("a", 1), Task("b", 1), Task("a", 2)])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"kind": "threads"}, "'threads' is not a kind of executor"),
        ({"workers": 0}, "workers must be more than 0, not 0"),
        ({"max_attempts": 0}, "max_attempts must be more than 0, not 0"),
        ({"time_limit_s": -1.0}, "time_limit_s must be more than 0, not -1.0"),
        ({"drain_s": -1.0}, "drain_s must not be less than 0, not -1.0"),
        ({"ray_address": "auto"}, "a Ray address is given, but the executor is 'local'"),
    ],
)
def test_options_that_make_no_sense(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(ExecutorError, match=said):
        ExecutorOptions(**bad)


# The small parts


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 2),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "max 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/cpu.max": "150000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "800000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/job\n0::/\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
    ],
)
def test_usable_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(5, "Input/output error"), True),
        (ConnectionResetError(104, "reset"), True),
        (TimeoutError(), True),
        (MemoryError(), True),
        (FileNotFoundError(2, "No such file"), False),
        (PermissionError(13, "denied"), False),
        (OSError(28, "No space left on device"), False),
        (OSError(30, "Read-only file system"), False),
        (SourceError("bad"), False),
        (ValueError("bad"), False),
        (KeyError("bad"), False),
    ],
)
def test_which_errors_are_tried_again(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient


def test_errors_of_network_libraries_are_tried_again() -> None:
    import http.client

    import aiohttp

    assert is_transient(aiohttp.ServerDisconnectedError())
    assert is_transient(http.client.IncompleteRead(b""))


def test_a_failure_survives_pickling() -> None:
    failure = TaskFailure([Failure("t", "error", 1, "ValueError: bad", "Traceback …", "1")], {"u": 2}, ["v"], 3)
    again = pickle.loads(pickle.dumps(failure))
    assert str(again) == str(failure)
    assert (again.failures, again.results, again.stopped, again.not_started) == (failure.failures, {"u": 2}, ("v",), 3)


@pytest.mark.parametrize("attempt, delay", [(1, 0.5), (2, 1.0), (3, 2.0), (100, 60.0)])
def test_the_delay_doubles_up_to_a_minute(attempt: int, delay: float) -> None:
    assert ExecutorOptions(retry_delay_s=0.5).retry_delay(attempt) == delay
