"""Kill it anywhere: the same command continues, and what comes out has the same root and the same bytes."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import crash_points
import numpy as np
import pytest
import tamper
import tiny_run

from ettin_data.chaos import Experiment, experiment, make_schedule, run_chaos
from ettin_data.chaos.child import Job, as_json
from ettin_data.chaos.experiment import Outcome
from ettin_data.chaos.refusals import CALLS, ERRORS
from ettin_data.chaos.schedule import BOUNDARIES, HARMS, Step
from ettin_data.verify import SOUND, verify_phase

ONE = {"workers": 1}


def root_of(phase: Path) -> str:
    return json.loads((phase / "run.json").read_text())["root"]


@pytest.mark.parametrize(("seed", "kills"), [(8, 3), pytest.param(11, 12, marks=pytest.mark.slow)])
def test_kills(tiny_recipe, tiny_phase: Path, tmp_path: Path, seed: int, kills: int) -> None:
    """SIGKILL of drivers and workers at boundaries and at random instants, and Ctrl-C; every build that ends is
    verified in full and compared byte by byte with one that was left in peace."""
    outcome = run_chaos(Experiment(tiny_recipe, tmp_path, seed, kills, damages=0, full_disks=0, executor=ONE), print)
    assert (outcome.problems, outcome.kills) == ([], kills)
    assert outcome.root == root_of(tiny_phase)


@pytest.fixture(scope="module")
def crash_recipe(tmp_path_factory) -> str:
    """Sources smaller still, for builds that are killed at every change of a file."""
    root = tmp_path_factory.mktemp("crash")
    tiny_run.write_sources(root, splits=2, documents=20)
    tiny_run.write_tokenizer(root / "tokenizer.json")
    return as_json(tiny_run.tiny_recipe(root, 1, **{"sources.beta.tokens": "12k"}))


def _crash(recipe: str, out: Path, object_store: bool, points: int | None = None) -> int:
    """Kill builds before every change of a file, or before `points` of them, and what continues them once more; returns
    the kills."""
    undisturbed = crash_points.build(recipe, out / "whole")
    assert undisturbed is not None
    expected, kills = tamper.content(out / "whole/pretrain"), 0
    build = functools.partial(crash_points.build, recipe, object_store=object_store)
    changes = (build(out / "counted") or undisturbed)[1] if object_store else undisturbed[1]
    for last in np.linspace(1, changes, points or changes, dtype=int).tolist():
        run = out / f"killed-{last}"
        assert build(run, last) is None
        again = build(run, last // 2 + 1)
        kills += 1 + (again is None)
        ended = again or build(run)
        assert ended is not None and ended[0] == undisturbed[0], last
        assert tamper.content(run / "pretrain") == expected, last
        assert verify_phase(run / "pretrain").status == SOUND, last
        shutil.rmtree(run)
    return kills


@pytest.mark.parametrize(("object_store", "points"), [(False, 4), (True, 3)])
def test_a_kill_before_a_change_of_a_file(crash_recipe: str, tmp_path: Path, object_store: bool, points: int) -> None:
    """Not at random: what is opened to write, renamed, linked or removed is counted, and the build dies before it.

    On a mounted object store, files are copied into place with the marker last: the bytes are the same.
    """
    assert _crash(crash_recipe, tmp_path, object_store, points) > points


@pytest.mark.slow
@pytest.mark.parametrize("object_store", [False, True])
def test_a_kill_before_every_change_of_a_file(crash_recipe: str, tmp_path: Path, object_store: bool) -> None:
    assert _crash(crash_recipe, tmp_path, object_store) > 300


@pytest.mark.parametrize(
    ("kills", "damages"), [(1, 2), pytest.param(3, len(HARMS), marks=pytest.mark.slow)], ids=["short", "every harm"]
)
def test_chaos(tiny_recipe, tiny_root: Path, tmp_path: Path, kills: int, damages: int) -> None:
    """Harms, a full disk, a server that refuses, resets and cuts short, and a few kills."""
    named = tiny_recipe.model_dump()  # a web server has no listing: its files are named one by one
    for key, last in (("alpha", 3), ("beta", 1)):
        named["sources"][key] |= {"root": f"{tiny_root}/{key}/", "globs": [f"part-{{0000..{last:04}}}.jsonl"]}
    loaded = type(tiny_recipe).model_validate(named)
    few = Experiment(loaded, tmp_path, 3, kills, damages=damages, full_disks=1, network=0.1, executor=ONE)
    outcome = run_chaos(few, print)
    assert (outcome.problems, outcome.kills) == ([], kills)
    done = "\n".join(outcome.log)
    assert "full disk (" in done and done.count("damage: ") == damages


def _refused(recipe, folder: Path, seed: int, rounds: int, **executor: object) -> Outcome:
    calm = {"kills": 0, "damages": 0, "full_disks": 0}
    outcome = run_chaos(Experiment(recipe, folder, seed=seed, refused=rounds, executor=executor, **calm), print)
    assert outcome.problems == [] and sum(line.startswith("refusal: ") for line in outcome.log) == rounds
    return outcome


def test_a_file_system_that_refuses(tiny_recipe, tmp_path: Path) -> None:
    """The right root, or an error with a remedy, after which the same command gives it."""
    _refused(tiny_recipe, tmp_path, 2, 2, **ONE)


@pytest.mark.slow
def test_a_file_system_that_refuses_200_times(tiny_recipe, tmp_path: Path) -> None:
    log = "\n".join(_refused(tiny_recipe, tmp_path, 1, 200).log)
    assert all(error in log for error in ERRORS) and all(f"refusal: {call} " in log for call in CALLS)
    assert log.count(": failed ") > 20 and log.count(": built ") > 20


@pytest.mark.parametrize("harm", ["swap splits", pytest.param("leave temporary", marks=pytest.mark.slow)])
def test_damage_finds_something_however_early_builds_die(
    tiny_recipe, tiny_phase: Path, tmp_path: Path, harm: str
) -> None:
    """On a busy machine a build that is killed late may have finished nothing: here it is killed at once."""
    job = Job(as_json(tiny_recipe), tmp_path, None, ONE)
    outcome = Outcome(root_of(tiny_phase))
    one = Experiment(tiny_recipe, tmp_path.parent)
    bench = experiment._Bench(one, job, tiny_phase, stages={}, mounted=False, outcome=outcome, tell=print)
    bench.play([Step("damage", harm=harm), Step("damage", harm=harm)])
    assert outcome.problems == []
    assert "\n".join(outcome.log).count(f"damage: {harm.split()[0]}") == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_a_hundred_kills_and_damages(tiny_recipe, tmp_path: Path, seed: int) -> None:
    outcome = run_chaos(Experiment(tiny_recipe, tmp_path, seed=seed, kills=100, damages=24, full_disks=3), print)
    assert (outcome.problems, outcome.kills) == ([], 100)


@pytest.mark.slow
@pytest.mark.parametrize("executor", [{"workers": 1}, {"workers": 7}, {"kind": "ray", "workers": 2}])
def test_kills_with_other_workers(tiny_recipe, tiny_phase: Path, tmp_path: Path, executor: dict) -> None:
    few = Experiment(tiny_recipe, tmp_path, seed=4, kills=8, damages=2, full_disks=1, executor=executor)
    outcome = run_chaos(few, print)
    assert (outcome.problems, outcome.root) == ([], root_of(tiny_phase))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["best_fit", "concat"])
def test_kills_of_other_packing(tiny_root: Path, tmp_path: Path, strategy: str) -> None:
    recipe = tiny_run.tiny_recipe(tiny_root, **{"pack.strategy": strategy, "shards.compression": "zstd"})
    outcome = run_chaos(Experiment(recipe, tmp_path, seed=5, kills=8, damages=4, full_disks=0), print)
    assert outcome.problems == []


@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        ("local", 2),
        pytest.param("local", 7, marks=pytest.mark.slow),
        *[pytest.param("ray", workers, marks=pytest.mark.slow) for workers in (1, 2, 7)],
    ],
)
def test_any_number_of_workers(tiny_recipe, tiny_phase: Path, tmp_path: Path, kind: str, workers: int) -> None:
    """As many as there are; the run to compare with had one."""
    phase = tiny_run.build(tiny_recipe, tmp_path, kind=kind, workers=workers)
    assert root_of(phase) == root_of(tiny_phase)
    assert tamper.content(phase) == tamper.content(tiny_phase)


@pytest.mark.slow
def test_a_ray_node_that_is_lost_in_the_middle_of_a_split(tiny_root: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(tiny_root, sources)
    for path in (sources / "alpha").iterdir():  # long enough to be caught at work
        path.write_text(path.read_text() * 30)
    script = [sys.executable, str(Path(__file__).with_name("cluster_build.py"))]
    done = subprocess.run([*script, str(sources), str(tmp_path / "ray")], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    undisturbed = tiny_run.build(tiny_run.tiny_recipe(sources), tmp_path / "local")
    assert done.stdout.split()[-1] == root_of(undisturbed)
    assert tamper.content(tmp_path / "ray/pretrain") == tamper.content(undisturbed)


def test_a_schedule_is_its_seed() -> None:
    one, again, other = (make_schedule(seed, 60, damages=9, full_disks=2) for seed in (5, 5, 6))
    assert one == again != other
    assert sum(step.kind in ("kill driver", "kill worker", "interrupt") for step in one) == 60
    assert {step.harm for step in one if step.kind == "damage"} == set(HARMS)
    assert {step.at for seed in range(5) for step in make_schedule(seed, 60, damages=0, full_disks=0)} == set(
        BOUNDARIES
    )
    assert {step.kind for step in one} >= {"kill driver", "kill worker", "interrupt", "full disk"}
    assert len({str(step) for step in one}) > 40
