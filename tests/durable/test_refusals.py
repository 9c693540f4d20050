"""The library that refuses calls: each call in every process, counted over all of them, and nothing elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ettin_data.chaos.refusals import CALLS, ERRORS, Refusal, preload, shim

TRY = """
import errno, fcntl, json, os, sys
os.chdir(sys.argv[1])
other = sys.argv[2]
deeds = {
    "open": lambda: open("a", "a").close(),
    "rename": lambda: os.rename("b", "b"),
    "link": lambda: os.link("b", other),
    "remove": lambda: os.remove(other),
    "mkdir": lambda: os.makedirs("d", exist_ok=True),
    "scandir": lambda: list(os.scandir(".")),
    "flock": lambda: fcntl.flock(file, fcntl.LOCK_EX),
    "fsync": lambda: os.fsync(file),
}
file, met = os.open("b", os.O_RDWR), {}
for call in [sys.argv[3]] * 3 if sys.argv[3:] else deeds:
    try:
        deeds[call]()
    except OSError as error:
        met.setdefault(call, []).append(errno.errorcode[error.errno])
print(json.dumps(met))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = shim(tmp_path_factory.mktemp("shim"))
    if found is None:
        pytest.skip("no C compiler")
    return found


def tried(library: Path, folder: Path, refusal: Refusal, *words: str, below: Path | None = None) -> str:
    count = folder.parent / "count"
    if not count.exists():
        count.write_bytes(bytes(8))
    folder.mkdir(exist_ok=True)
    (folder / "b").touch()
    environment = {**os.environ, **preload(library, refusal, below or folder, count)}
    command = [sys.executable, "-c", TRY, str(folder), str(folder / "c"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_refused_and_no_other(library: Path, tmp_path: Path, call: str) -> None:
    error = ERRORS[CALLS.index(call) % len(ERRORS)]
    met = tried(library, tmp_path / "run", Refusal(call, error, at=2 if call == "open" else 0))
    if call == "link":  # what was not linked cannot be removed
        assert met == f'{{"link": ["{error}"], "remove": ["ENOENT"]}}'
    else:
        assert met == f'{{"{call}": ["{error}"]}}'


def test_calls_elsewhere_are_left_alone(library: Path, tmp_path: Path) -> None:
    for call in CALLS:
        assert tried(library, tmp_path / "run", Refusal(call, "EIO"), below=tmp_path / "ru") == "{}"


def test_calls_of_all_processes_are_counted(library: Path, tmp_path: Path) -> None:
    fifth = Refusal("fsync", "ESTALE", at=5)
    found = [tried(library, tmp_path / "run", fifth, "fsync") for _ in range(3)]
    assert found == ["{}", '{"fsync": ["ESTALE"]}', "{}"]
