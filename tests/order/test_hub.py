"""Gated data on a hub: a hub on this machine that speaks as much of the real one's API as its client asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_let_me_in"
COMMIT = "0" * 39 + "1"


class Hub(ThreadingHTTPServer):
    """Serves the folders of `root` as datasets `org/<folder>`; without a token only listings, if `private` nothing."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.private = root, False
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        posted = self.rfile.read(length).decode()
        gated = "/resolve/" in self.path or self.server.private
        if gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            code = "RepoNotFound" if self.server.private else "GatedRepo"
            return self._reply(401, b'{"error": "restricted"}', {"X-Error-Code": code, "X-Error-Message": "restricted"})
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:3] == ["api", "datasets", "org"]:
            folder, rest = self.server.root / parts[3], parts[4:]
            if rest[:1] == ["tree"]:
                return self._json([_entry(folder, p) for p in sorted(folder.rglob("*"))])
            if rest[:1] == ["paths-info"]:
                names = [unquote(word.partition("=")[2]) for word in posted.split("&") if word.startswith("paths")]
                return self._json([_entry(folder, folder / n) for n in names if (folder / n).exists()])
            siblings = [{"rfilename": str(p.relative_to(folder))} for p in folder.rglob("*") if p.is_file()]
            return self._json(
                {"id": f"org/{parts[3]}", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            )
        path = self.server.root.joinpath(parts[2], *parts[5:])  # datasets/org/<name>/resolve/<revision>/<path>
        if not path.is_file():
            return self._reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        data, headers, status = path.read_bytes(), {"ETag": '"1"', "X-Repo-Commit": COMMIT}, 200
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            whole, end = len(data), int(last) + 1 if last else len(data)
            data, status = data[int(first) : end], 206
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(data) - 1}/{whole}"
        return self._reply(status, data, headers)

    def _json(self, value: object) -> None:
        self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    do_GET = do_HEAD = do_POST = _answer


def _entry(root: Path, path: Path) -> dict[str, object]:
    kind = "file" if path.is_file() else "directory"
    size = path.stat().st_size if path.is_file() else 0
    return {"type": kind, "oid": "1" * 40, "size": size, "path": str(path.relative_to(root))}


@pytest.fixture
def hub(published, tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "hub"
    root.mkdir()
    (root / "data").mkdir()
    published.data.rename(root / "data/train")
    published.out.rename(root / "order")
    server = Hub(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()


def verify(hub: Hub, home: Path, token: str | None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the hub's client reads its settings once."""
    words = ["--data", "hf://datasets/org/data/train", "--published", "hf://datasets/org/order", "--workers", "1"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    if token is not None:
        environment["HF_TOKEN"] = token
    command = [sys.executable, "-m", "ettin_data.cli", "order", "verify", *words, "--cache", str(home / "shards")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_gated_data_with_a_token_and_without(hub: Hub, tmp_path: Path) -> None:
    found = verify(hub, tmp_path / "home", TOKEN)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "AGREES" in found.stdout and len(list((tmp_path / "home/shards").rglob("*.mds"))) == 11
    for hub.private in (False, True):
        refused = verify(hub, tmp_path / f"other-{hub.private}", None)
        assert refused.returncode == 2 and "set HF_TOKEN" in refused.stderr, refused.stdout + refused.stderr
