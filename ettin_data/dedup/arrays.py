"""What a job of the join leaves: a file of arrays, and beside it who made it of what, so that nothing is done twice.

The arrays stand one after the other in `<name>`. `<name>.json`, written last and sealed, says where each begins, the
digest of them all and the digest of the job. An output that is half there, changed since, or of another job, such as
one that was put in another's place, is not this job's output.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ettin_data.base import files, sealed_json, shapes
from ettin_data.base.errors import ShardError
from ettin_data.base.files import HashedFile
from ettin_data.base.shapes import FileDigest, Number, Shape, Word

Array = NDArray[Any]
_AT_ONCE = 1 << 18  # bytes: they are hashed and written while a cache has them


class _Array(Shape):
    dtype: Word
    shape: list[Number]
    begin: Number


class _Output(Shape):
    job: Word
    data: FileDigest
    arrays: dict[str, _Array]


def make_once(path: Path, job: str, make: Callable[[], Iterable[tuple[str, Array]]]) -> None:
    """Write what `make` gives, unless the output of the job is there and whole.

    Args:
        path: of the data.
        job: digest of all that decides the arrays.
        make: yields name and array, one after the other, so that one at a time is in memory.
    """
    try:
        if files.digest(path) == _record(path, job)["data"]:
            return
    except (OSError, ShardError):
        pass
    _beside(path).unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, dict[str, Any]] = {}
    with files.replacing(path) as temporary, HashedFile(temporary) as file:
        at = 0
        for name, array in make():
            data = memoryview(np.ascontiguousarray(array)).cast("B") if array.size else memoryview(b"")
            arrays[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "begin": at}
            for begin in range(0, len(data), _AT_ONCE):
                file.write(data[begin : begin + _AT_ONCE])
            pad = -len(data) % 8  # so that every array lies where its numbers may be read in place
            file.write(bytes(pad))
            at += len(data) + pad
    sealed_json.write(_beside(path), {"job": job, "data": file.digest, "arrays": arrays})


class Arrays:
    """The output of a job, mapped: only what is touched is read.

    Raises `ShardError` where it is missing, damaged, or of another job.
    """

    def __init__(self, path: Path, job: str) -> None:
        record = _record(path, job)
        size = path.stat().st_size if path.is_file() else -1
        if size != record["data"]["bytes"]:
            raise ShardError("the output of a job is not as it was written", where=path, why=f"it has {size:,} bytes")
        self._described = record["arrays"]
        self._data: Array = np.frombuffer(files.mapped(path), np.uint8)

    def __getitem__(self, name: str) -> Array:
        said = self._described[name]
        dtype, shape = np.dtype(said["dtype"]), tuple(said["shape"])
        data = self._data[said["begin"] : said["begin"] + dtype.itemsize * int(np.prod(shape))]
        array: Array = data.view(dtype).reshape(shape)
        return array


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


@lru_cache(1 << 14)  # every job of a part looks at all runs, and every table at all parts
def _read_record(path: Path, *_: int) -> dict[str, Any]:
    record = sealed_json.read(_beside(path))
    try:
        shapes.require(_Output, record)
    except ValueError as error:
        raise ShardError("what a job says of its output is damaged", where=path, why=error) from error
    return record


def _record(path: Path, job: str) -> dict[str, Any]:
    try:
        state = os.stat(_beside(path))
        record = _read_record(path, state.st_ino, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise ShardError("a job has not left its output", where=path, why=error) from error
    if record["job"] != job:
        raise ShardError("an output of another job", where=path, why=f"job {record['job']}, not {job}")
    return record
