"""Parts of a build without a coordinator: disjoint, balanced, beside each other, killed at any instant."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import share_process
import tamper
import tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from ettin_data.base.errors import ExitStatus, RecipeError
from ettin_data.base.lock import Held
from ettin_data.build import build as run
from ettin_data.build import plan, shares
from ettin_data.build.prepare import BuildOptions, keep_plan, resolve
from ettin_data.build.share_build import build_share
from ettin_data.build.shares import MOST, Share, alone, beside, parts
from ettin_data.recipe import Recipe
from ettin_data.storage.phase import Phase
from ettin_data.verify import SOUND, VerifyOptions, verify_phase


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_run.write_sources(folder, 6, 40)
    tiny_run.write_tokenizer(folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def recipe(root: Path) -> Recipe:
    return tiny_run.tiny_recipe(root, 6)


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undivided build."""
    out = tmp_path_factory.mktemp("whole")
    run.build_phase(recipe, here(out))
    return out / "pretrain"


def here(out: Path) -> BuildOptions:
    return BuildOptions(out, executor=None)


def root_of(phase: Path) -> str:
    return str(json.loads((phase / "run.json").read_text())["root"])


# ---------------------------------------------------------------------------------------------------------------------
# which splits are whose


@settings(max_examples=40)
@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(0, 1 << 50)), st.integers(1, 40))
def test_every_split_is_of_one_share_and_no_share_is_heavy(sizes: dict[str, int], of: int) -> None:
    all_parts = [Share(number, of).part(sizes) for number in range(1, of + 1)]
    assert sorted(name for part in all_parts for name in part) == sorted(sizes)
    weights = [sum(max(sizes[name], 1) for name in part) for part in all_parts]
    total = sum(weights)
    assert max(weights) <= total / of + max([0, *(max(size, 1) for size in sizes.values())])
    shuffled = list(sizes.items())
    random.Random(1).shuffle(shuffled)
    assert parts(dict(shuffled), of) == parts(sizes, of)  # whatever the order of a listing


@given(st.integers(1, MOST).flatmap(lambda of: st.tuples(st.integers(1, of), st.just(of))))
def test_a_share_is_read_as_it_is_shown(pair: tuple[int, int]) -> None:
    assert Share.parse(str(Share(*pair))) == Share(*pair)


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "a/b", "", "/", "3", "3/", "/4", "-1/4", "1/0", "0/0", "1.5/4", "+1/4", "1/4/4", "1//4",
             "٣/٤", "1/100001", "99999999999/99999999999"],
)  # fmt: skip
def test_what_is_no_share_is_refused_in_words(text: str) -> None:
    with pytest.raises(RecipeError, match=r"(?s)names no share.*counted from 1.*SLURM_ARRAY_TASK_ID") as refused:
        Share.parse(text)
    assert repr(text)[1:-1] in str(refused.value)


# ---------------------------------------------------------------------------------------------------------------------
# who may work beside whom


def test_shares_stand_beside_each_other_and_a_whole_build_stands_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shares, "_PLAN_S", 0.05)
    phase = Phase(tmp_path / "pretrain", "pretrain")
    with beside(phase, Share(1, 3)), beside(phase, Share(3, 3)):
        with pytest.raises(Held, match=r"(?s)2 shares of a build.*share 1/3: process \d+ on .*do: wait"), alone(phase):
            pass
        with pytest.raises(Held, match="share 3/3 is at work here already"), beside(phase, Share(3, 3)):
            pass
        with pytest.raises(Held, match=r"(?s)another number.*share 1/3: process"), beside(phase, Share(1, 4)):
            pass
    with alone(phase):
        with pytest.raises(Held, match="a build of the whole is at work here"), beside(phase, Share(2, 3)):
            pass
        with pytest.raises(Held, match="another build writes here"), alone(phase):
            pass
    with beside(phase, Share(1, 4)):  # whatever was refused holds nothing
        pass


def test_a_plan_is_only_shown_beside_a_share_and_verify_names_it(recipe: Recipe, tmp_path: Path) -> None:
    resolved = resolve(recipe, here(tmp_path))
    assert keep_plan(resolved) is None
    with beside(Phase(tmp_path / "pretrain", "pretrain"), Share(2, 3)):
        assert "only shown" in str(keep_plan(resolved))
        assert "1 shares of a build are at work here, such as share 2/3" in str(
            verify_phase(tmp_path / "pretrain").notes
        )


