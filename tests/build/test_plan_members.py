"""The plan of all languages of mmBERT from a hub: its files are listed once for all, in pages, and kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ettin_data.sources.languages import subsets

PAGE = 1000  # entries, as the hub has it
FILE = 2 << 30  # most bytes of a file upstream
RECIPE = """
extends: mmbert/decay-all
tokenizer: {name: null, sha256: null, frame: null}
groups: null
sources: {arxiv: null, books: null, dclm_dolmino: null, math_dolmino: null, megawika2.en: null, textbooks: null,
          tulu_flan: null, code_repos: null, starcoder: null}
"""
PLANNED = """
import resource, sys, time
from ettin_data.cli.main import app
app(["plan", sys.argv[1], "--out", sys.argv[2], "--no-look"], standalone_mode=False)
print("measured", time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
"""


def held() -> dict[str, dict[str, int]]:
    """Data set -> path -> bytes: a third of the text's, in files as large as upstream; what was removed as well."""
    web, hq = {"README.md": 1000}, {"README.md": 1000}
    for subset in subsets():
        if not subset.name:
            continue
        size = subset.bytes // 3 + 1000
        for number in range(-(-size // FILE)):
            web[f"data/{subset.name}/train/000_{number:05}.parquet"] = min(FILE, size - number * FILE)
            web[f"data/{subset.name}_removed/train/000_{number:05}.parquet"] = FILE // 2
            if subset.hq:
                hq[f"{subset.name}/000_{number:05}.parquet"] = min(FILE, size - number * FILE) // 10
        web[f"data/{subset.name}/test/000_00000.parquet"] = 1000
    return {"HuggingFaceFW/fineweb-2": web, "epfml/FineWeb2-HQ": hq}


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: dict[str, dict[str, int]]
    asked: list[str]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        words = parts.path.strip("/").split("/")
        name, kind, below = "/".join(words[2:4]), words[4:5], "/".join(words[6:])
        self.asked.append(self.path)
        if kind != ["tree"]:
            self._say({"id": name, "sha": "f" * 40, "private": False, "gated": False, "siblings": [], "tags": []})
            return
        rows = [
            {"type": "file", "path": path, "size": size, "oid": f"{number:040x}"}
            for number, (path, size) in enumerate(sorted(self.held[name].items()))
            if not below or path.startswith(f"{below}/")
        ]
        first = int(parse_qs(parts.query).get("cursor", ["0"])[0])
        more = first + PAGE < len(rows)
        url = f"http://{self.headers['Host']}{parts.path}?recursive=True&cursor={first + PAGE}"
        self._say(rows[first : first + PAGE], {"Link": f'<{url}>; rel="next"'} if more else {})

    def _say(self, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        for key, text in (headers or {}).items():
            self.send_header(key, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("Handler", (Hub,), {"held": held(), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_every_language_is_planned_from_two_listings(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    url, handler = hub
    (tmp_path / "all.yaml").write_text(RECIPE)
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", PLANNED, str(tmp_path / "all.yaml"), str(tmp_path / "run")]
    for _ in range(2):  # the second has the frozen listings to compare with
        handler.asked.clear()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        seconds, peak = map(float, done.stderr.rpartition("measured ")[2].split())
        print(f"{seconds:.1f} s of one core, {peak / 1e6:.0f} MB, {len(handler.asked)} calls")
        assert seconds < 60 and peak < 2e9
        pages = sum(-(-len([path for path in files if "/" in path]) // PAGE) for files in handler.held.values())
        trees = [path for path in handler.asked if "/tree/" in path]
        assert len(trees) <= pages + 1 and len(handler.asked) - len(trees) <= 10
    planned = json.loads((tmp_path / "run" / "decay-all" / "plan.json").read_text())
    assert len(planned["sources"]) == 1857 == len(list((tmp_path / "run" / "decay-all" / "manifests").iterdir()))
    assert planned["sources"]["fineweb2_hq.deu_Latn"]["files"] > 1
    assert planned["sources"]["fineweb2_hq.deu_Latn"]["target_tokens"] == 2_808_752_900
