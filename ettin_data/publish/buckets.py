"""Buckets of S3 and of Google, through their fsspec clients. What is there is known by the digests of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ettin_data.base.extras import need_for_url
from ettin_data.publish.contents import CHUNK, Content
from ettin_data.publish.remote import Held, patiently
from ettin_data.publish.target import Target
from ettin_data.sources.base import TransportOptions

_AT_ONCE = 8


class Bucket:
    """A prefix in a bucket.

    A bucket encrypted with keys of one's own (SSE-KMS, SSE-C) has ETags that are no MD5: nothing can be checked there,
    and publishing says so.
    """

    most_entries: int | None = None

    def __init__(self, target: Target, options: TransportOptions) -> None:
        import fsspec

        need_for_url(str(target))
        self.target, self.options = target, options
        self.fs = fsspec.filesystem(target.protocol)

    def there(self) -> Mapping[str, Held]:
        self.fs.invalidate_cache()
        found = patiently(str(self.target), self.options, self._listed)
        prefix = f"{self.target.place}/"
        return {path.removeprefix(prefix): _held(info) for path, info in found.items() if path.startswith(prefix)}

    def _listed(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(self.fs.find(self.target.place, detail=True))
        except FileNotFoundError as error:
            bucket = self.target.place.partition("/")[0]
            if self.fs.exists(bucket):  # with nothing in it yet
                return {}
            raise PermissionError(f"there is no bucket {bucket}, or it may not be read") from error

    def send(self, files: Sequence[Content]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(self._send, content) for content in files]:
                done.result()

    def fetch(self, path: str, to: Path) -> None:
        name = f"{self.target.place}/{path}"
        patiently(f"{self.target}/{path}", self.options, lambda: self.fs.get_file(name, str(to)))

    def _send(self, content: Content) -> None:
        path = f"{self.target.place}/{content.path}"

        def put() -> None:
            if isinstance(content.source, bytes):
                self.fs.pipe_file(path, content.source)
            else:
                self.fs.put_file(str(content.source), path, chunksize=CHUNK)

        patiently(f"{self.target}/{content.path}", self.options, put)


def _held(info: Mapping[str, Any]) -> Held:
    size = int(info.get("size") or 0)
    if "md5Hash" in info:
        return Held(size, "md5", str(info["md5Hash"]))
    return Held(size, "etag", str(info.get("ETag") or info.get("etag") or "").strip('"'))
