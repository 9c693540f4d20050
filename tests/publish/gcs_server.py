"""Google's storage as its client speaks with it: listings, and uploads in one piece or in chunks."""

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


@dataclass
class GcsServer:
    """What it holds: of one bucket, `mine`, key -> bytes; and uploads that have not ended."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    open: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def row(self, name: str) -> dict[str, Any]:
        data = self.objects[name]
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        return {"kind": "storage#object", "bucket": "mine", "name": name, "size": str(len(data)), "md5Hash": md5,
                "id": f"mine/{name}/1", "generation": "1", "etag": "e"}  # fmt: skip


@contextmanager
def gcs() -> Iterator[GcsServer]:
    served = GcsServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _say(self, value: Any, status: int = 200, **headers: str) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            for key, held in headers.items():
                self.send_header(key, held)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            key = unquote(parts.path.removeprefix("/storage/v1/b/mine/o").strip("/"))
            prefix = parse_qs(parts.query).get("prefix", [""])[0]
            with served.lock:
                if not parts.path.startswith("/storage/v1/b/mine"):
                    self._say({"error": {"code": 404, "message": "no such bucket"}}, 404)
                elif key and key not in served.objects:
                    self._say({"error": {"code": 404, "message": "no such object"}}, 404)
                elif key:
                    self._say(served.row(key))
                else:
                    rows = [served.row(name) for name in sorted(served.objects) if name.startswith(prefix)]
                    self._say({"kind": "storage#objects", "items": rows})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = parse_qs(urlsplit(self.path).query)
            with served.lock:
                if "upload_id" in query:
                    name = query["upload_id"][0]
                    served.open[name] += body
                    if len(served.open[name]) == int(self.headers["Content-Range"].rpartition("/")[2]):
                        served.objects[name] = served.open.pop(name)
                    self._say(served.row(name) if name in served.objects else {})
                elif query["uploadType"] == ["resumable"]:
                    name = json.loads(body)["name"]
                    served.open[name] = b""
                    self._say({}, Location=f"http://{self.headers['Host']}/upload/mine?upload_id={name}")
                else:
                    _, head, data = body.split(b"--==0==", 2)
                    name = json.loads(head.split(b"\n\n", 1)[1])["name"]
                    served.objects[name] = data.split(b"\n\n", 1)[1].removesuffix(b"\n--==0==--")
                    self._say(served.row(name))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
