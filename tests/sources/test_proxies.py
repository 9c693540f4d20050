"""Proxies and certificates that the environment names reach every client."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ettin_data.sources import own_source
from ettin_data.sources.access import proxies
from ettin_data.sources.access.transport import ask, filesystem
from ettin_data.sources.base import TransportOptions

BODY = b'{"id": "1", "text": "through the proxy"}\n'


@pytest.fixture
def proxy(monkeypatch) -> Iterator[tuple[str, list[str]]]:
    """A proxy that answers everything itself; (its URL, what was asked)."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", *proxies.BUNDLES):
        monkeypatch.delenv(name, raising=False)
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def fetched(root: str) -> bytes:
    source = own_source("mine", root)
    fs, path = filesystem(source, TransportOptions(attempts=1, timeout_s=5))
    return bytes(ask(source, TransportOptions(attempts=1, timeout_s=5), lambda: fs.cat_file(f"{path}x.jsonl")))


def test_http_goes_through_the_proxy_and_past_it_for_no_proxy(proxy, monkeypatch) -> None:
    url, asked = proxy
    monkeypatch.setenv("http_proxy", url)
    assert fetched("http://data.example.invalid/a/") == BODY
    assert asked == ["http://data.example.invalid/a/x.jsonl"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetched(f"{url}/b/") == BODY
    assert asked[-1] == "/b/x.jsonl"  # asked as a server


@pytest.mark.parametrize("name", proxies.BUNDLES)
def test_certificates_count_under_every_name(proxy, monkeypatch, tmp_path: Path, name: str) -> None:
    assert proxies.ca_bundle() is None
    for other in proxies.BUNDLES:
        monkeypatch.setenv(other, "")  # so that what is set is taken back
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, str(tmp_path / "own.pem"))
    assert proxies.ca_bundle() == str(tmp_path / "own.pem")
    assert {os.environ[other] for other in proxies.BUNDLES} == {str(tmp_path / "own.pem")}
    assert proxies.of_protocol("s3", {})["client_kwargs"]["verify"] == str(tmp_path / "own.pem")


def test_what_a_source_says_itself_stays() -> None:
    assert proxies.of_protocol("gs", {"session_kwargs": {"trust_env": False}})["session_kwargs"] == {"trust_env": False}
    assert proxies.of_protocol("hf", {"a": 1}) == {"a": 1}
