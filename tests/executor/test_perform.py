"""`perform`: the same results, progress and errors here and on workers."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import perform_tasks as work
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from progress_log import ProgressLog

import ettin_data
from ettin_data.base.errors import BuildError, EttinError, ExitStatus, ShardError
from ettin_data.executor import Executor, ExecutorOptions, Task, TaskFailure, open_workers, perform


@pytest.fixture(scope="module")
def local() -> Iterator[Executor | None]:
    with open_workers(ExecutorOptions(workers=2)) as workers:
        yield workers


@pytest.fixture(scope="module")
def ray() -> Iterator[Executor | None]:
    with open_workers(ExecutorOptions("ray", workers=2)) as workers:
        yield workers


@pytest.fixture(params=["here", "local", "ray"])
def workers(request: pytest.FixtureRequest) -> Executor | None:
    return None if request.param == "here" else request.getfixturevalue(request.param)


def kinds_of_errors() -> list[type[EttinError]]:
    """Every class of error that the package defines, and one that it does not."""
    root = Path(ettin_data.__file__).parent
    for path in root.rglob("*.py"):
        if re.search(r"^class \w+\((EttinError|ExecutorError|\w+Error)\):", path.read_text(), re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(root.parent).with_suffix("").parts))
    found, left = {work.QuotaError}, [EttinError]
    while left:
        kind = left.pop()
        found |= {kind} if kind.__module__.startswith("ettin_data.") else set()
        left += kind.__subclasses__()
    return sorted(found, key=lambda kind: kind.__qualname__)


KINDS = kinds_of_errors()

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
raises = st.builds(
    work.Raise,
    kind=st.sampled_from(KINDS),
    what=words,
    where=st.none() | words | st.builds(Path, st.sampled_from(["a", "/b/c", "é.jsonl"])),
    why=st.none() | words | st.builds(ShardError, words) | st.builds(OSError, st.integers(1, 40), words),
    remedy=st.none() | words,
    extra=st.dictionaries(st.sampled_from(["step", "position", "exit_status"]), st.integers(0, 9)),
    notes=st.lists(words, max_size=3).map(tuple),
)


def told(error: BaseException) -> dict[str, Any]:
    """All that an error says; exceptions among the fields by their text, since they are equal to themselves only."""
    fields = {name: repr(value) for name, value in vars(error).items()}
    return {"type": type(error), "text": str(error), "args": repr(error.args), **fields}


def check_passes(wanted: work.Raise, workers: Executor | None) -> None:
    expected = wanted.error()
    expected.add_note("in the job")
    with pytest.raises(EttinError) as caught:
        perform(work.raise_it, [Task("the job", wanted)], workers)
    assert told(caught.value) == told(expected)
    assert caught.value.exit_status == expected.exit_status
    assert caught.value.full_text() == expected.full_text()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=raises)
def test_an_error_arrives_from_a_process_as_it_is(local: Executor, wanted: work.Raise) -> None:
    check_passes(wanted, local)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=raises)
def test_an_error_arrives_from_ray_as_it_is(ray: Executor, wanted: work.Raise) -> None:
    check_passes(wanted, ray)


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_of_error_arrives(workers: Executor | None, kind: type[EttinError]) -> None:
    check_passes(work.Raise(kind, "what", "where", "why", "remedy", {"step": 7}, ("a note",)), workers)


def test_an_error_of_a_worker_of_a_worker(workers: Executor | None) -> None:
    wanted = work.Raise(work.QuotaError, "abc", notes=("first",))
    with pytest.raises(work.QuotaError) as caught:
        perform(work.raise_below, [Task("outer", wanted)], workers)
    assert (caught.value.limit, caught.value.exit_status) == (3, ExitStatus.INCOMPLETE)
    assert caught.value.__notes__ == ["first", "in inner", "in outer"]


def test_what_does_not_pickle_passes_as_text_without_secrets(local: Executor) -> None:
    with pytest.raises(EttinError) as caught:
        perform(work.raise_stubborn, [Task("t", 403)], local)
    assert (caught.value.where, caught.value.why) == (Path("x"), "403 password=***")


def test_an_error_of_a_class_that_cannot_be_found_passes_as_text(local: Executor) -> None:
    with pytest.raises(TaskFailure, match=r"(?s)a class that nobody else can import.*do: none"):
        perform(work.raise_unknown, [Task("t", 0)], local)


def test_an_error_that_is_not_ours_has_the_traceback_of_the_worker(workers: Executor | None) -> None:
    if workers is None:
        with pytest.raises(ValueError, match="odd") as raised:
            perform(work.square_or_raise, [Task("t", "odd")])
        assert raised.value.__notes__ == ["in t"]
        return
    with pytest.raises(TaskFailure) as caught:
        perform(work.square_or_raise, [Task("t", "odd")], workers)
    assert "in square_or_raise" in str(caught.value) and "ValueError: odd" in str(caught.value)


def test_of_several_failures_the_first_of_ours_is_raised_and_the_others_named(local: Executor) -> None:
    jobs: list[Any] = ["odd", work.Raise(BuildError, "second", notes=("a",)), work.Raise(ShardError, "third")]
    seen = set()
    for _ in range(5):  # which of them are begun before the first has failed is a matter of time
        with pytest.raises((EttinError, TaskFailure)) as caught:
            perform(work.square_or_raise, [Task(f"job {n}", job) for n, job in enumerate(jobs)], local)
        error = caught.value
        seen.add(type(error))
        if type(error) is BuildError:
            assert error.__notes__[:2] == ["a", "in job 1"]
            account = error.__cause__
            assert isinstance(account, TaskFailure)
            others = [failure for failure in account.failures if failure.task != "job 1"]
            assert len(error.__notes__) == 2 + len(others)
            assert all(any(failure.task in note for note in error.__notes__) for failure in others)
    assert seen <= {BuildError, ShardError, TaskFailure}


# What comes back, and what is told


jobs = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(1, 50)), max_size=12)


def perform_all(values: list[tuple[int, int]], workers: Executor | None) -> tuple[list[int], ProgressLog]:
    progress = ProgressLog()
    tasks = [Task(f"job {n}", value, weight) for n, (value, weight) in enumerate(values)]
    found = perform(work.square_or_raise, tasks, workers, progress, title="squares", tokens=lambda result: result)
    return found, progress


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=jobs)
def test_here_and_on_workers_the_results_and_the_progress_are_equal(local: Executor, values: list[Any]) -> None:
    here, told_here = perform_all(values, None)
    there, told_there = perform_all(values, local)
    assert here == there == [value * value for value, _ in values]
    for progress in (told_here, told_there):
        if not values:
            assert progress.stages == []
            continue
        [stage] = progress.stages
        assert (stage.title, stage.jobs, stage.work) == ("squares", len(values), sum(w for _, w in values))
        assert sorted(stage.steps) == sorted((weight, value * value) for value, weight in values)
        assert stage.ended


def test_on_ray_they_are_equal_too(ray: Executor) -> None:
    values = [(n, n + 1) for n in range(9)]
    assert perform_all(values, ray)[0] == perform_all(values, None)[0]


def test_options_open_workers_for_one_call() -> None:
    assert perform(work.square_or_raise, [Task("t", 3)], ExecutorOptions(workers=1)) == [9]


def test_a_stage_ends_when_its_work_fails(workers: Executor | None) -> None:
    progress = ProgressLog()
    tasks = [Task("good", 2), Task("bad", work.Raise(BuildError, "no"))]
    with pytest.raises(BuildError):
        perform(work.square_or_raise, tasks, workers, progress, title="t")
    [stage] = progress.stages
    assert stage.ended and len(stage.steps) <= 1


def test_what_happens_to_workers_is_said(tmp_path: Path, local: Executor) -> None:
    import executor_tasks

    progress = ProgressLog()
    plan = executor_tasks.Plan("a", tmp_path, ("kill", "ok"))
    assert perform(executor_tasks.follow, [Task("a", plan)], local, progress) == ["a"]
    assert any(line.startswith("worker died") for line in progress.said)
    assert any(line.startswith("retried a: ") for line in progress.said)


def test_the_readme_is_right(tmp_path: Path) -> None:
    text = (Path(ettin_data.__file__).parent / "executor/README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run([sys.executable, tmp_path / "example.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "counting" in done.stderr, done.stderr
