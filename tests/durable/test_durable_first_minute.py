"""What can be known in the first minute is said then: impossible targets, unusable sources, no network, all at once."""

from __future__ import annotations

import errno
import json
import socket
import time
from pathlib import Path

import pytest
from progress_log import ProgressLog
from typer.testing import CliRunner

from ettin_data.base.errors import BuildError, EttinError, ExitStatus, SourceError
from ettin_data.build import build as run
from ettin_data.build import first_minute
from ettin_data.build.bad_input import FirstSplits
from ettin_data.build.first_minute import (
    SLACK,
    disk_note,
    first_records,
    impossible,
    refuse_impossible,
    refuse_unusable,
)
from ettin_data.build.prepare import BuildOptions, resolve
from ettin_data.cli.main import app
from ettin_data.recipe import BadInput, Recipe
from ettin_data.sources.access.retry import Unreachable, unresolved
from ettin_data.sources.base import TransportOptions


def here(out: Path) -> BuildOptions:
    return BuildOptions(out, executor=None, progress=ProgressLog())


# ---------------------------------------------------------------------------------------------------------------------
# targets


def test_what_no_passes_meet_is_refused_before_any_work(tiny_recipe: Recipe, tmp_path: Path) -> None:
    wild = tiny_recipe.changed("sources.alpha.tokens=9B", "sources.beta.tokens=8B")
    plan = resolve(wild, here(tmp_path)).plan
    assert set(impossible(plan)) == {"alpha", "beta"}
    with pytest.raises(
        BuildError, match=r"(?s)2 sources.*alpha, beta.*max_epochs is 4.*9.0B.*8.0B.*--scale"
    ) as refused:
        run.build_phase(wild, here(tmp_path))
    assert refused.value.exit_status == ExitStatus.USAGE
    assert not (tmp_path / "pretrain/pools").exists()
    held = sum(split.expected_tokens for split in plan.sources["alpha"].listed)
    for passes, refusing in ((SLACK * 4 * 0.99, False), (SLACK * 4 * 1.01, True)):
        at = resolve(tiny_recipe.changed(f"sources.alpha.tokens={int(held * passes)}"), here(tmp_path)).plan
        assert ("alpha" in impossible(at)) is refusing
    refuse_impossible(resolve(tiny_recipe, here(tmp_path)).plan)


