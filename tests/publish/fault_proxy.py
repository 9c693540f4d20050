"""A proxy in front of a server that does harm to some requests: refuses them, drops their connection, or calls out."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Harm:
    """What happens to the next requests that match.

    Attributes:
        what: regular expression of `METHOD path`. skip: so many of them pass before. times: so many are harmed.
        status: answer with this. headers: with these. drop: reset the connection when the request was read, or, if
            `late`, when the server has done what it asks for.
        call: is called, and the request then passes.
    """

    what: str
    skip: int = 0
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    late: bool = False
    call: Callable[[], None] | None = None


@dataclass
class Proxy:
    url: str
    upstream: str
    harms: list[Harm] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, what: str) -> list[str]:
        """The requests so far that match."""
        return [request for request in self.requests if re.search(what, request)]

    def harm_for(self, request: str) -> Harm | None:
        with self.lock:
            self.requests.append(request)
            for harm in self.harms:
                if harm.times and re.search(harm.what, request):
                    if harm.skip:
                        harm.skip -= 1
                        return None
                    harm.times -= 1
                    return harm
        return None


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """A proxy in front of `http://host:port`."""
    proxy = Proxy("", upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _pass(self) -> None:
            if self.headers.get("Expect", "").lower() == "100-continue":
                pass  # the handler has said so already
            body = self._body()
            harm = proxy.harm_for(f"{self.command} {self.path}")
            if harm is not None and harm.call is not None:
                harm.call()
            if harm is not None and harm.status:
                self._answer(harm.status, harm.headers, b"harm")
                return
            if harm is not None and harm.drop and not harm.late:
                self._reset()
                return
            connection = http.client.HTTPConnection(proxy.upstream.removeprefix("http://"), timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            if harm is not None and harm.drop:
                self._reset()
                return
            passed = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
            self._answer(answer.status, passed, data)

        def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for key, value in headers.items():
                if key.lower() not in ("content-length", "date", "server"):
                    self.send_header(key, value)
            length = next((v for k, v in headers.items() if k.lower() == "content-length"), str(len(data)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
