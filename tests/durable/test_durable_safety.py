"""Data is never code, no name in a file leads out of its folder, and what is temporary is private and goes."""

from __future__ import annotations

import ast
import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import crash_points
import pytest
import tamper
from typer.testing import CliRunner
from yaml.constructor import SafeConstructor

import ettin_data
from ettin_data import recipe as recipes
from ettin_data.base import sealed_json, yaml_text
from ettin_data.base.errors import OrderError, RecipeError, ShardError
from ettin_data.build import assemble
from ettin_data.build.assemble import MixJob
from ettin_data.chaos.child import as_json
from ettin_data.order.index import OrderIndex
from ettin_data.storage import digests
from ettin_data.storage import split as markers
from ettin_data.storage.mds import Layout, MdsReader
from ettin_data.verify import DAMAGED, SOUND, verify_phase

PACKAGE = Path(ettin_data.__file__).parent
OUTSIDE = ["/etc/passwd", "../elsewhere", "a/../../b"]


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    """(module, dotted name, call) of every call in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path.relative_to(PACKAGE).as_posix(), ast.unparse(node.func), node


def test_nothing_that_is_read_is_run() -> None:
    """No pickle but between the executor's own processes, no YAML but by a safe loader, no shell."""
    names = {(module, name) for module, name, _ in _calls()}
    called = {name for _, name in names}
    unpickling = {module for module, name in names if name in ("pickle.load", "pickle.loads", "cloudpickle.loads")}
    unpickling -= {"base/errors.py", "check.py"}  # what they have just pickled themselves, to see whether it can be
    unpickling -= {"stages/contamination/options.py"}  # what the build has made, by the digest in a worker's job
    unpickling -= {"chaos/child.py"}  # what its own parent has written into its input
    assert all(module.startswith("executor/") for module in unpickling)
    assert not called & {"eval", "exec", "os.system", "os.popen", "marshal.loads", "shelve.open", "dill.loads"}
    yaml_calls = {
        (module, name) for module, name in names if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load")
    }
    assert yaml_calls == {("base/yaml_text.py", "yaml.load")}
    assert issubclass(yaml_text._LOADER, SafeConstructor)
    for module, name, call in _calls():
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert words.get("shell", "False") == "False", module
        assert words.get("allow_pickle", "False") == "False", module
        assert name != "torch.load" or words["weights_only"] == "True", module
        assert words.get("trust_remote_code", "False") == "False", module


def test_a_recipe_is_data(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"phase: !!python/object/apply:os.system ['touch {tmp_path}/run']\n")
    with pytest.raises(RecipeError):
        recipes.load_recipe(str(path))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_marker_names_files_of_its_folder_only(copied: Path, tmp_path: Path, name: str) -> None:
    """Else making `train/` would link or write wherever the marker says."""
    pool = next((copied / "pools/alpha").iterdir())
    body = sealed_json.read(pool / "split.json")
    body["outputs"][name] = next(iter(body["outputs"].values()))
    tamper.replace_text(pool / "split.json", sealed_json.seal(body))
    with pytest.raises(ShardError, match="not a plain name"):
        assemble.make(MixJob(pool, 0, tmp_path / "train", None, None, Layout()))
    assert not (tmp_path / "train").exists()
    assert verify_phase(copied).status == DAMAGED


@pytest.mark.parametrize("name", OUTSIDE)
def test_digests_name_what_is_below_them(copied: Path, name: str) -> None:
    body = sealed_json.read(copied / "digests.json")
    body["files"][name] = {"bytes": 0, "xxh3_64": "0" * 16}
    tamper.replace_text(copied / "digests.json", sealed_json.seal(body))
    with pytest.raises(ShardError, match="leaves its folder"):
        digests.read_digests(copied / "digests.json")
    assert verify_phase(copied).status == DAMAGED


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_order_index_names_files_of_its_folder(copied: Path, name: str) -> None:
    path = copied / "order/order.json"
    body = json.loads(path.read_text())
    body["intervals"][0]["file"] = name
    tamper.replace_text(path, json.dumps(body))
    with pytest.raises(OrderError, match="cannot be read"):
        OrderIndex.open(copied / "order")


@pytest.mark.parametrize("linked", ["shard", "folder"])
def test_a_link_out_of_the_folder_is_not_followed(copied: Path, tmp_path: Path, linked: str) -> None:
    """Whatever a downloaded data set links to; a link within it is fine."""
    name = next(iter(sorted((copied / "train/alpha").iterdir())))
    path = name / "shard.00000.mds" if linked == "shard" else name
    secret = tmp_path / "secret"
    path.rename(secret)
    path.symlink_to(secret)
    with pytest.raises(ShardError, match="leaves its folder"):
        MdsReader(copied / "train").sample(0)
    inside = copied / "train" / "inside"
    secret.rename(inside)
    path.unlink()
    path.symlink_to(inside)
    assert len(MdsReader(copied / "train").sample(0)[1])


def test_a_snapshot_of_the_hub_is_read(copied: Path, tmp_path: Path) -> None:
    """Its files are links to the blobs beside it."""
    snapshot, blobs = tmp_path / "hub/datasets--a--b/snapshots/1234/train", tmp_path / "hub/datasets--a--b/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted((copied / "train").rglob("*"))):
        if path.is_file():
            link = snapshot / path.relative_to(copied / "train")
            link.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, blobs / str(number))
            link.symlink_to(blobs / str(number))
    reader = MdsReader(snapshot)
    assert len(reader) and all(len(sample["input_ids"]) for sample in reader)


def test_what_is_temporary_is_private_and_goes(tiny_recipe, tmp_path: Path) -> None:
    """A build that is killed in the middle of a split leaves a folder for its user alone; the next removes it."""
    recipe, out = as_json(tiny_recipe), tmp_path / "out"
    left: list[Path] = []
    for last in range(30, 80, 5):
        assert crash_points.build(recipe, out, last) is None
        left = [path for path in out.glob("*/pools/*/.tmp-*") if not (path / markers.MARKER).exists()]
        if left:
            break
    assert [stat.S_IMODE(path.stat().st_mode) for path in left] == [0o700] * len(left) != []
    assert crash_points.build(recipe, out) is not None
    assert [path for path in out.rglob("*") if ".tmp" in path.name] == []
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in out.rglob("split.json")} == {0o755}
    assert verify_phase(out / "pretrain").status == SOUND


def test_a_chaos_that_is_not_understood_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer import Typer

    from ettin_data.cli import chaos as cli_chaos

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    app = Typer()
    app.command()(cli_chaos.chaos)
    assert CliRunner().invoke(app, ["--recipe", "nothing", "--sources-root", "/nowhere"]).exit_code != 0
    assert list(tmp_path.iterdir()) == []
