"""Whole builds through one bad request: `python weather.py <kind> <folder> <faults, places>` prints what came of each.

Between the client and a local server (the web, the hub, S3, GCS) stands one that passes everything on, but for one
request, which it answers itself. A process of its own, since the clients read where their servers are when imported.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PAGE = b"<!DOCTYPE html><html><body>This network wants you to log in.</body></html>"


class Front:
    """Passes requests on to `upstream`; the one with number `at` meets `fault`: a status, `page`, `cut` or `reset`.

    With a `*` behind the fault all that come later meet it as well.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream, self.count, self.at, self.fault = urlsplit(upstream).netloc, 0, -1, "503"
        self.lock = threading.Lock()
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None: ...

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def answer(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with front.lock:
                    number, front.count = front.count, front.count + 1
                lasting = front.fault.endswith("*") and number > front.at >= 0
                fault = front.fault.rstrip("*") if number == front.at or lasting else ""
                if fault.isdigit() or fault == "page":
                    self.reply(int(fault) if fault.isdigit() else 200, [("Content-Type", "text/html")], PAGE)
                    return
                if fault == "reset":
                    self.close_connection = True
                    self.connection.close()
                    return
                upstream = http.client.HTTPConnection(front.upstream, timeout=30)
                upstream.request(self.command, self.path, sent, dict(self.headers))
                there = upstream.getresponse()
                body = there.read()
                upstream.close()
                self.reply(there.status, there.getheaders(), body[: len(body) // 2] if fault == "cut" else body)
                if fault == "cut":
                    self.close_connection = True

            def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                lengths = [value for name, value in headers if name.lower() == "content-length"]
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", lengths[0] if lengths else str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@contextlib.contextmanager
def upstream(kind: str, folder: Path) -> Iterator[tuple[Front, str]]:
    """A server of `<folder>/data`, behind its front; yields the front and the root of the data there."""
    from fault_server import serve

    if kind == "s3":
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(port=0, verbose=False)
        server.start()
        front = Front(f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        os.environ |= {
            "AWS_ENDPOINT_URL": front.url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }  # fmt: skip
        import boto3

        client = boto3.client("s3", endpoint_url=front.url)
        client.create_bucket(Bucket="bucket")
        for path in sorted((folder / "data").iterdir()):
            client.put_object(Bucket="bucket", Key=f"data/{path.name}", Body=path.read_bytes())
        yield front, "s3://bucket/data/"
        server.stop()
        return
    served = {"hub": folder / "hub", "gcs": folder / "gcs"}.get(kind, folder)
    place = {"hub": "datasets/org/name/data", "gcs": "bucket/data"}.get(kind)
    if place and not (served / place).exists():
        shutil.copytree(folder / "data", served / place)
    with serve(served) as running:
        front = Front(running.url)
        if kind == "hub":
            os.environ |= {"HF_ENDPOINT": front.url, "HF_HOME": str(folder / "home")}
            yield front, "hf://datasets/org/name/data/"
        elif kind == "gcs":
            import fsspec

            fsspec.config.conf["gcs"] = fsspec.config.conf["gs"] = {"token": "anon", "endpoint_url": front.url}
            yield front, "gs://bucket/data/"
        else:
            yield front, f"{front.url}/data/part-{{0..{len(list((folder / 'data').iterdir())) - 1}}}.jsonl.gz"


def main(kind: str, folder: Path, faults: list[str], places: int) -> None:
    """`places`: at how many of the requests, spread over all; 0 for each of them."""
    from ettin_data import recipe
    from ettin_data.base.errors import EttinError
    from ettin_data.build import build as run
    from ettin_data.build import prepare

    impatient = functools.partial(prepare.TransportOptions, backoff_s=0.01, backoff_max_s=0.02)
    prepare.TransportOptions = impatient  # type: ignore[assignment, misc]

    def build(root: str, out: Path) -> str:
        body = {
            "phase": "decay", "length": 64, "pack": {"min_length": 8, "always_skip": 4}, "order": {"batch": 2},
            "split_bytes": 1, "sources": {"mine": {"root": root, "tokens": 600}},
        }  # fmt: skip
        (folder / f"{kind}.yaml").write_text(json.dumps(body))
        loaded = recipe.load_recipe(folder / f"{kind}.yaml")
        return run.build_phase(loaded, prepare.BuildOptions(out, executor=None)).root

    with upstream(kind, folder) as (front, root):
        at_home = build(str(folder / "data"), folder / f"{kind}-home")
        front.count = 0
        undisturbed = build(root, folder / f"{kind}-calm")
        requests = front.count
        assert undisturbed == at_home, "a root depends on where the data came from"
        chosen = range(requests) if not places else sorted({requests * n // places for n in range(places)})
        for at in chosen:
            for fault in faults:
                front.count, front.at, front.fault = 0, at, fault
                out = folder / f"{kind}-{at}-{fault}"
                said = None
                try:
                    made = build(root, out)
                except EttinError as error:
                    front.at, said = -1, error.full_text()
                    try:
                        made = build(root, out)  # the same command
                    except EttinError as again:
                        made = again.full_text()
                shutil.rmtree(out)
                print(json.dumps([at, requests, fault, made == undisturbed, said, made]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), **json.loads(sys.argv[3]))
