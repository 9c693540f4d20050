"""An input that changes while it is read is never certified: it is read again, or refused."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_run
import xxhash

from ettin_data.base.errors import SourceError
from ettin_data.build import inputs, pool
from ettin_data.build.inputs import InputChanged, holding_still, local_inputs
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.sources.base import ReadOptions, Source, SourceFile
from ettin_data.storage.split import read_marker


def in_place(path: Path, data: bytes) -> None:
    """A rewrite that sets the time of change back, as `rsync --inplace --times` does."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path: Path, data: bytes) -> None:
    before = path.stat()
    new = path.with_name("new")
    new.write_bytes(data)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


def appended(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def cut(path: Path, data: bytes) -> None:
    os.truncate(path, 3)


def gone(path: Path, data: bytes) -> None:
    path.unlink()


CHANGES = pytest.mark.parametrize("change", [in_place, renamed_over, appended, cut, gone])
OLD, NEW = b"what it was\n", b"what it is.\n"


@pytest.fixture
def mine(tmp_path: Path) -> tuple[Source, dict[SourceFile, Path]]:
    (tmp_path / "a.jsonl").write_bytes(OLD)
    source = Source("mine", "", "", f"{tmp_path}/", ("*.jsonl",), "jsonl")
    return source, local_inputs(source, [SourceFile("a.jsonl", len(OLD))])


@pytest.mark.parametrize("fresh_ns", [0, inputs._FRESH_NS], ids=["old", "fresh"])
@CHANGES
def test_a_change_is_seen_however_it_is_made(
    mine, change: Callable[[Path, bytes], None], fresh_ns, monkeypatch
) -> None:
    monkeypatch.setattr(inputs, "_FRESH_NS", fresh_ns)
    source, paths = mine
    (path,) = paths.values()
    with pytest.raises(InputChanged, match="'mine' changed while it was read") as raised:
        with holding_still(source, paths, ReadOptions()):
            time.sleep(0.02)  # a tick of the clock of files
            change(path, NEW)
    assert str(path) in str(raised.value) and raised.value.remedy


@CHANGES
def test_a_block_that_failed_for_the_change_says_so(mine, change) -> None:
    source, paths = mine
    with pytest.raises(InputChanged) as raised, holding_still(source, paths, ReadOptions()):
        change(*paths.values(), NEW)
        raise ValueError("half a record")
    assert isinstance(raised.value.__cause__, ValueError)


def test_a_clock_that_does_not_tick_between_two_writes_hides_nothing(mine, monkeypatch) -> None:
    """Two writes within a tick leave the same times: what was touched a moment ago is hashed before it is read."""
    source, paths = mine
    (path,) = paths.values()
    real, frozen = os.stat, path.stat()
    monkeypatch.setattr(Path, "stat", lambda self, **more: frozen if self == path else real(self, **more))
    with pytest.raises(InputChanged, match="same size"), holding_still(source, paths, ReadOptions()):
        path.write_bytes(NEW)


def test_what_does_not_change_and_what_is_only_read_passes(mine) -> None:
    source, paths = mine
    with holding_still(source, paths, ReadOptions()):
        assert [path.read_bytes() for path in paths.values()] == [OLD]
    with pytest.raises(KeyError), holding_still(source, paths, ReadOptions()):
        raise KeyError("of the block itself")


def test_a_file_of_another_size_than_listed_is_not_read(mine) -> None:
    source, _ = mine
    listed = [SourceFile("a.jsonl", 99)]
    with pytest.raises(SourceError, match="changed since this run was planned"):
        with holding_still(source, local_inputs(source, listed), ReadOptions()):
            pytest.fail("read")


@pytest.fixture
def job(tmp_path: Path) -> pool.SplitJob:
    tiny_run.write_sources(tmp_path, splits=1)
    tiny_run.write_tokenizer(tmp_path / "tokenizer.json")
    resolved = resolve(tiny_run.tiny_recipe(tmp_path, splits=1), BuildOptions(tmp_path / "out", None, None))
    plan = resolved.plan.sources["alpha"]
    return resolved.job(plan, plan.splits[0])


def changing(job: pool.SplitJob, monkeypatch, times: int) -> tuple[Path, bytes]:
    """The job's input gets other words of the same length while it is read, the first `times` times."""
    (path,) = job.local_inputs().values()
    new, left = path.read_bytes().replace(b"model", b"datum"), [times]

    def run(steps, run_steps=pool.run_steps) -> None:
        run_steps(steps)
        if left[0]:
            left[0] -= 1
            renamed_over(path, new if path.read_bytes() != new else new.replace(b"datum", b"model"))

    monkeypatch.setattr(pool, "run_steps", run)
    return path, new


def test_a_split_whose_input_changed_once_is_made_again_from_what_is_there(job, monkeypatch) -> None:
    path, new = changing(job, monkeypatch, times=1)
    made = pool.build_split(job)
    assert made == read_marker(job.folder)
    assert made.inputs[0]["xxh3_64"] == xxhash.xxh3_64_hexdigest(new) == xxhash.xxh3_64_hexdigest(path.read_bytes())
    monkeypatch.undo()
    other = dataclasses.replace(job, folder=job.folder.with_name("other"), rejects=job.rejects.with_name("other"))
    assert pool.build_split(other).root == made.root


def test_a_split_whose_input_goes_on_changing_is_refused_and_leaves_nothing(job, monkeypatch) -> None:
    changing(job, monkeypatch, times=9)
    with pytest.raises(InputChanged, match="wait until nothing writes to it"):
        pool.build_split(job)
    assert not list(job.folder.parent.iterdir())


def test_an_input_that_changed_between_reading_and_marker_is_seen_by_the_next_build(job, monkeypatch) -> None:
    (path,) = job.local_inputs().values()

    def publish(*words, publish=pool.markers.publish):
        time.sleep(0.02)  # a tick of the clock of files
        renamed_over(path, path.read_bytes().replace(b"model", b"datum"))
        time.sleep(0.02)
        return publish(*words)

    monkeypatch.setattr(pool.markers, "publish", publish)
    pool.build_split(job)
    assert [name for name, _ in job.changed_inputs()] == [path.name]
