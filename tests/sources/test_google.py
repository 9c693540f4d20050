"""Objects of Google's store that are sent inflated: they are read whole, whatever size is listed."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import source_kit as kit

from ettin_data import sources
from ettin_data.base.errors import SourceError
from ettin_data.sources import Source, TransportOptions

pytest.importorskip("gcsfs")
TEXTS = [f"text {n}" for n in range(3000)]
PLAIN = kit.jsonl({"text": text} for text in TEXTS)
STORED = gzip.compress(PLAIN)
FAST = TransportOptions(attempts=4, backoff_s=0.01, backoff_max_s=0.05)


class Store(BaseHTTPRequestHandler):
    """One object, `b/d/a.jsonl.gz`; stored with a content encoding it is sent as Google's transcoding does."""

    encoding: str | None = "gzip"
    fails = 0
    status = 503

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = "d/a.jsonl.gz"
        meta = {"kind": "storage#object", "bucket": "b", "name": name, "size": str(len(STORED)), "etag": "e1"}
        if self.encoding:
            meta["contentEncoding"] = self.encoding
        listing = parts.path == "/storage/v1/b/b/o"
        if type(self).fails and self.status != 503 and not listing:
            type(self).fails -= 1
            self.send_error(self.status)
            return
        if parts.path.startswith("/download/") or "media" in parse_qs(parts.query).get("alt", []):
            if type(self).fails:
                type(self).fails -= 1
                self.send_error(503)
                return
            body = PLAIN if self.encoding == "gzip" else STORED
            if self.encoding is None and (wanted := self.headers.get("Range")):
                first, last = map(int, wanted.removeprefix("bytes=").split("-"))
                body = body[first : last + 1]
        elif listing:
            body = json.dumps({"kind": "storage#objects", "items": [meta]}).encode()
        else:
            body = json.dumps(meta).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = replace(
        sources.own_source("own", "gs://b/d/", format="jsonl"),
        globs=("a.jsonl.gz",),
        storage={
            "token": "anon",
            "endpoint_url": f"http://127.0.0.1:{server.server_port}",
            "skip_instance_cache": True,
        },
    )
    yield source
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("encoding", ["gzip", None])
def test_an_object_is_read_however_it_is_stored(
    encoding: str | None, bucket: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "encoding", encoding)
    monkeypatch.setattr(Store, "fails", 2)
    [file] = sources.list_files(bucket, transport=FAST)
    assert sources.cut_files(bucket, [file], 4096, FAST) == [file]
    records, rejects = kit.read(bucket, file, transport=FAST)
    assert [record.text for record in records] == TEXTS and not rejects


def test_another_encoding_is_named(bucket: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "encoding", "br")
    [file] = sources.list_files(bucket, transport=FAST)
    records, [reject] = kit.read(bucket, file, transport=FAST)
    assert not records and reject.reason == "content_encoding" and "--clear-content-encoding" in reject.detail


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("encoding", ["gzip", None])
def test_what_was_listed_and_is_refused_is_weather(
    encoding: str | None, status: int, bucket: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for again with a fresh token; refused for good it stops the split, and is no damaged file."""
    monkeypatch.setattr(Store, "encoding", encoding)
    monkeypatch.setattr(Store, "status", status)
    [file] = sources.list_files(bucket, transport=FAST)
    monkeypatch.setattr(Store, "fails", 2)
    records, rejects = kit.read(bucket, file, transport=FAST)
    assert [record.text for record in records] == TEXTS and not rejects
    monkeypatch.setattr(Store, "fails", 1000)
    with pytest.raises(SourceError, match="gave up after"):
        kit.read(bucket, file, transport=FAST)
