"""A hub as its client speaks with one: repositories, preupload, LFS batch, commits as ndjson, trees, files."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS = (".mds", ".parquet")


@dataclass
class HubServer:
    """What it holds.

    Attributes:
        repos: `org/name` -> path -> bytes. objects: LFS objects by SHA-256. commits: the paths of each.
    """

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    private: dict[str, bool] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def head(self) -> str:
        return hashlib.sha1(repr(self.commits).encode()).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    row = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if path.endswith(LFS):
        row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return row


@contextmanager
def hub() -> Iterator[HubServer]:
    served = HubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _say(self, value: Any, status: int = 200, **headers: str) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for key, held in headers.items():
                self.send_header(key.replace("_", "-"), held)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), parse_qs(parts.query)
            with served.lock:
                self._route(path, query, body)

        do_GET = do_POST = do_PUT = do_HEAD = _any

        def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
            words = path.strip("/").split("/")
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                url = f"http://{self.headers['Host']}/datasets/{name}"
                if name in served.repos:
                    self._say({"error": "You already created this dataset repo", "url": url}, 409)
                    return
                served.repos[name], served.private[name] = {}, bool(asked.get("private"))
                self._say({"url": url})
            elif path == "/api/validate-yaml":
                self._say({"errors": [], "warnings": []})
            elif words[0] == "lfs":
                if hashlib.sha256(body).hexdigest() != words[1]:
                    self._say({"error": "not its hash"}, 400)
                    return
                served.objects[words[1]] = body
                self._say({})
            elif words[:2] == ["api", "datasets"]:
                self._api("/".join(words[2:4]), words[4:], query, body)
            elif words[0] == "datasets" and path.endswith("/info/lfs/objects/batch"):
                self._batch(json.loads(body))
            elif words[0] == "datasets" and words[3:4] == ["resolve"]:
                self._file("/".join(words[1:3]), "/".join(words[5:]))
            else:
                self._say({"error": "no such call"}, 404)

        def _batch(self, asked: dict[str, Any]) -> None:
            objects = []
            for each in asked["objects"]:
                row = {"oid": each["oid"], "size": each["size"], "authenticated": True}
                if each["oid"] not in served.objects:
                    href = f"http://{self.headers['Host']}/lfs/{each['oid']}"
                    row["actions"] = {"upload": {"href": href, "header": {}}}
                objects.append(row)
            self._say({"transfer": "basic", "objects": objects})

        def _api(self, name: str, rest: list[str], query: dict[str, list[str]], body: bytes) -> None:
            if name not in served.repos:
                self._say({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                return
            held = served.repos[name]
            kind = rest[0] if rest else "info"
            if kind in ("info", "revision"):
                siblings = [{"rfilename": path} for path in sorted(held)]
                self._say({"id": name, "sha": served.head, "private": False, "gated": False, "tags": [],
                           "siblings": siblings})  # fmt: skip
            elif kind == "tree":
                below = "/".join(rest[2:])
                rows = [_entry(p, held[p]) for p in sorted(held) if not below or p.startswith(f"{below}/")]
                self._say(rows)
            elif kind == "paths-info":
                try:
                    wanted = json.loads(body)["paths"]
                except ValueError:
                    wanted = parse_qs(body.decode())["paths"]
                rows = [_entry(p, held[p]) for p in wanted if p in held]
                rows += [{"type": "directory", "path": p, "oid": "0" * 40} for p in wanted
                         if p not in held and any(q.startswith(f"{p}/") for q in held)]  # fmt: skip
                self._say(rows)
            elif kind == "preupload":
                self._say({"files": [
                    {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(LFS) else "regular",
                     "shouldIgnore": False,
                     "oid": git_oid(held[each["path"]]) if each["path"] in held else None}
                    for each in json.loads(body)["files"]
                ]})  # fmt: skip
            elif kind == "commit":
                self._commit(name, body)
            else:
                self._say({"error": "no such call"}, 404)

        def _commit(self, name: str, body: bytes) -> None:
            paths = []
            for line in body.decode().splitlines():
                row = json.loads(line)
                value = row["value"]
                if row["key"] == "file":
                    served.repos[name][value["path"]] = base64.b64decode(value["content"])
                    paths.append(value["path"])
                elif row["key"] == "lfsFile":
                    if value["oid"] not in served.objects:
                        self._say({"error": f"LFS object {value['oid']} is not there"}, 400)
                        return
                    served.repos[name][value["path"]] = served.objects[value["oid"]]
                    paths.append(value["path"])
            served.commits.append(paths)
            self._say({"success": True, "commitOid": served.head,
                       "commitUrl": f"http://{self.headers['Host']}/datasets/{name}/commit/{served.head}"})  # fmt: skip

        def _file(self, name: str, path: str) -> None:
            data = served.repos.get(name, {}).get(path)
            if data is None:
                self._say({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
                return
            self._say(data, ETag=f'"{git_oid(data)}"', X_Repo_Commit=served.head, Accept_Ranges="bytes")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
