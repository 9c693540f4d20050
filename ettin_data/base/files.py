"""Files that are whole or not there: the one place that writes whole files, puts them in place, and hashes them.

What is being written has a private temporary name that nobody else gives (`is_temporary`), so that whoever cleans up
after a kill knows it for ours. Only `storage/split.py` renames besides: it puts folders in place that others may be
putting there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

import xxhash

from ettin_data.base.errors import BuildError, ExitStatus

TEMPORARY = ".tmp-"
"""Start of the names of files and folders that are being written; the whole of such a name is `is_temporary`."""

NO_FOLDER_RENAME = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EMFILE})
"""How a mounted object store refuses to rename a folder (gcsfuse: EMFILE): to it, a folder is many objects."""

_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF})
_SUFFIX = ".ettin"
_PRIVATE = re.compile(rf"{re.escape(TEMPORARY)}(.+)-[a-z0-9_]{{8}}{re.escape(_SUFFIX)}(?:\.old)?")
_BLOCK = 1 << 20
_LONGEST = 80  # characters of a name that its temporary name keeps: a name may have 255 bytes in all
_DEAD_S = 24 * 3600  # a temporary file that nobody has written to for so long is of a process that was killed
_HOLES = 1 << 32  # bytes above which a file without content is an attack: no honest one of ours has holes
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_UMASK = os.umask(0o077)
os.umask(_UMASK)  # it can only be read by setting it, which is done once, before there are threads

MOST_TEXT = 1 << 28
"""Bytes of a text that is read as a whole. The index of 100,000 shards has some 60 MB; no file of ours has more."""


class NotOrdinary(OSError):
    """What a path leads to is no ordinary file of a size that can be right, and was not read."""

    def __str__(self) -> str:
        return str(self.strerror)


def require_ordinary(path: Path | str, most: int = sys.maxsize) -> int:
    """The size in bytes of a file that others may have put there, which is not opened for that.

    To open a pipe waits for ever, to read a device ends never, and a file of a terabyte may be nothing but a hole.

    Raises:
        NotOrdinary: it is no file, has more than `most` bytes, or is large and nearly all of it a hole.
        OSError: there is none, or it may not be looked at.
    """
    return _ordinary(os.stat(path), path, most)


def _ordinary(status: os.stat_result, path: Path | str, most: int) -> int:
    kind, size = stat.S_IFMT(status.st_mode), status.st_size
    why = None
    if kind != stat.S_IFREG:
        why = f"it is {_KINDS.get(kind, 'something else')}, not a file"
    elif size > most:
        why = f"it has {size:,} bytes, and {most:,} are the most that can be right"
    elif size > _HOLES and status.st_blocks * 512 < size >> 10:
        why = f"it has {size:,} bytes, and nearly all of them are a hole"
    if why is not None:
        raise NotOrdinary(None, why, os.fspath(path))
    return size


def open_ordinary(path: Path | str, most: int = sys.maxsize) -> BufferedReader:
    """A file that others may have put there, open for reading; see `require_ordinary`."""
    require_ordinary(path, most)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may have been exchanged meanwhile
    file = os.fdopen(descriptor, "rb")
    try:
        _ordinary(os.fstat(descriptor), path, most)
    except BaseException:
        file.close()
        raise
    return file


def read(path: Path | str, most: int = MOST_TEXT) -> bytes:
    """The bytes of a file that others may have put there; see `require_ordinary`."""
    with open_ordinary(path, most) as file:
        return file.read(most)


def is_temporary(name: str) -> bool:
    """Whether a file or folder has the full name of something that we were writing, or of what it was to replace."""
    return _PRIVATE.fullmatch(name) is not None


def make_folder(folder: Path) -> None:
    """Make a folder with those above it. Raises `BuildError` where none can be: below a file, or in `/proc`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        stands = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        raise BuildError(
            "no folder can be made here",
            where=folder,
            why=f"{stands} is a file" if not stands.is_dir() else f"{stands} takes no folders ({error.strerror})",
            remedy="name another folder, with --out",
            status=ExitStatus.USAGE,
        ) from error


def private_folder(parent: Path, name: str) -> Path:
    """A new folder that nobody else may read, in which what will be called `name` is made; its parent is made too."""
    make_folder(parent)
    return Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{name[:_LONGEST]}-", suffix=_SUFFIX, dir=parent))


