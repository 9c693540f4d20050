"""A web server of a mirror that has moods: 429, 503, a reset in the middle of a file, a file that ends too early."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from ettin_data.base import draws

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CHUNK = 1 << 16


@contextlib.contextmanager
def moody_server(folder: Path, seed: int, share: float) -> Iterator[str]:
    """Serve a folder on loopback; a keyed `share` of the answers are faults. Yields the URL of the folder."""
    handler = partial(_Handler, folder.resolve(), draws.generator("chaos network", seed), share, threading.Lock())
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed in the middle of a request is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(
        self, folder: Path, random: np.random.Generator, share: float, lock: threading.Lock, *arguments: Any
    ) -> None:
        self.folder, self.random, self.share, self.random_lock = folder, random, share, lock
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        with self.random_lock:
            mood, kind, where = self.random.random(), int(self.random.integers(4)), float(self.random.random())
        bad = mood < self.share
        if bad and kind < 2:
            self._refuse(429 if kind == 0 else 503)
            return
        path = (self.folder / unquote(self.path).lstrip("/")).resolve()
        if not path.is_relative_to(self.folder) or not path.is_file():
            self._refuse(404)
            return
        size = path.stat().st_size
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        begin = int(found[1]) if found else 0
        end = min(int(found[2]) + 1 if found and found[2] else size, size)
        if begin >= max(size, 1):
            self._refuse(416)
            return
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if body:
            stop = begin + int((end - begin) * where) if bad else end
            with contextlib.suppress(OSError):
                self._send(path, begin, stop)
        if bad:
            self._hang_up(reset=kind == 2)

    def _send(self, path: Path, begin: int, end: int) -> None:
        with open(path, "rb") as file:
            file.seek(begin)
            while begin < end and (block := file.read(min(_CHUNK, end - begin))):
                self.wfile.write(block)
                begin += len(block)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            linger = b"\1\0\0\0\0\0\0\0"  # on, for 0 seconds: closing sends a reset
            with contextlib.suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
