"""What machines do to a build: each gives a message with the place and the remedy, loses nothing, and is got over."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import kernel_kill
import pytest
import tamper
import tiny_run
from progress_log import ProgressLog

from ettin_data.base import disk_errors
from ettin_data.base.errors import BuildError, EttinError
from ettin_data.base.lock import holder, locked
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions
from ettin_data.chaos.child import Attempt, Job, as_json, attempt, workers_of
from ettin_data.chaos.disk import filled, small_disk
from ettin_data.chaos.network import moody_server
from ettin_data.chaos.schedule import Step
from ettin_data.executor import ExecutorOptions, Task, TaskFailure, run_tasks
from ettin_data.inspect.diff import compare
from ettin_data.storage.phase import LOCK, splits_in
from ettin_data.verify import SOUND, verify_phase

EXECUTOR = {"workers": 1, "retry_delay_s": 0.05, "time_limit_s": 300.0}


def job(recipe, out: Path, **executor: object) -> Job:
    return Job(as_json(recipe), out, None, {**EXECUTOR, **executor})


def splits(out: Path) -> set[str]:
    return set(splits_in(out / "pretrain/pools"))


# ---------------------------------------------------------------------------------------------------------------------
# disks


@pytest.mark.parametrize("how", ["a small disk", pytest.param("a limit of file sizes", marks=pytest.mark.slow)])
def test_a_full_disk(tiny_recipe, tiny_phase: Path, tmp_path: Path, how: str) -> None:
    """Some splits are finished, then there is no room: what is finished stays, and the build goes on when there is."""
    out = tmp_path / "disk"
    with small_disk(out, 16 << 20) if how == "a small disk" else nullcontext(False) as mounted:
        if how == "a small disk" and not mounted:
            pytest.skip("no disk can be mounted here")
        assert attempt(job(tiny_recipe, out), [Step("kill driver", "train")]).how == "killed"
        shutil.rmtree(out / "pretrain/pools/beta")
        before = splits(out)
        if mounted:
            with filled(out):
                done = attempt(job(tiny_recipe, out))
        else:
            done = attempt(Job(as_json(tiny_recipe), out, None, EXECUTOR, file_limit=4096))
        assert done.how == "failed"
        what = "the disk is full" if mounted else "a file is larger"
        assert what in done.message and "the same command then continues" in done.message
        assert "pools/beta/part" in done.message
        assert before <= splits(out)
        assert attempt(job(tiny_recipe, out)).how == "built"
        assert compare(out / "pretrain", tiny_phase).equal


@pytest.mark.parametrize(
    ("number", "what", "remedy"),
    [
        (errno.ENOSPC, "the disk is full", "free some space"),
        (errno.EDQUOT, "quota", "raise the quota"),
        (errno.EFBIG, "larger", "shards.size_limit"),
        (errno.EROFS, "read-only", "mount it writable"),
        (errno.EACCES, "not permitted", "give this user permission"),
    ],
)
def test_what_a_disk_refuses_is_explained(number: int, what: str, remedy: str) -> None:
    with pytest.raises(BuildError) as caught, disk_errors.explained("runs/a"):
        raise OSError(number, os.strerror(number), "runs/a/b")
    said = str(caught.value)
    assert what in said and remedy in said and "runs/a/b" in said and "the same command then continues" in said
    with pytest.raises(ConnectionResetError), disk_errors.explained("runs/a"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")  # of the network: tried again, not explained


@pytest.mark.parametrize(
    ("number", "what"),
    [(errno.EIO, "input or output"), (errno.ESTALE, "file server"), (errno.EINVAL, "file system does not")],
)
def test_what_may_pass_is_tried_again_by_workers_and_explained_by_the_driver(number: int, what: str) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "runs/a/b")

    with pytest.raises(OSError) as raw, disk_errors.explained("runs/a"):
        fail()
    assert raw.value.errno == number
    with pytest.raises(BuildError, match=rf"(?s){what}.*runs/a/b.*do: .*the same command"):
        with disk_errors.explained("runs/a", last=True):
            fail()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_fails_under_the_driver_is_explained(tiny_recipe, tmp_path: Path, monkeypatch, number: int) -> None:
    """At the first and at the last sync; the same command then continues."""
    fsync, calls = os.fsync, iter(range(10**9))

    def fail_at(wanted: int) -> None:
        def fail(descriptor: int) -> None:
            if next(calls) == wanted:
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        monkeypatch.setattr("os.fsync", fail)

    options = BuildOptions(tmp_path, None, None)
    fail_at(0)
    with pytest.raises(BuildError, match=r"(?s)the same command then continues"):
        run.build_phase(tiny_recipe, options)
    monkeypatch.setattr("os.fsync", fsync)
    assert run.build_phase(tiny_recipe, options).root


def test_a_file_system_that_syncs_no_folders_is_used(tiny_recipe, tiny_phase, tmp_path: Path, monkeypatch) -> None:
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", refuse)
    run.build_phase(tiny_recipe, BuildOptions(tmp_path, None, None))
    assert compare(tmp_path / "pretrain", tiny_phase).equal


def test_used_up_inodes_are_called_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = "size=64m,nr_inodes=20"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(BuildError, match=r"(?s)no room for more files.*inodes.*do: remove files"):
            with disk_errors.explained(disk):
                try:
                    for number in range(30):
                        (disk / str(number)).touch()
                finally:  # as who fails removes what is not finished
                    (disk / "3").unlink()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    with pytest.raises(BuildError, match="the disk is full"), disk_errors.explained(tmp_path):
        raise OSError(errno.ENOSPC, "full", str(tmp_path / "there" / "is" / "room"))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nothing can be written to, for root as for others."""
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    with small_disk(folder, 1 << 20) as mounted:
        if not mounted:
            pytest.skip("root may write everywhere, and may not mount here")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield


def test_a_read_only_folder(tiny_recipe, tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(BuildError, match=r"(?s)(read-only|not permitted).*where: .*do: "):
        run.build_phase(tiny_recipe, BuildOptions(tmp_path, None, None))


@pytest.mark.parametrize("year", [1971, 2100])
def test_a_clock_that_jumps(tiny_recipe, copied: Path, tiny_phase: Path, year: int) -> None:
    """Times only say what to look at again: files from the future, or older than their sources, change nothing."""
    jumped = time.mktime((year, 1, 1, 0, 0, 0, 0, 0, 0))
    for path in copied.rglob("shard.*"):
        os.utime(path, (jumped, jumped))
    assert tiny_run.stages_of(tiny_recipe, copied.parent) == []
    assert compare(copied, tiny_phase).equal


# ---------------------------------------------------------------------------------------------------------------------
# workers


def test_a_split_that_kills_every_worker_is_named(tiny_root: Path, tmp_path: Path) -> None:
    """As a document that takes all memory would: after three attempts the run stops and says where."""
    sources, out, poison, done, kills = tmp_path / "sources", tmp_path / "out", "part_0002", threading.Event(), []
    shutil.copytree(tiny_root, sources)
    long = sources / "alpha/part-0002.jsonl"  # long enough to be caught at work
    long.write_text(long.read_text() * 50)
    recipe = tiny_run.tiny_recipe(sources)

    def kill() -> None:
        while not done.wait(0.001):
            if left := [path.name for path in (out / "pretrain/pools/alpha").glob(f".tmp-{poison}*")]:
                for worker in workers_of(os.getpid()) if left[-1] not in kills else []:
                    os.kill(worker, signal.SIGKILL)
                    kills.append(left[-1])
                shutil.rmtree(out / "pretrain/pools/alpha" / left[-1], ignore_errors=True)

    thread = threading.Thread(target=kill)
    thread.start()
    options = BuildOptions(out, None, ExecutorOptions(workers=1, retry_delay_s=0.5))
    try:
        with pytest.raises(TaskFailure) as stopped:
            run.build_phase(recipe, options)
    finally:
        done.set()
        thread.join()
    said = str(stopped.value)
    assert f"pools/alpha/{poison} (3 attempts): the worker was killed by SIGKILL" in said
    assert "memory" in said and "part-0002.jsonl" in said and len(kills) == 3
    finished = len(splits(out))
    assert finished == len(stopped.value.results) > 0
    planned = json.loads((out / "pretrain/plan.json").read_text())["totals"]["splits"]
    assert tiny_run.stages_of(recipe, out)[0] == ("tokenize", planned - finished)


def test_a_worker_over_its_memory(tiny_root: Path, tmp_path: Path) -> None:
    recipe = tiny_run.tiny_recipe(tiny_root, 1)
    done = attempt(job(recipe, tmp_path, memory_limit=16 << 20, max_attempts=2))
    assert done.how == "failed" and "over its limit of 16" in done.message and "2 attempts" in done.message
    assert attempt(job(recipe, tmp_path)).how == "built"


@pytest.mark.parametrize("always", [False, True])
def test_a_worker_that_the_kernel_kills_for_memory(tmp_path: Path, always: bool) -> None:
    """The real thing, in a cgroup with little room: tried again, and if it is so every time, said with its input."""
    with kernel_kill.small_memory() as group:
        if group is None:
            pytest.skip("no memory cgroup can be made here")
        payload = (str(group), "" if always else str(tmp_path / "tried"))
        said: list[str] = []
        arguments = (kernel_kill.take_memory, [Task("pools/a/b", payload)])
        options = ExecutorOptions(workers=1, max_attempts=2, retry_delay_s=0.01)
        if always:
            with pytest.raises(TaskFailure, match=r"(?s)pools/a/b \(2 attempts\).*out of memory.*use fewer workers"):
                run_tasks(*arguments, options)
            return
        assert run_tasks(*arguments, options, on_event=lambda event: said.append(f"{event.kind} {event.message}")) == {
            "pools/a/b": "done"
        }
        assert any("most likely out of memory" in line for line in said), said


@pytest.mark.slow
@pytest.mark.parametrize("attempts", [1, 3])
def test_a_worker_that_hangs(tiny_root: Path, tiny_phase: Path, tmp_path: Path, attempts: int) -> None:
    """Stopped in the middle of a split: the time limit ends it, and another worker makes the split or it is named."""
    sources, out, done = tmp_path / "sources", tmp_path / "out", threading.Event()
    shutil.copytree(tiny_root, sources)
    long = sources / "alpha/part-0002.jsonl"  # long enough to be caught at work
    long.write_text(long.read_text() * 30)
    recipe = tiny_run.tiny_recipe(sources)

    def hang() -> None:
        while not done.wait(0.001):
            if list((out / "pretrain/pools/alpha").glob(".tmp-part_0002*")):
                os.kill(workers_of(os.getpid())[0], signal.SIGSTOP)
                return

    thread = threading.Thread(target=hang)
    thread.start()
    progress = ProgressLog()
    limits = ExecutorOptions(workers=1, retry_delay_s=0.1, time_limit_s=10.0, max_attempts=attempts)
    options = BuildOptions(out, None, limits, progress=progress)
    try:
        if attempts == 1:
            with pytest.raises(
                TaskFailure, match=r"(?s)pools/alpha/part_0002 \(1 attempt\): stopped at the time limit"
            ):
                run.build_phase(recipe, options)
            return
        run.build_phase(recipe, options)
    finally:
        done.set()
        thread.join()
    assert any("timed out pools/alpha/part_0002" in line for line in progress.said)
    assert compare(out / "pretrain", tiny_run.build(recipe, tmp_path / "undisturbed")).equal


# ---------------------------------------------------------------------------------------------------------------------
# people


def test_the_second_build_is_refused_and_told_of_the_first(tiny_recipe, copied: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tamper.files(copied)}
    with locked(copied / LOCK):
        with pytest.raises(
            BuildError, match=rf"(?s)another build writes here.*process {os.getpid()} on .* since .*do: "
        ):
            run.build_phase(tiny_recipe, BuildOptions(copied.parent, None, None))
        (report,) = [verify_phase(copied)]
        assert report.status == SOUND  # looking is not writing
        (copied / "run.json").rename(copied / "aside")
        assert f"a build is at work here (process {os.getpid()}" in verify_phase(copied).notes[0]
        (copied / "aside").rename(copied / "run.json")
    assert {path: path.stat().st_mtime_ns for path in tamper.files(copied)} == before


def test_a_lock_of_a_dead_process_does_not_hold(tiny_recipe, copied: Path) -> None:
    (copied / ".lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "long ago"}))
    assert tiny_run.stages_of(tiny_recipe, copied.parent) == []


def test_looking_who_builds_keeps_nobody_from_building(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            holder(tmp_path / LOCK)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            with locked(tmp_path / LOCK):
                pass
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGHUP, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
    ids=str,
)
def test_a_signal_stops_within_seconds_and_says_how_to_go_on(
    tiny_root: Path, tiny_recipe, tiny_phase, tmp_path, number: int, status: int
) -> None:
    """Twice: once in the middle of the splits, then the same command to the end."""
    written = tmp_path / "recipe.yaml"
    written.write_text(json.dumps(tiny_recipe.model_dump(mode="json")))
    command = [
        sys.executable,
        "-m",
        "ettin_data.cli",
        "build",
        str(written),
        "--out",
        str(tmp_path),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # who runs the tests under nohup has it ignored
    )
    deadline = time.monotonic() + 60
    while not splits(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, number) if number != signal.SIGTERM else process.send_signal(number)
    asked = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert process.returncode == status and "the same command continues" in said
    if number == signal.SIGINT:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert compare(tmp_path / "pretrain", tiny_phase).equal


def test_no_secret_is_written_or_said(tiny_root: Path, tmp_path: Path) -> None:
    """Credentials in a URL reach the server, and no file, message or error."""
    secret = "hunter2"
    with moody_server(tiny_root, 0, 0.0) as url:
        root = url.replace("://", f"://someone:{secret}@")
        recipe = tiny_run.tiny_recipe(tiny_root)
        sources = {
            key: {**choice.model_dump(), "root": f"{root}{key}/", "globs": [f"part-{{0000..000{end}}}.jsonl"]}
            for (key, choice), end in zip(recipe.sources.items(), (3, 1), strict=True)
        }
        recipe = type(recipe).model_validate({**recipe.model_dump(), "sources": sources})
        progress = ProgressLog()
        options = BuildOptions(tmp_path, None, ExecutorOptions(workers=1), progress=progress)
        summary = run.build_phase(recipe, options)
        elsewhere = {key: {**choice, "root": f"{root}nowhere/"} for key, choice in sources.items()}
        elsewhere = type(recipe).model_validate({**recipe.model_dump(), "sources": elsewhere})
        with pytest.raises(EttinError) as stopped:
            run.build_phase(elsewhere, BuildOptions(tmp_path / "again", None, None))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert secret not in f"{summary} {progress.said} {stopped.value}" and "nowhere" in str(stopped.value)
    assert "***@" in (tmp_path / "pretrain/plan.json").read_text()


def test_attempts_are_what_they_say(tiny_recipe, tmp_path: Path) -> None:
    """The harness itself: a kill at a boundary is at that boundary."""
    done = attempt(job(tiny_recipe, tmp_path), [Step("kill driver", "tokenize")])
    assert (done.how, done.used, done.struck) == ("killed", 1, ["kill driver at tokenize"])
    assert splits(tmp_path) == set() and isinstance(done, Attempt)
    done = attempt(job(tiny_recipe, tmp_path), [Step("kill driver", "train")])
    assert len(splits(tmp_path)) == 6 and not (tmp_path / "pretrain/train/index.json").exists()


def test_an_error_of_ours_about_a_disk_says_what_helps(tmp_path: Path) -> None:
    found = EttinError("plan.json cannot be read", where=tmp_path, why=OSError(errno.EIO, "input/output error"))
    assert found.remedy and "dmesg" in str(found)
    assert EttinError("x", why=OSError(errno.EIO, ""), remedy="its own").remedy == "its own"
    assert EttinError("x", why=FileNotFoundError(errno.ENOENT, "")).remedy is None