def test_plan_shows_the_first_records_and_marks_what_is_impossible(tiny_recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(tiny_recipe.model_dump_json())
    shown = CliRunner().invoke(app, ["plan", str(file), "--out", str(tmp_path / "run")])
    assert shown.exit_code == 0, shown.output
    assert "part-0000.jsonl: id 'alpha-0-0', " in shown.output or "part-000" in shown.output
    assert "characters, '" in shown.output
    wild = CliRunner().invoke(
        app, ["plan", str(file), "--out", str(tmp_path / "wild"), "--set", "sources.beta.tokens=9B"]
    )
    assert isinstance(wild.exception, BuildError) and "impossible: it holds about" in wild.output
    assert not (tmp_path / "wild").exists(), "an impossible plan is not kept"


def test_a_disk_that_is_too_small_is_said(tiny_recipe: Recipe, tmp_path: Path) -> None:
    plan = resolve(tiny_recipe, here(tmp_path)).plan
    assert disk_note(plan, str(tmp_path / "not/yet/there")) is None
    huge = resolve(tiny_recipe.changed("sources.alpha.tokens=900000T"), here(tmp_path)).plan
    assert "free, and the shards alone will take about" in str(disk_note(huge, str(tmp_path / "not/yet/there")))


def test_a_build_says_so_when_it_begins_and_not_when_it_goes_on(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(first_minute, "free_bytes", lambda folder: 1000)
    for told in (True, False):
        options = here(tmp_path)
        run.build_phase(tiny_recipe, options)
        assert any("1000 B free" in line for line in options.progress.said) is told


# ---------------------------------------------------------------------------------------------------------------------
# records


def bad_source(folder: Path, splits: int, good_from: int = 10**9) -> None:
    folder.mkdir()
    for part in range(splits):
        key = "text" if part >= good_from else "body"
        lines = [json.dumps({"id": f"{part}-{n}", key: "mo da to sha " * 20}) for n in range(12)]
        (folder / f"part-{part:04d}.jsonl").write_text("\n".join(lines) + "\n")


def test_a_source_without_its_text_key_is_said_by_plan(tiny_recipe: Recipe, tmp_path: Path) -> None:
    bad_source(tmp_path / "bad", 3)
    recipe = tiny_recipe.changed(f"sources.beta.root={tmp_path}/bad")
    looked = {first.key: first for first in first_records(resolve(recipe, here(tmp_path)).plan, TransportOptions())}
    assert looked["alpha"].problem is None and "none of its first 12 records" in str(looked["beta"].problem)
    with pytest.raises(BuildError, match=r"(?s)'beta'.*part-000.*text in 'text'.*sources.beta.text_key"):
        refuse_unusable(list(looked.values()))
    mended = recipe.changed("sources.beta.text_key=body")
    refuse_unusable(list(first_records(resolve(mended, here(tmp_path)).plan, TransportOptions())))


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_source_whose_first_splits_are_all_rejects_stops_then(
    tiny_recipe: Recipe, tmp_path: Path, workers: int | None
) -> None:
    from ettin_data.executor import ExecutorOptions

    bad_source(tmp_path / "bad", 40)
    recipe = tiny_recipe.changed(f"sources.beta.root={tmp_path}/bad", "sources.beta.tokens=9k", "max_epochs=1000")
    executor = ExecutorOptions(workers=workers) if workers else None
    with pytest.raises(BuildError, match=r"(?s)records of source 'beta' cannot be used.*max_rejects") as stopped:
        run.build_phase(recipe, BuildOptions(tmp_path / "run", executor=executor))
    assert stopped.value.exit_status == ExitStatus.WRONG
    built = len(list((tmp_path / "run/pretrain/pools/beta").glob("part*/split.json")))
    assert built <= 6, "not all 40"


def test_one_bad_split_among_good_ones_stops_nothing_early(tmp_path: Path) -> None:

    limits = BadInput()
    for order in ([(10, 10), (10, 0)], [(10, 0), (10, 10)], [(3, 3), (3, 3)]):
        seen = FirstSplits(limits, {"s": 5})
        for records, rejected in order:
            seen.told(marker("s", records, rejected))
    with pytest.raises(BuildError, match="20 of 20 records"):
        seen = FirstSplits(limits, {"s": 5})
        for _ in range(2):
            seen.told(marker("s", 10, 10))


def marker(source: str, records: int, rejected: int):
    from ettin_data.storage.split import Marker

    tally = {
        "records": records,
        "rejected": {"bad_json": rejected},
        "filtered": {},
        "damaged": {},
        "lost": [],
        "noted": {},
    }
    return Marker("n", source, "f", {}, [], tally, 0, 0, "r", "c")


# ---------------------------------------------------------------------------------------------------------------------
# sources


def test_all_sources_that_are_not_there_are_named_at_once(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = tiny_recipe.changed("sources.alpha.root=/no/such/a", "sources.beta.root=/no/such/b")
    with pytest.raises(SourceError, match=r"(?s)2 sources.*'alpha'.*'beta'.*nothing is there") as refused:
        resolve(recipe, here(tmp_path))
    assert refused.value.exit_status == ExitStatus.NOT_FOUND


def test_a_mirror_that_is_not_there_is_one_problem(tmp_path: Path) -> None:
    from ettin_data.recipe import load_recipe

    (tmp_path / "file").write_text("")
    for name, why in (("missing", "no such folder"), ("file", "it is a file")):
        with pytest.raises(SourceError, match=rf"(?s)no such mirror.*{why}.*--sources-root") as refused:
            resolve(load_recipe("decay"), BuildOptions(tmp_path / "run", str(tmp_path / name)))
        assert refused.value.exit_status == ExitStatus.NOT_FOUND


@pytest.mark.parametrize("own_first", [False, True])
def test_no_network_is_said_after_seconds_by_its_cause(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_first: bool
) -> None:
    """And what is wrong with the sources of this machine is said with it."""

    def no_names(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    changes = ["sources.beta.root=https://data.example/beta/", 'sources.beta.globs=["a.jsonl"]']
    changes += ["sources.alpha.root=/no/such/folder"] if own_first else []
    began = time.monotonic()
    with pytest.raises(EttinError, match="a name is not resolved") as refused:
        resolve(tiny_recipe.changed(*changes), here(tmp_path))
    assert time.monotonic() - began < 20
    assert isinstance(refused.value, Unreachable) is not own_first
    assert ("source 'alpha': no file matches 'folder'" in str(refused.value)) is own_first


def test_whose_name_was_not_resolved() -> None:
    assert unresolved(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    wrapped = OSError("cannot connect")
    wrapped.__cause__ = RuntimeError("Cannot connect to host x:443 [Temporary failure in name resolution]")
    assert unresolved(wrapped)
    assert not unresolved(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
