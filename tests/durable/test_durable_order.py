"""An order that goes on after an addition is made again by a repair, wherever that is killed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import crash_points
import pytest
import tamper
import tiny_run

from ettin_data.build.append import append_order
from ettin_data.build.build import build_phase
from ettin_data.build.prepare import BuildOptions
from ettin_data.recipe import Recipe
from ettin_data.storage.phase import open_phase
from ettin_data.storage.records import read_run
from ettin_data.verify import SOUND, VerifyOptions, verify_phase
from ettin_data.verify.repair import repair


def mended(folder: str) -> str | None:
    return repair(Path(folder), VerifyOptions(), BuildOptions(Path(folder).parent, executor=None)).root


@pytest.fixture(scope="module")
def appended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """A phase whose order goes on from that of its first source."""
    root = tmp_path_factory.mktemp("appended")
    tiny_run.write_sources(root, 2, 20)
    tiny_run.write_tokenizer(root / "tokenizer.json")
    alpha = f"sources.alpha={{root: {root / 'alpha'}, passes: 1}}"
    changes = ["order.batch=4", "order.interval_steps=4", "validation=0", alpha, "sources.beta.tokens=6k"]
    recipe = tiny_run.tiny_recipe(root, 2).changed(*changes)
    phase = tiny_run.build(recipe.changed("sources.beta=null"), root / "run")
    shutil.copytree(phase, root / "first")
    tiny_run.build(recipe, root / "run")
    append_order(phase, root / "first")
    return phase, recipe


@pytest.mark.slow
@pytest.mark.parametrize(("name", "every"), [("interval_000001.parquet", 2), ("order.json", 3)])
def test_a_repair_that_is_killed_anywhere_goes_on(
    appended: tuple[Path, Recipe], tmp_path: Path, name: str, every: int
) -> None:
    """Before some changes of the disk in turn; then a repair, or every second time a build and a repair."""
    phase, recipe = appended
    root = read_run(open_phase(phase)).root
    last = 0
    while True:
        last += every
        subprocess.run(["rm", "-rf", str(tmp_path / "run")], check=True)
        (tmp_path / "run").mkdir()
        subprocess.run(["cp", "-a", str(phase), str(tmp_path / "run")], check=True)
        copy = tmp_path / "run" / phase.name
        path = copy / "order" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        ended = crash_points.performed(mended, (str(copy),), copy, last)
        if last // every % 2 and name != "order.json" and (copy / "damaged").exists():
            build_phase(recipe, BuildOptions(copy.parent, executor=None))
        assert mended(str(copy)) == root, last
        assert verify_phase(copy, VerifyOptions(full=True)).status == SOUND
        held = {name: data for name, data in tamper.content(copy).items() if not name.startswith("damaged/")}
        assert held == tamper.content(phase)
        if ended is not None:
            break
    assert last > 20