def private_name(name: str) -> str | None:
    """What a private folder is made for, of its name; None for other names, and where that is too long to be told."""
    found = _PRIVATE.fullmatch(name)
    return None if found is None or len(found[1]) >= _LONGEST else found[1]


def require_only(folder: Path, ours: Callable[[str], bool]) -> None:
    """Raise `BuildError` if a folder that is to be replaced holds something else than files with names of ours."""
    try:  # listed at once: another attempt may put a folder there, or move it away, between two looks
        found = sorted(folder.iterdir())
        others = [p for p in found if not is_temporary(p.name) and (not ours(p.name) or p.is_dir())]
    except NotADirectoryError:
        others = [folder]
    except FileNotFoundError:
        others = [folder] if folder.is_symlink() else []  # a link that leads nowhere
    if others:
        raise BuildError(
            f"{others[0].name!r} is in the way, and was not written by ettin-data",
            where=others[0],
            why=f"{folder} is to be replaced, and only files of ours are ever removed",
            remedy="move it elsewhere, or write into another folder",
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write into; it takes the place of `path` when the block ends without an error.

    At every instant `path` is the old file or the whole new one, however many processes write it at once, and the new
    one would survive a power cut when the block has ended. While it is written nobody else may read it; then it has the
    mode of the file that it replaces, or what the umask allows. Missing folders are made.
    """
    with _replacing_all([Path(path)]) as (temporary,):
        yield temporary


def write(path: Path, data: bytes | str) -> None:
    """Write a whole file (text as UTF-8), as `replacing` does."""
    write_all({path: data})


def write_all(contents: Mapping[Path, bytes | str]) -> None:
    """Write several files, each as `write` does; they come to the disk together (`sync_all`)."""
    with _replacing_all([Path(path) for path in contents]) as temporaries:
        for temporary, data in zip(temporaries, contents.values(), strict=True):
            temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def _replacing_all(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """`replacing` of several files: temporary ones in their order, which take their places when the block ends."""
    folders, names = list(dict.fromkeys(path.parent for path in paths)), {path.name[:_LONGEST] for path in paths}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for left in os.scandir(folder):
            if (found := _PRIVATE.fullmatch(left.name)) is not None and found[1] in names:
                with suppress(FileNotFoundError):  # another process has removed it
                    if left.stat().st_mtime < time.time() - _DEAD_S:
                        os.unlink(left.path)
    made: list[Path] = []
    try:
        for path in paths:
            prefix = f"{TEMPORARY}{path.name[:_LONGEST]}-"
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=_SUFFIX, dir=path.parent)
            os.close(handle)
            made.append(Path(name))
        yield made
        sync_all(made)
        for temporary, path in zip(made, paths, strict=True):
            os.chmod(temporary, path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_UMASK)
            os.replace(temporary, path)
    except BaseException:
        for temporary in made:
            temporary.unlink(missing_ok=True)
        raise
    sync_all(folders)


def sync(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, are on the disk and would survive a power cut.

    Some mounted file systems have nothing to sync of a folder and say so; of a file that would be an error.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


def sync_all(paths: Sequence[Path]) -> None:
    """`sync` of several, asked for at once: one after the other, each waits for a commit of the journal."""
    if len(paths) == 1:  # most files come alone, and a thread costs more than all else that is done for a small one
        return sync(paths[0])
    for path in paths if hasattr(os, "posix_fadvise") else ():
        descriptor = os.open(path, os.O_RDONLY)
        with suppress(OSError):  # a file system that takes no advice
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write, and waits for nothing
        os.close(descriptor)
    with ThreadPoolExecutor(min(len(paths), 16) or 1) as several:
        list(several.map(sync, paths))


def move(path: Path, target: Path) -> None:
    """Put a finished file of a private folder in its place in another folder of the same file system."""
    sync(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)


def replace_folder(new: Path, folder: Path, last: str, ours: Callable[[str], bool]) -> None:
    """Put a private folder of finished files in the place of `folder`, whole. A link to a folder stays a link.

    Args:
        new: beside `folder`.
        last: the file in it that stands for the whole (`copy_folder`).
        ours: whether a file of that name may be removed.

    Raises:
        BuildError: something else than files of ours stands there.
    """
    require_only(folder, ours)
    sync_all([*sorted(new.iterdir()), new])
    open_to_others(new)
    old = new.with_name(f"{new.name}.old")
    if folder.is_symlink():
        copy_folder(new, folder, last)
        return
    try:
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_RENAME:
            raise
        copy_folder(new, folder, last)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def open_to_others(folder: Path) -> None:
    """Give a private folder the mode that it would have been made with: what the umask allows, and its parent's setgid.

    In a folder that a group shares, its members can then go on with the run, repair it and remove it.
    """
    os.chmod(folder, 0o777 & ~_UMASK | folder.stat().st_mode & stat.S_ISGID)


def remove_folder(folder: Path) -> None:
    """Remove a folder, but for files that NFS keeps, as `.nfs...`, while another program has them open.

    Their folder stays with them: a trainer that reads an old split does not stop the build of the new one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    left = [path.name for path in folder.rglob("*") if not path.is_dir()]
    if folder.exists() and not (left and all(name.startswith(".nfs") for name in left)):
        shutil.rmtree(folder)  # once more, for the error


def copy_folder(source: Path, target: Path, last: str) -> None:
    """Give a folder's files another place where folders cannot be renamed (`NO_FOLDER_RENAME`), and remove it.

    The file `last` stands for the whole: it goes first from what is in the other place, and comes after all others, so
    that at no instant it lies beside files that are not its own.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(target.iterdir(), key=lambda path: path.name != last):
        path.unlink()
    for path in sorted(source.iterdir(), key=lambda path: (path.name == last, path.name)):
        shutil.copyfile(path, target / path.name)
        sync(target / path.name)
    sync(target)
    remove_folder(source)


def mapped(path: Path) -> memoryview:
    """The bytes of a file as a read-only map, as long as anything refers to it. Raises `OSError`; an empty file is b"".

    A map of Python's own keeps a descriptor each (before 3.13), so that a reader of some thousand shards would meet
    `ulimit -n`; one of Arrow's outlives its file. Only a byte is read through Arrow, which asks the system to fetch
    what is read: a large shard is not to be fetched for one sample.
    """
    import pyarrow as pa

    require_ordinary(path)
    with pa.memory_map(os.fsencode(path)) as file:
        first = file.read_buffer(1)
        return memoryview(pa.foreign_buffer(first.address, file.size(), base=first))


class HashedFile:
    """A new file whose bytes are hashed on their way to the disk: a bit that flips there later cannot become the truth.

    For text and bytes, and for libraries that write into an open file (pyarrow); to be used in a `with` block.
    """

    def __init__(self, path: Path, hashed: Any = None) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self.hashed, self.bytes = hashed or xxhash.xxh3_64(), 0

    def write(self, data: Any) -> int:
        view = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        self.hashed.update(view)
        self.bytes += len(view)
        return self._file.write(view)

    @property
    def digest(self) -> dict[str, Any]:
        """As `digest` of the file that was written."""
        return {"bytes": self.bytes, "xxh3_64": self.hashed.hexdigest()}

    @property
    def closed(self) -> bool:
        return self._file.closed

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def digest(path: Path, start: int = 0, stop: int = sys.maxsize) -> dict[str, Any]:
    """`{"bytes", "xxh3_64"}` of a file, or of its bytes from `start` to before `stop`."""
    hashed, size = xxhash.xxh3_64(), 0
    with open_ordinary(path) as file:
        file.seek(start)
        while block := file.read(min(_BLOCK, stop - start - size)):
            hashed.update(block)
            size += len(block)
    return {"bytes": size, "xxh3_64": hashed.hexdigest()}


def digest_of(content: str | bytes) -> dict[str, Any]:
    """As `digest` of a file that holds this."""
    data = content.encode() if isinstance(content, str) else content
    return {"bytes": len(data), "xxh3_64": xxhash.xxh3_64_hexdigest(data)}


def is_still(path: Path, written: Mapping[str, Any], record: Path) -> bool:
    """Whether a file is as it was written (a `digest`); hashed again only if it was touched after its record was."""
    try:
        status = os.stat(path)
        if status.st_size != written["bytes"]:
            return False
        return status.st_mtime_ns <= os.stat(record).st_mtime_ns or digest(path) == written
    except OSError:
        return False


def sha256(path: Path) -> str:
    """SHA-256 of a file in hex: the published hashes of order indexes and mirrors."""
    with open_ordinary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
