"""Nothing that is not ours is touched, and looking changes nothing: folders of others, links to other disks, plans."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tamper
import tiny_run
from progress_log import ProgressLog
from typer.testing import CliRunner

from ettin_data.base import files
from ettin_data.base.errors import BuildError, SourceError
from ettin_data.base.lock import locked
from ettin_data.build import build as run
from ettin_data.build.prepare import BuildOptions, keep_plan, resolve
from ettin_data.cli.main import app
from ettin_data.inspect.diff import compare
from ettin_data.storage.phase import LOCK, Phase
from ettin_data.verify import SOUND, VerifyOptions, verify_phase
from ettin_data.verify.repair import repair

FOREIGN = [
    "train/mine/thesis/chapter",
    "validation/my/own/file",
    "train/alpha/own/shard.00000.mds",
    "train/alpha/own/index.json",
    "order/f",
    "order/sub/f",
]


def options(phase: Path) -> BuildOptions:
    return BuildOptions(phase.parent, None, None, progress=ProgressLog())


def write(path: Path, text: str = "years of work") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with time and bytes, and every folder: what a command that only looks leaves as it is."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if path.name != LOCK
    }


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_folder_is_refused_by_name(tiny_recipe, tmp_path: Path, name: str) -> None:
    phase = tmp_path / "pretrain"
    write(phase / name)
    with pytest.raises(BuildError, match=r"(?s)(did not make|in the way).*do: move") as stopped:
        run.build_phase(tiny_recipe, options(phase))
    assert Path(name).parts[-2 if name.startswith("order/sub") else 1] in str(stopped.value)
    assert (phase / name).read_text() == "years of work"
    assert not (phase / "pools").exists()  # refused before any work


@pytest.mark.parametrize(
    "name", [".tmp-mine/a", "train/.tmp-mine/a", "pools/alpha/.tmp-my-download/a", "order.backup/f"]
)
def test_what_only_looks_like_ours_stays(tiny_recipe, copied: Path, name: str) -> None:
    write(copied / name)
    assert run.build_phase(tiny_recipe, options(copied)).root
    assert (copied / name).read_text() == "years of work"


def test_nothing_behind_a_link_is_removed(tiny_recipe, tiny_root: Path, tmp_path: Path) -> None:
    """People link big disks into a run: it is built there, and what is there already stays."""
    disk, phase = tmp_path / "disk", tmp_path / "pretrain"
    write(disk / "notes.txt")
    left = files.private_folder(disk / "alpha", "of-another-run")
    phase.mkdir()
    (phase / "train").symlink_to(disk)
    built = run.build_phase(tiny_recipe, options(phase))
    assert verify_phase(phase, VerifyOptions(full=True)).status == SOUND
    smaller = tiny_run.tiny_recipe(tiny_root).changed("sources.alpha.tokens=5k")
    before = {path for path in disk.rglob("*") if path.is_dir()}
    told = options(phase)
    assert run.build_phase(smaller, told).root != built.root
    assert before <= {path for path in disk.rglob("*") if path.is_dir()} and left.exists()
    assert any("behind a link" in line for line in told.progress.said)
    assert (disk / "notes.txt").read_text() == "years of work"


def test_a_link_to_folders_of_others_is_refused(tiny_recipe, tmp_path: Path) -> None:
    write(tmp_path / "precious/mine/thesis/chapter")
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/train").symlink_to(tmp_path / "precious")
    with pytest.raises(BuildError, match="mine/thesis"):
        run.build_phase(tiny_recipe, options(tmp_path / "pretrain"))
    assert (tmp_path / "precious/mine/thesis/chapter").exists()


def test_what_is_removed_is_said(tiny_root: Path, copied: Path) -> None:
    """Splits that a changed recipe no longer takes, and what a killed worker has left: ours, so they go."""
    files.private_folder(copied / "pools/alpha", "part_0000")
    told = options(copied)
    run.build_phase(tiny_run.tiny_recipe(tiny_root).changed("sources.alpha.tokens=5k"), told)
    said = "\n".join(told.progress.said)
    assert "train: removed " in said and "alpha/part_" in said and ".tmp-part_0000" in said
    assert verify_phase(copied, VerifyOptions(full=True)).status == SOUND
    assert not list(copied.rglob(".tmp-*"))


def test_repair_keeps_what_it_did_not_set_aside(tiny_recipe, copied: Path) -> None:
    write(copied / "damaged/mine/notes.txt")
    shutil.copytree(next((copied / "pools/alpha").iterdir()), copied / "damaged/pools/alpha/of-a-killed-repair")
    shard = next(path for path in sorted(copied.glob("pools/alpha/*/shard.00000.mds")))
    shard.write_bytes(bytes(shard.stat().st_size))
    repaired = repair(copied, VerifyOptions(), options(copied), tiny_recipe)
    assert repaired.made_again and verify_phase(copied, VerifyOptions(full=True)).status == SOUND
    assert [path.name for path in (copied / "damaged").rglob("*")] == ["mine", "notes.txt"]


# ---------------------------------------------------------------------------------------------------------------------
# looking


CHANGES = [[], ["part_bytes=3kB"], ["sources.alpha.tokens=100"], ["seed=5"]]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("state", ["finished", "stopped", "at work"])
def test_a_plan_changes_nothing_where_a_build_has_begun(
    tiny_recipe, tiny_root: Path, copied: Path, tmp_path: Path, changes: list[str], state: str
) -> None:
    if state != "finished":
        (copied / "run.json").unlink()
    subprocess.run(["cp", "-a", str(tiny_root), str(tmp_path / "mirror")], check=True)
    recipe = tiny_recipe.changed(*changes, f"sources.alpha.root={tmp_path}/mirror/alpha") if changes else tiny_recipe
    before = everything(copied)
    if state == "at work":
        with locked(copied / LOCK):
            why = keep_plan(resolve(recipe, options(copied)))
    else:
        why = keep_plan(resolve(recipe, options(copied)))
    assert why is not None and "only shown" in why
    assert everything(copied) == before
    if state == "finished":
        assert verify_phase(copied).status == SOUND


def test_a_plan_of_a_new_run_is_kept_and_its_listings_frozen(tiny_recipe, tiny_phase: Path, tmp_path: Path) -> None:
    resolved = resolve(tiny_recipe, options(tmp_path / "pretrain"))
    assert not (tmp_path / "pretrain").exists()  # `resolve` only looks
    assert keep_plan(resolved) is None
    phase = Phase(tmp_path / "pretrain", "pretrain")
    assert phase.plan_json.exists() and phase.listing("alpha").exists() and not phase.begun
    assert keep_plan(resolve(tiny_recipe, options(phase.folder))) is None  # again, as often as one likes
    with locked(phase.lock):
        assert keep_plan(resolve(tiny_recipe, options(phase.folder))) is not None  # a build has just started
    run.build_phase(tiny_recipe, options(phase.folder))
    assert compare(phase.folder, tiny_phase).equal


def test_the_command_says_that_it_only_shows(tiny_recipe, copied: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_recipe.model_dump_json())
    done = CliRunner().invoke(app, ["plan", str(recipe), "--out", str(copied.parent)])
    assert done.exit_code == 0 and "only shown" in done.output


def test_a_build_that_is_refused_leaves_the_finished_run_as_it_was(tiny_root: Path, copied: Path, tmp_path) -> None:
    """One source has moved, the other has changed: neither listing is written before both were looked at."""
    for source in ("alpha", "beta"):
        shutil.copytree(tiny_root / source, tmp_path / "mirror" / source)
    recipe = tiny_run.tiny_recipe(tiny_root).changed(f"sources.alpha.root={tmp_path}/mirror/alpha", "split_bytes=9kB")
    (tmp_path / "mirror/alpha/part-0000.jsonl").unlink()
    before = everything(copied)
    beta = tiny_root / "beta/part-0001.jsonl"
    content, times = beta.read_bytes(), beta.stat()
    try:
        beta.write_bytes(content[:-1])
        with pytest.raises(SourceError, match="changed since this run was planned"):
            run.build_phase(recipe, options(copied))
    finally:
        beta.write_bytes(content)
        os.utime(beta, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert everything(copied) == before and verify_phase(copied).status == SOUND


def test_many_plans_at_once_leave_one_whole_plan(tiny_recipe, tmp_path: Path) -> None:
    """`plan` takes the lock to write; the others look."""
    script = (
        "import sys; from pathlib import Path; from ettin_data.recipe import Recipe;"
        "from ettin_data.build.prepare import BuildOptions, keep_plan, resolve;"
        "r = Recipe.model_validate_json(sys.argv[1]);"
        "[keep_plan(resolve(r, BuildOptions(Path(sys.argv[2]), None, None))) for _ in range(3)]"
    )
    command = [sys.executable, "-c", script, tiny_recipe.model_dump_json(), str(tmp_path)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert tamper.files(tmp_path / "pretrain")
    assert run.build_phase(tiny_recipe, options(tmp_path / "pretrain")).root
