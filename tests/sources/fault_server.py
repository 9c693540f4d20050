"""A local web server over a folder: Range, ETag, and faults on demand; with the hub's API beside it."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to one GET request.

    Attributes:
        status: answer with this status instead.
        headers: more headers, such as Retry-After.
        body: answer with this body instead (status 200 unless given).
        cut: send so many bytes of the body, then reset the connection.
        claim: lie about the length: so many bytes more (or fewer) than there are; the connection closes after the body.
        wait_s: wait before answering.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    claim: int = 0
    wait_s: float = 0.0


@dataclass
class Served:
    """A running server: where it is, what it was asked, and the faults that are still to come."""

    root: Path
    url: str = ""
    ranges: bool = True
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: Fault | None = None  # on every GET of a file
    always_at: dict[str, Fault] = field(default_factory=dict)  # on every GET of a path
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    tokens: list[str] = field(default_factory=list)  # Authorization headers seen
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def gets(self, path: str) -> list[str]:
        """The Range headers of the GET requests for a path."""
        return [ranged for method, asked, ranged in self.requests if method == "GET" and asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        with self.served.lock:
            self.served.at_once += 1
            self.served.most_at_once = max(self.served.most_at_once, self.served.at_once)
        try:
            self._answer(send_body=True)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.served.lock:
                self.served.at_once -= 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._plain(404, b"no such call")

    def _answer(self, send_body: bool) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path).replace("/refs/convert/parquet", "/refs-convert-parquet")  # one revision, one name
        asked = self.headers.get("Range", "")
        with self.served.lock:
            self.served.requests.append((self.command, path, asked))
            self.served.tokens.append(self.headers.get("Authorization", ""))
        if path.startswith("/api/"):
            self._hub_api(path, parse_qs(parts.query))
            return
        if path.startswith("/storage/v1/b/"):
            self._gcs_api(unquote(path.removeprefix("/storage/v1/b/")), parse_qs(parts.query))
            return
        file = self.served.root / self._file_path(path)
        fault = self._fault(path) if send_body else Fault()
        time.sleep(fault.wait_s)
        if fault.status or fault.body is not None:
            self._plain(fault.status or 200, fault.body or b"fault", fault.headers)
            return
        if not file.is_file():
            self._plain(404, b"<html>not found</html>")
            return
        data = file.read_bytes()
        tag = hashlib.md5(data).hexdigest()
        start, end = 0, len(data)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": "c0ffee" * 6 + "abcd", "Accept-Ranges": "bytes"}
        status = 200
        if asked and self.served.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else len(data), len(data))
            if start >= len(data):
                self._plain(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{len(data)}"
        body = data[start:end]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) + fault.claim))
        self.end_headers()
        if not send_body:
            return
        if fault.cut is not None:
            self.wfile.write(body[: fault.cut])
            self.wfile.flush()
            time.sleep(0.1)  # or the reset overtakes the bytes
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(body if fault.claim >= 0 else body[: fault.claim])
        if fault.claim:
            self.close_connection = True

    def _fault(self, path: str) -> Fault:
        with self.served.lock:
            waiting = self.served.faults.get(path)
            return waiting.pop(0) if waiting else self.served.always_at.get(path) or self.served.always or Fault()

    def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # --- GCS: /storage/v1/b/BUCKET/o[/KEY], /download/storage/v1/b/BUCKET/o/KEY ---------------------------------------

    def _gcs_api(self, path: str, query: dict[str, list[str]]) -> None:
        bucket, _, rest = path.partition("/")
        folder = self.served.root / bucket
        key = rest.removeprefix("o").strip("/")
        if key:
            if not (folder / key).is_file():
                self._plain(404, b'{"error": {"code": 404, "message": "No such object"}}')
                return
            answer = _gcs_row(folder, folder / key)
        else:
            prefix = query.get("prefix", [""])[0]
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            rows = [_gcs_row(folder, file) for file in files]
            answer = {"kind": "storage#objects", "items": [row for row in rows if row["name"].startswith(prefix)]}
        self._plain(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    # --- the hub: /api/datasets/ORG/NAME[/revision/REV | /tree/REV/PATH], /datasets/ORG/NAME/resolve/REV/PATH ---------

    def _file_path(self, path: str) -> str:
        if path.startswith("/download/storage/v1/b/"):
            return path.removeprefix("/download/storage/v1/b/").replace("/o/", "/", 1)
        pieces = path.strip("/").split("/")
        if pieces[0] == "datasets" and len(pieces) > 5 and pieces[3] == "resolve":
            return "/".join([*pieces[:3], *pieces[5:]])
        return path.strip("/")

    def _hub_api(self, path: str, query: dict[str, list[str]]) -> None:
        pieces = path.strip("/").split("/")[1:]
        repo = self.served.root / "/".join(pieces[:3])
        if not repo.is_dir():
            self._plain(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        if len(pieces) > 3 and pieces[3] == "tree":
            below = repo / "/".join(pieces[5:])
            if not below.is_dir():
                self._plain(404, b'{"error": "no such entry"}', {"X-Error-Code": "EntryNotFound"})
                return
            found = sorted(
                below.rglob("*") if query.get("recursive", ["False"])[0].lower() == "true" else below.iterdir()
            )
            rows = [_tree_row(repo, item) for item in found]
            self._plain(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})
            return
        revision = pieces[4] if len(pieces) > 4 else "main"
        sha = "f" * 40 if revision == "main" else (revision * 40)[:40]
        info = {"id": "/".join(pieces[1:3]), "sha": sha, "gated": False, "private": False, "siblings": [], "tags": []}
        self._plain(200, json.dumps(info).encode(), {"Content-Type": "application/json"})


def _gcs_row(bucket: Path, item: Path) -> dict[str, Any]:
    data, name = item.read_bytes(), item.relative_to(bucket).as_posix()
    row = {"kind": "storage#object", "bucket": bucket.name, "name": name, "id": f"{bucket.name}/{name}/1"}
    return row | {"size": str(len(data)), "etag": hashlib.md5(data).hexdigest(), "generation": "1"}


def _tree_row(repo: Path, item: Path) -> dict[str, Any]:
    path = item.relative_to(repo).as_posix()
    if item.is_dir():
        return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
    return {
        "type": "file",
        "path": path,
        "oid": hashlib.sha1(item.read_bytes()).hexdigest(),
        "size": item.stat().st_size,
    }


@contextmanager
def serve(root: Path, **settings: Any) -> Iterator[Served]:
    """Serve a folder on a free port of this machine."""
    served = Served(root, **settings)
    handler = type("Handler", (_Handler,), {"served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
