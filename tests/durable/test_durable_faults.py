"""What machines do to a build: each gives a message with the place and the remedy, loses nothing, and is got over."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tamper
import tiny_run

from ettin_data import marker as markers
from ettin_data import run, verify
from ettin_data.chaos.child import Attempt, Job, as_json, attempt, workers_of
from ettin_data.chaos.disk import filled, small_disk
from ettin_data.chaos.network import moody_server
from ettin_data.chaos.schedule import Step
from ettin_data.diff import compare
from ettin_data.errors import BuildError, EttinError, ShardError
from ettin_data.executor import ExecutorOptions, TaskFailure
from ettin_data.lock import locked
from ettin_data.resolve import BuildOptions, resolve, states
from ettin_data.verify import SOUND, VerifyOptions

EXECUTOR = {"workers": 1, "retry_delay_s": 0.05, "time_limit_s": 300.0}


def job(recipe, out: Path, **executor: object) -> Job:
    return Job(as_json(recipe), out, None, {**EXECUTOR, **executor})


def splits(out: Path) -> set[str]:
    return set(markers.splits_in(out / "pretrain/pools"))


def stages_of(recipe, out: Path) -> list[tuple[str, int]]:
    """What a build finds to do."""
    stages: list[tuple[str, int]] = []
    options = BuildOptions(out, None, ExecutorOptions(workers=1), on_stage=lambda name, n, _: stages.append((name, n)))
    run.build(recipe, options)
    return stages


# ---------------------------------------------------------------------------------------------------------------------
# disks


def test_a_full_disk(tiny_recipe, tiny_phase: Path, tmp_path: Path) -> None:
    """Some splits are finished, then there is no room: what is finished stays, and the build goes on when there is."""
    out = tmp_path / "disk"
    with small_disk(out, 16 << 20) as mounted:
        assert attempt(job(tiny_recipe, out), [Step("kill driver", "train")]).how == "killed"
        shutil.rmtree(out / "pretrain/pools/beta")
        before = splits(out)
        if mounted:
            with filled(out):
                done = attempt(job(tiny_recipe, out))
        else:
            limited = Job(as_json(tiny_recipe), out, None, EXECUTOR, file_limit=4096)
            done = attempt(limited)
        assert done.how == "failed"
        what = "the disk is full" if mounted else "a file is larger"
        assert what in done.message and "the same command then continues" in done.message
        assert "pools/beta/part" in done.message
        assert before <= splits(out)
        assert attempt(job(tiny_recipe, out)).how == "built"
        assert compare(out / "pretrain", tiny_phase).equal


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
        run.build(tiny_recipe, BuildOptions(tmp_path, None, ExecutorOptions(workers=1)))


@pytest.mark.parametrize("year", [1971, 2100])
def test_a_clock_that_jumps(tiny_recipe, copied: Path, tiny_phase: Path, year: int) -> None:
    """Times only say what to look at again: files from the future, or older than their sources, change nothing."""
    jumped = time.mktime((year, 1, 1, 0, 0, 0, 0, 0, 0))
    for path in copied.rglob("shard.*"):
        os.utime(path, (jumped, jumped))
    assert stages_of(tiny_recipe, copied.parent) == []
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
            run.build(recipe, options)
    finally:
        done.set()
        thread.join()
    said = str(stopped.value)
    assert f"pools/alpha/{poison} (3 attempts): the worker was killed by SIGKILL" in said
    assert "memory" in said and "part-0002.jsonl" in said and len(kills) == 3
    finished = len(splits(out))
    assert finished == len(stopped.value.results) > 0
    planned = json.loads((out / "pretrain/plan.json").read_text())["totals"]["splits"]
    assert stages_of(recipe, out)[0] == ("tokenize", planned - finished)


def test_a_worker_over_its_memory(tiny_root: Path, tmp_path: Path) -> None:
    recipe = tiny_run.tiny_recipe(tiny_root, 1)
    done = attempt(job(recipe, tmp_path, memory_limit=16 << 20, max_attempts=2))
    assert done.how == "failed" and "over its limit of 16" in done.message and "2 attempts" in done.message
    assert attempt(job(recipe, tmp_path)).how == "built"


@pytest.mark.slow
def test_a_worker_that_hangs(tiny_recipe, tiny_phase: Path, tmp_path: Path) -> None:
    """Stopped in the middle of a split: the time limit ends it, and another worker makes the split."""
    hang = Step("hang worker", "tokenize", 1e-6)
    done = attempt(job(tiny_recipe, tmp_path, time_limit_s=20.0), [hang], {"tokenize": 1.0})
    assert (done.how, done.used) == ("built", 1)
    assert compare(tmp_path / "pretrain", tiny_phase).equal
    shutil.rmtree(tmp_path / "pretrain")
    done = attempt(job(tiny_recipe, tmp_path, time_limit_s=20.0, max_attempts=1), [hang], {"tokenize": 1.0})
    assert done.how == "failed" and "time limit" in done.message and "pools/" in done.message


# ---------------------------------------------------------------------------------------------------------------------
# people


def test_the_second_build_is_refused_and_told_of_the_first(tiny_recipe, copied: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tamper.files(copied)}
    with locked(copied):
        with pytest.raises(
            BuildError, match=rf"(?s)another build writes here.*process {os.getpid()} on .* since .*do: "
        ):
            run.build(tiny_recipe, BuildOptions(copied.parent, None, ExecutorOptions(workers=1)))
        (report,) = [verify.verify(copied)]
        assert report.status == SOUND  # looking is not writing
        (copied / "run.json").rename(copied / "aside")
        assert f"a build is at work here (process {os.getpid()}" in verify.verify(copied).notes[0]
        (copied / "aside").rename(copied / "run.json")
    assert {path: path.stat().st_mtime_ns for path in tamper.files(copied)} == before


def test_a_lock_of_a_dead_process_does_not_hold(tiny_recipe, copied: Path) -> None:
    (copied / ".lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "long ago"}))
    assert stages_of(tiny_recipe, copied.parent) == []


def test_ctrl_c_stops_within_seconds_and_says_how_to_go_on(tiny_root: Path, tiny_recipe, tiny_phase, tmp_path) -> None:
    """Twice: once in the middle of the splits, then the same command to the end."""
    written = tmp_path / "recipe.yaml"
    written.write_text(json.dumps(tiny_recipe.model_dump(mode="json")))
    command = [sys.executable, "-m", "ettin_data.cli", "build", str(written), "--out", str(tmp_path), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0)
    deadline = time.monotonic() + 60
    while not splits(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    asked = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert process.returncode == 130 and "the same command continues" in said
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
        said: list[str] = []
        options = BuildOptions(tmp_path, None, ExecutorOptions(workers=1), on_message=said.append)
        summary = run.build(recipe, options)
        elsewhere = {key: {**choice, "root": f"{root}nowhere/"} for key, choice in sources.items()}
        elsewhere = type(recipe).model_validate({**recipe.model_dump(), "sources": elsewhere})
        with pytest.raises(EttinError) as stopped:
            run.build(elsewhere, BuildOptions(tmp_path / "again", None, ExecutorOptions(workers=1)))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert secret not in f"{summary} {said} {stopped.value}" and "nowhere" in str(stopped.value)
    assert "***@" in (tmp_path / "pretrain/plan.json").read_text()


# ---------------------------------------------------------------------------------------------------------------------
# putting in place


def _private(parent: Path, number: int, source: Path) -> Path:
    folder = parent / f".tmp-{number}"
    shutil.copytree(source, folder)
    return folder


@pytest.mark.parametrize("there", ["nothing", "a stale split", "a file", "half a split"])
def test_many_attempts_at_one_split_leave_one(tiny_phase: Path, tmp_path: Path, there: str) -> None:
    """Attempts that were given up may still finish: all of them at once, and one good split stands there."""
    source, stale = sorted((tiny_phase / "pools/alpha").iterdir())[:2]
    marker, final = markers.read(source), tmp_path / "split"
    for _ in range(10):
        shutil.rmtree(final, ignore_errors=True)
        final.unlink(missing_ok=True)
        if there == "a stale split":
            shutil.copytree(stale, final)
        elif there == "a file":
            final.write_text("in the way")
        elif there == "half a split":
            shutil.copytree(source, final)
            (final / markers.MARKER).unlink()
        errors: list[BaseException] = []

        def put(folder: Path, errors: list[BaseException] = errors) -> None:
            try:
                markers.put_in_place(folder, final, marker)
            except BaseException as error:
                errors.append(error)

        folders = [_private(tmp_path, number, source) for number in range(4)]
        threads = [threading.Thread(target=put, args=(folder,)) for folder in folders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert markers.problem(final, marker.fingerprint) is None
        assert [path.name for path in tmp_path.iterdir()] == ["split"]


def test_a_kill_between_two_renames(tiny_recipe, copied: Path, tiny_phase: Path) -> None:
    """The old split was moved away and the new one not yet put there; and other things that kills leave behind."""
    pool, train = (sorted((copied / part / "alpha").iterdir())[0] for part in ("pools", "train"))
    pool.rename(pool.with_name(".tmp-part_0000-xyz.old"))
    train.rename(train.with_name(".tmp-abc.old"))
    (copied / "validation/alpha/.tmp-def").mkdir()
    (copied / "order").rename(copied / "order.old")
    (copied / "order.partial").mkdir()
    (copied / ".run.json.tmp").write_text("{")
    shutil.rmtree(copied / "run.json", ignore_errors=True)
    assert dict(stages_of(tiny_recipe, copied.parent)) == {"tokenize": 1, "train": 1, "order": 1}
    assert compare(copied, tiny_phase).equal
    assert verify.verify(copied, VerifyOptions(full=True)).status == SOUND
    left = [path.name for path in copied.rglob("*") if path.name.startswith((".tmp-", "order."))]
    assert left == ["order.json"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("split.json", "no marker"),
        ("shard.00000.mds", "is missing"),
        ("samples.parquet", "is missing"),
    ],
)
def test_what_is_not_whole_is_not_finished(copied: Path, tiny_recipe, name: str, why: str) -> None:
    """Missing, cut, changed or of another: never taken for the split, and `plan` says why."""
    folder = sorted((copied / "pools/alpha").iterdir())[0]
    expected = markers.read(folder).fingerprint
    data = (folder / name).read_bytes()
    for content, reason in ((None, why), (data[:-1], "damaged|has .* bytes"), (bytes(len(data)), "damaged|changed")):
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
        problem = markers.problem(folder, expected)
        assert problem is not None
        assert re.search(reason, problem), problem
    (folder / name).write_bytes(data)  # touched, but right: hashed again, and found to be so
    assert markers.problem(folder, expected) is None
    assert markers.problem(folder, "another") == "made from other inputs or options"
    with pytest.raises(ShardError, match="no marker"):
        markers.read(copied)
    resolved = resolve(tiny_recipe, BuildOptions(copied.parent, None, ExecutorOptions(workers=1)))
    (folder / name).unlink()
    assert "1 to build: " in states(resolved)["alpha"]


def test_attempts_are_what_they_say(tiny_recipe, tmp_path: Path) -> None:
    """The harness itself: a kill at a boundary is at that boundary."""
    done = attempt(job(tiny_recipe, tmp_path), [Step("kill driver", "tokenize")])
    assert (done.how, done.used, done.struck) == ("killed", 1, ["kill driver at tokenize"])
    assert splits(tmp_path) == set() and isinstance(done, Attempt)
    done = attempt(job(tiny_recipe, tmp_path), [Step("kill driver", "train")])
    assert len(splits(tmp_path)) == 6 and not (tmp_path / "pretrain/train/index.json").exists()
