"""Whole files: all of the old one or all of the new one, whoever writes and whoever dies."""

import errno
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from ettin_data.base import files
from ettin_data.base.errors import BuildError


def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file"
    files.write(path, "old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent and temporary.name.startswith(files.TEMPORARY)
        assert temporary.stat().st_mode & 0o077 == 0
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")
    with pytest.raises(OSError, match="disk"), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_mode_that_somebody_gave_stays_and_others_follow_the_umask(tmp_path: Path) -> None:
    files.write(tmp_path / "new", b"")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    os.chmod(tmp_path / "new", 0o640)
    files.write(tmp_path / "new", b"again")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_many_writers_leave_the_file_of_one(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=files.write, args=(tmp_path / "file", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_writer_left_goes_when_it_is_old(tmp_path: Path) -> None:
    for name, age in (("file-old_dead", 2 * 86_400), ("file-is_alive", 60), ("file2-old_dead", 2 * 86_400)):
        left = tmp_path / f"{files.TEMPORARY}{name}.ettin"
        left.write_text("half")
        os.utime(left, (time.time() - age,) * 2)
    files.write(tmp_path / "file", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{files.TEMPORARY}file-is_alive.ettin", f"{files.TEMPORARY}file2-old_dead.ettin", "file",
    ]  # fmt: skip


@given(st.binary(max_size=200), st.integers(0, 220), st.integers(0, 220))
def test_a_digest_is_that_of_the_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: int, more: int):
    path = tmp_path_factory.getbasetemp() / "digested"
    path.write_bytes(data)
    part = data[start : start + more]
    assert files.digest(path, start, start + more) == {"bytes": len(part), "xxh3_64": xxhash.xxh3_64_hexdigest(part)}


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("there", f"{files.TEMPORARY}new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "there" / "more").write_text("")
    new = tmp_path / f"{files.TEMPORARY}new"
    with pytest.raises(BuildError, match="'more' is in the way"):
        files.replace_folder(new, tmp_path / "there", "file", lambda name: name == "file")
    files.replace_folder(new, tmp_path / "there", "file", lambda name: name in ("file", "more"))
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["there", "there/file"]


def test_only_a_full_temporary_name_is_ours(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "file") as temporary:
        assert files.is_temporary(temporary.name)
    private = files.private_folder(tmp_path, "a-b")
    assert files.is_temporary(private.name) and files.is_temporary(f"{private.name}.old")
    for name in (".tmp-mine", ".tmp-my-download", ".tmp-", f"x{private.name}", f"{private.name}.mine", "file"):
        assert not files.is_temporary(name)


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o775), (0o022, 0o755), (0o077, 0o700)])
@pytest.mark.parametrize("shared", [0, 0o2000])
def test_a_folder_has_the_mode_of_one_that_was_just_made(tmp_path: Path, monkeypatch, umask, mode, shared) -> None:
    monkeypatch.setattr(files, "_UMASK", umask)
    tmp_path.chmod(0o700 | shared)
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    files.open_to_others(folder)
    assert folder.stat().st_mode & 0o7777 == mode | shared


def test_what_somebody_has_open_on_nfs_stays_and_the_rest_goes(tmp_path: Path, monkeypatch) -> None:
    """The client of NFS renames a file that is open instead of removing it, and cannot remove what it has renamed."""
    folder, unlink = tmp_path / "split", os.unlink

    def busy(path, **more) -> None:
        if os.path.basename(path).startswith(".nfs"):
            raise OSError(errno.EBUSY, "busy", path)
        unlink(path, **more)

    folder.mkdir()
    for name in (".nfs0000000012ab34", "a", "b"):
        (folder / name).write_text("")
    monkeypatch.setattr(os, "unlink", busy)
    files.remove_folder(folder)
    assert [path.name for path in folder.iterdir()] == [".nfs0000000012ab34"]
    monkeypatch.undo()
    files.remove_folder(folder)
    assert not folder.exists()
    files.remove_folder(folder)


def test_what_cannot_be_removed_for_another_reason_is_an_error(tmp_path: Path, monkeypatch) -> None:
    def refused(path, **more) -> None:
        raise PermissionError(errno.EACCES, "no", path)

    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "a").write_text("")
    monkeypatch.setattr(os, "unlink", refused)
    with pytest.raises(PermissionError):
        files.remove_folder(tmp_path / "split")


def test_several_files_are_written_as_each_would_be(tmp_path: Path) -> None:
    old = tmp_path / "b" / "two"
    old.parent.mkdir()
    old.write_text("before")
    old.chmod(0o640)
    files.write_all({tmp_path / "a" / "one": "eins", old: b"zwei"})
    assert (tmp_path / "a" / "one").read_text() == "eins" and old.read_text() == "zwei"
    assert old.stat().st_mode & 0o777 == 0o640
    with pytest.raises(IsADirectoryError):
        files.write_all({old: b"new", tmp_path / "a": b"a folder is in the way"})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "one", "two"]
