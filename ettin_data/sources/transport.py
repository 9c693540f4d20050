"""From a source's file to its bytes: local folders, HTTPS, the hub, S3 and GCS, all through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ettin_data.sources.base import Damaged, Source, SourceFile, is_local, local_path

CHUNK = 1 << 18


def filesystem(source: Source) -> tuple[Any, str]:
    """The fsspec file system of a source and its root in that file system's own form (ends in "/")."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(source.root, **source.storage)
    return fs, root.rstrip("/") + "/"


def chunks(source: Source, file: SourceFile) -> Iterator[bytes]:
    """The bytes of a file in order. Raises `Damaged` for a file that is not there or may not be read."""
    try:
        if is_local(source.root):
            with open(local_path(source.root) + file.path, "rb", buffering=0) as handle:
                while chunk := handle.read(CHUNK):
                    yield chunk
        else:
            fs, root = filesystem(source)
            with fs.open(root + file.path, "rb") as handle:
                while chunk := handle.read(CHUNK):
                    yield chunk
    except FileNotFoundError:
        raise Damaged("file_missing", f"{file.path} is not there") from None
    except PermissionError as error:
        raise Damaged("permission_denied", error.strerror or "permission denied") from None
    except OSError as error:
        raise Damaged("unreadable", str(error)[:300]) from None