def test_a_share_waits_for_another_that_plans(recipe: Recipe, tmp_path: Path) -> None:
    phase = Phase(tmp_path / "pretrain", "pretrain")
    code = (
        "import sys, time; from pathlib import Path; from ettin_data.base.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(0.6)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(phase.planning)], stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        assert build_share(recipe, here(tmp_path), Share(4, 4)).splits == 2


# ---------------------------------------------------------------------------------------------------------------------
# building


def test_shares_one_after_the_other_give_the_undivided_root(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    done = [build_share(recipe, here(tmp_path), Share(number, 3)) for number in (3, 1, 2)]
    assert sum(share.splits for share in done) >= done[0].planned == 8
    assert set(done[0].missing) == {1, 2} and set(done[1].missing) == {2} and not done[2].missing
    again = build_share(recipe, here(tmp_path), Share(1, 3))
    assert again.found == again.splits and again.tokens == 0
    assert not (tmp_path / "pretrain/run.json").exists()
    assert run.build_phase(recipe, here(tmp_path)).root == root_of(whole)
    assert tamper.content(tmp_path / "pretrain") == tamper.content(whole)
    assert verify_phase(tmp_path / "pretrain", VerifyOptions(full=True)).status == SOUND
    build_share(recipe, here(tmp_path), Share(2, 3))  # of a finished run: it stays finished
    assert root_of(tmp_path / "pretrain") == root_of(whole)


def test_a_source_that_falls_short_is_taken_further_by_the_shares(recipe: Recipe, tmp_path: Path, monkeypatch) -> None:
    """When all planned splits are there, each share builds its part of those that are taken besides."""
    monkeypatch.setattr(plan, "MARGIN", 0.1)
    short = recipe.changed("max_epochs=8")
    first = [build_share(short, here(tmp_path / "a"), Share(number, 2)) for number in (1, 2)]
    assert first[0].planned < 8
    for _ in range(4):
        last = [build_share(short, here(tmp_path / "a"), Share(number, 2)) for number in (1, 2)]
    assert not last[1].missing and last[1].planned > first[0].planned
    built = run.build_phase(short, here(tmp_path / "a"))
    assert built.root == run.build_phase(short, here(tmp_path / "b")).root
    assert tamper.content(tmp_path / "a/pretrain") == tamper.content(tmp_path / "b/pretrain")


def test_a_share_leaves_what_others_are_writing_and_removes_what_it_had_left(recipe: Recipe, tmp_path: Path) -> None:
    from ettin_data.base.files import private_folder

    names = {split.name: split.bytes for split in resolve(recipe, here(tmp_path)).plan.sources["alpha"].splits}
    build_share(recipe, here(tmp_path / "look"), Share(1, 2))
    mine = {path.name.partition("-")[0] for path in (tmp_path / "look/pretrain/pools/alpha").iterdir()}
    left = {name: private_folder(tmp_path / "pretrain/pools/alpha", name) for name in names}
    build_share(recipe, here(tmp_path), Share(1, 2))
    assert {name for name, folder in left.items() if not folder.exists()} == mine


def test_what_fails_in_a_share_is_unfinished(root: Path, recipe: Recipe, tmp_path: Path) -> None:
    from ettin_data.base.errors import EttinError

    broken = tmp_path / "more"
    tiny_run.write_sources(broken, 6, 40)
    (broken / "alpha/part-0000.jsonl.gz").write_bytes(b"\x1f\x8b no gzip")
    bad = recipe.changed(f"sources.alpha.root={broken}/alpha")
    done = []
    for number in (1, 2, 3):
        try:
            done.append(build_share(bad, here(tmp_path / "run"), Share(number, 3)))
        except EttinError as error:
            assert "part-0000.jsonl.gz" in str(error)
            assert error.exit_status == ExitStatus.INCOMPLETE == 3
    assert len(done) == 2
    with pytest.raises(EttinError, match="part-0000") as failed:
        run.build_phase(bad, here(tmp_path / "run"))
    assert failed.value.exit_status == ExitStatus.INCOMPLETE


# ---------------------------------------------------------------------------------------------------------------------
# kills


def _shares_with_kills(
    recipe: Recipe, out: Path, of: int, at_once: int, kills: int, seed: int, longest: float = 0.6
) -> int:
    """Run all shares, `at_once` beside each other, about the first `kills` of them killed at random instants of their
    first `longest` seconds and run again, in another order; returns how many were killed."""
    draws, waiting, running, killed = random.Random(seed), list(range(1, of + 1)), {}, 0
    while waiting or running:
        while waiting and len(running) < at_once:
            number = waiting.pop(0)
            until = (
                time.monotonic() + draws.uniform(longest / 12, longest)
                if killed + len(running) < kills
                else float("inf")
            )
            running[number] = share_process.start(recipe, out, f"{number}/{of}"), until
        time.sleep(0.005)
        for number, (process, until) in list(running.items()):
            if process.is_alive() and time.monotonic() < until:
                continue
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            del running[number]
            assert process.exitcode in (0, -signal.SIGKILL)
            if process.exitcode:
                killed += 1
                waiting.insert(draws.randint(0, len(waiting)), number)
    return killed


def test_killed_shares_beside_each_other_give_the_undivided_root(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    for longest in (0.6, 0.2, 0.07):  # a quick machine has done a share before it can be killed
        out = tmp_path / str(longest)
        if _shares_with_kills(recipe, out, 3, 2, 3, 5, longest):
            break
    else:
        pytest.fail("no share was killed")
    assert run.build_phase(recipe, here(out)).root == root_of(whole)
    assert tamper.content(out / "pretrain") == tamper.content(whole)


@pytest.mark.slow
def test_64_shares_with_kills_give_the_undivided_root(tmp_path: Path) -> None:
    """On two cores, two at once; a third of them killed, some again."""
    sources = tmp_path / "sources"
    tiny_run.write_sources(sources, 120, 60)
    tiny_run.write_tokenizer(sources / "tokenizer.json")
    recipe = tiny_run.tiny_recipe(sources, 120)
    kills = _shares_with_kills(recipe, tmp_path / "shares", 64, 2, 40, seed=11)
    assert kills >= 10
    made = run.build_phase(recipe, here(tmp_path / "shares"))
    assert made.root == root_of(tiny_run.build(recipe, tmp_path / "whole"))
    assert tamper.content(tmp_path / "shares/pretrain") == tamper.content(tmp_path / "whole/pretrain")
    assert verify_phase(tmp_path / "shares/pretrain", VerifyOptions(full=True)).status == SOUND
