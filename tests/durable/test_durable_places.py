"""Putting in place: whatever is in the way, left behind or half done, one whole split stands there in the end."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import pytest
import tiny_run

from ettin_data.base import files
from ettin_data.base.errors import BuildError, ShardError
from ettin_data.build.prepare import BuildOptions, resolve, states
from ettin_data.inspect.diff import compare
from ettin_data.storage import split as markers
from ettin_data.verify import SOUND, VerifyOptions, verify_phase


def _private(parent: Path, number: int, source: Path) -> Path:
    folder = parent / f".tmp-{number}"
    shutil.copytree(source, folder)
    return folder


@pytest.mark.parametrize("there", ["nothing", "a stale split", "half a split"])
def test_many_attempts_at_one_split_leave_one(tiny_phase: Path, tmp_path: Path, there: str) -> None:
    """Attempts that were given up may still finish: all of them at once, and one good split stands there."""
    source, stale = sorted((tiny_phase / "pools/alpha").iterdir())[:2]
    marker, final = markers.read_marker(source), tmp_path / "split"
    for _ in range(10):
        shutil.rmtree(final, ignore_errors=True)
        if there == "a stale split":
            shutil.copytree(stale, final)
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


@pytest.mark.parametrize("there", ["a file", "a folder", "a link to a split"])
def test_what_is_not_ours_is_not_replaced(tiny_phase: Path, tmp_path: Path, there: str) -> None:
    source, stale = sorted((tiny_phase / "pools/alpha").iterdir())[:2]
    final = tmp_path / "split"
    if there == "a file":
        final.write_text("in the way")
    elif there == "a folder":
        (final / "mine").mkdir(parents=True)
    else:
        shutil.copytree(stale, tmp_path / "elsewhere")
        final.symlink_to(tmp_path / "elsewhere")
    before = [path.name for path in final.rglob("*")]
    with pytest.raises(BuildError, match=r"(in the way|a link stands)(?s:.*)do: "):
        markers.put_in_place(_private(tmp_path, 0, source), final, markers.read_marker(source))
    assert final.exists() and [path.name for path in final.rglob("*")] == before


def test_a_kill_between_two_renames(tiny_recipe, copied: Path, tiny_phase: Path) -> None:
    """The old split was moved away and the new one not yet put there; and other things that kills leave behind."""
    pool, train = (sorted((copied / part / "alpha").iterdir())[0] for part in ("pools", "train"))
    for folder in (pool, train, copied / "order"):
        private = files.private_folder(folder.parent, folder.name)
        folder.rename(private.with_name(f"{private.name}.old"))
    files.private_folder(copied / "validation/alpha", "part_0000")
    (copied / ".tmp-run.json-abcdefgh.ettin").write_text("{")
    shutil.rmtree(copied / "run.json", ignore_errors=True)
    assert dict(tiny_run.stages_of(tiny_recipe, copied.parent)) == {"tokenize": 1, "train": 1, "order": 1}
    assert compare(copied, tiny_phase).equal
    assert verify_phase(copied, VerifyOptions(full=True)).status == SOUND
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
    expected = markers.read_marker(folder).fingerprint
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
        markers.read_marker(copied)
    resolved = resolve(tiny_recipe, BuildOptions(copied.parent, None, None))
    (folder / name).unlink()
    assert "1 to build: " in states(resolved)["alpha"]
